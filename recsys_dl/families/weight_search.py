"""Choosing the weights of a combination of models: the simplex searched for the best NDCG of held-out interactions.

U users asked, L candidates, P parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

STEPS = (0.4, 0.2, 0.1, 0.05, 0.02)  # of weight moved from one part to another


@dataclass(frozen=True)
class Candidates:
    """The comparable scores of users' candidates, and which of these are relevant.

    Attributes:
        scores_PUL: float32; 0 where the part does not know the item.
        knows_PUL: bool.
        relevant_UL: bool; False at padding.
        valid_UL: bool.
        num_relevant_U: int64, in the candidates or not.
    """

    scores_PUL: np.ndarray
    knows_PUL: np.ndarray
    relevant_UL: np.ndarray
    valid_UL: np.ndarray
    num_relevant_U: np.ndarray

    @cached_property
    def _all_known(self) -> bool:
        return bool((self.knows_PUL | ~self.valid_UL).all())

    def of(self, chosen_U: np.ndarray) -> Candidates:
        """Return those of some users."""
        return Candidates(
            self.scores_PUL[:, chosen_U],
            self.knows_PUL[:, chosen_U],
            self.relevant_UL[chosen_U],
            self.valid_UL[chosen_U],
            self.num_relevant_U[chosen_U],
        )

    def ndcg(self, weights_P: np.ndarray, k: int) -> float:
        """Return the mean NDCG@k of the weighted mean over the parts that know an item."""
        heavy = [(at, np.float32(weight)) for at, weight in enumerate(weights_P) if weight > 0]
        scores_UL = sum(weight * self.scores_PUL[at] for at, weight in heavy)
        if not self._all_known:
            share_UL = sum(weight * self.knows_PUL[at] for at, weight in heavy)
            scores_UL = np.where(share_UL > 0, scores_UL / np.where(share_UL > 0, share_UL, 1), np.float32(-np.inf))
        np.copyto(scores_UL, np.float32(-np.inf), where=~self.valid_UL)
        k = min(k, scores_UL.shape[1])
        best_UK = np.argpartition(-scores_UL, k - 1, axis=1)[:, :k]
        best_UK = np.take_along_axis(
            best_UK, np.argsort(-np.take_along_axis(scores_UL, best_UK, axis=1), axis=1, kind="stable"), axis=1
        )
        discounts_K = 1 / np.log2(np.arange(2, k + 2))
        gained_U = np.take_along_axis(self.relevant_UL, best_UK, axis=1) @ discounts_K
        ideal_U = np.append(0, np.cumsum(discounts_K))[np.minimum(self.num_relevant_U, k)]
        return float(np.mean(gained_U / ideal_U))


def best_weights(quality: Callable[[np.ndarray], float], num_parts: int) -> tuple[np.ndarray, float]:
    """Return the weights of the simplex of the best quality found, and that quality.

    A pattern search: from the best of equal weights and each part alone, weight is moved from one part to another while that
    helps, in ever smaller steps; then again from equal weights. Deterministic; a few hundred evaluations for five parts.

    Args:
        quality: of float64 weights [P] that sum to 1; larger is better.
        num_parts: P.
    """
    equal = np.full(num_parts, 1 / num_parts)
    starts = [equal, *np.eye(num_parts)]
    values = [quality(start) for start in starts]
    best = int(np.argmax(values))
    found = [_climbed(quality, starts[at], values[at]) for at in dict.fromkeys([best, 0])]
    return max(found, key=lambda one: one[1])


def _climbed(quality: Callable[[np.ndarray], float], weights_P: np.ndarray, value: float) -> tuple[np.ndarray, float]:
    for step in STEPS:
        while True:
            tried = [
                moved
                for giver in np.flatnonzero(weights_P > 0).tolist()
                for taker in range(len(weights_P))
                if taker != giver
                for moved in [_moved(weights_P, giver, taker, step)]
            ]
            values = [quality(one) for one in tried]
            if not values or max(values) <= value:
                break
            at = int(np.argmax(values))
            weights_P, value = tried[at], values[at]
    return weights_P, value


def _moved(weights_P: np.ndarray, giver: int, taker: int, step: float) -> np.ndarray:
    moved = weights_P.copy()
    amount = min(step, moved[giver])
    moved[giver] -= amount
    moved[taker] += amount
    moved[moved < 1e-9] = 0
    return moved / moved.sum()
