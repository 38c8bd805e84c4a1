"""The file of a page: whole or not there, and never over another one unasked."""

from __future__ import annotations

from pathlib import Path

from gendercls.errors import OutputError
from gendercls.wholefile import whole_file


def check_free(out: Path, *, force: bool) -> None:
    """Raises OutputError where a page of that name cannot or must not be written."""
    if not out.parent.is_dir():
        problem, do = "the page's folder does not exist", "make it, or choose another --out"
    elif out.is_dir():
        problem, do = "the page's name is that of a folder", f"name a file in it, as in --out {out / 'report.html'}"
    elif out.exists() and not force:
        problem, do = "the page already exists", "choose another --out, or repeat with --force to replace it"
    else:
        return
    raise OutputError(problem, where=str(out), do=do)


def write_page(out: Path, html: str) -> int:
    """The whole page or none: a page that was there stays until the new one is on the disk. Gives its bytes' number.

    Raises OutputError.
    """
    content = html.encode()
    try:
        with whole_file(out) as file:
            file.write(content)
    except OSError as error:
        raise OutputError(
            f"the page cannot be written: {error.strerror}",
            where=str(out),
            do="free some disk, make the folder writable, or choose another --out",
        ) from None
    return len(content)
