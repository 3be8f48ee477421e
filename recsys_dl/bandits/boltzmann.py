"""Boltzmann exploration: arms by a softmax of their mean rewards."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp, softmax

from recsys_dl.arguments import NotNegative, Positive, Seed
from recsys_dl.kernels.bandits.drawing import gumbel_draws

from .average_rewards import AverageRewards
from .bandit_policy import Chances
from .random_order import Gumbels
from .requests import Requests
from .sampled import SampledPolicy


class Boltzmann(AverageRewards, SampledPolicy):
    """At each position an arm that is not shown yet, with probability proportional to exp(mean reward / temperature).

    Slates follow Plackett and Luce (Plackett 1975, "The Analysis of Permutations"). Propensities are exact: a softmax at the first
    position, a product of softmaxes for the slate, and at later positions an integral to 1e-8 (a Plackett-Luce order is a race of
    exponential variables, so the chance of a rank is a one-dimensional integral).

    Args:
        temperature: in units of rewards; the lower, the greedier.
        prior_mean: expected reward of an arm before feedback.
        prior_count: rewards that this is worth; 0: arms without rewards have mean 0.
        content_count: rewards that an expectation of a new arm from its features is worth; 0: features are not used.
        half_life: seconds after which a reward counts half; None: nothing is forgotten.
        seed: for the draws.

    Examples:
        >>> from recsys_dl.bandits import Boltzmann
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> policy = Boltzmann(temperature=0.5).start(2)
        >>> policy = policy.update(BanditFeedback([[1]], [[1.0]], None, num_arms=2))
        >>> policy.probabilities(None, num_requests=1).round(4)  # 1 / (1 + exp(2)) for the first
        array([[0.1192, 0.8808]])
    """

    distribution = Gumbels

    def __init__(
        self,
        *,
        temperature: Positive = 0.05,
        prior_mean: float = 0.0,
        prior_count: NotNegative = 0.0,
        content_count: NotNegative = 0.0,
        half_life: Positive | None = None,
        seed: Seed = 0,
    ) -> None:
        self.temperature = temperature
        self.prior_mean = prior_mean
        self.prior_count = prior_count
        self.content_count = content_count
        self.half_life = half_life
        self.seed = seed

    def _logits(self, requests: Requests) -> np.ndarray:
        logits_RL = self.means()[requests.arms_RL] / self.temperature
        return np.where(requests.arms_RL >= 0, logits_RL, -np.inf)

    def _draw(self, requests: Requests) -> np.ndarray:
        draws_BL = np.empty((len(requests), requests.arms_RL.shape[1]))
        gumbel_draws(self._logits(requests), requests.arms_RL, self._key(), requests.keys_B, draws_BL)
        return draws_BL

    def _as_rewards(self, scores_BK: np.ndarray) -> np.ndarray:
        return scores_BK * self.temperature

    def _parameters(self, requests: Requests) -> tuple[np.ndarray, ...]:
        return (self.means()[requests.arms_RL] / self.temperature,)

    def _chances(self, requests: Requests, places_BK: np.ndarray, scores_RL: np.ndarray) -> Chances:
        logits_BL = np.broadcast_to(self._logits(requests), (len(requests), requests.arms_RL.shape[1])).copy()
        rows_B, shown_BK = np.arange(len(requests)), places_BK >= 0
        log_joint_B = np.zeros(len(requests))
        first_B = np.full(len(requests), np.nan)
        for place in range(places_BK.shape[1]):  # what is left after the arms before it
            here_B, rows_H = places_BK[:, place], rows_B[shown_BK[:, place]]
            at_H = here_B[rows_H]
            step_H = logits_BL[rows_H, at_H] - logsumexp(logits_BL[rows_H], axis=1)
            if place == 0:
                first_B[rows_H] = np.exp(step_H)
            log_joint_B[rows_H] += step_H
            logits_BL[rows_H, at_H] = -np.inf
        if places_BK.shape[1] == 1:
            return first_B[:, None], np.exp(log_joint_B)
        chances_BK, _ = super()._chances(requests, places_BK, scores_RL)
        chances_BK[:, 0] = first_B
        return chances_BK, np.exp(log_joint_B)

    def _first(self, requests: Requests) -> np.ndarray:
        logits_RL = self._logits(requests)
        some_R = np.isfinite(logits_RL).any(1)
        chances_RL = np.zeros(logits_RL.shape)
        chances_RL[some_R] = softmax(logits_RL[some_R], axis=1)
        return chances_RL
