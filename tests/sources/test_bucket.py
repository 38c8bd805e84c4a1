"""Photos in a store: the bytes of the folder, whatever their names are and whatever the store does."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Store = Any
NO_SERVER = "http://127.0.0.1:9"


def rows_of(folder: Path) -> list[list[str]]:
    with (folder / "o.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, strict=True))


def parse(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))


def without_path(rows: list[list[str]]) -> list[list[str]]:
    return [row[1:] for row in rows]


# --- the same bytes as the folder -------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "/"])
def test_a_bucket_gives_the_bytes_of_the_folder(
    odd: Path, store: Store, classify: Run, tmp_path: Path, end: str
) -> None:
    """Also of names that an address would read otherwise; hidden ones and objects that mark folders are left out."""
    folder = shutil.copytree(odd, tmp_path / "photos")
    (folder / "m\nn.jpg").unlink()  # which this server, not S3, refuses
    store.put_folder(folder, "odd")
    for marker in ("odd/", "odd/a/", "odd/nothing/"):
        store.put(marker, b"")
    assert classify(tmp_path, "photos").returncode == 0
    expected = (tmp_path / "o.csv").read_bytes()
    done = classify(tmp_path, f"s3://bucket/odd{end}", "--force")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o.csv").read_bytes() == expected
    assert len(rows_of(tmp_path)) == 1 + 19


def test_a_whole_bucket_is_a_folder(store: Store, classify: Run, plain: Path, tmp_path: Path) -> None:
    """Its keys are the rows' paths."""
    store.client.create_bucket(Bucket="whole")
    for path in sorted(plain.glob("*/*"))[:4]:
        store.client.put_object(Bucket="whole", Key=f"x/{path.name}", Body=path.read_bytes())
    assert classify(tmp_path, "s3://whole").returncode == 0
    assert [row[0] for row in rows_of(tmp_path)] == ["path", "x/001.jpg", "x/002.jpg", "x/004.jpg", "x/005.jpg"]


@pytest.fixture(scope="module")
def packed(store: Store, plain: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`plain` in the store as archives, as a table, and as shards of 15 photos."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("packed")
    paths = sorted(plain.rglob("*.jpg"))
    names = [str(path.relative_to(plain)) for path in paths]
    with zipfile.ZipFile(folder / "p.zip", "w") as archive:
        for path, name in zip(paths, names, strict=True):
            archive.write(path, name)
    for number in range(4):
        with tarfile.open(folder / f"{number:03}.tar", "w") as archive:
            for path, name in list(zip(paths, names, strict=True))[15 * number : 15 * number + 15]:
                archive.add(path, name)
    for file, mode in (("p.tar", "w"), ("p.tar.gz", "w:gz")):
        with tarfile.open(folder / file, mode) as archive:  # type: ignore[call-overload]
            for path, name in zip(paths, names, strict=True):
                archive.add(path, name)
    table = pa.table({"image": [{"bytes": p.read_bytes(), "path": n} for p, n in zip(paths, names, strict=True)]})
    parquet.write_table(table, folder / "p.parquet")
    for path in folder.iterdir():
        store.put(f"{'shards' if path.name[0] == '0' else 'packed'}/{path.name}", path.read_bytes())


@pytest.mark.usefixtures("packed")
@pytest.mark.parametrize(
    ("argument", "begin", "end"),
    [
        ("s3://bucket/packed/p.zip", "s3://bucket/packed/p.zip!/a/001.jpg", "s3://bucket/packed/p.zip!/b/057.jpg"),
        ("s3://bucket/packed/p.tar", "s3://bucket/packed/p.tar!/a/001.jpg", "s3://bucket/packed/p.tar!/b/057.jpg"),
        ("s3://bucket/packed/p.tar.gz", "s3://bucket/packed/p.tar.gz!/a/001.jpg", "p.tar.gz!/b/057.jpg"),
        ("s3://bucket/packed/p.parquet", "s3://bucket/packed/p.parquet!/0/a/001.jpg", "p.parquet!/59/b/057.jpg"),
        ("s3://bucket/shards/*.tar", "s3://bucket/shards/000.tar!/a/001.jpg", "003.tar!/b/057.jpg"),
        ("s3://bucket/shards/{000..003}.tar", "s3://bucket/shards/000.tar!/a/001.jpg", "003.tar!/b/057.jpg"),
    ],
)
def test_archives_in_a_store_give_the_rows_of_the_folder(
    classify: Run, plain_rows: bytes, tmp_path: Path, argument: str, begin: str, end: str
) -> None:
    """All but the paths, which name the archive too."""
    done = classify(tmp_path, argument)
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path)
    assert without_path(rows) == without_path(parse(plain_rows))
    assert rows[1][0] == begin
    assert rows[-1][0].endswith(end)


