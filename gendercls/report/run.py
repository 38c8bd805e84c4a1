"""``gendercls report``: the folder of a training run → one HTML page that needs nothing beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gendercls.errors import GenderclsError, OutputError
from gendercls.report.training_page import training_page
from gendercls.report.training_run import read_training_run
from gendercls.wholefile import whole_file


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What the command line says. out: None for report.html in the run; photos: None for where the run found them."""

    source: Path
    out: Path | None = None
    photos: Path | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class ReportResult:
    """The page that was written. size: bytes; notes: what the page lacks, a line each."""

    out: Path
    size: int
    notes: tuple[str, ...]


def report(options: ReportOptions) -> ReportResult:
    """Write the page about ``options.source``, the folder of a run that is finished or still going on.

    Raises:
        GenderclsError: there is no run, or no such folder of photos.
        ModelError: a file of the run is damaged.
        OutputError: the page exists already, or cannot be written.
    """
    if options.photos is not None and not options.photos.is_dir():
        raise GenderclsError("no such folder of photos", where=f"--photos {options.photos}", do="check the path")
    run = read_training_run(options.source)
    out = options.out or options.source / "report.html"
    _check_free(out, force=options.force)
    page = training_page(run, options.photos or Path(run.photos_folder))
    content = page.html.encode()
    _write(out, content)
    notes = [] if run.result else ["the run is not finished: the page has no result yet"]
    if run.result and run.predictions is None:
        notes.append("the run has no predictions.csv, so no mistakes are shown")
    if page.missing_photos:
        notes.append(f"photos that could not be shown: {page.missing_photos}; name their folder with --photos")
    return ReportResult(out, len(content), tuple(notes))


def _check_free(out: Path, *, force: bool) -> None:
    if not out.parent.is_dir():
        problem, do = "the page's folder does not exist", "make it, or choose another --out"
    elif out.is_dir():
        problem, do = "the page's name is that of a folder", f"name a file in it, as in --out {out / 'report.html'}"
    elif out.exists() and not force:
        problem, do = "the page already exists", "choose another --out, or repeat with --force to replace it"
    else:
        return
    raise OutputError(problem, where=str(out), do=do)


def _write(out: Path, content: bytes) -> None:
    """The whole page or none: a page that was there stays until the new one is on the disk."""
    try:
        with whole_file(out) as file:
            file.write(content)
    except OSError as error:
        raise OutputError(
            f"the page cannot be written: {error.strerror}",
            where=str(out),
            do="free some disk, make the folder writable, or choose another --out",
        ) from None
