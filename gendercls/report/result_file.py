"""``result.json``: what a finished run was found to be worth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gendercls.answers import Answers, AttributeScore, answers_for, attribute_scores
from gendercls.report.fields import RunFields, damaged, read_text
from gendercls.stats import Bin, Rate, wilson

FORMAT = 1
"""The major number of the format that is read here; a newer minor number only adds keys."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch: losses are means per photo, accuracy in [0, 1]. None: not measured, as without a validation part."""

    number: int
    train_loss: float
    val_loss: float | None
    val_accuracy: float | None
    photos_per_second: float
    seconds: float
    learning_rate: float | None


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far confidence is from accuracy. error: the expected calibration error in [0, 1]."""

    error: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Abstention:
    """A promise made on the validation part, and what became of it on the test part. Shares are in [0, 1].

    test: wrong answers of those given, that is at this confidence and above.
    """

    wanted_error: float
    confidence: float
    val_coverage: float
    val_error: float
    test_coverage: float
    test: Rate


@dataclass(frozen=True, slots=True)
class Result:
    """All of result.json. test: photos whose whole answer is right. Either confusion or attributes is there.

    confusion: int64 ``[K, K]``, rows truth. is_calibrated: whether a temperature was fitted on the validation part.
    """

    classes: tuple[str, ...]
    best: Epoch
    is_best_on_validation: bool
    temperature: float
    is_calibrated: bool
    test: Rate
    test_loss: float
    confusion: NDArray[np.int64] | None
    attributes: tuple[AttributeScore, ...]
    before: Reliability
    after: Reliability
    abstention: tuple[Abstention, ...]

    @property
    def is_independent(self) -> bool:
        """Whether every class is an attribute of its own, so that a photo may have several or none."""
        return self.confusion is None

    @property
    def answers(self) -> Answers:
        """How this model's answers read."""
        return answers_for(self.is_independent, self.classes)


def read_result(path: Path) -> Result | None:
    """The result of a run, None where there is none yet. Raises ModelError that names the key."""
    text = read_text(path)
    if text is None:
        return None
    try:
        top = RunFields(json.loads(text), str(path))
    except (ValueError, RecursionError):  # beside bad JSON: a number of thousands of digits, or too deep a nest
        raise damaged("result.json is no JSON", str(path)) from None
    _check_format(top)
    classes, is_independent = top.texts("classes"), top.flag("independent")
    attributes = tuple(map(_attribute, top.items("attributes"))) if is_independent else ()
    if is_independent and tuple(score.name for score in attributes) != classes:
        raise top.wrong("attributes", "one for each class", [score.name for score in attributes])
    calibration = top.inner("calibration")
    return Result(
        classes=classes,
        best=epoch_of(top.inner("best")),
        is_best_on_validation=top.text("kept") == "best on validation",
        temperature=top.amount("temperature"),
        is_calibrated=top.get("calibrated_on") is not None,
        test=_rate(top.inner("test")),
        test_loss=top.amount("test_loss"),
        confusion=None if is_independent else top.counts("confusion", len(classes)),
        attributes=attributes,
        before=_reliability(calibration.inner("before")),
        after=_reliability(calibration.inner("after")),
        abstention=tuple(map(_abstention, top.items("abstention"))),
    )


def epoch_of(fields: RunFields) -> Epoch:
    """An epoch as metrics.jsonl and result.json have it."""
    return Epoch(
        number=fields.whole("epoch"),
        train_loss=fields.amount("train_loss"),
        val_loss=fields.optional(fields.amount, "val_loss"),
        val_accuracy=fields.optional(fields.share, "val_accuracy"),
        photos_per_second=fields.amount("photos_per_second"),
        seconds=fields.amount("seconds"),
        learning_rate=fields.optional(fields.amount, "learning_rate"),
    )


def _check_format(top: RunFields) -> None:
    version = top.get("format")
    if not isinstance(version, list) or not version or version[0] != FORMAT:
        raise top.wrong("format", f"[{FORMAT}, …], which this version of gendercls reads", version)


def _rate(fields: RunFields) -> Rate:
    count, total = fields.whole("count"), fields.whole("total")
    if count > total:
        raise fields.wrong("count", f"at most the total of {total:,}", count)
    return wilson(count, total)


def _attribute(fields: RunFields) -> AttributeScore:
    return attribute_scores([fields.text("name")], fields.counts("confusion", 2)[None])[0]


def _reliability(fields: RunFields) -> Reliability:
    bins = tuple(map(_bin, fields.items("reliability")))
    if not bins:
        raise fields.wrong("reliability", "a list of one bin or more", [])
    return Reliability(fields.share("error"), bins)


def _bin(fields: RunFields) -> Bin:
    confidence, accuracy = fields.share("confidence"), fields.share("accuracy")
    return Bin(confidence, accuracy, fields.whole("count"))


def _abstention(fields: RunFields) -> Abstention:
    return Abstention(
        wanted_error=fields.share("wanted_error"),
        confidence=fields.share("confidence"),
        val_coverage=fields.share("val_coverage"),
        val_error=fields.share("val_error"),
        test_coverage=fields.share("test_coverage"),
        test=_rate(fields.inner("test")),
    )
