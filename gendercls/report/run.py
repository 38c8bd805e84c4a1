"""``gendercls report``: a preds.csv, or the folder of a training run → one HTML page that needs nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gendercls.address import part_of
from gendercls.errors import GenderclsError, UsageError
from gendercls.preds import read_preds, root_of
from gendercls.report.labelled import label_rows
from gendercls.report.measures import Measures, measure
from gendercls.report.preds_page import headline, preds_page
from gendercls.report.training_page import training_page
from gendercls.report.training_run import read_training_run
from gendercls.wholefile import check_free, write_whole


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What the command line says.

    out: None for report.html in the run, or for the CSV's name with .html. photos: whose photos to show; None for those
    of the training run, and for none of a CSV. label_noise: the share of labels that may be wrong, in [0, 1].
    """

    source: Path
    labels: Path | None = None
    out: Path | None = None
    photos: Path | None = None
    thumbnails: bool = True
    label_noise: float | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class ReportResult:
    """The page that was written. size: bytes; notes: what the page lacks, a line each; measures: of a CSV."""

    out: Path
    size: int
    notes: tuple[str, ...]
    measures: Measures | None = None

    @property
    def headline(self) -> list[str]:
        """What a person may quote, a sentence or two each."""
        return [] if self.measures is None else headline(self.measures)

    def to_json(self) -> str:
        """All of a CSV's numbers, for programs; shares are 0 to 1, intervals of 95 %: docs/report.md."""
        content = {"page": str(self.out), **(self.measures.to_dict() if self.measures else {})}
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def report(options: ReportOptions, tell: Callable[[str], None]) -> ReportResult:
    """Write the page about ``options.source``. tell: is given a line before photos of people are put into the page.

    Raises:
        GenderclsError: there is no such run or CSV, no such folder of photos, or the labels do not fit.
        ModelError: a file of the run is damaged.
        OutputError: the CSV is damaged or unfinished; the page exists already, or cannot be written.
        UsageError: an option is given that the source does not take.
    """
    if options.photos is not None and not options.photos.is_dir():
        raise GenderclsError("no such folder of photos", where=f"--photos {options.photos}", do="check the path")
    if not options.source.exists() and not part_of(options.source).exists():
        raise GenderclsError(
            "no such file or folder",
            where=str(options.source),
            do="name a CSV that gendercls classify wrote, or the folder that gendercls train wrote",
        )
    if options.source.is_dir():
        return _report_training(options, tell)
    return _report_preds(options, tell)


def _report_training(options: ReportOptions, tell: Callable[[str], None]) -> ReportResult:
    for name, value in {"--labels": options.labels, "--label-noise": options.label_noise}.items():
        if value is not None:
            raise UsageError(f"{name} is for a CSV, and this is a folder", where=f"{name} {value}", do="leave it out")
    run = read_training_run(options.source)
    out = options.out or options.source / "report.html"
    check_free(out, "report.html", force=options.force)
    page = training_page(run, (options.photos or Path(run.photos_folder)) if options.thumbnails else None)
    _tell_of_photos(page.pictures, tell)
    content = page.html.encode()
    write_whole(out, content)
    notes = [] if run.result else ["the run is not finished: the page has no result yet"]
    if run.result and run.predictions is None:
        notes.append("the run has no predictions.csv, so no mistakes are shown")
    return ReportResult(out, len(content), (*notes, *_missing(page.missing_photos)))


def _report_preds(options: ReportOptions, tell: Callable[[str], None]) -> ReportResult:
    preds = read_preds(options.source)
    out = options.out or options.source.with_suffix(".html")
    check_free(out, "report.html", force=options.force)
    labelled = label_rows(preds, options.labels)
    measures = measure(preds, labelled, options.label_noise)
    if options.label_noise is not None and measures.quality is None:
        raise UsageError(
            "--label-noise is about accuracy against labels, and there is none here",
            where=f"--label-noise {options.label_noise}",
            do="give labels of these photos, without weights, or leave it out",
        )
    shows = options.photos is not None and options.thumbnails
    page = preds_page(preds, labelled, measures, root_of(preds, options.photos) if shows else None)
    _tell_of_photos(page.pictures, tell)
    content = page.html.encode()
    write_whole(out, content)
    return ReportResult(out, len(content), tuple(_missing(page.missing_photos)), measures)


def _tell_of_photos(count: int, tell: Callable[[str], None]) -> None:
    if count:
        tell(f"{count:,} photos of people become part of the page: share it only where that is allowed")


def _missing(count: int) -> list[str]:
    return [f"photos that could not be shown: {count}; name their folder with --photos"] if count else []
