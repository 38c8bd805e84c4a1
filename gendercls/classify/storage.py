"""Where a run's output is kept: what the journal asks of a disk, and of a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, Protocol

from gendercls.address import Address
from gendercls.errors import OutputError


class Storage(Protocol):
    """One output, of which there is a result, or rows of an unfinished run, or both while the one replaces the other.

    Every method raises OutputError where the place does not do what it should.
    """

    @property
    def out(self) -> Address:
        """What the command names."""
        ...

    @property
    def part(self) -> Address:
        """Where the rows are until the run is finished."""
        ...

    @property
    def record(self) -> Address:
        """What run they are of."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether rows that are there are all there should be."""
        ...

    @property
    def written(self) -> Address:
        """Where the rows are now: of the unfinished run, if there is one."""
        ...

    @property
    def may_tear(self) -> bool:
        """Whether the rows that were written last may be damaged when a process or a machine dies."""
        ...

    def files(self) -> Iterator[Address]:
        """All that a run keeps there."""
        ...

    def check_place(self) -> None:
        """Raises GenderclsError unless an output can be made there."""
        ...

    def settle(self) -> None:
        """Take away rows that a process left which was killed when its result had its name already."""
        ...

    def has_result(self) -> bool:
        """Whether there is a result that is replaced only when that is asked for."""
        ...

    def is_begun(self) -> bool:
        """Whether an unfinished run is there."""
        ...

    def read_record(self) -> bytes:
        """Raises OSError where there is none."""
        ...

    def open(self, *, anew: bool) -> BinaryIO:
        """The rows that are there, or with ``anew`` none, for this process alone; what was there is dropped."""
        ...

    def begin_record(self, content: dict[str, Any]) -> None:
        """Say what run it is that was opened anew."""
        ...

    def write(self, data: bytes) -> None:
        """Add whole rows of whole photos, or first of all the header, at the end of the opened file."""
        ...

    def finish(self, content: dict[str, Any]) -> None:
        """Give the result its name, in one step, once all of it is there. content: the record."""
        ...

    def open_written(self) -> BinaryIO:
        """The rows of the result, or of the unfinished run, to be read and replaced."""
        ...

    def replacing(self) -> AbstractContextManager[BinaryIO]:
        """A file for rows that replace those of `open_written` in one step when the block ends well."""
        ...

    def close(self) -> None:
        """Let go of it; what was written stays."""
        ...


def another_run(where: Address) -> OutputError:
    """That two must not write one output."""
    return OutputError(
        "another run is writing this output", where=str(where), do="wait for it, or choose another --out"
    )
