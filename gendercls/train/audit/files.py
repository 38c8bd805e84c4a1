"""The findings as CSV files, for programs and for whoever mends the labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from gendercls.errors import OutputError
from gendercls.records import to_line
from gendercls.train.audit.findings import Findings, LabelledPhotos
from gendercls.train.audit.suspects import LabelErrors
from gendercls.wholefile import write_whole

UNUSABLE, DUPLICATES, LEAKS, LABEL_ERRORS, SHEET = (
    "unusable.csv",
    "duplicates.csv",
    "leaks.csv",
    "label_errors.csv",
    "sheet.html",
)

Row = Sequence[object]


def check_folder(folder: Path) -> None:
    """Make the folder, or find one that holds no audit. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder cannot be made: {error.strerror}", where=str(folder), do="check it") from None
    if any((folder / name).exists() for name in (UNUSABLE, DUPLICATES, LEAKS, LABEL_ERRORS, SHEET)):
        raise OutputError("the folder already holds an audit", where=str(folder), do="choose another --out")


def write_files(folder: Path, findings: Findings, label_errors: LabelErrors | None) -> None:
    """One CSV for each kind of finding; a kind that was not looked for has none. Raises OutputError."""
    photos = findings.photos
    write_whole(folder / UNUSABLE, _csv(("path", "reason"), _unusable_rows(photos)))
    duplicates = ("group", "path", "kind", "distance", "class", "identity", "split")
    write_whole(folder / DUPLICATES, _csv(duplicates, _duplicate_rows(findings)))
    write_whole(folder / LEAKS, _csv(("kind", "group", "path", "class", "split"), _leak_rows(findings)))
    if label_errors is not None:
        suspects = ("path", "label", "suggested", "p_label", "p_suggested", "score")
        write_whole(folder / LABEL_ERRORS, _csv(suspects, _suspect_rows(photos, label_errors)))


def _csv(header: Row, rows: Iterable[Row]) -> bytes:
    text = "".join(to_line(list(map(str, row))) for row in (header, *rows))
    return text.encode("utf-8", "surrogateescape")  # a name on disk need not be UTF-8


def _unusable_rows(photos: LabelledPhotos) -> Iterable[Row]:
    return ((key, check.reason) for key, check in zip(photos.keys, photos.checks, strict=True) if check.reason)


def _duplicate_rows(findings: Findings) -> Iterable[Row]:
    photos = findings.photos
    for name, group in enumerate(findings.groups, start=1):
        for copy in group:
            n = copy.number
            yield name, photos.keys[n], copy.kind, copy.distance, photos.label(n), _identity(photos, n), photos.parts[n]


def _leak_rows(findings: Findings) -> Iterable[Row]:
    """Copies by the number of their group in ``duplicates.csv``, then people by the number that the labels give."""
    photos = findings.photos
    names = {group: name for name, group in enumerate(findings.groups, start=1)}
    for group in findings.leaks:
        for copy in group:
            yield "copies", names[group], photos.keys[copy.number], photos.label(copy.number), photos.parts[copy.number]
    if findings.identities and photos.identity is not None:
        leaking = photos.usable & np.isin(photos.identity, findings.identities) & (photos.parts != "")
        for n in sorted(np.flatnonzero(leaking).tolist(), key=lambda n: photos.identity[n]):  # type: ignore[index]
            yield "identity", photos.identity[n], photos.keys[n], photos.label(n), photos.parts[n]


def _suspect_rows(photos: LabelledPhotos, label_errors: LabelErrors) -> Iterable[Row]:
    for s in label_errors.suspects:
        numbers = (f"{value:.6f}" for value in (s.label_probability, s.suggested_probability, s.score))
        yield photos.keys[s.number], s.label, s.suggested, *numbers


def _identity(photos: LabelledPhotos, number: int) -> object:
    return "" if photos.identity is None or photos.identity[number] < 0 else photos.identity[number]
