"""What ``gendercls classify`` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gendercls.address import Address
from gendercls.errors import UsageError
from gendercls.modelfile import Precision

if TYPE_CHECKING:
    from gendercls.sources import Shard

_MOST = 65_536
"""Of threads, photos in a batch, pixels and faces: more is a slip of the finger."""


@dataclass(frozen=True, slots=True)
class ClassifyOptions:
    """What the command line says.

    ray: a cluster's address, empty for the one that is found; None for this machine alone, where photo_timeout is for
    the guard. command: the line itself, for the record.
    """

    photos: tuple[str, ...]
    out: Address
    model: Path | None = None
    precision: Precision | None = None
    labels: Path | None = None
    split: str | None = None
    device: str = "auto"
    jobs: int | None = None
    batch_size: int | None = None
    min_confidence: float | None = None
    max_error: float | None = None
    faces: bool = False
    face_model: Path | None = None
    min_face: int | None = None
    max_faces: int | None = None
    limit: int | None = None
    shard: Shard | None = None
    restart: bool = False
    retry_failed: bool = False
    force: bool = False
    ray: str | None = None
    photo_timeout: float = 60.0
    command: str = ""

    def __post_init__(self) -> None:
        """Raises UsageError where options ask for different things, or for nothing by themselves."""
        if self.split is not None and self.labels is None:
            raise UsageError(
                "--split needs --labels",
                where=f"--split {self.split}",
                do="name the labels that say which photo is in which part",
            )
        for name, is_given in {"--restart": self.restart, "--force": self.force}.items():
            if is_given and self.retry_failed:
                raise UsageError(
                    f"{name} and --retry-failed ask for different things",
                    where=f"--retry-failed {name}",
                    do="leave out one: --retry-failed keeps all rows but the failed ones",
                )
        if self.shard is not None and self.limit is not None:
            raise UsageError(
                "--limit and --shard ask for different things",
                where=f"--limit {self.limit} --shard {self.shard}",
                do="leave out one of them",
            )
        given = {"--face-model": self.face_model, "--min-face": self.min_face, "--max-faces": self.max_faces}
        for name, value in given.items():
            if value is not None and not self.faces:
                raise UsageError(f"{name} needs --faces", where=f"{name} {value}", do="add --faces, or leave it out")
        check_numbers(self.jobs, self.batch_size, self.min_face, self.max_faces)


def check_numbers(jobs: int | None, batch_size: int | None, min_face: int | None, max_faces: int | None) -> None:
    """Raises UsageError where one of a classifier's whole numbers is beyond reason."""
    numbers = {"jobs": jobs, "batch_size": batch_size, "min_face": min_face, "max_faces": max_faces}
    for name, value in numbers.items():
        if value is not None and not 1 <= value <= _MOST:
            raise out_of_range(name, value, "1 or more" if value < 1 else f"{_MOST:,} or less")


def out_of_range(name: str, value: float, allowed: str) -> UsageError:
    """That an option's number is not one of those allowed."""
    return UsageError(f"{name} is {value:g}", where=f"--{name.replace('_', '-')}", do=f"give a number of {allowed}")
