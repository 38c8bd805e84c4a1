"""``--out`` beyond a CSV on disk: Parquet, and S3 by a real server, with the command as it is typed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gendercls.parquet import csv_of

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

Command = Callable[..., subprocess.CompletedProcess[str]]
FEW = 12


@pytest.fixture(scope="module")
def photos(take: Callable[..., list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of CelebA, one of them cut off, and a text."""
    folder = tmp_path_factory.mktemp("outputs") / "photos"
    first, *_ = take(folder, FEW)
    first.write_bytes(first.read_bytes()[:2000])
    (folder / "notes.txt").write_text("dear diary")
    return folder


@pytest.fixture(scope="module")
def classify(run_gendercls: Command, null_model: Path) -> Command:
    """``classify(photos, out, *more, status=0, env=…)``: that command, which has to end so."""

    def run(
        photos: Path, out: Path | str, *more: str, status: int = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = run_gendercls("classify", photos, "--out", out, "--model", null_model, *more, env=env)
        assert done.returncode == status, done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def whole(photos: Path, classify: Command, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The CSV of these photos, on disk."""
    out = tmp_path_factory.mktemp("whole") / "o.csv"
    classify(photos, out)
    return out.read_bytes()


def unpacked(path: Path) -> bytes:
    """A Parquet file as the CSV it stands for."""
    with path.open("rb") as file:
        return b"".join(csv_of(file, str(path)))


# --- Parquet on disk --------------------------------------------------------------------------------------------


def test_parquet_has_the_rows_of_the_csv(photos: Path, classify: Command, whole: bytes, tmp_path: Path) -> None:
    """Nothing is left beside it but its record; a second run does not replace it."""
    out = tmp_path / "o.parquet"
    classify(photos, out)
    assert unpacked(out) == whole
    assert sorted(os.listdir(tmp_path)) == ["o.parquet", "o.parquet.run.json"]
    content = out.read_bytes()
    assert "the output already exists" in classify(photos, out, status=1).stderr
    classify(photos, out, "--force")
    assert out.read_bytes() == content


@pytest.mark.parametrize("cut", [0.3, 0.7, 1.0])
def test_parquet_of_an_interrupted_run_has_the_same_bytes(
    photos: Path, classify: Command, whole: bytes, tmp_path: Path, cut: float
) -> None:
    """Also where it was killed when the file had its name and the part was there still: then it is finished."""
    out, part = tmp_path / "o.parquet", tmp_path / "o.parquet.part"
    classify(photos, out)
    content = out.read_bytes()
    part.write_bytes(whole[: int(cut * len(whole))])
    if cut == 1:
        assert "the output already exists" in classify(photos, out, status=1).stderr
    else:
        out.unlink()
        assert "rows were there already" in classify(photos, out).stderr
    assert out.read_bytes() == content
    assert not part.exists()


def test_failed_rows_of_parquet_are_retried(take: Callable[..., list[Path]], classify: Command, tmp_path: Path) -> None:
    """What had failed has an answer now, and the file is the one of a run that never failed."""
    photos, out = tmp_path / "photos", tmp_path / "o.parquet"
    first, *_ = take(photos, 4)
    content = first.read_bytes()
    classify(photos, tmp_path / "sound.parquet")
    first.write_bytes(content[:2000])
    classify(photos, out)
    first.write_bytes(content)
    assert "1 of 1 have an answer now" in classify(photos, out, "--retry-failed").stderr
    assert out.read_bytes() == (tmp_path / "sound.parquet").read_bytes()


@pytest.mark.parametrize(
    "command",
    [("report", "--out", "page.html"), ("sample", "--out", "sheet.html"), ("verify",), ("sort", "--into", "s")],
)
def test_other_commands_read_parquet(
    photos: Path, classify: Command, run_gendercls: Command, null_model: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """As they read the CSV."""
    classify(photos, tmp_path / "o.parquet")
    name, *more = command
    more += ["--model", str(null_model)] if name == "verify" else ["--photos", str(photos)] if name == "sort" else []
    done = run_gendercls(name, "o.parquet", *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_parquet_is_compared_with_the_csv(
    photos: Path, classify: Command, run_gendercls: Command, whole: bytes, tmp_path: Path
) -> None:
    """They have the same predictions."""
    classify(photos, tmp_path / "o.parquet")
    (tmp_path / "o.csv").write_bytes(whole)
    done = run_gendercls("compare", "o.csv", "o.parquet", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_folder_on_disk_takes_no_parts(photos: Path, classify: Command, tmp_path: Path) -> None:
    """It says what to name instead."""
    said = classify(photos, f"{tmp_path}/preds/", status=2).stderr
    assert f"Parts are kept in stores alone; on disk name a file, as in {tmp_path}/preds/preds.csv." in said


# --- a store ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["o.csv", "o.parquet", "preds/"])
def test_a_store_gets_what_a_disk_gets(
    photos: Path, classify: Command, whole: bytes, s3: Any, tmp_path: Path, name: str
) -> None:
    """The same rows; beside them the record alone, or the parts with their manifest."""
    out = s3.bucket("same") + "/dir/" + name
    said = classify(photos, out, env=s3.env).stderr
    assert f"rows: {out}\n" in said
    files = s3.files("s3://same/dir")
    if name == "preds/":
        manifest = json.loads(files["/preds/manifest.json"])
        (part,) = manifest["parts"]
        assert sorted(files) == ["/preds/manifest.json", f"/preds/{part['name']}", "/preds/run.json"]
        assert (files[f"/preds/{part['name']}"], part["rows"]) == (whole, FEW + 1)
    else:
        (tmp_path / name).write_bytes(files[f"/{name}"])
        assert sorted(files) == [f"/{name}", f"/{name}.run.json"]
        assert (unpacked(tmp_path / name) if name == "o.parquet" else files[f"/{name}"]) == whole
    assert "the output already exists" in classify(photos, out, status=1, env=s3.env).stderr
    assert s3.files("s3://same/dir") == files


def test_failed_rows_in_a_store_are_retried(
    take: Callable[..., list[Path]], classify: Command, s3: Any, tmp_path: Path
) -> None:
    """As on disk."""
    out, photos = s3.bucket("retry") + "/o.csv", tmp_path / "photos"
    first, *_ = take(photos, 4)
    content = first.read_bytes()
    first.write_bytes(content[:2000])
    classify(photos, out, env=s3.env)
    first.write_bytes(content)
    assert "1 of 1 have an answer now" in classify(photos, out, "--retry-failed", env=s3.env).stderr
    classify(photos, tmp_path / "sound.csv")
    assert s3.files(out)[""] == (tmp_path / "sound.csv").read_bytes()


def test_an_output_among_its_photos_is_none_of_them(
    take: Callable[..., list[Path]], classify: Command, s3: Any, tmp_path: Path
) -> None:
    """Neither it nor its parts have rows."""
    bucket = s3.bucket("among")
    for path in take(tmp_path / "photos", 3):
        s3.system.put_file(str(path), f"among/{path.name}")
    s3.system.pipe_file("among/o.csv.parts/000000-01234567.csv", b"")
    s3.system.pipe_file("among/o.csv.run.json", b"{}")
    classify(bucket, f"{bucket}/o.csv", env=s3.env)
    classify(tmp_path / "photos", tmp_path / "o.csv")
    assert s3.files(f"{bucket}/o.csv")[""] == (tmp_path / "o.csv").read_bytes()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({}, "there is no such bucket"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "the store does not accept who is asking: "),
    ],
)
def test_a_store_that_takes_nothing_is_refused(
    photos: Path, classify: Command, s3: Any, change: dict[str, str], what: str
) -> None:
    """Before a photo is read, with the address."""
    said = classify(photos, "s3://nowhere/o.csv", status=1, env={**s3.env, **change}).stderr
    assert said.startswith(f"Error: {what}")
    assert "\n  where: s3://nowhere" in said


# --- killed -----------------------------------------------------------------------------------------------------

MANY = 5000
LONG = "/".join(["x" * 240] * 14)


@pytest.fixture(scope="module")
def deep(take: Callable[..., list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """So many photos, and such long paths, that their rows are three parts: real photos, each linked many times."""
    folder = tmp_path_factory.mktemp("deep")
    real = take(folder / "real", 50)
    os.makedirs(folder / "p" / LONG)
    for number in range(MANY):
        os.link(real[number % len(real)], folder / "p" / LONG / f"{number:05}.jpg")
    yield folder / "p"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def deep_whole(deep: Path, classify: Command, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Their CSV, on disk."""
    out = tmp_path_factory.mktemp("deep-whole") / "o.csv"
    classify(deep, out)
    return out.read_bytes()


def start(deep: Path, out: str, null_model: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    """The command, begun."""
    command = [sys.executable, "-m", "gendercls", "classify", str(deep), "--out", out, "--model", str(null_model)]
    return subprocess.Popen(command, env={**os.environ, **env}, stderr=subprocess.PIPE, text=True)


def wait_for(is_there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until something is in the store."""
    end = time.monotonic() + 120
    while not is_there():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["o.csv", "preds/"])
def test_a_run_that_is_killed_goes_on(
    deep: Path, deep_whole: bytes, null_model: Path, classify: Command, s3: Any, name: str
) -> None:
    """Before its first part, after each, and while the result is sent: the same bytes in the end."""
    from gendercls.classify.parts import read_parts

    out = s3.bucket("killed") + "/" + name
    record = "killed/preds/run.json" if name == "preds/" else "killed/o.csv.run.json"

    def parts() -> list[str]:
        return [path for path in s3.system.find("killed") if "-" in path]

    for count in (0, 1, 2, 3):
        with start(deep, out, null_model, s3.env) as process:
            wait_for(lambda count=count: s3.system.exists(record) and len(parts()) >= count, process)  # type: ignore[misc]
            process.kill()
        assert count == 3 or len(parts()) >= count  # all are gone where it was finished
    if s3.system.exists(f"killed/{name}" if name == "o.csv" else "killed/preds/manifest.json"):
        classify(deep, out, "--force", env=s3.env)
    else:
        assert f"{MANY:,} rows were there already" in classify(deep, out, env=s3.env).stderr
    files = s3.files("s3://killed")
    if name == "o.csv":
        assert files == {"/o.csv": deep_whole, "/o.csv.run.json": files["/o.csv.run.json"]}
    else:
        with pytest.MonkeyPatch.context() as patch:
            for key, value in s3.env.items():
                patch.setenv(key, value)
            assert b"".join(read_parts(out)) == deep_whole
        assert len(json.loads(files["/preds/manifest.json"])["parts"]) == len(files) - 2


def test_of_two_commands_at_once_one_is_refused(deep: Path, deep_whole: bytes, null_model: Path, s3: Any) -> None:
    """The other's result is the one of a single run."""
    out = s3.bucket("two") + "/o.csv"
    both = [start(deep, out, null_model, s3.env) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    refused = said[[process.returncode for process in both].index(1)]
    assert f"Error: another run is writing this output\n  where: {out}\n" in refused
    files = s3.files("s3://two")
    assert files == {"/o.csv": deep_whole, "/o.csv.run.json": files["/o.csv.run.json"]}


# --- merged -----------------------------------------------------------------------------------------------------


def merge(run_gendercls: Command, *parts: Path | str, out: Path | str, env: dict[str, str] | None = None) -> str:
    """What ``gendercls merge`` says; it has to end well."""
    done = run_gendercls("merge", *parts, "--out", out, env=env)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_folder_of_parts_is_merged_into_the_csv(
    photos: Path, classify: Command, run_gendercls: Command, whole: bytes, s3: Any, tmp_path: Path
) -> None:
    """And into what else an output may be; the record goes along."""
    bucket = s3.bucket("merged")
    classify(photos, f"{bucket}/preds/", env=s3.env)
    assert f"{FEW + 1} files of 1 shard" in merge(run_gendercls, f"{bucket}/preds/", out=tmp_path / "o.csv", env=s3.env)
    assert (tmp_path / "o.csv").read_bytes() == whole
    record = json.loads((tmp_path / "o.csv.run.json").read_text())
    assert record["inputs"] == [str(photos)]
    assert "unfinished" not in record
    merge(run_gendercls, f"{bucket}/preds/", out=tmp_path / "o.parquet", env=s3.env)
    assert unpacked(tmp_path / "o.parquet") == whole


def test_shards_anywhere_are_merged(
    photos: Path, classify: Command, run_gendercls: Command, whole: bytes, s3: Any, tmp_path: Path
) -> None:
    """As Parquet, as a file in a store, and as parts there."""
    bucket = s3.bucket("shards")
    outs = [tmp_path / "1.parquet", f"{bucket}/2.csv", f"{bucket}/3/", f"{bucket}/4.parquet"]
    for number, out in enumerate(outs, start=1):
        classify(photos, out, "--shard", f"{number}/4", env=s3.env)
    merge(run_gendercls, *outs, out=f"{bucket}/all.csv", env=s3.env)
    merge(run_gendercls, *outs, out=tmp_path / "all.csv", env=s3.env)
    assert (tmp_path / "all.csv").read_bytes() == whole
    assert s3.system.cat_file(f"{bucket}/all.csv") == whole


def test_parts_that_are_not_finished_are_not_merged(
    photos: Path, classify: Command, run_gendercls: Command, s3: Any, tmp_path: Path
) -> None:
    bucket = s3.bucket("unfinished")
    classify(photos, f"{bucket}/preds/", env=s3.env)
    s3.system.rm_file(f"{bucket}/preds/manifest.json")
    done = run_gendercls("merge", f"{bucket}/preds/", "--out", tmp_path / "o.csv", env=s3.env)
    assert done.returncode == 1
    assert "there is no manifest of parts" in done.stderr
    assert not list(tmp_path.iterdir())
