"""``gendercls compare``: two CSVs of the same photos → what changed, whether it is more than chance, and where."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gendercls.errors import GenderclsError
from gendercls.preds import Predictions, RunRecord, read_preds
from gendercls.records import defused, without_nan
from gendercls.report.agreement import (
    Apart,
    ChangedSlice,
    PairedRates,
    apart,
    changed_slices,
    is_right,
    label_table,
    paired,
    paired_truth,
    shares,
    word,
)
from gendercls.report.pairs import Pairs, pair_rows
from gendercls.rows import encode
from gendercls.stats import Rate, wilson
from gendercls.wholefile import check_free, write_whole

_HEADER = ("path", "face_first", "face_second", "label_first", "label_second", "confidence_first", "confidence_second")
_OPTIONS = ("device", "precision", "threshold", "batch_size", "min_face", "max_faces", "split", "limit")


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What the command line says. labels: None for the truth that the CSVs have themselves, if any."""

    first: Path
    second: Path
    labels: Path | None = None
    out: Path | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class RunDifference:
    """Something that the records of two runs say differently, in words."""

    what: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Rows of one CSV that the other has not: how many, and the path of the first."""

    count: int
    first: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of two CSVs; rows are those of photos, or of faces.

    runs: how the two were made differently; unrecorded: CSVs of which that is not known. rows: in both. changed: where
    they say something else, be it another class, uncertain, failed or no face. failed_only_first, failed_only_second:
    failures that changed. words, labels: what the first says by what the second says, in counts; empty for independent
    attributes. shares: of each class. accuracy: None without truth. conflicts: rows for which the two have other
    truths, which are not scored. unweighted: whether the labels have weights, which nothing here counts in.
    """

    first: Path
    second: Path
    runs: list[RunDifference]
    unrecorded: list[Path]
    rows: int
    only_first: Unpaired
    only_second: Unpaired
    changed: Rate
    failed_only_first: int
    failed_only_second: int
    apart: Apart
    words: list[str]
    labels: list[list[int]]
    shares: dict[str, PairedRates]
    accuracy: PairedRates | None
    conflicts: int
    unweighted: bool
    slices: list[ChangedSlice]
    out: Path | None

    def to_json(self) -> str:
        """All of it for programs; shares are 0 to 1, intervals of 95 %."""
        content: Any = without_nan(asdict(self))
        # A name that is not UTF-8 becomes JSON's own \\u.
        return json.dumps(content, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode()


def compare(options: CompareOptions) -> Comparison:
    """Pair the rows of two CSVs and say what differs; write every changed prediction to ``options.out``.

    Raises:
        GenderclsError: there is no such CSV, they have other classes, or no photo in common.
        LabelError: the labels cannot be read, or are of other photos.
        OutputError: a CSV is unfinished or damaged; what changed cannot be written, or would replace a file.
    """
    if options.out is not None:
        check_free(options.out, "changed.csv", force=options.force)
    first, second = read_preds(options.first), read_preds(options.second)
    _check_same_classes(first, second)
    pairs = pair_rows(first, second)
    if len(pairs) == 0:
        raise GenderclsError(
            "the two have no photo in common",
            where=" and ".join(f"{preds.path} begins with {_first_path(preds)}" for preds in (first, second)),
            do="compare runs over the same folder, named the same way",
        )
    changed = np.array([word(one) != word(other) for one, other in pairs.rows], np.bool_)
    found = paired_truth(pairs, options.labels)
    right, right_then = (is_right(rows, found.truth) for rows in zip(*pairs.rows, strict=True))
    is_scored = found.truth != ""
    failed, failed_then = first.has_failed[pairs.of_first], second.has_failed[pairs.of_second]
    words, labels = ([], []) if first.independent else label_table(pairs)
    result = Comparison(
        first=first.path,
        second=second.path,
        runs=list(_run_differences(first.record, second.record)) if first.record and second.record else [],
        unrecorded=[preds.path for preds in (first, second) if preds.record is None],
        rows=len(pairs),
        only_first=_unpaired(first, pairs.only_first),
        only_second=_unpaired(second, pairs.only_second),
        changed=wilson(int(changed.sum()), len(pairs)),
        failed_only_first=int((failed & ~failed_then).sum()),
        failed_only_second=int((failed_then & ~failed).sum()),
        apart=apart(pairs),
        words=words,
        labels=labels,
        shares=shares(pairs),
        accuracy=paired(right[is_scored], right_then[is_scored]) if is_scored.any() else None,
        conflicts=found.conflicts,
        unweighted=found.has_weights,
        slices=changed_slices(found, changed, right, right_then),
        out=options.out,
    )
    if options.out is not None:
        _write_changed(options.out, pairs, changed, found.truth)
    return result


def _check_same_classes(first: Predictions, second: Predictions) -> None:
    if first.answers != second.answers:
        raise GenderclsError(
            "the two have other classes",
            where=f"{_classes_of(first)}; {_classes_of(second)}",
            do="compare runs of models with the same classes",
        )


def _classes_of(preds: Predictions) -> str:
    kind = "attributes" if preds.independent else "classes"
    return f"{preds.path} has the {kind} {', '.join(preds.answers.names)}"


def _run_differences(first: RunRecord, second: RunRecord) -> Iterator[RunDifference]:
    """What differs between the runs, that which decides most first."""
    facts, others = _facts(first), _facts(second)
    for what in {**facts, **others}:
        one, other = facts.get(what, "none"), others.get(what, "none")
        if one != other:
            yield RunDifference(what, one, other)


def _facts(record: RunRecord) -> dict[str, str]:
    """All that decides a run, in words."""
    facts = {"model": f"{record.model} ({record.model_sha256[:6]})"}
    if record.face_model:
        facts["face model"] = f"{record.face_model} ({record.face_model_sha256[:6]})"
    if record.labels_sha256:
        facts["labels"] = record.labels_sha256[:6]
    options = {name.replace("_", " "): getattr(record, name) for name in _OPTIONS}
    facts |= {name: str(value) for name, value in options.items() if value is not None}
    facts["inputs"] = ", ".join(record.inputs)
    return facts | {f"version of {name}": version for name, version in record.versions.items()}


def _first_path(preds: Predictions) -> str:
    return preds.rows[0].path if preds.rows else "nothing"


def _unpaired(preds: Predictions, numbers: NDArray[np.intp]) -> Unpaired:
    return Unpaired(len(numbers), preds.rows[numbers[0]].path if len(numbers) else "")


def _write_changed(out: Path, pairs: Pairs, changed: NDArray[np.bool_], truth: NDArray[np.str_]) -> None:
    """Every changed prediction, in the order of the first CSV."""
    lines: list[tuple[str, ...]] = [(*_HEADER, "truth")]
    for number in np.flatnonzero(changed).tolist():
        one, other = pairs.rows[number]
        faces = (row.face[0] if row.face else "" for row in (one, other))
        said = (defused(word(row)) for row in (one, other))
        lines.append((one.path, *faces, *said, one.confidence, other.confidence, defused(str(truth[number]))))
    write_whole(out, b"".join(map(encode, lines)))
