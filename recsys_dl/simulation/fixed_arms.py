"""A world of arms without contexts. A arms, B requests, P points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import rel_entr

from recsys_dl.arguments import Count, Share

from .world import World


class FixedArms(World):
    """Each arm earns 1 with a probability of its own, which changes only if `change_every` says so.

    Args:
        means: the probabilities; None draws `num_arms` of them uniformly, anew for each seed.
        num_arms: A, if `means` is None.
        change_every: requests after which the arms exchange their probabilities at random; None: never.
        **options: of every world.

    Attributes:
        means_A: float64, at the first request.

    Raises:
        ValueError: fewer than two means.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.simulation import FixedArms
        >>> world = FixedArms(means=[0.2, 0.5])
        >>> world.chances(np.arange(2)).tolist(), world.best(np.arange(2), 1).tolist()
        ([[0.2, 0.5], [0.2, 0.5]], [0.5, 0.5])
    """

    means_A: np.ndarray

    def __init__(
        self,
        *,
        means: Sequence[Share] | None = None,
        num_arms: Count = 10,
        change_every: Count | None = None,
        **options: Any,
    ) -> None:
        if means is not None and len(means) < 2:
            raise ValueError(f"means must be of at least two arms, got {list(means)}")
        self.means = None if means is None else [float(one) for one in means]
        self.num_arms = num_arms if means is None else len(means)
        self.change_every = change_every
        super().__init__(**options)

    def _begin(self, rng: np.random.Generator) -> None:
        self.means_A = rng.random(self.num_arms) if self.means is None else np.array(self.means)

    def chances(self, requests_B: np.ndarray) -> np.ndarray:
        """Return float64 [B, A]: the probability that each arm earns 1 if it is examined."""
        if self.change_every is None:
            return np.tile(self.means_A, (len(requests_B), 1))
        epochs, at_B = np.unique(requests_B // self.change_every, return_inverse=True)
        orders = [np.random.default_rng([self.seed, int(one)]).permutation(self.num_arms) for one in epochs]
        return np.stack([self.means_A[order] for order in orders])[at_B]

    def theory(self, rounds_P: np.ndarray) -> dict[str, np.ndarray]:
        """Return the rate of Lai and Robbins 1985 that no consistent policy beats in the long run: sum over arms of gap / KL, times ln t.

        Only for given means that do not change: with drawn ones, arms that are nearly the best make it large long before it applies.
        """
        gaps_A = self.means_A.max() - self.means_A
        if (
            self.means is None
            or self.change_every is not None
            or not (gaps_A > 0).any()
            or self.means_A.max() in (0, 1)
        ):
            return {}
        worse_A, best = self.means_A[gaps_A > 0], self.means_A.max()
        return {"Lai-Robbins rate": (gaps_A[gaps_A > 0] / _kl(worse_A, best)).sum() * np.log(np.maximum(rounds_P, 1))}

    def slate_theory(self, rounds_P: np.ndarray, k: int) -> dict[str, np.ndarray]:
        """Return the rate that no consistent policy over slates beats in the long run, for given means of which the k best are equal.

        By the cascade: Kveton et al. 2015, theorem 4, if all are examined; by position: Lagree et al. 2016, theorem 6: each worse arm is tried where
        that costs least for what it tells.
        """
        best_first_A = np.sort(self.means_A)[::-1]
        best, worse_A = best_first_A[0], best_first_A[k:]
        if self.means is None or self.change_every is not None or best_first_A[k - 1] != best or best in (0, 1):
            return {}
        if not len(worse_A) or worse_A[0] == best or (self.clicks == "cascade" and self.position_bias):
            return {}
        if self.clicks == "cascade":
            costs_A = (best - worse_A) * (1 - best) ** (k - 1) / _kl(worse_A, best)
        else:
            looks_K1 = self._examination(k)[:, None]
            costs_A = (looks_K1 * (best - worse_A) / _kl(looks_K1 * worse_A, looks_K1 * best)).min(axis=0)
        return {f"rate of a {self.clicks} model": costs_A.sum() * np.log(np.maximum(rounds_P, 1))}


def _kl(worse_A: np.ndarray, best: Any) -> np.ndarray:
    """Return Kullback-Leibler divergences between coins."""
    return np.asarray(rel_entr(worse_A, best) + rel_entr(1 - worse_A, 1 - best))
