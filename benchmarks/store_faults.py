"""A store that fails while `gendercls classify` reads from it: python benchmarks/store_faults.py PHOTOS

The photos lie in moto's S3 on this machine, behind a proxy that has one fault at a time, for a share of all requests,
those of the listing too. The rows must be those of the folder. Then the store fails always: for one photo, which has a
row that says so, and for everything, which ends the run soon. The model is one that costs nothing. Prints a table;
exits with 1 when a row was lost or wrong.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from fault_store import FAULTS, FaultStore, client, environment, moto
from null_model import null_model


@dataclass
class Bench:
    """Where the photos are. rows: of the folder, without a fault."""

    scratch: Path
    port: int
    rows: list[bytes]

    def run(self, argument: str, store: FaultStore | None) -> tuple[int, float, list[bytes]]:
        """The command's exit status, seconds and rows."""
        out = Path(tempfile.mkdtemp(dir=self.scratch)) / "o.csv"
        command = [sys.executable, "-m", "gendercls", "classify", argument, "--out", str(out), "--device", "cpu"]
        command += ["--model", str(self.scratch / "null.onnx"), "--quiet"]
        began = time.monotonic()
        done = subprocess.run(command, cwd=self.scratch, env=environment(store.url if store else ""), check=False)
        return done.returncode, time.monotonic() - began, out.read_bytes().split(b"\n") if out.exists() else []

    def line(self, words: str, store: FaultStore, expected: int = 0) -> tuple[str, bool]:
        """One line of the table, and whether all is well. expected: how many rows say why they have no answer."""
        with store:
            status, seconds, rows = self.run("s3://bucket/photos", store)
        lost = len(self.rows) - len(rows)
        differing = [row for row, right in zip(rows, self.rows, strict=False) if row != right]
        wrong = sum(1 for row in differing if row.split(b",")[1])
        often = f"{store.caused} of {store.requests}"
        outcome = f"{lost} | {wrong} | {len(differing) - wrong}"
        line = f"| {words} | {often} | {outcome} | {seconds:.1f} | {(len(self.rows) - 2) / seconds:.0f} |"
        return line, status == 0 and lost == wrong == 0 and len(differing) == expected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--count", type=int, default=500, help="how many of them (default 500)")
    parser.add_argument("--share", type=float, default=0.1, help="of the requests that fail (default 0.1)")
    parser.add_argument("--only", default="", help="faults whose name contains this")
    options = parser.parse_args()
    print("| fault | caused | rows lost | rows wrong | rows with the reason | seconds | photos/s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as scratch, moto() as port:
        bench = prepare(Path(scratch), port, options)
        is_good = True
        # Each request that trickles or hangs costs its limit of time.
        shares = {fault: options.share / 10 if fault in ("trickles", "hangs") else options.share for fault in FAULTS}
        sometimes = [(fault or "none", FaultStore(port, fault, shares.get(fault, 0)), 0) for fault in ("", *FAULTS)]
        always = [(f"{fault}, one photo always", FaultStore(port, fault, only="/photos/000007"), 1) for fault in FAULTS]
        with ThreadPoolExecutor() as pool:
            lines = chain(
                (bench.line(*row) for row in sometimes if options.only in row[0]),
                pool.map(lambda row: bench.line(*row), [row for row in always if options.only in row[0]]),  # these wait
            )
            for line, is_well in lines:
                print(line, flush=True)
                is_good &= is_well
        for fault in ("refused", "hangs"):
            if options.only in f"{fault} from the start":
                with FaultStore(port, fault) as store:
                    status, seconds, _ = bench.run("s3://bucket/photos", store)
                print(f"{fault} from the start: given up with status {status} after {seconds:.1f} s", flush=True)
                is_good &= status == 1
    sys.exit(not is_good)


def prepare(scratch: Path, port: int, options: argparse.Namespace) -> Bench:
    (scratch / "null.onnx").write_bytes(null_model())
    (scratch / "photos").mkdir()
    s3 = client(f"http://127.0.0.1:{port}")
    s3.create_bucket(Bucket="bucket")
    for number, path in enumerate(sorted(options.photos.iterdir())[: options.count]):
        name = f"{number:06}{path.suffix}"
        shutil.copy(path, scratch / "photos" / name)
        s3.put_object(Bucket="bucket", Key=f"photos/{name}", Body=path.read_bytes())
    bench = Bench(scratch, port, [])
    bench.rows = bench.run("photos", None)[2]
    return bench


if __name__ == "__main__":
    main()
