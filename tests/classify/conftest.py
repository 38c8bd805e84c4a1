"""Real photos to classify, and what the command made of them."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

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
