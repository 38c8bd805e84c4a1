"""ModelSpec: the contract carried inside the ONNX file.

Input ``images``: uint8 ``[N, H, W, 3]`` RGB. Output ``probabilities``: float32 ``[N, K]``, ``softmax(logits / T)``; of
independent attributes ``sigmoid(logits / T)``.
``metadata_props["gendercls"]`` holds the spec as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gendercls.answers import Answers, AttributeScore, answers_for, attribute_scores, mean_accuracy
from gendercls.errors import LabelError, ModelError
from gendercls.fields import Fields, parse_json
from gendercls.images import Preprocessing
from gendercls.labels.rules import ClassRule, check_classes, classes_to_json, opinions_in
from gendercls.stats import Threshold, wilson

FORMAT = (1, 2)
"""1.1 brought models of independent attributes, 1.2 the output ``embedding`` and the norm that familiar photos have."""

UNFAMILIAR = 0.05
"""The share of a model's own validation photos whose embedding is shorter than its spec's ``familiar_norm``."""

_MOST_SELF_TESTS = 16

T = TypeVar("T")
Counts = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured once: how many of which photos were right, and the confusion counts behind it.

    correct, total: photos whose whole label is right, of those whose whole truth is known. confusion: K rows of truth
    by K columns of answers; empty for independent attributes. attributes: for each of those a row of truth no and a
    row of truth yes, each of answers no and yes; empty for classes that exclude each other.
    """

    on: str
    correct: int
    total: int
    confusion: Counts
    attributes: tuple[Counts, ...] = ()

    def __str__(self) -> str:
        return f"{wilson(self.correct, self.total) if self.total else 'no whole label known'} on {self.on}"

    @classmethod
    def of(cls, on: str, answers: Answers, probabilities: NDArray[np.floating], targets: NDArray[np.int8]) -> Figure:
        """What probabilities ``[N, K]`` give against targets ``[N, K]``."""
        correct, known = answers.correct(probabilities, targets), answers.is_known(targets)
        counts = answers.confusion(probabilities, targets)
        tables = (counts.tolist(), []) if counts.ndim == 2 else ([], counts.tolist())
        return cls.from_counts(on, int(correct.sum()), int(known.sum()), *tables)

    @classmethod
    def from_counts(
        cls,
        on: str,
        correct: int,
        total: int,
        confusion: Sequence[Sequence[int]],
        attributes: Sequence[Sequence[Sequence[int]]] = (),
    ) -> Figure:
        """As a checkpoint keeps it: lists, and no ``attributes`` in one of before there were any."""
        return cls(on, correct, total, _counts(confusion), tuple(map(_counts, attributes)))

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was counted."""
        return not self.total and not np.any(self.attributes)

    def attribute_scores(self, names: Sequence[str]) -> list[AttributeScore]:
        """A score for each attribute of that model; none for classes that exclude each other."""
        return attribute_scores(names, self.attributes) if self.attributes else []

    @property
    def mean_accuracy(self) -> float:
        """How often one attribute is right, meaned over them; NaN for classes that exclude each other."""
        return mean_accuracy(self.attribute_scores([""] * len(self.attributes)))


def _counts(rows: Sequence[Sequence[int]]) -> Counts:
    return tuple(tuple(row) for row in rows)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Generated images and what they must give. probabilities: one row of K per seed; tolerance: largest difference."""

    seeds: tuple[int, ...]
    probabilities: tuple[tuple[float, ...], ...]
    tolerance: float

    def images(self, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """The generated photos: uint8 ``[S, H, W, 3]``, patches of colour, the same on every machine."""
        rows = np.arange(preprocessing.height) * 8 // preprocessing.height
        columns = np.arange(preprocessing.width) * 8 // preprocessing.width
        patches = [self._patches(seed)[rows][:, columns] for seed in self.seeds]
        return np.stack(patches)

    def difference(self, answers: NDArray[np.floating]) -> float:
        """The largest one between answers to these photos, ``[S, K]``, and what is promised."""
        return float(np.abs(answers - np.array(self.probabilities)).max())

    @staticmethod
    def _patches(seed: int) -> NDArray[np.uint8]:
        # RandomState's stream is frozen by numpy's policy (NEP 19); Generator's may change between versions.
        return np.random.RandomState(seed).randint(0, 256, (8, 8, 3)).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class GateFigures:
    """How closely onnxruntime followed PyTorch on the same real photos when the file was made."""

    photos: int
    largest_difference: float
    tolerance: float
    decisions_changed: int
    worst_photo: str


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything a user of the model must agree on.

    independent: each class is an attribute of its own, so that a photo can have several or none. provenance: plain
    values, for people and for programs. familiar_norm: what is not like the photos that the model was made for, a cat
    or a whole scene, mostly has a shorter embedding than that; None where it is not known.
    """

    name: str
    classes: tuple[ClassRule, ...]
    preprocessing: Preprocessing
    precision: str
    temperature: float
    provenance: Mapping[str, Any]
    figures: tuple[Figure, ...]
    thresholds: tuple[Threshold, ...]
    self_test: SelfTest
    gate: GateFigures
    independent: bool = False
    familiar_norm: float | None = None
    format: tuple[int, int] = FORMAT

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.classes)

    @property
    def answers(self) -> Answers:
        """How to read the model's probabilities."""
        return answers_for(self.independent, self.class_names)

    @property
    def opinions(self) -> list[str]:
        """The attributes that make the classes and are a labeller's opinion."""
        return opinions_in(self.classes)

    @property
    def is_newer(self) -> bool:
        """Whether a later version of gendercls wrote it, within the same major format."""
        return self.format > FORMAT

    def threshold_for(self, wanted_error: float) -> Threshold:
        """The row of the table that keeps the wanted error rate (0 to 1). Raises ModelError where none does."""
        rows = [row for row in self.thresholds if row.wanted_error <= wanted_error]
        if not rows:
            least = min((row.wanted_error for row in self.thresholds), default=None)
            counted = "; one wrong attribute makes a wrong label" if self.independent else ""
            raise ModelError(
                f"no confidence keeps an error rate of {wanted_error:g} on the photos this model was validated on",
                where=f"the threshold table of {self.name}{counted}",
                do=f"ask for --max-error {least:g} or more" if least is not None else "use --min-confidence instead",
            )
        return max(rows, key=lambda row: row.wanted_error)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        plain = asdict(self) | {"classes": classes_to_json(self.classes), "format": list(self.format)}
        for figure, row in zip(self.figures, plain["figures"], strict=True):
            rate = wilson(figure.correct, figure.total)
            row["accuracy"] = rate.value if figure.total else None  # JSON has no NaN
            row["interval"] = [rate.low, rate.high]
        return plain


def parse_spec(text: str, where: str) -> ModelSpec:
    """A spec from its JSON. Raises ModelError that names the file and the key."""
    try:
        top = _Reader(parse_json(text), where, "spec")
    except ValueError:
        raise ModelError("the model's spec is no JSON", where=where, do="export the model again") from None
    major, minor = top.wholes("format", 2)
    if major != FORMAT[0]:
        raise ModelError(
            f"the model's format is {major}.{minor}; this version of gendercls reads {FORMAT[0]}.x",
            where=where,
            do="install a newer gendercls" if major > FORMAT[0] else "export the model again",
        )
    _bring_up_to_date(top, minor)
    independent = top.flag("independent")
    classes = top.checked(lambda spec: _classes(spec, independent), "classes")
    pre = top.inner("preprocessing")
    test = top.inner("self_test")
    gate = top.inner("gate")
    spec = ModelSpec(
        name=top.text("name"),
        classes=classes,
        preprocessing=pre.checked(_preprocessing, ""),
        precision=top.text("precision"),
        temperature=top.number("temperature"),
        provenance=dict(top.inner("provenance").value),
        figures=tuple(_figure(item, len(classes) if independent else 0) for item in top.items("figures")),
        thresholds=tuple(map(_threshold, top.items("thresholds"))),
        self_test=SelfTest(tuple(test.wholes("seeds")), test.table("probabilities"), test.number("tolerance")),
        gate=GateFigures(
            gate.whole("photos"),
            gate.number("largest_difference"),
            gate.number("tolerance"),
            gate.whole("decisions_changed"),
            gate.text("worst_photo"),
        ),
        independent=independent,
        familiar_norm=None if top.get("familiar_norm") is None else top.number("familiar_norm"),
        format=(major, minor),
    )
    _check_self_test(spec, where)
    return spec


def _bring_up_to_date(top: _Reader, minor: int) -> None:
    """Put in what a file of an older format does not say."""
    if minor < 1:
        top.value["independent"] = False
        for figure in top.items("figures"):
            figure.value["attributes"] = []
    if minor < 2:
        top.value["familiar_norm"] = None


def _check_self_test(spec: ModelSpec, where: str) -> None:
    test = spec.self_test
    sound = 1 <= len(test.seeds) == len(test.probabilities) <= _MOST_SELF_TESTS
    if not sound or any(len(row) != len(spec.classes) for row in test.probabilities):
        raise ModelError(
            f"spec.self_test needs 1 to {_MOST_SELF_TESTS} seeds with one probability per class each",
            where=where,
            do="export the model again",
        )


class _Reader(Fields):
    """The getters that a spec needs."""

    kind = "an object"
    remedy = "export the model again"
    # No more than 32 bits: counts need no more, and the generator of the self-test takes no other seed.
    most = 2**32 - 1

    def shown(self, value: object) -> str:
        return json.dumps(value, ensure_ascii=False, default=str)[:60]

    def number(self, key: str) -> float:
        value = self.get(key)
        if not _is_number(value):
            raise self.wrong(key, "a number", value)
        return float(value)

    def wholes(self, key: str, count: int | None = None) -> list[int]:
        value = self.get(key)
        if not isinstance(value, list) or not all(map(_Reader.is_whole, value)) or len(value) != (count or len(value)):
            raise self.wrong(key, f"a list of {f'{count} ' if count else ''}whole numbers, 0 or more", value)
        return [int(number) for number in value]

    def table(self, key: str) -> tuple[tuple[float, ...], ...]:
        value = self.get(key)
        if not isinstance(value, list) or not all(map(_is_row, value)):
            raise self.wrong(key, "a list of lists of numbers", value)
        return tuple(tuple(float(number) for number in row) for row in value)

    def counts_2x2(self, key: str, tables: int) -> tuple[Counts, ...]:
        value = self.get(key)
        if not isinstance(value, list) or len(value) != tables or not all(map(_is_2x2, value)):
            expected = f"a list of {tables} tables of 2×2 whole numbers, 0 or more" if tables else "an empty list"
            raise self.wrong(key, expected, value)
        return tuple(map(_counts, value))

    def checked(self, build: Callable[[_Reader], T], key: str) -> T:
        """What ``build`` makes of this object; its ValueError or LabelError becomes one that names the key."""
        try:
            return build(self)
        except (ValueError, LabelError) as error:
            raise self.refused(f"{self.named(key)}: {str(error).splitlines()[0][:200]}") from None


def _is_number(value: object) -> bool:
    """Also no for what is beyond a float, which JSON allows."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_row(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_Reader.is_whole, value))


def _is_2x2(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_pair, value))


def _classes(top: _Reader, independent: bool) -> tuple[ClassRule, ...]:
    rules = (ClassRule(item.text("name"), item.text("rule")) for item in top.items("classes"))
    return check_classes(rules, independent=independent)


def _preprocessing(pre: _Reader) -> Preprocessing:
    return Preprocessing(
        pre.text("fit"),  # type: ignore[arg-type]
        pre.whole("height"),
        pre.whole("width"),
        pre.text("resampling"),  # type: ignore[arg-type]
        pre.number("face_margin"),
    )


def _figure(item: _Reader, attributes: int) -> Figure:
    """A figure of a model of that many independent attributes, 0 for one of classes that exclude each other."""
    counts = tuple(tuple(int(n) for n in row) for row in item.table("confusion"))
    correct, total, least = item.whole("correct"), item.whole("total"), 0 if attributes else 1
    if not correct <= total or total < least:
        raise item.wrong("correct", f"at most the total of {total:,}, which is at least {least}", correct)
    return Figure(item.text("on"), correct, total, counts, item.counts_2x2("attributes", attributes))


def _threshold(item: _Reader) -> Threshold:
    keys = ("wanted_error", "confidence", "coverage", "error")
    return Threshold(*(item.number(key) for key in keys))
