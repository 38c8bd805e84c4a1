"""Files that appear under their name whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path, before_naming: Callable[[Path], object] = lambda written: None) -> Iterator[BinaryIO]:
    """A file to write to, beside ``path``, which gets that name in one step once all of it is on the disk.

    Args:
        path: the name; a file that has it stands until it is replaced, also when anything raises.
        before_naming: called with the path of what was written, to check it, or to move away what has the name.

    Raises OSError as open, write and rename do.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        before_naming(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
