"""LinUCB: upper confidence bounds of a linear model of rewards."""

from __future__ import annotations

import numpy as np

from recsys_dl.arguments import NotNegative, Positive, Seed
from recsys_dl.kernels.bandits.contenders import Decider
from recsys_dl.protocols import Decisions

from .index_policy import IndexPolicy
from .linear_policy import Features, LinearPolicy, Sharing
from .requests import Requests


class LinUCB(LinearPolicy, IndexPolicy):
    """index = expected reward + exploration * its standard deviation, for noise 1 (Li, Chu, Langford, Schapire 2010).

    "A Contextual-Bandit Approach to Personalized News Article Recommendation", algorithm 1, with `sharing` "disjoint"; with "shared" the
    LinUCB of Chu et al. 2011. Arms of equal index share the choice evenly; nothing else is random, so propensities are 1 except for ties.

    Args:
        sharing: "disjoint": weights for each arm; "shared": weights for products of context and the arms' features.
        features: of shared weights: "outer", all products of (1, context) and (1, features); "product", number by number.
        exploration: factor of the width; 0.3 suits rewards from 0 to 1, scale it with rewards.
        regularization: of the weights; the prior's precision.
        prior_mean: expected weights before feedback.
        half_life: seconds after which a reward counts half; None: nothing is forgotten.
        seed: for ties.

    Examples:
        >>> from recsys_dl.bandits import LinUCB
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> policy = LinUCB(exploration=0.1).start(2, context_size=2)
        >>> rewards = BanditFeedback([[0], [1]], [[1.0], [1.0]], None, num_arms=2, contexts_RF=[[1, 0], [0, 1]])
        >>> policy.update(rewards).select([[1, 0.2], [0.1, 1]], requests_B=[0, 1]).arms_BK
        array([[0],
               [1]], dtype=int32)
    """

    def __init__(
        self,
        *,
        sharing: Sharing = "disjoint",
        features: Features = "outer",
        exploration: NotNegative = 0.3,
        regularization: Positive = 1.0,
        prior_mean: float = 0.0,
        half_life: Positive | None = None,
        seed: Seed = 0,
    ) -> None:
        self.sharing = sharing
        self.features = features
        self.exploration = exploration
        self.regularization = regularization
        self.prior_mean = prior_mean
        self.half_life = half_life
        self.seed = seed

    def _decide(self, requests: Requests, k: int, propensities: bool) -> Decisions:
        return super()._decide(self._contenders(requests, k), k, propensities)

    def _decider(self, requests: Requests) -> Decider:
        return Decider(float(self.exploration), False, self._key(), requests.keys_B)

    def _scores(self, requests: Requests) -> np.ndarray:
        means_BL, widths_BL = self._moments(requests)
        widths_BL *= np.float32(self.exploration)
        means_BL += widths_BL
        return means_BL
