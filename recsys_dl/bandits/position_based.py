"""Slates under the position-based model of clicks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys_dl.arguments import NotNegative, OpenShare, Positive, Seed, ShareAboveZero
from recsys_dl.data.feedback import BanditFeedback, as_feedback

from .thompson import Thompson


class PositionBased(Thompson):
    """Thompson sampling of slates whose users look at each position with a chance of its own.

    A click needs a look: its chance is examination(position) times the arm's own. An arm's looks are counted as the sum of the chances
    of its positions, so its mean is clicks / expected looks, which is unbiased (Lagree, Vernade, Cappe 2016, "Multiple-Play Bandits in
    the Position-Based Model", section 4); the posterior is approximated by Beta(clicks, looks - clicks), the prior's included. Arms with the
    highest draws go first, where looks are most likely. Propensities are those of `Thompson`. Rows of feedback with `positions_R` have
    that position, others that of the column.

    Args:
        examination: chance of a look at each position, from the first; None: (1 / position)^bias. `examination_of` estimates it.
        bias: exponent of that formula; 0: all positions are looked at.
        prior_mean: expected chance of a click on an arm that is looked at, before feedback.
        prior_count: looks that this is worth.
        content_count: looks that an expectation of a new arm from its features is worth; 0: features are not used.
        half_life: seconds after which a look counts half; None: nothing is forgotten.
        seed: for the draws.

    Examples:
        >>> from recsys_dl.bandits import PositionBased
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> policy = PositionBased(examination=[1.0, 0.5]).start(3)
        >>> policy.update(BanditFeedback([[2, 0]], [[0.0, 1.0]], None, num_arms=3)).count_A
        array([0.5, 0. , 1. ])
    """

    def __init__(
        self,
        *,
        examination: Sequence[ShareAboveZero] | None = None,
        bias: NotNegative = 1.0,
        prior_mean: OpenShare = 0.5,
        prior_count: Positive = 2.0,
        content_count: NotNegative = 0.0,
        half_life: Positive | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__(
            prior_mean=prior_mean,
            prior_count=prior_count,
            content_count=content_count,
            half_life=half_life,
            seed=seed,
        )
        if examination is not None and not examination:
            raise ValueError("examination must hold the chance of a look at each position, got an empty list")
        self.examination = None if examination is None else [float(one) for one in examination]
        self.bias = bias

    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Return float64 [A] twice: clicks and looks without clicks; the latter at least the prior's."""
        looks_A = np.maximum(self.count_A - self.sum_A, 0)  # more clicks than expected looks are possible
        return self.sum_A + self.prior_sum_A, looks_A + (self.prior_count_A - self.prior_sum_A)

    def _learn(self, feedback: BanditFeedback, known_RK: np.ndarray, weights_R: np.ndarray | None) -> None:
        rows_N, columns_N = np.nonzero(known_RK)
        positions_N = columns_N if feedback.positions_R is None else feedback.positions_R[rows_N].astype(np.int64)
        weights_N = np.ones(len(rows_N)) if weights_R is None else weights_R[rows_N]
        arms_N, rewards_N = feedback.arms_RK[known_RK], feedback.rewards_RK[known_RK]
        self.count_A = self.count_A + np.bincount(arms_N, weights_N * self._looks(positions_N), self.num_arms)
        self.sum_A = self.sum_A + np.bincount(arms_N, weights_N * rewards_N, self.num_arms)

    def _check_feedback(self, feedback: BanditFeedback) -> None:
        if feedback.positions_R is not None and feedback.positions_R.min(initial=0) < 0:
            raise ValueError(f"positions must be at least 0, the first, got {feedback.positions_R.min()}")
        last = feedback.arms_RK.shape[1] - 1 if feedback.positions_R is None else feedback.positions_R.max(initial=0)
        if self.examination is not None and last >= len(self.examination):
            raise ValueError(
                f"examination must hold a chance for each position, but feedback has {last + 1} positions and it has {len(self.examination)}"
            )

    def _looks(self, positions_N: np.ndarray) -> np.ndarray:
        if self.examination is not None:
            return np.asarray(self.examination)[positions_N]
        return np.asarray((1.0 / (positions_N + 1)) ** self.bias)


def examination_of(feedback: BanditFeedback) -> np.ndarray:
    """Return float64 [K]: how likely each column is looked at, relative to the first, from feedback with propensities.

    The mean of reward / propensity at each position is the sum of all arms' chances times that of a look, so ratios of these means
    are ratios of looks, whatever the logging policy was, if it could show every arm everywhere.

    Raises:
        ValueError: no propensities, no known reward at a position, or no rewards at the first one.

    Examples:
        >>> from recsys_dl.bandits import examination_of
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> log = BanditFeedback([[0, 1], [1, 0]], [[1, 0], [1, 1]], [[0.5, 0.5], [0.5, 0.5]], num_arms=2)
        >>> examination_of(log)
        array([1. , 0.5])
    """
    if as_feedback(feedback).propensities_RK is None:
        raise ValueError("examination needs feedback with propensities, got none: log them, as policies do")
    with np.errstate(invalid="ignore"):
        weighted_RK = feedback.rewards_RK / feedback.propensities_RK
    known_RK = ~np.isnan(weighted_RK)
    if not known_RK.any(0).all():
        raise ValueError(
            f"every position needs known rewards, got none at position {int(known_RK.any(0).argmin()) + 1}"
        )
    means_K = np.where(known_RK, weighted_RK, 0).sum(0) / known_RK.sum(0)
    if means_K[0] <= 0:
        raise ValueError("examination is relative to the first position, which has no rewards")
    return np.asarray(means_K / means_K[0])
