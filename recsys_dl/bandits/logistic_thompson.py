"""Thompson sampling of a logistic model of rewards, by Laplace's approximation.

A arms, N rewards of one arm, D numbers of a context, T = D (D + 1) / 2.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit, log_expit
from typing_extensions import Self

from recsys_dl.arguments import Positive, Seed
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.kernels.bandits import linear
from recsys_dl.kernels.bandits.drawing import normal_draws
from recsys_dl.kernels.bandits.moments import moments

from .bandit_policy import BanditPolicy
from .random_order import Normals
from .requests import Requests, check_between_0_and_1, check_size
from .sampled import SampledPolicy
from .siblings import check_sibling

STEPS = 100  # of Newton's method
CLOSE = 1e-10  # of its decrement


class LogisticThompson(SampledPolicy):
    """Each arm has weights for the numbers of the context; the chance of a reward is the logistic function of their inner product.

    The posterior of the weights is approximated by a normal distribution around its mode (Laplace; Chapelle, Li 2011, "An Empirical
    Evaluation of Thompson Sampling", algorithm 3, with full covariances and from all feedback at once, so that neither its order nor its batches
    matter). Arms with the highest drawn chance come first. Draws of arms are independent, so propensities are one-dimensional integrals,
    exact to 1e-6. All feedback is kept, and an arm is fit again after new rewards: time and memory grow with its rewards.
    Rewards lie between 0 and 1.

    Args:
        regularization: of the weights; the prior is normal with mean 0 and variance 1 / regularization.
        half_life: seconds after which a reward counts half; None: nothing is forgotten.
        seed: for the draws.

    Attributes:
        rows_A: for each arm, float64 [N, D + 2]: time, reward, context.

    Examples:
        >>> from recsys_dl.bandits import LogisticThompson
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> policy = LogisticThompson().start(2, context_size=1)
        >>> policy = policy.update(BanditFeedback([[0], [1]], [[1.0], [0.0]], None, num_arms=2, contexts_RF=[[1], [1]]))
        >>> policy.probabilities([[1]], num_requests=1).round(2)
        array([[0.74, 0.26]])
    """

    contextual = True
    distribution = Normals
    rows_A: list[np.ndarray]
    _factors_AT: np.ndarray
    _theta_AD: np.ndarray
    _stale_A: np.ndarray

    def __init__(self, *, regularization: Positive = 1.0, half_life: Positive | None = None, seed: Seed = 0) -> None:
        self.regularization = regularization
        self.half_life = half_life
        self.seed = seed

    def start(self, num_arms: int, *, context_size: int = 0, arm_features_AF: np.ndarray | None = None) -> Self:
        """Set the state before any feedback and return self; features of arms are not used.

        Raises:
            ValueError: no arms, or contexts without numbers.
        """
        check_size("num_arms", num_arms, 1)
        check_size("context_size", context_size, 1)
        return super().start(num_arms, context_size=context_size, arm_features_AF=arm_features_AF)

    def statistics(self) -> dict[str, np.ndarray]:
        """Return all feedback in an order that does not depend on how it came."""
        sorted_A = [_sorted(rows_ND) for rows_ND in self.rows_A]
        return {"counts_A": np.array([len(one) for one in sorted_A]), "rows_ND": np.concatenate(sorted_A)}

    def prior(self) -> dict[str, np.ndarray]:
        """Return nothing: the prior is among the arguments."""
        return {}

    def merged(self, states: Sequence[BanditPolicy]) -> Self:
        """Return a new policy that knows what each of `states` learned since it was a copy of this one; see `BanditPolicy.merged`."""
        self._check_fitted()
        if not states:
            raise ValueError("merged needs at least one state, got none")
        result = copy.deepcopy(self)
        for at, state in enumerate(states):
            check_sibling(self, state, f"state {at}")
            assert isinstance(state, LogisticThompson)
            for arm, rows_ND in enumerate(self.rows_A):
                theirs_ND = state.rows_A[arm]
                if not np.array_equal(_sorted(theirs_ND[: len(rows_ND)]), _sorted(rows_ND)):
                    raise ValueError(
                        f"state {at} must have begun as a copy of this policy, but its rewards of arm {arm} differ"
                    )
                result._add(arm, theirs_ND[len(rows_ND) :])
            result.num_rewards += state.num_rewards - self.num_rewards
            result.active_A = result.active_A & state.active_A
            result._age(np.fmax(result.clock, state.clock))
        if not result.active_A.any():
            raise ValueError("together the states retire every arm; at least one must stay active")
        return result

    def _begin(self, arm_features_AF: np.ndarray | None) -> None:
        self.rows_A = [np.zeros((0, self.context_size + 2))] * self.num_arms
        self._set_prior_fit(self.num_arms)

    def _grow(self, count: int, arm_features_AF: np.ndarray | None) -> None:
        self.rows_A = [*self.rows_A, *[np.zeros((0, self.context_size + 2))] * count]
        old = (self._factors_AT, self._theta_AD, self._stale_A)
        self._set_prior_fit(count)
        new = (self._factors_AT, self._theta_AD, self._stale_A)
        self._factors_AT, self._theta_AD, self._stale_A = (np.concatenate(pair) for pair in zip(old, new, strict=True))

    def _learn(self, feedback: BanditFeedback, known_RK: np.ndarray, weights_R: np.ndarray | None) -> None:
        rows_N = np.nonzero(known_RK)[0]
        times_N = np.zeros(len(rows_N)) if feedback.times_R is None else feedback.times_R[rows_N]
        contexts_RF = np.asarray(feedback.contexts_RF, np.float64)
        new_ND = np.column_stack([times_N, feedback.rewards_RK[known_RK], contexts_RF[rows_N]])
        order_N, arms_G, starts_G1 = linear.grouped(feedback.arms_RK[known_RK])
        for arm, start, stop in zip(arms_G, starts_G1, starts_G1[1:], strict=False):
            self._add(int(arm), new_ND[order_N[start:stop]])

    def _age(self, clock: float) -> None:
        if self.half_life is not None and self.clock < clock:
            self._stale_A[:] = True
        self.clock = float(clock)

    def _set_statistics(self, statistics: dict[str, np.ndarray]) -> None:
        ends_A = np.cumsum(statistics["counts_A"])
        self.rows_A = np.split(statistics["rows_ND"], ends_A[:-1])
        self._set_prior_fit(self.num_arms)
        self._stale_A[:] = True

    def _restore(self, arrays: dict[str, Any]) -> None:
        self._set_statistics(arrays)

    def check_rewards(self, rewards: np.ndarray) -> None:
        """Raise ValueError for rewards outside [0, 1]."""
        check_between_0_and_1(rewards, "LogisticThompson")

    def _parameters(self, requests: Requests) -> tuple[np.ndarray, ...]:
        self._fit_stale()
        assert requests.contexts_BF is not None
        arms_RL = requests.arms_RL.astype(np.int64)
        same = len(arms_RL) == 1 and arms_RL.min() >= 0
        found = moments(
            self._factors_AT, self._theta_AD, requests.contexts_BF, models_L=arms_RL[0] if same else arms_RL
        )
        return found[0].astype(np.float64), found[1].astype(np.float64)

    def _draw(self, requests: Requests) -> np.ndarray:
        means_BL, widths_BL = self._parameters(requests)
        draws_BL = np.empty(means_BL.shape)
        normal_draws(means_BL, widths_BL, requests.arms_RL, self._key(), requests.keys_B, draws_BL)
        return draws_BL

    def _as_rewards(self, scores_BK: np.ndarray) -> np.ndarray:
        return np.asarray(expit(scores_BK))

    def _add(self, arm: int, rows_ND: np.ndarray) -> None:
        if len(rows_ND):
            self.rows_A[arm] = np.concatenate([self.rows_A[arm], rows_ND])
            self._stale_A[arm] = True

    def _set_prior_fit(self, count: int) -> None:
        lower = np.tril(np.eye(self.context_size))[np.tril_indices(self.context_size)]
        self._factors_AT = np.tile(lower / self.regularization, (count, 1))
        self._theta_AD = np.zeros((count, self.context_size))
        self._stale_A = np.zeros(count, bool)

    def _fit_stale(self) -> None:
        lower = np.tril_indices(self.context_size)
        for arm in np.flatnonzero(self._stale_A):
            rows_ND = _sorted(self.rows_A[arm])
            weights_N = np.ones(len(rows_ND))
            if self.half_life is not None:
                weights_N = 0.5 ** ((self.clock - rows_ND[:, 0]) / self.half_life)
            theta_D, precision_DD = posterior_mode(rows_ND[:, 2:], rows_ND[:, 1], weights_N, self.regularization)
            linear.factors_of(precision_DD[lower][None], self.context_size, self._factors_AT[arm : arm + 1])
            self._theta_AD[arm] = theta_D
            self._stale_A[arm] = False


def posterior_mode(
    x_ND: np.ndarray, rewards_N: np.ndarray, weights_N: np.ndarray, regularization: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the most likely weights of a logistic model [D], and the precision [D, D] of the normal distribution around them.

    Newton's method; steps are halved until the posterior improves.
    """
    theta_D = np.zeros(x_ND.shape[1])
    loss = _loss(theta_D, x_ND, rewards_N, weights_N, regularization)
    for _ in range(STEPS):
        chances_N = expit(x_ND @ theta_D)
        gradient_D = x_ND.T @ (weights_N * (chances_N - rewards_N)) + regularization * theta_D
        step_D = np.linalg.solve(_precision(chances_N, x_ND, weights_N, regularization), gradient_D)
        if gradient_D @ step_D <= CLOSE**2:
            break
        size = 1.0
        while (
            size > CLOSE
            and not (found := _loss(theta_D - size * step_D, x_ND, rewards_N, weights_N, regularization)) <= loss
        ):
            size /= 2
        if size <= CLOSE:  # no better within rounding
            break
        theta_D, loss = theta_D - size * step_D, found
    return theta_D, _precision(expit(x_ND @ theta_D), x_ND, weights_N, regularization)


def _loss(
    theta_D: np.ndarray, x_ND: np.ndarray, rewards_N: np.ndarray, weights_N: np.ndarray, regularization: float
) -> float:
    logits_N = x_ND @ theta_D
    fit_N = rewards_N * log_expit(logits_N) + (1 - rewards_N) * log_expit(-logits_N)
    return float(regularization * theta_D @ theta_D / 2 - weights_N @ fit_N)


def _precision(chances_N: np.ndarray, x_ND: np.ndarray, weights_N: np.ndarray, regularization: float) -> np.ndarray:
    return (x_ND.T * (weights_N * chances_N * (1 - chances_N))) @ x_ND + regularization * np.eye(x_ND.shape[1])


def _sorted(rows_ND: np.ndarray) -> np.ndarray:
    return rows_ND[np.lexsort(rows_ND.T[::-1])]