def test_a_list_of_addresses(classify: Run, in_store: str, plain_rows: bytes, tmp_path: Path) -> None:
    """In its own order; an address where nothing is has a row, and so has an empty photo."""
    expected = parse(plain_rows)[:0:-1]
    lines = [f"{in_store}/{row[0]}" for row in expected]
    (tmp_path / "list.txt").write_text("\n".join([*lines, f"{in_store}/gone.jpg"]), encoding="utf-8")
    done = classify(tmp_path, "@list.txt")
    assert done.returncode == 0, done.stderr
    *rows, gone = rows_of(tmp_path)[1:]
    assert without_path(rows) == without_path(expected)
    assert [row[0] for row in rows] == lines
    assert gone == [f"{in_store}/gone.jpg", "", "", "", "", "cannot be read: No such file or directory"]


def test_labels_and_limit(classify: Run, in_store: str, tmp_path: Path) -> None:
    """Labels match by the address; --limit takes the first ones."""
    (tmp_path / "labels.csv").write_text("path,Male\na/001.jpg,1\na/002.jpg,-1\na/004.jpg,1\n")
    done = classify(tmp_path, in_store, "--labels", "labels.csv", "--limit", "3", "--json")
    assert done.returncode == 0, done.stderr
    header, *rows = rows_of(tmp_path)
    assert [(row[0], row[header.index("truth")]) for row in rows] == [
        ("a/001.jpg", "male"),
        ("a/002.jpg", "female"),
        ("a/004.jpg", "male"),
    ]
    assert json.loads(done.stdout)["labels"]["path"] == 3


def test_verify_reads_the_store_again(
    classify: Run, store: Store, in_store: str, null_model: Path, run_gendercls: Run, tmp_path: Path
) -> None:
    """Where the run found its photos."""
    assert classify(tmp_path, in_store, "--limit", "5").returncode == 0
    done = run_gendercls("verify", "o.csv", "--model", null_model, cwd=tmp_path, env=store.env)
    assert done.returncode == 0, done.stderr
    assert "5 of 5 files read again" in done.stdout + done.stderr


def test_a_prefix_of_many_pages(classify: Run, store: Store, tmp_path: Path) -> None:
    """250 objects are three pages here; none of these, which are empty, needs to be asked for."""
    for number in range(250):
        store.put(f"pages/{number:04}.jpg", b"")
    assert classify(tmp_path, "s3://bucket/pages").returncode == 0
    assert [row[0] for row in rows_of(tmp_path)[1:]] == [f"{number:04}.jpg" for number in range(250)]


def test_an_object_beside_a_folder_of_its_name(classify: Run, store: Store, plain: Path, tmp_path: Path) -> None:
    """As no disk can have it: the slash says which is meant, and within a folder both are there."""
    data = (plain / "b" / "000.jpg").read_bytes()
    for key in ("twice/x", "twice/x!", "twice/x/y.jpg"):
        store.put(key, data)
    for argument, paths in {
        "s3://bucket/twice": ["x", "x!", "x/y.jpg"],
        "s3://bucket/twice/x/": ["y.jpg"],
        "s3://bucket/twice/x": ["s3://bucket/twice/x"],
    }.items():
        assert classify(tmp_path, argument, "--force").returncode == 0
        rows = rows_of(tmp_path)[1:]
        assert [row[0] for row in rows] == paths
        assert {row[-1] for row in rows} == {""}


def test_a_name_that_looks_like_a_version_is_a_row(classify: Run, store: Store, plain: Path, tmp_path: Path) -> None:
    """The library would read the object without it, which is another photo."""
    for key in ("versions/x.jpg", "versions/x.jpg?versionId=1.jpg"):
        store.put(key, (plain / "b" / "000.jpg").read_bytes())
    assert classify(tmp_path, "s3://bucket/versions").returncode == 0
    assert [(row[0], row[-1]) for row in rows_of(tmp_path)[1:]] == [
        ("x.jpg", ""),
        ("x.jpg?versionId=1.jpg", "its name holds ?versionId=, and versions are not read"),
    ]


