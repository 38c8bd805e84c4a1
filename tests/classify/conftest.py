"""Real photos to classify, and what the command made of them."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

RUN = ("classify", "photos", "--out", "o.csv", "--device", "cpu")

Run = Callable[..., subprocess.CompletedProcess[str]]
Take = Callable[..., list[Path]]
Rows = Callable[[Path], list[dict[str, str]]]


@pytest.fixture(scope="session")
def take(celeba: Path) -> Take:
    """``take(folder, count, first=1)``: that many CelebA photos copied into the folder, which is made."""

    def copy(folder: Path, count: int, first: int = 1) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        names = [f"{number:06}.jpg" for number in range(first, first + count)]
        return [Path(shutil.copy(celeba / "img_align_celeba" / name, folder)) for name in names]

    return copy


@pytest.fixture(scope="session")
def rows() -> Rows:
    """``rows(path)``: a CSV's rows by column, as Python reads them."""

    def read(path: Path) -> list[dict[str, str]]:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, strict=True))

    return read


@pytest.fixture(scope="module")
def run(run_gendercls: Run) -> Run:
    """``run(folder, *more)``: the command in that folder, over its ``photos``; it must end well."""

    def classify(folder: Path, *more: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = run_gendercls(*RUN, *more, cwd=folder)
        assert done.returncode == status, done.stderr
        return done

    return classify


@pytest.fixture(scope="module")
def finished(take: Take, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``photos`` (21 good ones, a broken one, a note) and ``o.csv``, an undisturbed run over them."""
    folder = tmp_path_factory.mktemp("finished")
    take(folder / "photos", 12)
    take(folder / "photos" / "more", 9, first=13)
    whole = (folder / "photos" / "000005.jpg").read_bytes()
    (folder / "photos" / "000005.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "photos" / "notes.txt").write_text("taken in May")
    run(folder, "--json")
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The finished folder to play with."""
    return shutil.copytree(finished, tmp_path / "copy")
