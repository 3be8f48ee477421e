"""KL-UCB: the arm with the highest upper confidence bound by Kullback and Leibler's divergence."""

from __future__ import annotations

import numpy as np
from scipy.special import rel_entr

from recsys_dl.arguments import NotNegative, Positive, Seed

from .average_rewards import AverageRewards
from .index_policy import IndexPolicy
from .requests import Requests, check_between_0_and_1

STEPS = 50  # of bisection: to 2^-50


class KLUCB(AverageRewards, IndexPolicy):
    """index(a) = the largest q for which n_a * KL(mean(a), q) <= ln(n), KL between Bernoulli distributions.

    Its regret is asymptotically optimal for rewards of 0 and 1; for others between 0 and 1 it is still a valid bound, and
    never wider than that of UCB1 (Garivier, Cappe 2011, "The KL-UCB Algorithm for Bounded Stochastic Bandits and Beyond", with the
    c = 0 they recommend). Arms without rewards come first; arms of equal index share the choice evenly.

    Args:
        prior_mean: expected reward of an arm before feedback.
        prior_count: rewards that this is worth; they count in n and n_a.
        content_count: rewards that an expectation of a new arm from its features is worth; 0: features are not used.
        half_life: seconds after which a reward counts half; None: nothing is forgotten.
        seed: for ties.

    Examples:
        >>> from recsys_dl.bandits import KLUCB
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> policy = KLUCB().start(2)
        >>> policy = policy.update(BanditFeedback([[0], [1], [1]], [[1.0], [0.0], [0.0]], None, num_arms=2))
        >>> policy.select(None, requests_B=[0]).arms_BK
        array([[0]], dtype=int32)
    """

    def __init__(
        self,
        *,
        prior_mean: float = 0.0,
        prior_count: NotNegative = 0.0,
        content_count: NotNegative = 0.0,
        half_life: Positive | None = None,
        seed: Seed = 0,
    ) -> None:
        self.prior_mean = prior_mean
        self.prior_count = prior_count
        self.content_count = content_count
        self.half_life = half_life
        self.seed = seed

    def _scores(self, requests: Requests) -> np.ndarray:
        count_A = self.count_A + self.prior_count_A
        known_A = count_A > 0
        means_A = self.means()[known_A]
        level_A = np.log(max(1.0, count_A.sum())) / count_A[known_A]
        low_A, high_A = means_A.copy(), np.ones(len(means_A))
        for _ in range(STEPS):
            middle_A = (low_A + high_A) / 2
            within_A = rel_entr(means_A, middle_A) + rel_entr(1 - means_A, 1 - middle_A) <= level_A
            low_A, high_A = np.where(within_A, middle_A, low_A), np.where(within_A, high_A, middle_A)
        index_A = np.full(self.num_arms, np.inf)
        index_A[known_A] = low_A
        return np.asarray(index_A[requests.arms_RL])

    def check_rewards(self, rewards: np.ndarray) -> None:
        """Raise ValueError for rewards outside [0, 1]."""
        check_between_0_and_1(rewards, "KLUCB")

    def _check_priors(self, means_A: np.ndarray, counts_A: np.ndarray) -> None:
        wrong = means_A[(means_A < 0) | (means_A > 1)]
        if len(wrong):
            raise ValueError(f"prior means must lie between 0 and 1, as rewards do, got {wrong[0]:g}")