def test_killed_and_continued(
    classify: Run,
    store: Store,
    fault_store: ModuleType,
    in_store: str,
    plain_rows: bytes,
    null_model: Path,
    tmp_path: Path,
) -> None:
    """kill -9 in the middle; the same command goes on and the bytes are those of one run."""
    with fault_store.FaultStore(store.port, latency=0.2) as slow:
        command = [sys.executable, "-m", "gendercls", "classify", in_store, "--out", "o.csv", "--batch-size", "1"]
        command += ["--model", str(null_model), "--device", "cpu", "--quiet"]
        env = fault_store.environment(slow.url)
        with subprocess.Popen(command, cwd=tmp_path, env=env, start_new_session=True) as process:
            part, end = tmp_path / "o.csv.part", time.monotonic() + 30
            while time.monotonic() < end and not (part.exists() and part.read_bytes().count(b"\n") > 3):
                time.sleep(0.005)
            os.killpg(process.pid, signal.SIGKILL)
    assert 3 < part.read_bytes().count(b"\n") < 61
    assert classify(tmp_path, in_store).returncode == 0
    assert (tmp_path / "o.csv").read_bytes() == plain_rows


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "env", "what", "do"),
    [
        ("s3://bucket/nothing", {}, "no such file or folder", "check the address"),
        ("s3://bucket/nothing.tar", {}, "no such file or folder", "check the address"),
        ("s3://nobucket", {}, "no such file or folder", "check the address"),
        ("s3://nobucket/x", {}, "no such file or folder", "check the address"),
        ("s3://bucket/plain/*.tif", {}, "nothing there has such a name", "check the pattern"),
        ("s3://bucket/plain", {"AWS_ENDPOINT_URL": NO_SERVER}, "the store does not answer as it should", "network"),
        ("s3://bucket/plain", {"AWS_ACCESS_KEY_ID": ""}, "does not accept who is asking", "FSSPEC_S3_ANON=true"),
        ("nostore://bucket/plain", {}, "no store is reached by nostore://", "such as s3:// or gs://"),
        ("s3://bucket/plain/b/000.jpg?versionId=1", {}, "versions of an object are not read", "leave out ?versionId="),
    ],
)
def test_each_error_names_the_address_and_what_to_do(
    classify: Run, store: Store, in_store: str, tmp_path: Path, argument: str, env: dict[str, str], what: str, do: str
) -> None:
    """In half a minute at most, with no traceback and without a file."""
    began = time.monotonic()
    changed = {**store.env, **env}
    done = classify(tmp_path, argument, env=changed)
    assert time.monotonic() - began < 30
    first, where, *rest = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert first.startswith("Error: ")
    assert what in first
    assert where == f"  where: {argument if 'nostore' not in argument else 'nostore://'}"
    assert do in "".join(rest)
    assert len(rest) == 1
    assert os.listdir(tmp_path) == []


# --- faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["slow down", "broken", "refused", "reset", "ends early", "too short"])
def test_faults_that_pass_change_nothing(
    classify: Run, store: Store, fault_store: ModuleType, in_store: str, plain_rows: bytes, tmp_path: Path, fault: str
) -> None:
    """A fifth of all requests fails, those of the listing too; the bytes are those of the folder."""
    with fault_store.FaultStore(store.port, fault=fault, share=0.2) as faulty:
        done = classify(tmp_path, in_store, env=fault_store.environment(faulty.url))
    assert done.returncode == 0, done.stderr
    assert faulty.caused > 5
    assert (tmp_path / "o.csv").read_bytes() == plain_rows


@pytest.mark.usefixtures("packed")
@pytest.mark.parametrize("fault", ["slow down", "reset"])
@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz", "p.parquet"])
def test_faults_pass_archives_too(
    classify: Run, store: Store, fault_store: ModuleType, plain_rows: bytes, tmp_path: Path, fault: str, name: str
) -> None:
    """Half of all requests fails: no archive is taken to be damaged."""
    with fault_store.FaultStore(store.port, fault=fault, share=0.4) as faulty:
        done = classify(tmp_path, f"s3://bucket/packed/{name}", env=fault_store.environment(faulty.url))
    assert done.returncode == 0, done.stderr
    assert faulty.caused > 0
    assert without_path(rows_of(tmp_path)) == without_path(parse(plain_rows))


def test_a_photo_for_which_the_store_hangs_has_a_row(
    classify: Run, store: Store, fault_store: ModuleType, in_store: str, plain_rows: bytes, tmp_path: Path
) -> None:
    """After --photo-timeout; all others are as they are."""
    with fault_store.FaultStore(store.port, fault="hangs", only="020.jpg") as faulty:
        done = classify(tmp_path, in_store, "--photo-timeout", "2", env=fault_store.environment(faulty.url))
    assert done.returncode == 0, done.stderr
    expected, rows = parse(plain_rows), rows_of(tmp_path)
    differing = [row for row, old in zip(rows, expected, strict=True) if row != old]
    assert differing == [["a/020.jpg", "", "", "", "", "took more than 2 s"]]


def test_ctrl_c_ends_a_hanging_read_at_once(
    store: Store, fault_store: ModuleType, in_store: str, null_model: Path, tmp_path: Path
) -> None:
    """By itself, before the guard would end it, and with the line that continues."""
    with fault_store.FaultStore(store.port, fault="hangs", only=".jpg") as faulty:
        command = [sys.executable, "-m", "gendercls", "classify", in_store, "--out", "o.csv", "--device", "cpu"]
        process = subprocess.Popen(
            [*command, "--model", str(null_model)],
            cwd=tmp_path,
            env=fault_store.environment(faulty.url),
            stderr=subprocess.PIPE,
            text=True,
        )
        end = time.monotonic() + 30
        while faulty.caused == 0 and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert time.monotonic() - asked < 4
    assert "interrupted after 0 files; their rows are kept" in said
    assert "did not end" not in said
