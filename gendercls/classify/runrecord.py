"""``preds.csv.run.json``: what run an output is of, and whether a command is that run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from gendercls.address import Address
from gendercls.errors import OutputError
from gendercls.modelfile import Precision

if TYPE_CHECKING:
    from gendercls.classify.classifier import Classifier
    from gendercls.classify.distributed import Cluster
    from gendercls.classify.options import ClassifyOptions
    from gendercls.truth import TruthTable

OUTCOME = "finished"
"""The record's key for what is known only in the end, and no part of what the run is."""

UNFINISHED = "unfinished"
"""The record's key for which parts in a store are the run's, while it goes on."""


def identity_of(options: ClassifyOptions, classifier: Classifier | Cluster, truth: TruthTable | None) -> dict[str, Any]:
    """What must not change while a run goes on. On a CPU the batch size does not count: no bit depends on it."""
    pre, is_cuda = classifier.spec.preprocessing, classifier.session.device.is_cuda
    detector = classifier.detector
    counted = next(iter(classifier.spec.figures), None)
    faces = {"min_face": classifier.min_face, "max_faces": classifier.max_faces} if detector else {}
    weighted = {"weighted": True} if truth is not None and truth.has_weights else {}
    return {
        "inputs": list(options.photos),
        "model": {"file": classifier.model.path.name, "sha256": classifier.model.sha256},
        "classes": {rule.name: rule.rule for rule in classifier.spec.classes},
        "independent": classifier.spec.independent,
        "counted": {"on": counted.on, "confusion": counted.confusion} if counted else None,
        "face_model": {"file": detector.file.path.name, "sha256": detector.file.sha256} if detector else None,
        "labels": {"source": truth.source, "sha256": truth.sha256, **weighted} if truth else None,
        "options": {
            "device": classifier.device,
            "precision": classifier.spec.precision,
            "batch_shape": [classifier.session.batch_size, pre.height, pre.width, 3] if is_cuda else None,
            "confidence_threshold": classifier.threshold,
            "split": options.split,
            "limit": options.limit,
            "shard": str(options.shard) if options.shard else None,
            **faces,
        },
        "versions": classifier.versions,
    }


def record_bytes(content: dict[str, Any]) -> bytes:
    """The record as a file has it."""
    text = json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    return text.encode("utf-8", "backslashreplace")  # names that are not UTF-8 as JSON's own \\u


def check_same_run(
    read: Callable[[], bytes], identity: dict[str, Any], out: Address, record: Address, anew: str
) -> None:
    """Raises OutputError where a record is of another run, or cannot be read.

    read: gives the record. out, record: where the output and the record are. anew: the option that begins anew.
    """
    now = json.loads(json.dumps(identity))
    try:
        begun = json.loads(read().decode())
        if isinstance(begun, dict):
            begun = {key: value for key, value in begun.items() if key not in (OUTCOME, UNFINISHED)}
        if begun == now:
            return
        key, was, is_now = _first_difference(begun, now)
    except (OSError, ValueError, RecursionError):  # the last where it is nested too deeply to be read or shown
        raise OutputError(
            "rows were begun, but the record of their run is missing or damaged",
            where=str(record),
            do=f"repeat with {anew} to begin anew",
        ) from None
    raise OutputError(
        f"{_name(out)} was begun with {key}; going on would mix the answers of two",
        where=f"{_name(record)} has {was}, this run has {is_now}",
        do=f"repeat the command as it was to continue, or with {anew} to begin anew",
    )


@dataclass(frozen=True, slots=True)
class Begun:
    """What a run chose by itself, which one that goes on has to keep; None where nothing is known of it."""

    precision: Precision | None = None
    batch_size: int | None = None


def begun_of(read: Callable[[], bytes]) -> Begun:
    """What the run of a record was begun with; the batch size only where bits depend on it."""
    try:
        options = json.loads(read().decode())["options"]
        precision, (batch_size, *_) = options["precision"], options["batch_shape"] or [None]
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        RecursionError,
    ):  # the journal itself will say what is wrong with it
        return Begun()
    is_size = isinstance(batch_size, int) and batch_size >= 1
    return Begun(precision if precision in get_args(Precision) else None, batch_size if is_size else None)


def _name(address: Address) -> str:
    """As messages name it: a file by its name alone, an object by its whole address."""
    return address if isinstance(address, str) else address.name


def _first_difference(begun: Any, now: Any) -> tuple[str, str, str]:
    """Where two records of a run first differ: in words, and both values."""
    if not isinstance(begun, dict):
        begun = {}
    key = next(name for name in [*now, *begun] if name not in begun or name not in now or begun[name] != now[name])
    if key in ("options", "versions") and isinstance(begun.get(key), dict) and isinstance(now.get(key), dict):
        words, was, is_now = _first_difference(begun[key], now[key])
        return (words.replace("another", "another version of") if key == "versions" else words), was, is_now
    words = " ".join(key[:60].replace("_", " ").split())
    other = f"other {words}" if words.endswith("s") else f"another {words}"
    was, is_now = (_in_words(record[key])[:500] if key in record else "nothing" for record in (begun, now))
    return other, was, is_now


def _in_words(value: Any) -> str:
    match value:
        case {"sha256": str(digest), **name}:
            return f"{next(iter(name.values()), 'one without a name')} ({digest[:6]})"
        case None:
            return "none"
        case list():
            return ", ".join(map(str, value))
        case _:
            return str(value)
