"""How fast are photos from archives and from a store, beside the same in a folder: python benchmarks/sources.py PHOTOS

The same photos as a folder, a zip, a tar, a tar.gz and a Parquet file on disk, and as objects and the same archives in
an S3 on this machine that answers each request after 30 ms. All run in turn, in rounds; a rate is photos per second as
`classify` tells it, a ratio is of one round, and the median of them is given. The rows must be the same but for the
paths: their check sums are printed, and a difference exits with 1. The store keeps its answers in a proxy, so that
moto, which is no fast server, costs nothing in the rounds; what the proxy takes of this machine's cores is in the
figures.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from fault_store import FaultStore, client, environment, moto
from null_model import null_model

KINDS = ("photos", "photos.zip", "photos.tar", "photos.tar.gz", "photos.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--count", type=int, default=1000, help="how many of them (default 1000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.03, help="seconds of each request (default 0.03)")
    parser.add_argument("--only", default="", help="sources whose name contains this, beside the folder")
    parser.add_argument("--null", action="store_true", help="with a model that costs nothing: what the source costs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, moto() as port:
        folder = Path(scratch)
        model = folder / "null.onnx"
        model.write_bytes(null_model())
        pack(options.photos, folder, options.count)
        fill(folder, client(f"http://127.0.0.1:{port}"))
        with FaultStore(port, latency=options.latency, keeps=True) as store:
            sources = [kind for kind in (*KINDS, *(f"s3://bucket/{kind}" for kind in KINDS)) if options.only in kind]
            sources = ["photos", *(source for source in sources if source != "photos")]
            words = ["--model", str(model)] if options.null else []
            for source in sources[1:]:  # fills the proxy
                if source.startswith("s3://"):
                    run(folder, source, store.url, ["--model", str(model)])
            rounds = [[run(folder, source, store.url, words) for source in sources] for _ in range(options.rounds)]
    print(f"{options.count:,} photos, {options.rounds} rounds, {options.latency * 1000:.0f} ms a request")
    print("| source | photos/s | of the folder's rate | check sum of the rows |\n| --- | ---: | ---: | --- |")
    for place, source in enumerate(sources):
        rates = [results[place][0] for results in rounds]
        ratios = [results[place][0] / results[0][0] for results in rounds]
        sums = {f"{results[place][1]:08x}" for results in rounds}
        figures = f"{statistics.median(rates):.1f} | {statistics.median(ratios):.3f}"
        print(f"| {source} | {figures} | {', '.join(sorted(sums))} |")
    sys.exit(len({result[1] for results in rounds for result in results}) != 1)


def run(folder: Path, source: str, url: str, words: list[str]) -> tuple[float, int]:
    """Photos per second, and a check sum of the rows without their paths."""
    os.sync()
    command = [sys.executable, "-m", "gendercls", "classify", source, "--out", "o.csv", "--force", "--device", "cpu"]
    done = subprocess.run(
        [*command, "--json", "--quiet", *words], cwd=folder, env=environment(url), check=True, stdout=subprocess.PIPE
    )
    with (folder / "o.csv").open(encoding="utf-8", newline="") as file:
        rows = [row[1:] for row in csv.reader(file)]
    return float(json.loads(done.stdout)["photos_per_second"]), zlib.crc32(repr(rows).encode())


def pack(photos: Path, folder: Path, count: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    own = folder / "photos"
    own.mkdir()
    for path in sorted(photos.iterdir())[:count]:
        shutil.copy(path, own)
    paths = sorted(own.iterdir())
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    for name in ("photos.tar", "photos.tar.gz"):
        with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as archive:
            for path in paths:
                archive.add(path, path.name)
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    parquet.write_table(pa.table({"image": images}), folder / "photos.parquet", row_group_size=100)


def fill(folder: Path, s3: Any) -> None:
    s3.create_bucket(Bucket="bucket")
    for path in (*folder.glob("photos.*"), *folder.glob("photos/*")):
        s3.put_object(Bucket="bucket", Key=str(path.relative_to(folder)), Body=path.read_bytes())


if __name__ == "__main__":
    main()
