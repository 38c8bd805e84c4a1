"""``--shard`` and ``gendercls merge``: the CSV of one machine, or a reason why not."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Take = Callable[..., list[Path]]

OF = 3


@pytest.fixture(scope="module")
def classified(take: Take, run_gendercls: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``photos`` in four chunks, ``whole.csv``, and ``1.csv`` to ``3.csv`` of its shards."""
    folder = tmp_path_factory.mktemp("shards")
    for number, count in enumerate((1500, 700, 1100)):
        notes = folder / "photos" / f"{number}"
        take(notes, 4, first=1 + 4 * number)
        for note in range(count):
            (notes / f"{note:05}.txt").touch()
    labels = "\n".join(["path,Male", *(f"{number:06}.jpg,{(-1) ** number}" for number in range(1, 13))])
    (folder / "labels.csv").write_text(labels + "\n", encoding="utf-8")
    run = ("classify", "photos", "--labels", "labels.csv", "--device", "cpu", "--quiet", "--out")
    shards = [(f"{number}.csv", "--shard", f"{number}/{OF}") for number in range(1, OF + 1)]
    for more in (("whole.csv",), *shards):
        done = run_gendercls(*run, *more, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copy(classified: Path, tmp_path: Path) -> Path:
    """The CSVs and records, to play with."""
    for path in classified.glob("*.csv*"):
        shutil.copy(path, tmp_path)
    return tmp_path


def merge(run_gendercls: Run, folder: Path, *parts: str, status: int = 0) -> str:
    """What ``gendercls merge`` says."""
    done = run_gendercls("merge", *parts, "--out", "merged.csv", cwd=folder)
    assert done.returncode == status, done.stderr
    assert status == 0 or not list(folder.glob("merged.csv")), "nothing half"
    assert "Traceback" not in done.stderr
    return done.stderr


def record(path: Path) -> dict[str, object]:
    """What the record beside a CSV says, without when and how long."""
    content = json.loads(path.with_name(path.name + ".run.json").read_text())
    for key in ("at", "seconds", "command", "shards"):
        content["finished"].pop(key, None)
    return content


def test_merged_shards_are_the_csv_of_one_machine(run_gendercls: Run, copy: Path) -> None:
    assert "3,312 files of 3 shards" in merge(run_gendercls, copy, "3.csv", "1.csv", "2.csv")
    assert (copy / "merged.csv").read_bytes() == (copy / "whole.csv").read_bytes()
    assert record(copy / "merged.csv") == record(copy / "whole.csv")
    sizes = [
        sum(size for _, size in json.loads((copy / f"{n}.csv.run.json").read_text())["finished"]["chunks"])
        for n in (1, 2, 3)
    ]
    assert sizes == [1024 + 240, 1024, 1024]


def test_a_merged_csv_goes_on_as_any(run_gendercls: Run, copy: Path, classified: Path) -> None:
    merge(run_gendercls, copy, "1.csv", "2.csv", "3.csv")
    done = run_gendercls("report", "merged.csv", "--json", "--no-thumbnails", cwd=copy)
    assert done.returncode == 0, done.stderr
    done = run_gendercls("verify", "merged.csv", "--photos", classified / "photos", "--sample", "5", cwd=copy)
    assert done.returncode == 0, done.stderr


def test_more_shards_than_chunks(run_gendercls: Run, take: Take, tmp_path: Path) -> None:
    """Those that get nothing write a CSV without rows."""
    take(tmp_path / "photos", 3)
    run = ("classify", "photos", "--device", "cpu", "--quiet", "--out")
    for more in (("whole.csv",), ("1.csv", "--shard", "1/2"), ("2.csv", "--shard", "2/2")):
        assert run_gendercls(*run, *more, cwd=tmp_path).returncode == 0
    assert (tmp_path / "2.csv").read_text().count("\n") == 1
    merge(run_gendercls, tmp_path, "1.csv", "2.csv")
    assert (tmp_path / "merged.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_missing_and_double_shards(run_gendercls: Run, copy: Path) -> None:
    said = merge(run_gendercls, copy, "1.csv", status=2)
    assert "2 of 3 shards are missing" in said
    assert "2/3, 3/3" in said
    shutil.copy(copy / "2.csv", copy / "other.csv")
    shutil.copy(copy / "2.csv.run.json", copy / "other.csv.run.json")
    assert "shard 2/3 is there twice" in merge(run_gendercls, copy, "1.csv", "2.csv", "3.csv", "other.csv", status=2)


def test_what_is_no_shard_or_not_finished(run_gendercls: Run, copy: Path) -> None:
    assert "no output of a shard" in merge(run_gendercls, copy, "whole.csv", "1.csv", status=1)
    (copy / "2.csv").rename(copy / "2.csv.part")
    said = merge(run_gendercls, copy, "1.csv", "2.csv", "3.csv", status=1)
    assert "this run is not finished" in said
    (copy / "2.csv.part").unlink()
    assert "there is no such output" in merge(run_gendercls, copy, "1.csv", "2.csv", "3.csv", status=1)


def edit(path: Path, **changes: object) -> None:
    """Change the record beside a CSV: top-level keys, or those of ``finished``."""
    place = path.with_name(path.name + ".run.json")
    content = json.loads(place.read_text())
    for key, value in changes.items():
        (content["finished"] if key in content["finished"] else content)[key] = value
    place.write_text(json.dumps(content))


def test_shards_of_other_photos_or_another_run(run_gendercls: Run, copy: Path) -> None:
    edit(copy / "2.csv", listing="0" * 32)
    assert "the photos changed between these shards" in merge(run_gendercls, copy, "1.csv", "2.csv", "3.csv", status=1)
    shutil.copy(copy / "1.csv.run.json", copy / "save")
    edit(copy / "2.csv", listing=json.loads((copy / "save").read_text())["finished"]["listing"], versions={})
    assert "they differ in versions" in merge(run_gendercls, copy, "1.csv", "2.csv", "3.csv", status=1)


@pytest.mark.parametrize(
    ("line", "becomes", "said"),
    [
        (5, None, "fewer photos than its record says"),
        (5, "twice", "more photos than its record says"),
        (0, "path,label\n", "no CSV that gendercls classify wrote"),
        (5, "a,b,c\n", "a row is damaged"),
    ],
)
def test_a_damaged_shard_is_refused(run_gendercls: Run, copy: Path, line: int, becomes: str | None, said: str) -> None:
    lines = (copy / "1.csv").read_text().splitlines(keepends=True)
    new = {None: [], "twice": [lines[line]] * 2}.get(becomes, [becomes])
    lines[line : line + 1] = new  # type: ignore[assignment]
    (copy / "1.csv").write_text("".join(lines))
    assert said in merge(run_gendercls, copy, "1.csv", "2.csv", "3.csv", status=1)


def test_a_shard_cut_within_a_row_is_refused(run_gendercls: Run, copy: Path) -> None:
    (copy / "3.csv").write_bytes((copy / "3.csv").read_bytes()[:-4])
    assert "fewer photos" in merge(run_gendercls, copy, "1.csv", "2.csv", "3.csv", status=1)


def test_an_output_is_not_replaced_unasked(run_gendercls: Run, copy: Path) -> None:
    (copy / "merged.csv").write_text("mine")
    done = run_gendercls("merge", "1.csv", "2.csv", "3.csv", "--out", "merged.csv", cwd=copy)
    assert done.returncode == 1
    assert "already exists" in done.stderr
    assert (copy / "merged.csv").read_text() == "mine"


def test_limit_and_shard_exclude_each_other(run_gendercls: Run, classified: Path) -> None:
    done = run_gendercls("classify", "photos", "--out", "x.csv", "--shard", "1/2", "--limit", "5", cwd=classified)
    assert done.returncode == 2
    assert "--limit and --shard ask for different things" in done.stderr
