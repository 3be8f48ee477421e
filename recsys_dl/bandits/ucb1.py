"""UCB1: the arm with the highest upper confidence bound by Hoeffding's inequality."""

from __future__ import annotations

import numpy as np

from recsys_dl.arguments import NotNegative, Positive, Seed

from .average_rewards import AverageRewards
from .index_policy import IndexPolicy
from .requests import Requests, check_between_0_and_1


class UCB1(AverageRewards, IndexPolicy):
    """index(a) = mean(a) + exploration * sqrt(ln(n) / n_a), n_a the rewards of arm a and n those of all (Auer et al. 2002).

    Arms without rewards come first. Arms of equal index share the choice evenly; nothing else is random, so propensities are 1
    except for ties. With a half-life it is discounted UCB (Garivier, Moulines 2011, "On Upper-Confidence Bound Policies for
    Switching Bandit Problems"). Rewards lie between 0 and 1.

    Args:
        exploration: factor of the width; sqrt(2) is that of the proof, less explores less.
        prior_mean: expected reward of an arm before feedback.
        prior_count: rewards that this is worth; they count in n and n_a.
        content_count: rewards that an expectation of a new arm from its features is worth; 0: features are not used.
        half_life: seconds after which a reward counts half; None: nothing is forgotten.
        seed: for ties.

    Examples:
        >>> from recsys_dl.bandits import UCB1
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> policy = UCB1().start(3)
        >>> policy = policy.update(BanditFeedback([[2], [0]], [[1.0], [0.5]], None, num_arms=3))
        >>> policy.select(None, requests_B=[0]).arms_BK
        array([[1]], dtype=int32)
    """

    def __init__(
        self,
        *,
        exploration: NotNegative = 2**0.5,
        prior_mean: float = 0.0,
        prior_count: NotNegative = 0.0,
        content_count: NotNegative = 0.0,
        half_life: Positive | None = None,
        seed: Seed = 0,
    ) -> None:
        self.exploration = exploration
        self.prior_mean = prior_mean
        self.prior_count = prior_count
        self.content_count = content_count
        self.half_life = half_life
        self.seed = seed

    def _scores(self, requests: Requests) -> np.ndarray:
        count_A = self.count_A + self.prior_count_A
        log_total = np.log(max(1.0, count_A.sum()))
        known_A = count_A > 0
        width_A = np.sqrt(np.divide(log_total, count_A, out=np.zeros(self.num_arms), where=known_A))
        index_A = np.where(known_A, self.means() + self.exploration * width_A, np.inf)
        return np.asarray(index_A[requests.arms_RL])

    def check_rewards(self, rewards: np.ndarray) -> None:
        """Raise ValueError for rewards outside [0, 1]."""
        check_between_0_and_1(rewards, "UCB1")
