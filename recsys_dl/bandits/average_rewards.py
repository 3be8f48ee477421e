"""The base of policies that know of each arm only how many rewards it earned, and their sum.

A arms, N new arms, F features of an arm, R requests, K positions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from typing_extensions import Self

from recsys_dl.data.feedback import BanditFeedback

from .bandit_policy import BanditPolicy
from .content_prior import expected
from .requests import as_numbers, check_size, checked_features


class AverageRewards(BanditPolicy):
    """Counts and sums of rewards, beside those that the prior is worth.

    Subclasses have the arguments `prior_mean`, `prior_count` (rewards that it is worth), `content_count` (rewards that an expectation
    from the arms' features is worth; 0: features are not used) and `half_life`.

    Attributes:
        count_A: float64, rewards; with a half-life those of the past count less.
        sum_A: float64, of rewards.
        prior_count_A: float64.
        prior_sum_A: float64.
        arm_features_AF: float32, of width 0 if they are not used.
    """

    prior_mean: float
    prior_count: float
    content_count: float
    count_A: np.ndarray
    sum_A: np.ndarray
    prior_count_A: np.ndarray
    prior_sum_A: np.ndarray
    arm_features_AF: np.ndarray

    def start(
        self,
        num_arms: int,
        *,
        context_size: int = 0,
        arm_features_AF: np.ndarray | None = None,
        prior_means_A: np.ndarray | None = None,
        prior_counts_A: np.ndarray | None = None,
    ) -> Self:
        """Set the state before any feedback and return self.

        Args:
            num_arms: A, at least 1.
            context_size: ignored: contexts change nothing here.
            arm_features_AF: float, one row an arm, from which `add_arms` expects the rewards of new arms; only used if
                `content_count` is above 0.
            prior_means_A: the expected reward of each arm, e.g. from a content model; None: `prior_mean`.
            prior_counts_A: how many rewards that is worth, of each arm; None: `prior_count`.

        Raises:
            ValueError: no arms, features or priors of another length or not finite.
        """
        check_size("num_arms", num_arms, 1)
        priors = self._priors(int(num_arms), prior_means_A, prior_counts_A)
        super().start(num_arms, context_size=context_size, arm_features_AF=arm_features_AF)
        self.prior_count_A, self.prior_sum_A = priors
        return self

    def add_arms(
        self,
        count: int,
        *,
        arm_features_AF: np.ndarray | None = None,
        prior_means_A: np.ndarray | None = None,
        prior_counts_A: np.ndarray | None = None,
    ) -> Self:
        """Add arms after the existing ones and return self.

        Args:
            count: at least 1.
            arm_features_AF: float, one row a new arm; needed if `start` got them and `content_count` is above 0. Then the prior mean
                is what a ridge regression on the arms so far expects, worth `content_count` rewards.
            prior_means_A: as in `start`, of the new arms; replaces that expectation.
            prior_counts_A: as in `start`.

        Raises:
            ValueError: not started, features or priors of another length or not finite.
        """
        self._check_fitted()
        check_size("count", count, 1)
        features = checked_features(arm_features_AF, int(count))
        width = self.arm_features_AF.shape[1]
        if width and (features is None or features.shape[1] != width):
            got = "none" if features is None else f"{features.shape[1]}"
            raise ValueError(f"new arms need the {width} features that start() got for the first ones, got {got}")
        if width and prior_means_A is None:
            assert features is not None
            prior_means_A = expected(self.arm_features_AF, self.count_A, self.means(), features)
            if prior_means_A is not None and prior_counts_A is None:
                prior_counts_A = np.full(int(count), self.content_count)
        prior_count_N, prior_sum_N = self._priors(int(count), prior_means_A, prior_counts_A)
        super().add_arms(count, arm_features_AF=arm_features_AF)
        self.prior_count_A = np.concatenate([self.prior_count_A, prior_count_N])
        self.prior_sum_A = np.concatenate([self.prior_sum_A, prior_sum_N])
        return self

    def means(self) -> np.ndarray:
        """Return float64 [A]: mean rewards, the prior's included; 0 where neither has any."""
        total_A = self.count_A + self.prior_count_A
        return np.divide(self.sum_A + self.prior_sum_A, total_A, out=np.zeros(self.num_arms), where=total_A > 0)

    def statistics(self) -> dict[str, np.ndarray]:
        """Return counts and sums of rewards."""
        return {"count_A": self.count_A, "sum_A": self.sum_A}

    def prior(self) -> dict[str, np.ndarray]:
        """Return counts and sums that the prior is worth, and the arms' features."""
        return {
            "prior_count_A": self.prior_count_A,
            "prior_sum_A": self.prior_sum_A,
            "arm_features_AF": self.arm_features_AF,
        }

    def _begin(self, arm_features_AF: np.ndarray | None) -> None:
        self.count_A, self.sum_A = np.zeros(self.num_arms), np.zeros(self.num_arms)
        used = arm_features_AF is not None and self.content_count > 0
        self.arm_features_AF = arm_features_AF if used else np.zeros((self.num_arms, 0), np.float32)  # type: ignore[assignment]

    def _grow(self, count: int, arm_features_AF: np.ndarray | None) -> None:
        self.count_A, self.sum_A = (np.concatenate([one, np.zeros(count)]) for one in (self.count_A, self.sum_A))
        width = self.arm_features_AF.shape[1]
        added_NF = arm_features_AF if width else np.zeros((count, 0), np.float32)
        self.arm_features_AF = np.concatenate([self.arm_features_AF, added_NF])

    def _learn(self, feedback: BanditFeedback, known_RK: np.ndarray, weights_R: np.ndarray | None) -> None:
        arms_N, rewards_N = feedback.arms_RK[known_RK], feedback.rewards_RK[known_RK]
        weights_N = np.ones(len(arms_N)) if weights_R is None else weights_R[np.nonzero(known_RK)[0]]
        self.count_A = self.count_A + np.bincount(arms_N, weights_N, self.num_arms)
        self.sum_A = self.sum_A + np.bincount(arms_N, weights_N * rewards_N, self.num_arms)

    def _set_statistics(self, statistics: dict[str, np.ndarray]) -> None:
        self.count_A, self.sum_A = statistics["count_A"], statistics["sum_A"]

    def _restore(self, arrays: dict[str, Any]) -> None:
        for name in ("count_A", "sum_A", "prior_count_A", "prior_sum_A", "arm_features_AF"):
            setattr(self, name, arrays[name])

    def _priors(self, size: int, means: Any, counts: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return validated counts and sums of the prior."""
        found = []
        for name, given, otherwise in (("means", means, self.prior_mean), ("counts", counts, self.prior_count)):
            values = (
                np.full(size, otherwise, np.float64)
                if given is None
                else as_numbers(f"prior {name}", given, np.float64)
            )
            if values.shape != (size,):
                raise ValueError(f"prior {name} must be {size} numbers, one an arm, got {values.shape}")
            if not np.isfinite(values).all() or (name == "counts" and values.min() < 0):
                wrong = values[~np.isfinite(values) | ((values < 0) if name == "counts" else False)][0]
                raise ValueError(f"prior {name} must be finite{' and at least 0' * (name == 'counts')}, got {wrong}")
            found.append(values)
        self._check_priors(*found)
        return found[1], found[0] * found[1]

    def _check_priors(self, means_A: np.ndarray, counts_A: np.ndarray) -> None:
        """Raise ValueError for priors that the policy cannot use; any finite ones are valid by default."""
