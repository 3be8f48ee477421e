"""Thompson sampling of rewards between 0 and 1."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from recsys_dl.arguments import NotNegative, OpenShare, Positive, Seed
from recsys_dl.kernels.bandits.drawing import beta_draws

from .average_rewards import AverageRewards
from .random_order import Betas
from .requests import Requests, check_between_0_and_1
from .sampled import SampledPolicy


class Thompson(AverageRewards, SampledPolicy):
    """Draws each arm's mean reward from its posterior, a beta distribution, and shows the arms with the highest draws.

    Propensities are integrals over the beta distributions, exact to 1e-8 (one-dimensional quadrature): of each arm at each position
    and of the whole slate. Rewards lie between 0 and 1; one between counts in parts as a success and a failure. Thompson 1933, "On
    the Likelihood that One Unknown Probability Exceeds Another in View of the Evidence of Two Samples".

    Args:
        prior_mean: expected reward of an arm before feedback.
        prior_count: rewards that this is worth: prior_mean * prior_count successes, the rest failures.
        content_count: rewards that an expectation of a new arm from its features is worth; 0: features are not used.
        half_life: seconds after which a reward counts half; None: nothing is forgotten.
        seed: for the draws.

    Examples:
        >>> from recsys_dl.bandits import Thompson
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> policy = Thompson().start(2)
        >>> policy = policy.update(BanditFeedback([[0]], [[1.0]], None, num_arms=2))  # Beta(2, 1) against Beta(1, 1)
        >>> policy.probabilities(None, num_requests=1).round(4)
        array([[0.6667, 0.3333]])
    """

    distribution = Betas

    def __init__(
        self,
        *,
        prior_mean: OpenShare = 0.5,
        prior_count: Positive = 2.0,
        content_count: NotNegative = 0.0,
        half_life: Positive | None = None,
        seed: Seed = 0,
    ) -> None:
        self.prior_mean = prior_mean
        self.prior_count = prior_count
        self.content_count = content_count
        self.half_life = half_life
        self.seed = seed

    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Return float64 [A] twice: successes and failures, the parameters of the beta distributions."""
        successes_A = self.sum_A + self.prior_sum_A
        failures_A = (self.count_A - self.sum_A) + (self.prior_count_A - self.prior_sum_A)
        return successes_A, failures_A

    def _draw(self, requests: Requests) -> np.ndarray:
        draws_BL = np.empty((len(requests), requests.arms_RL.shape[1]))
        beta_draws(*self.posterior(), requests.arms_RL, self._key(), requests.keys_B, draws_BL)
        return draws_BL

    def _parameters(self, requests: Requests) -> tuple[np.ndarray, ...]:
        successes_A, failures_A = self.posterior()
        return successes_A[requests.arms_RL], failures_A[requests.arms_RL]

    def _as_rewards(self, scores_BK: np.ndarray) -> np.ndarray:
        return np.asarray(expit(scores_BK))

    def check_rewards(self, rewards: np.ndarray) -> None:
        """Raise ValueError for rewards outside [0, 1]."""
        check_between_0_and_1(rewards, "Thompson")

    def _check_priors(self, means_A: np.ndarray, counts_A: np.ndarray) -> None:
        for name, values, wrong in (
            ("means must lie between 0 and 1 without the ends", means_A, (means_A <= 0) | (means_A >= 1)),
            ("counts must be above 0", counts_A, counts_A <= 0),
        ):
            if wrong.any():
                raise ValueError(
                    f"prior {name}, since beta distributions need some successes and failures, got {values[wrong][0]:g}"
                )
