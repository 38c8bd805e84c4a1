"""Labels that are probably wrong, by confident learning (Northcutt, Jiang & Chuang 2021, J. Artif. Intell. Res. 70).

Written from the paper: the library of its authors, cleanlab, is under the AGPL, which a package under MIT cannot need.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Suspect:
    """A label that is probably wrong.

    number: the photo's, of N. given, suggested: class indices. given_probability, suggested_probability: what the
    judge gives them, in [0, 1]. score: the suggested less the given one's, in [-1, 1]; higher is more suspicious.
    """

    number: int
    given: int
    suggested: int
    given_probability: float
    suggested_probability: float

    @property
    def score(self) -> float:
        return self.suggested_probability - self.given_probability


def class_thresholds(labels: NDArray[np.integer], probabilities: Probabilities) -> NDArray[np.float64]:
    """For each class, how sure the judge is of it on average where it is the label (equation 2): ``[K]``.

    A class that no photo has gets infinity: no photo can be said to belong to it.
    """
    own = probabilities[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    sums = np.bincount(labels, weights=own, minlength=probabilities.shape[1])
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_classes(labels: NDArray[np.integer], probabilities: Probabilities) -> NDArray[np.intp]:
    """The class that each photo confidently belongs to, ``[N]``, -1 where there is none.

    Among the classes whose probability reaches that class's threshold, the most probable.
    """
    reaches = probabilities >= class_thresholds(labels, probabilities)
    best = np.where(reaches, probabilities, -1.0).argmax(axis=1)
    return np.where(reaches.any(axis=1), best, -1)


def confident_joint(labels: NDArray[np.integer], probabilities: Probabilities) -> NDArray[np.int64]:
    """Counts ``[K, K]`` of photos by label (rows) and the class they confidently belong to (equation 1)."""
    classes = confident_classes(labels, probabilities)
    sure = classes >= 0
    joint = np.zeros((probabilities.shape[1],) * 2, np.int64)
    np.add.at(joint, (labels[sure], classes[sure]), 1)
    return joint


def find_label_errors(labels: NDArray[np.integer], probabilities: Probabilities) -> list[Suspect]:
    """The photos off the diagonal of the confident joint, the most suspicious first.

    Args:
        labels: ``[N]`` class indices.
        probabilities: ``[N, K]``, rows sum to 1, by a judge that has not seen the photo's label.
    """
    classes = confident_classes(labels, probabilities)
    suspects = [
        Suspect(
            number,
            int(labels[number]),
            int(classes[number]),
            float(probabilities[number, labels[number]]),
            float(probabilities[number, classes[number]]),
        )
        for number in np.flatnonzero((classes >= 0) & (classes != labels)).tolist()
    ]
    return sorted(suspects, key=lambda suspect: -suspect.score)
