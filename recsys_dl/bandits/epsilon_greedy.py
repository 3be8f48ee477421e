"""Epsilon-greedy: mostly the arm with the best mean reward, sometimes any."""

from __future__ import annotations

import numpy as np

from recsys_dl.arguments import NotNegative, Positive, Seed, Share
from recsys_dl.kernels.bandits.choosing import epsilon_chances, epsilon_greedy, first_chances

from .average_rewards import AverageRewards
from .bandit_policy import Chances
from .requests import Requests


class EpsilonGreedy(AverageRewards):
    """At each position: with probability epsilon any arm that is not shown yet, else the one with the best mean reward.

    Arms of equal means share the greedy choice evenly. Propensities are exact, at every position and of the whole slate. With
    `decay` epsilon falls as 1 / t, which makes regret logarithmic if it falls slowly enough (Auer, Cesa-Bianchi, Fischer 2002,
    "Finite-time Analysis of the Multiarmed Bandit Problem", section 3).

    Args:
        epsilon: probability of exploring at a position.
        decay: rewards after which epsilon is halved: epsilon * decay / (decay + rewards so far); None: constant.
        prior_mean: expected reward of an arm before feedback.
        prior_count: rewards that this is worth; 0: arms without rewards have mean 0.
        content_count: rewards that an expectation of a new arm from its features is worth; 0: features are not used.
        half_life: seconds after which a reward counts half; None: nothing is forgotten.
        seed: for the draws.

    Examples:
        >>> from recsys_dl.bandits import EpsilonGreedy
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> policy = EpsilonGreedy(epsilon=0.2).start(4)
        >>> policy = policy.update(BanditFeedback([[2], [0]], [[1.0], [0.5]], None, num_arms=4))
        >>> policy.probabilities(None, num_requests=1).round(2)
        array([[0.05, 0.05, 0.85, 0.05]])
    """

    def __init__(
        self,
        *,
        epsilon: Share = 0.1,
        decay: Positive | None = None,
        prior_mean: float = 0.0,
        prior_count: NotNegative = 0.0,
        content_count: NotNegative = 0.0,
        half_life: Positive | None = None,
        seed: Seed = 0,
    ) -> None:
        self.epsilon = epsilon
        self.decay = decay
        self.prior_mean = prior_mean
        self.prior_count = prior_count
        self.content_count = content_count
        self.half_life = half_life
        self.seed = seed

    def epsilon_now(self) -> float:
        """Return the probability of exploring at a position, after the rewards so far."""
        return float(
            self.epsilon if self.decay is None else self.epsilon * self.decay / (self.decay + self.num_rewards)
        )

    def _choose(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores_RL = self.means()[requests.arms_RL]
        places_BK = np.empty((len(requests), k), np.int32)
        epsilon_greedy(scores_RL, requests.arms_RL, self.epsilon_now(), self._key(), requests.keys_B, places_BK)
        return places_BK, scores_RL

    def _chances(self, requests: Requests, places_BK: np.ndarray, scores_RL: np.ndarray) -> Chances:
        chances_BK, joint_B = np.empty(places_BK.shape), np.empty(len(places_BK))
        epsilon_chances(scores_RL, requests.arms_RL, self.epsilon_now(), places_BK, chances_BK, joint_B)
        return chances_BK, joint_B

    def _first(self, requests: Requests) -> np.ndarray:
        chances_RL = np.empty(requests.arms_RL.shape)
        first_chances(self.means()[requests.arms_RL], requests.arms_RL, self.epsilon_now(), chances_RL)
        return chances_RL
