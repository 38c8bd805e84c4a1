"""What fp16 or int8 loses against the float network, photo by photo: in all, and for each group of people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gendercls.errors import GateError
from gendercls.export.gate import Parity
from gendercls.export.photos import Truth
from gendercls.modelfile import Precision
from gendercls.stats import Difference, paired_difference

MOST_LOST = 0.003
MOST_LOST_BY_GROUP = 0.005
"""Of accuracy. A file is refused where the 95 % interval of a loss lies above it as a whole."""

ALL = "all"


@dataclass(frozen=True, slots=True)
class Loss:
    """flips: photos of the group whose answer is another one. lost: accuracy that float has and the other has not."""

    group: str
    flips: int
    lost: Difference

    @property
    def allowed(self) -> float:
        return MOST_LOST if self.group == ALL else MOST_LOST_BY_GROUP

    def __str__(self) -> str:
        return f"{self.group}: {self.flips:,} of {self.lost.total:,} flipped, lost {self.lost}"


def losses(parity: Parity, truth: Truth) -> list[Loss]:
    """Of all labelled photos, then of each group by its name."""
    answers = parity.answers
    known = answers.is_known(truth.targets)
    float_right, other_right = (
        answers.correct(side[truth.matched], truth.targets)[known] for side in (parity.by_torch, parity.by_onnxruntime)
    )
    flipped, groups = parity.changed()[truth.matched][known], truth.groups[known]

    def of(group: str, chosen: NDArray[np.bool_]) -> Loss:
        lost = int((float_right & ~other_right)[chosen].sum())
        won = int((~float_right & other_right)[chosen].sum())
        return Loss(group, int(flipped[chosen].sum()), paired_difference(lost, won, int(chosen.sum())))

    def by_group() -> Iterator[Loss]:
        names = [str(name) for name in np.unique(groups) if name]
        yield from (of(name, groups == name) for name in names)

    return [of(ALL, np.full(len(groups), True)), *by_group()]


def check_losses(found: list[Loss], precision: Precision) -> None:
    """Raises GateError where a loss is surely above what is allowed."""
    for loss in found:
        if loss.lost.low > loss.allowed:
            raise GateError(
                f"{precision} loses more than {100 * loss.allowed:g} points of accuracy; no file was written",
                where=str(loss),
                do="export with --precision fp32",
            )
