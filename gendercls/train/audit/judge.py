"""Out-of-fold probabilities: what a classifier that has not seen a photo's label would say of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

FOLDS = 5
_STRONGEST, _WEAKEST, _STEP = 3.0, 1e-4, 3.0
"""The strengths of L2 that are tried, from strong to weak; each is a third of the one before."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """probabilities: float64 ``[N, K]`` in [0, 1], by a judge that was fitted without the photo's fold. strength: of
    L2, chosen by out-of-fold log-loss. log_loss: that loss, in nats per label."""

    probabilities: NDArray[np.float64]
    strength: float
    log_loss: float


def deal_folds(groups: NDArray[np.integer], seed: int, folds: int = FOLDS) -> NDArray[np.intp]:
    """Each photo's fold ``[N]``, 0 to folds - 1, of about equal sizes; photos of one group are in one fold."""
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(counts))
    before = np.empty(len(counts), np.intp)
    before[order] = np.cumsum(counts[order]) - counts[order]
    dealt: NDArray[np.intp] = (before * folds // len(groups))[inverse]
    return dealt


def judge(
    features: NDArray[np.float32], targets: NDArray[np.int8], fold: NDArray[np.intp], *, independent: bool
) -> Judgement:
    """Logistic regression on standardised features, fitted once for each fold on the others.

    The strength of L2 is the first, from strong to weak, after which the mean out-of-fold log-loss of the labels as
    they are given would rise. Deterministic on one kind of processor.

    Args:
        features: ``[N, D]``.
        targets: ``[N, K]`` of 1, 0 and -1 (unknown); one-hot unless independent.
        fold: ``[N]``, as `deal_folds` gives.
        independent: whether each class is a yes or no by itself.
    """
    problem = _Problem(features, targets, fold, independent)
    best: Judgement | None = None
    strength = _STRONGEST
    while strength >= _WEAKEST:
        problem.fit(strength)
        logits = problem.out_of_fold()
        loss = problem.log_loss(logits)
        if best is not None and loss >= best.log_loss:
            break
        probabilities = torch.sigmoid(logits) if independent else torch.softmax(logits, dim=1)
        best = Judgement(probabilities.double().numpy(), strength, loss)
        strength /= _STEP
    assert best is not None  # noqa: S101 - the loop runs at least once
    return best


class _Problem:
    """The regressions of all folds and classes, solved side by side: the features are read once for all of them."""

    def __init__(
        self, features: NDArray[np.float32], targets: NDArray[np.int8], fold: NDArray[np.intp], independent: bool
    ) -> None:
        centred = torch.from_numpy(features - features.mean(axis=0))
        self.features = centred / centred.std(dim=0, correction=0).clamp(min=1e-6)  # [N, D]
        self.fold = torch.from_numpy(fold)
        self.independent = independent
        self.targets = torch.from_numpy(targets.astype(np.float32)).clamp(min=0)  # [N, K]
        known = torch.from_numpy((targets >= 0).astype(np.float32))
        self.known = known if independent else known[:, :1]  # [N, K or 1]
        fitted_on = (self.fold[:, None] != torch.arange(FOLDS)).float()  # [N, F]
        weights = fitted_on[:, :, None] * self.known[:, None, :]  # [N, F, K or 1]
        self.weights = weights / weights.sum(dim=0).clamp(min=1)
        outputs = FOLDS * self.targets.shape[1]
        self.slopes = torch.zeros(outputs, self.features.shape[1], requires_grad=True)
        self.intercepts = torch.zeros(outputs, requires_grad=True)

    def fit(self, strength: float) -> None:
        """Minimise each fold's mean log-loss plus strength / 2 times the squared slopes, from where they stand."""
        optimizer = torch.optim.LBFGS(
            [self.slopes, self.intercepts],
            max_iter=100,
            history_size=10,
            line_search_fn="strong_wolfe",
            tolerance_grad=1e-5,
            tolerance_change=1e-6,
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = (self._losses(self._logits()) * self.weights).sum() + strength / 2 * self.slopes.square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]

    def out_of_fold(self) -> Tensor:
        """Logits ``[N, K]``, each from the regression that was fitted without the photo."""
        with torch.no_grad():
            return self._logits()[torch.arange(len(self.fold)), self.fold]

    def log_loss(self, logits: Tensor) -> float:
        """Mean over the labels that are known."""
        losses = self._losses(logits[:, None, :])[:, 0, :]
        return float((losses * self.known).sum() / self.known.sum())

    def _logits(self) -> Tensor:
        """``[N, F, K]``: what each fold's regression says of every photo."""
        return nn.functional.linear(self.features, self.slopes, self.intercepts).view(len(self.features), FOLDS, -1)

    def _losses(self, logits: Tensor) -> Tensor:
        """Log-loss of each label: ``[N, F, K]``, of classes that exclude each other ``[N, F, 1]``."""
        wanted = self.targets[:, None, :].expand_as(logits)
        if self.independent:
            return nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return -(torch.log_softmax(logits, dim=2) * wanted).sum(dim=2, keepdim=True)
