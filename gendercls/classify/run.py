"""``gendercls classify``: folders of photos → a CSV that accounts for every file."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from gendercls.classify.classifier import Classifier, Prediction
from gendercls.classify.output import Journal, check_folder, check_free, files_of
from gendercls.classify.rows import Columns, Row, path_field
from gendercls.classify.tally import Tally
from gendercls.classify.truth import TruthTable
from gendercls.errors import GenderclsError, InterruptedRunError, OutputError, UsageError
from gendercls.records import without_nan
from gendercls.sources import Listing, Photo


@dataclass(frozen=True, slots=True)
class ClassifyOptions:
    """What the command line says."""

    photos: tuple[str, ...]
    out: Path
    model: Path | None = None
    labels: Path | None = None
    split: str | None = None
    device: str = "auto"
    jobs: int | None = None
    batch_size: int | None = None
    min_confidence: float | None = None
    max_error: float | None = None
    limit: int | None = None
    restart: bool = False
    retry_failed: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. total: None until the listing has been counted; rate: photos per second of late."""

    done: int
    failed: int
    total: int | None
    rate: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run gave. kept: rows that an earlier run had written; seconds: of this run alone."""

    out: Path
    tally: Tally
    kept: int
    seconds: float
    device: str
    why_not_cuda: str
    precision: str
    model: str
    threshold: float
    label_source: str
    label_matches: dict[str, int]
    notes: tuple[str, ...]
    warning: str

    @property
    def rate(self) -> float:
        """Photos per second that this run classified."""
        return (self.tally.rows - self.kept) / max(self.seconds, 1e-9)

    def to_json(self) -> str:
        """All of it for programs; shares are 0 to 1, intervals are 95 % Wilson."""
        tally, scores = self.tally, self.tally.scores()
        content = {
            "out": str(self.out),
            "rows": tally.rows,
            "answered": tally.answered,
            "uncertain": tally.uncertain,
            "failed": tally.failed,
            "failures": dict(tally.failures),
            "not_photos": tally.not_photos,
            "shares": {name: asdict(rate) for name, rate in tally.shares().items()},
            "scores": scores.to_dict() if scores else None,
            "labels": {"source": self.label_source, **self.label_matches} if self.label_source else None,
            "device": self.device,
            "precision": self.precision,
            "model": self.model,
            "confidence_threshold": self.threshold,
            "kept_rows": self.kept,
            "seconds": self.seconds,
            "photos_per_second": self.rate,
        }
        # A name that is not UTF-8 becomes JSON's own \\u.
        return json.dumps(without_nan(content), ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


Report = Callable[[Progress], None]


def classify(options: ClassifyOptions, report: Report) -> Summary:
    """Classify every photo below ``options.photos`` and write ``options.out``; continue where a run was left.

    Raises:
        GenderclsError: of the kind that says what could not be done; rows written so far stay.
        InterruptedRunError: the person stopped it; the same command continues.
    """
    if options.split is not None and options.labels is None:
        raise UsageError(
            "--split needs --labels",
            where=f"--split {options.split}",
            do="name the labels that say which photo is in which part",
        )
    if options.retry_failed:
        check_folder(options.out)
    else:
        check_free(options.out, force=options.force)
    listing = Listing(options.photos, files_of(options.out))
    if next(iter(listing), None) is None:
        raise GenderclsError(
            "there are no files to classify",
            where=", ".join(options.photos),
            do="name a folder that holds some; hidden files do not count",
        )
    classifier = _open_classifier(options)
    truth = TruthTable(options.labels, classifier.spec, options.split) if options.labels else None
    if truth is not None:
        truth.check_belongs(listing)
    columns = Columns(classifier.spec.answers, truth is not None)
    run = _Run(
        options, classifier, truth, listing, Journal(options.out, columns, _identity(options, classifier, truth))
    )
    began = time.monotonic()
    kept = run.retry(report) if options.retry_failed else run.go(report)
    return run.summary(kept, time.monotonic() - began)


def _open_classifier(options: ClassifyOptions) -> Classifier:
    return Classifier(
        options.model,
        device=options.device,
        jobs=options.jobs,
        batch_size=options.batch_size,
        min_confidence=options.min_confidence,
        max_error=options.max_error,
    )


def _identity(options: ClassifyOptions, classifier: Classifier, truth: TruthTable | None) -> dict[str, Any]:
    """What must not change while a run goes on. On a CPU the batch size does not count: no bit depends on it."""
    pre, is_cuda = classifier.spec.preprocessing, classifier.session.device.is_cuda
    return {
        "inputs": list(options.photos),
        "model": {"file": classifier.model.path.name, "sha256": classifier.model.sha256},
        "labels": {"source": truth.source, "sha256": truth.sha256} if truth else None,
        "options": {
            "device": classifier.device,
            "precision": classifier.spec.precision,
            "batch_shape": [classifier.session.batch_size, pre.height, pre.width, 3] if is_cuda else None,
            "confidence_threshold": classifier.threshold,
            "split": options.split,
            "limit": options.limit,
        },
        "versions": {
            "gendercls": version("gendercls"),
            **{name: _module_version(name) for name in ("onnxruntime", "numpy", "PIL")},
        },
    }


def _module_version(name: str) -> str:
    return str(__import__(name).__version__)


@dataclass
class _Run:
    """One run's parts, and the two ways it goes: onwards, or over its failures."""

    options: ClassifyOptions
    classifier: Classifier
    truth: TruthTable | None
    listing: Listing
    journal: Journal

    def __post_init__(self) -> None:
        self.tally = Tally(self.classifier.spec.answers, self.truth is not None)
        self.notes: list[str] = []

    def photos(self) -> Iterator[Photo]:
        """The photos to classify, in order."""
        wanted = iter(self.listing)
        if self.truth is not None and self.options.split is not None:
            wanted = filter(self.truth.is_in_split, wanted)
        return islice(wanted, self.options.limit)

    def go(self, report: Report) -> int:
        """Classify what has no row yet; how many rows were there before."""
        try:
            self.journal.begin(restart=self.options.restart, force=self.options.force)
            photos = self.photos()
            kept = self._continue_after(photos)
            meter = _Meter(report, self.photos, kept)
            for pairs in self.classifier.chunks(photos):
                rows = [self._row(photo, prediction) for photo, prediction in pairs]
                self.journal.append(rows)
                for row in rows:
                    self.tally.add(row)
                meter.tell(self.tally)
            self.journal.finish()
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"interrupted after {self.tally.rows:,} rows; they are kept", where=str(self.journal.part)
            ) from None
        finally:
            self.journal.close()
        return kept

    def retry(self, report: Report) -> int:
        """Classify the failed photos again and replace the CSV in one step; how many rows stayed as they were."""
        try:
            self.journal.begin_retry()
            return self._retry(report)
        except KeyboardInterrupt:
            raise InterruptedRunError("interrupted; the rows are as they were", where=str(self.options.out)) from None
        finally:
            self.journal.close()

    def _retry(self, report: Report) -> int:
        failed = []
        for photo, row in self._paired(self.photos(), self.journal.rows()):
            if row.has_failed:
                failed.append(photo)
            else:
                self._count_label(photo)
        meter = _Meter(report, lambda: iter(failed), 0)
        again: deque[Row] = deque()
        for pairs in self.classifier.chunks(failed):
            again.extend(self._row(photo, prediction) for photo, prediction in pairs)
            meter.tell_count(len(again))

        def redo(row: Row) -> Row | None:
            fresh = again.popleft() if row.has_failed else None
            if fresh is not None and path_field(fresh.path) != row.path:
                raise OutputError("the output changed meanwhile", where=row.path, do="repeat the command")
            self.tally.add(fresh or row)
            return fresh

        mended = sum(1 for row in again if not row.has_failed)
        self.journal.rewrite(redo)
        self.notes.append(f"retried what had failed: {mended:,} of {len(failed):,} have an answer now")
        if self.journal.part.exists():
            self.notes.append("the run itself is not finished: repeat the command without --retry-failed to continue")
        return self.tally.rows - len(failed)

    def _continue_after(self, photos: Iterator[Photo]) -> int:
        for photo, row in self._paired(photos, self.journal.kept_rows()):
            self._count_label(photo)
            self.tally.add(row)
        return self.tally.rows

    def _count_label(self, photo: Photo) -> None:
        """How the label of a photo matched whose row is there already."""
        if self.truth is not None:
            self.truth.of(photo)

    def _paired(self, photos: Iterator[Photo], rows: Iterator[Row]) -> Iterator[tuple[Photo, Row]]:
        """Rows with the photos they are of. Raises OutputError at the first photo that differs."""
        for row in rows:
            photo = next(photos, None)
            if photo is None or path_field(photo.key) != row.path:
                found = "the listing ends there" if photo is None else f"{photo.key} comes there now"
                raise OutputError(
                    "the photos are not those the run was begun with",
                    where=f"{row.path} was next among the rows; {found}",
                    do="put the photos back as they were, or repeat with --restart to begin anew",
                )
            yield photo, row

    def _row(self, photo: Photo, prediction: Prediction) -> Row:
        truth = self.truth.of(photo) if self.truth is not None else ""
        correct = "" if not truth else "1" if prediction.label == truth else "0"
        if prediction.error:
            return Row(photo.key, "", "", (), truth, correct, prediction.error)
        numbers = tuple(f"{probability:.6f}" for probability in prediction.probabilities)
        return Row(photo.key, prediction.label, f"{prediction.confidence:.6f}", numbers, truth, correct)

    def summary(self, kept: int, seconds: float) -> Summary:
        session, truth = self.classifier.session, self.truth
        return Summary(
            out=self.options.out,
            tally=self.tally,
            kept=kept,
            seconds=seconds,
            device=session.device.name,
            why_not_cuda=session.device.why_not_cuda,
            precision=self.classifier.spec.precision,
            model=self.classifier.model.label,
            threshold=self.classifier.threshold,
            label_source=truth.source if truth else "",
            label_matches=dict(truth.matches) if truth else {},
            notes=tuple(self.notes),
            warning=self.classifier.model.warning,
        )


class _Meter:
    """Tells the caller how far the run is; counts the listing beside the work."""

    def __init__(self, report: Report, photos: Callable[[], Iterator[Photo]], kept: int) -> None:
        self._report = report
        self._total: int | None = None
        self._recent = deque([(time.monotonic(), kept)], maxlen=64)
        threading.Thread(target=self._count, args=(photos,), daemon=True).start()

    def _count(self, photos: Callable[[], Iterator[Photo]]) -> None:
        self._total = sum(1 for _ in photos())

    def tell(self, tally: Tally) -> None:
        self.tell_count(tally.rows, tally.failed)

    def tell_count(self, done: int, failed: int = 0) -> None:
        now = time.monotonic()
        self._recent.append((now, done))
        then, before = self._recent[0]
        self._report(Progress(done, failed, self._total, (done - before) / max(now - then, 1e-9)))
