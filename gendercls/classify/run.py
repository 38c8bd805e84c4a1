"""``gendercls classify``: folders of photos → a CSV that accounts for every file."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gendercls.classify.classifier import Classifier, Prediction
from gendercls.classify.meter import Meter
from gendercls.classify.options import ClassifyOptions
from gendercls.classify.output import Journal, PhotoRows, begun_with, check_folder, check_free, files_of
from gendercls.classify.runrecord import Begun, identity_of
from gendercls.classify.session import Session
from gendercls.classify.summary import Report, Summary
from gendercls.classify.tally import Tally
from gendercls.classify.whole import Spread
from gendercls.errors import GenderclsError, InterruptedRunError, OutputError
from gendercls.faces import LEAST_SIDE
from gendercls.guard import Watch
from gendercls.rows import NO_FACE, Columns, Row, path_field
from gendercls.shares import Share, rogan_gladen, why_not_corrected
from gendercls.sources import Listing, Photo, Unreadable, Walk
from gendercls.sources.shard import WHOLE
from gendercls.spec import ModelSpec
from gendercls.stats import Rate, wilson
from gendercls.truth import TruthTable

if TYPE_CHECKING:
    from gendercls.classify.distributed import Cluster

    Engine = Classifier | Cluster


def classify(
    options: ClassifyOptions, report: Report, watch: Watch | None = None, opened: Future[Session] | None = None
) -> Summary:
    """Classify every photo below ``options.photos`` and write ``options.out``; continue where a run was left.

    watch: of the guard that this process has, if any. opened: the model, as `open_ahead` gives it.

    Raises:
        GenderclsError: of the kind that says what could not be done; rows written so far stay.
        InterruptedRunError: the person stopped it; the same command continues.
    """
    watch = watch or Watch()
    if watch.is_again:
        options = replace(options, restart=False)  # what there is now is this run's own
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
    if options.ray is None:
        return _classify(options, report, watch, listing, opened)
    from gendercls.classify.connection import connected

    with connected(options.ray):
        return _classify(options, report, watch, listing, None)


def _classify(
    options: ClassifyOptions,
    report: Report,
    watch: Watch,
    listing: Listing,
    opened: Future[Session] | None,
) -> Summary:
    session = opened.result() if opened is not None else None
    watch.open()
    classifier = _open_classifier(options, session)
    watch.rest()
    truth = _truth_table(options.labels, classifier.spec, options.split) if options.labels else None
    if truth is not None:
        truth.check_belongs(listing)
    columns = Columns(classifier.spec.answers, truth is not None, options.faces)
    identity = identity_of(options, classifier, truth)
    journal = Journal(options.out, columns, identity, classifier.threshold, watch.tick)
    run = _Run(options, classifier, truth, listing, journal, watch)
    kept = run.retry(report) if options.retry_failed else run.go(report)
    return run.summary(watch.kept_at_first(kept))


def _truth_table(labels: Path, spec: ModelSpec, split: str | None) -> TruthTable:
    return TruthTable(labels, spec.classes, independent=spec.independent, split=split)


def _open_classifier(options: ClassifyOptions, session: Session | None) -> Engine:
    # On another machine, or with other memory free, another precision or batch would be chosen.
    begun = Begun() if options.restart else begun_with(options.out, also_finished=options.retry_failed)
    chosen: dict[str, Any] = {
        "precision": None if session else options.precision or (begun.precision if options.model is None else None),
        "device": options.device,
        "jobs": options.jobs,
        "batch_size": options.batch_size or begun.batch_size,
        "min_confidence": options.min_confidence,
        "max_error": options.max_error,
        "faces": options.faces,
        "face_model": options.face_model,
        "min_face": LEAST_SIDE if options.min_face is None else options.min_face,
        "max_faces": options.max_faces,
    }
    if options.ray is not None:
        from gendercls.classify.distributed import Cluster  # here, since few runs need it

        return Cluster({"model": options.model, **chosen}, options.photo_timeout)
    return Classifier(session or options.model, **chosen)


@dataclass
class _Run:
    """One run's parts, and the two ways it goes: onwards, or over its failures."""

    options: ClassifyOptions
    classifier: Engine
    truth: TruthTable | None
    listing: Listing
    journal: Journal
    watch: Watch

    def __post_init__(self) -> None:
        self.tally = Tally(self.classifier.spec.answers, self.truth is not None, self.options.faces)
        self.notes: list[str] = []
        self.familiarity: Counter[bool | None] = Counter()
        self.began = self.watch.began if self.watch.is_again else time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the run has taken, of which the processes that a guard replaced are part."""
        return time.monotonic() - self.began

    @property
    def unfamiliar(self) -> Rate:
        """How many images are unlike the model's own, of those of which that is known."""
        return wilson(self.familiarity[True], self.familiarity[True] + self.familiarity[False])

    def photos(self) -> Iterator[Photo]:
        """The photos to classify, in order."""
        return islice(self._walk(), self.options.limit)

    def _walk(self) -> Walk:
        is_wanted = self.truth.is_in_split if self.truth is not None else lambda _: True
        return self.listing.walk(self.options.shard or WHOLE, is_wanted)

    def _spread(self, walk: Walk) -> Iterator[Photo]:
        """The photos of a walk, for many machines: what only passes by is left to one of them, unless photos have to
        be chosen or counted, which is done here."""
        options = self.options
        if options.ray is None or options.split is not None or options.limit is not None or options.shard is not None:
            return islice(walk, options.limit)
        return Spread(self.listing.sources)

    def go(self, report: Report) -> int:
        """Classify the photos that have no rows yet; how many had some before."""
        try:
            self.journal.begin(restart=self.options.restart, force=self.options.force)
            walk = self._walk()
            photos = self._spread(walk)
            kept = self._continue_after(photos)
            self.watch.kept_at_first(kept)
            if self.journal.damage:
                self.notes.append(f"{self.journal.damage}: it and all rows after it were done again")
            # Photos that only pass by are not read twice to be counted.
            meter = Meter(report, None if self.listing.is_passing else self.photos, kept)
            for chunk in self._answered(photos, kept):
                done = [self._rows(photo, predictions) for photo, predictions in chunk]
                self.journal.append(row for rows in done for row in rows)
                for rows in done:
                    self.tally.add(rows)
                self.watch.reach(self.tally.files, self.classifier.ahead)
                meter.tell(self.tally)
            self.watch.rest()
            self.journal.finish(self._outcome(walk))
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"interrupted after {self.tally.files:,} files; their rows are kept", where=str(self.journal.part)
            ) from None
        finally:
            self.journal.close()
        return kept

    def _outcome(self, walk: Walk) -> dict[str, Any]:
        """What the record says of a finished run, which is no part of its identity."""
        shard = {"chunks": list(walk.sizes.items()), "listing": walk.digest} if self.options.shard else {}
        return {
            **shard,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "command": self.options.command,
            "unfamiliar": [self.unfamiliar.count, self.unfamiliar.total],
        }

    def retry(self, report: Report) -> int:
        """Classify the failed photos again and replace the CSV in one step; how many stayed as they were."""
        try:
            self.journal.begin_retry()
            return self._retry(report)
        except KeyboardInterrupt:
            raise InterruptedRunError("interrupted; the rows are as they were", where=str(self.options.out)) from None
        finally:
            self.journal.close()

    def _retry(self, report: Report) -> int:
        failed = sum(map(_has_failed, self.journal.photos()))
        meter = Meter(report, lambda: range(failed), 0)
        again: deque[PhotoRows] = deque()
        for chunk in self._answered(self._failed(), 0):
            again.extend(self._rows(photo, predictions) for photo, predictions in chunk)
            self.watch.reach(len(again), self.classifier.ahead)
            meter.tell_count(len(again))
        self.watch.rest()
        mended = sum(1 for rows in again if not _has_failed(rows))

        def redo(rows: PhotoRows) -> PhotoRows | None:
            fresh = again.popleft() if _has_failed(rows) else None
            if fresh is not None and path_field(fresh[0].path) != rows[0].path:
                raise OutputError("the output changed meanwhile", where=rows[0].path, do="repeat the command")
            self.tally.add(fresh or rows)
            return fresh

        self.journal.rewrite(redo)
        self.notes.append(f"retried what had failed: {mended:,} of {failed:,} have an answer now")
        if not self.journal.is_finished:
            self.notes.append("the run itself is not finished: repeat the command without --retry-failed to continue")
        return self.tally.files - failed

    def _failed(self) -> Iterator[Photo]:
        """The photos whose rows failed, as they are listed: those that pass by come with their bytes."""
        photos = self.photos()
        for photo, rows in self._paired(photos, self.journal.photos()):
            if _has_failed(rows):
                yield photo
            else:
                self._count_label(photo)
        if self.journal.is_finished:
            self._check_all_have_rows(photos)

    def _answered(self, photos: Iterator[Photo], number: int) -> Iterator[list[tuple[Photo, list[Prediction]]]]:
        """The photos with their predictions, from that number on; one by one where the guard wants care."""
        watch, classifier = self.watch, self.classifier
        classifier.tick = watch.tick
        touchable = (
            Unreadable(photo.key, photo.path, watch.lethal[place]) if place in watch.lethal else photo
            for place, photo in enumerate(photos, number)
        )
        watch.reach(number, classifier.ahead)
        yield from classifier.chunks(islice(touchable, max(0, watch.careful.start - number)))
        for place in range(max(number, watch.careful.start), watch.careful.stop):
            watch.rest()  # neither what listing takes is a photo's fault
            photo = next(touchable, None)
            if photo is None:
                return
            watch.reach(place, classifier.ahead)
            chunk = classifier.one(photo)
            watch.rest()  # nor what writing its rows takes
            yield chunk
        yield from classifier.chunks(touchable)

    def _continue_after(self, photos: Iterator[Photo]) -> int:
        for photo, rows in self._paired(photos, self.journal.kept()):
            self._count_label(photo)
            self.tally.add(rows)
        return self.tally.files

    def _count_label(self, photo: Photo) -> None:
        """How the label of a photo matched whose row is there already."""
        if self.truth is not None:
            self.truth.of(photo)

    def _paired(self, photos: Iterator[Photo], written: Iterator[PhotoRows]) -> Iterator[tuple[Photo, PhotoRows]]:
        """Rows with the photos they are of. Raises OutputError at the first photo that differs."""
        for rows in written:
            path = rows[0].path
            photo = photos.beside(path) if isinstance(photos, Spread) else next(photos, None)
            if photo is None or path_field(photo.key) != path:
                found = "the listing ends there" if photo is None else f"{photo.key} comes there now"
                raise OutputError(
                    "the photos are not those the run was begun with",
                    where=f"{path} was next among the rows; {found}",
                    do=f"put the photos back as they were, or repeat with {self.journal.anew} to begin anew",
                )
            yield photo, rows

    def _check_all_have_rows(self, left: Iterator[Photo]) -> None:
        """Raises OutputError when a photo is left after the last row, as where a finished CSV lost its end."""
        photo = next(left, None)
        if photo is not None:
            raise OutputError(
                "the listing has more photos than the CSV has rows",
                where=f"{self.options.out} ends before {photo.key}",
                do="restore the CSV from a copy, or take away photos that were added since; or repeat with "
                f"{self.journal.anew} to begin anew",
            )

    def _rows(self, photo: Photo, predictions: Sequence[Prediction]) -> PhotoRows:
        self.familiarity.update(prediction.is_unfamiliar for prediction in predictions)
        truth = self.truth.of(photo) if self.truth is not None else ""
        # With faces, the truth of a photo is that of its only face; of another photo it says nothing.
        is_scored = truth != "" and (not self.options.faces or [p.face is None for p in predictions] == [False])
        return [
            _row(photo, prediction, number, truth, is_scored) for number, prediction in enumerate(predictions, start=1)
        ]

    def _corrected(self, unfamiliar: Rate) -> tuple[dict[str, Share], str]:
        """The shares if errors are as frequent as on photos where they were counted, and which photos those were."""
        spec, tally, names = self.classifier.spec, self.tally, self.classifier.answers.names
        counted = spec.figures[0] if spec.figures else None
        confusion = np.array(counted.confusion if counted is not None else [])
        if counted is None or confusion.shape != (len(names), len(names)) or confusion.min() < 0:
            return {}, ""
        reason = why_not_corrected(
            threshold=self.classifier.threshold, has_faces=self.options.faces, unfamiliar=unfamiliar
        )
        has_labels = self.truth is not None and tally.scores() is not None  # which tell the errors here
        if reason or has_labels:
            return {}, ""
        shares = rogan_gladen(np.array([tally.labels[name] for name in names]), confusion)
        return (dict(zip(names, shares, strict=True)), counted.on) if shares is not None else ({}, "")

    def summary(self, kept: int) -> Summary:
        session, truth, unfamiliar = self.classifier.session, self.truth, self.unfamiliar
        corrected, corrected_by = self._corrected(unfamiliar)
        return Summary(
            out=self.options.out,
            tally=self.tally,
            kept=kept,
            seconds=self.seconds,
            device=session.device.name,
            why_not_cuda=session.device.why_not_cuda,
            precision=self.classifier.spec.precision,
            model=self.classifier.model.label,
            threshold=self.classifier.threshold,
            label_source=truth.source if truth else "",
            unweighted=truth is not None and truth.has_weights,
            label_matches=dict(truth.matches) if truth else {},
            unfamiliar=unfamiliar,
            corrected=corrected,
            corrected_by=corrected_by,
            notes=tuple(self.notes),
            warning=self.classifier.model.warning,
        )


def _has_failed(rows: PhotoRows) -> bool:
    return any(row.has_failed for row in rows)


def _row(photo: Photo, prediction: Prediction, number: int, truth: str, is_scored: bool) -> Row:
    """A prediction as a line of the CSV. number: of the face, if it is of one."""
    correct = str(int(prediction.label == truth)) if is_scored else ""
    face: tuple[str, ...] = ()
    if prediction.face is not None:
        box = prediction.face
        face = (*map(str, (number, box.x, box.y, box.w, box.h)), f"{box.confidence:.6f}")
    elif prediction.label == NO_FACE:
        face = ("0",)
    has_answer = bool(prediction.probabilities)
    confidence = f"{prediction.confidence:.6f}" if has_answer else ""
    probabilities = tuple(f"{probability:.6f}" for probability in prediction.probabilities)
    return Row(photo.key, prediction.label, confidence, probabilities, truth, correct, prediction.error, face)
