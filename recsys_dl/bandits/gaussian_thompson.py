"""Thompson sampling of rewards of any size."""

from __future__ import annotations

import numpy as np

from recsys_dl.arguments import NotNegative, Positive, Seed
from recsys_dl.kernels.bandits.drawing import normal_draws

from .average_rewards import AverageRewards
from .random_order import Normals
from .requests import Requests
from .sampled import SampledPolicy


class GaussianThompson(AverageRewards, SampledPolicy):
    """Draws each arm's mean reward from a normal posterior, and shows the arms with the highest draws.

    The posterior of an arm has the mean of its rewards, the prior's included, and standard deviation noise / sqrt(count), the
    prior's included (Agrawal, Goyal 2013, "Further Optimal Regret Bounds for Thompson Sampling", section 2.2). Propensities
    are integrals over the normal distributions, exact to 1e-8: of each arm at each position and of the whole slate.

    Args:
        noise: standard deviation of a reward around its arm's mean; that of rewards from 0 to 1 is at most 0.5.
        prior_mean: expected reward of an arm before feedback.
        prior_count: rewards that this is worth: the prior's standard deviation is noise / sqrt(prior_count).
        content_count: rewards that an expectation of a new arm from its features is worth; 0: features are not used.
        half_life: seconds after which a reward counts half; None: nothing is forgotten.
        seed: for the draws.

    Examples:
        >>> from recsys_dl.bandits import GaussianThompson
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> policy = GaussianThompson(noise=2.0).start(2)
        >>> policy = policy.update(BanditFeedback([[0], [1]], [[7.5], [-3.0]], None, num_arms=2))
        >>> policy.means().round(2), policy.probabilities(None, num_requests=1).round(4)  # Phi(5.25 / 2) for the first
        (array([ 3.75, -1.5 ]), array([[0.9957, 0.0043]]))
    """

    distribution = Normals

    def __init__(
        self,
        *,
        noise: Positive = 0.5,
        prior_mean: float = 0.0,
        prior_count: Positive = 1.0,
        content_count: NotNegative = 0.0,
        half_life: Positive | None = None,
        seed: Seed = 0,
    ) -> None:
        self.noise = noise
        self.prior_mean = prior_mean
        self.prior_count = prior_count
        self.content_count = content_count
        self.half_life = half_life
        self.seed = seed

    def _draw(self, requests: Requests) -> np.ndarray:
        draws_BL = np.empty((len(requests), requests.arms_RL.shape[1]))
        means_RL, widths_RL = self._parameters(requests)
        normal_draws(means_RL, widths_RL, requests.arms_RL, self._key(), requests.keys_B, draws_BL)
        return draws_BL

    def _parameters(self, requests: Requests) -> tuple[np.ndarray, ...]:
        widths_A = self.noise / np.sqrt(self.count_A + self.prior_count_A)
        return self.means()[requests.arms_RL], widths_A[requests.arms_RL]

    def _check_priors(self, means_A: np.ndarray, counts_A: np.ndarray) -> None:
        wrong = counts_A[counts_A <= 0]
        if len(wrong):
            raise ValueError(f"prior counts must be above 0, since a normal prior needs a width, got {wrong[0]:g}")
