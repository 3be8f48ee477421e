"""Thompson sampling of a linear model of rewards."""

from __future__ import annotations

import numpy as np

from recsys_dl.arguments import Count, Positive, Seed
from recsys_dl.kernels.bandits.choosing import best_first
from recsys_dl.kernels.bandits.contenders import Decider
from recsys_dl.kernels.bandits.drawing import best_normal_draws, normals
from recsys_dl.kernels.random import stream_key
from recsys_dl.protocols import Decisions

from .bandit_policy import Chances
from .linear_policy import Features, LinearPolicy, Sharing
from .random_order import Normals
from .requests import Requests
from .sampled import SampledPolicy
from .shared_features import root_of

REPLAYS = 1  # the stream of the draws that propensities are estimated from


class LinearThompson(LinearPolicy, SampledPolicy):
    """Draws weights from their normal posterior for each request and shows the arms with the highest rewards under them.

    Agrawal, Goyal 2013, "Thompson Sampling for Contextual Bandits with Linear Payoffs". With `sharing` "disjoint" the arms' draws
    are independent, so that propensities are one-dimensional integrals, exact to 1e-6. With "shared" all arms share one draw and there is
    no formula: propensities are the share of `propensity_draws` further draws that decide alike, the decision itself counted
    (`Decisions.draws` says how many). Inverse propensities of this estimate are unbiased up to (1 - p)^(draws + 1), so slates that are rarer
    than 1 / draws cannot be weighted.

    Args:
        sharing: "disjoint": weights for each arm; "shared": weights for products of context and the arms' features.
        features: of shared weights: "outer", all products of (1, context) and (1, features); "product", number by number.
        noise: standard deviation of a reward around its expectation; the width of the posterior is proportional to it, and so is exploration.
            0.2 suits rewards from 0 to 1; scale it with rewards.
        regularization: of the weights; the prior's precision is regularization / noise^2.
        prior_mean: expected weights before feedback.
        propensity_draws: from which the propensities of shared weights are estimated.
        half_life: seconds after which a reward counts half; None: nothing is forgotten.
        seed: for the draws.

    Examples:
        >>> from recsys_dl.bandits import LinearThompson
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> policy = LinearThompson(noise=1).start(2, context_size=1)
        >>> policy = policy.update(BanditFeedback([[0]], [[1.0]], None, num_arms=2, contexts_RF=[[1]]))
        >>> policy.probabilities([[1]], num_requests=1).round(4)  # N(1/2, 1/2) above N(0, 1): Phi(0.5 / sqrt(1.5))
        array([[0.6585, 0.3415]])
    """

    distribution = Normals

    def __init__(
        self,
        *,
        sharing: Sharing = "disjoint",
        features: Features = "outer",
        noise: Positive = 0.2,
        regularization: Positive = 1.0,
        prior_mean: float = 0.0,
        propensity_draws: Count = 1000,
        half_life: Positive | None = None,
        seed: Seed = 0,
    ) -> None:
        self.sharing = sharing
        self.features = features
        self.noise = noise
        self.regularization = regularization
        self.prior_mean = prior_mean
        self.propensity_draws = propensity_draws
        self.half_life = half_life
        self.seed = seed

    @property
    def draws(self) -> int:  # type: ignore[override]
        """Return the number of draws from which propensities are estimated; 0: they are exact."""
        return self.propensity_draws if self.sharing == "shared" else 0

    def _decide(self, requests: Requests, k: int, propensities: bool) -> Decisions:
        return super()._decide(requests if propensities else self._contenders(requests, k), k, propensities)

    def _decider(self, requests: Requests) -> Decider:
        return Decider(float(self.noise), True, self._key(), requests.keys_B)

    def _draw(self, requests: Requests) -> np.ndarray:
        return self._shared_draws(requests)

    def _choose(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        if self.sharing == "shared":
            return super()._choose(requests, k)
        means_BL, widths_BL = self._moments(requests)
        draws_BL, places_BK = np.empty(means_BL.shape), np.empty((len(requests), k), np.int32)
        noise, key = float(self.noise), self._key()
        best_normal_draws(means_BL, widths_BL, noise, requests.arms_RL, key, requests.keys_B, draws_BL, places_BK)
        return places_BK, draws_BL

    def _parameters(self, requests: Requests) -> tuple[np.ndarray, ...]:
        means_BL, widths_BL = self._moments(requests)
        return means_BL.astype(np.float64), self.noise * widths_BL.astype(np.float64)

    def _chances(self, requests: Requests, places_BK: np.ndarray, scores_RL: np.ndarray) -> Chances:
        if self.sharing == "disjoint":
            return super()._chances(requests, places_BK, scores_RL)
        chances_BK, joint_B = np.full(places_BK.shape, np.nan), np.ones(len(requests))
        for b, places_K in enumerate(places_BK):
            shown_K = places_K >= 0
            alike_NK = self._replayed(requests, b, places_BK.shape[1]) == places_K
            share = self.propensity_draws + 1
            chances_BK[b, shown_K] = (alike_NK.sum(0)[shown_K] + 1) / share
            joint_B[b] = (alike_NK.all(1).sum() + 1) / share
        return chances_BK, joint_B

    def _first(self, requests: Requests) -> np.ndarray:
        if self.sharing == "disjoint":
            return super()._first(requests)
        chances_BL = np.zeros((len(requests), requests.arms_RL.shape[1]))
        for b in range(len(requests)):
            first_N = self._replayed(requests, b, 1)[:, 0]
            if first_N[0] >= 0:
                chances_BL[b] = np.bincount(first_N, minlength=chances_BL.shape[1]) / self.propensity_draws
        return chances_BL

    def _shared_draws(self, requests: Requests) -> np.ndarray:
        assert requests.contexts_BF is not None
        made, root_DD = self._shared(), root_of(self.factors_MT[0], self.theta_MD.shape[1])
        numbers_BD = np.empty((len(requests), len(root_DD)))
        normals(self._key(), requests.keys_B, numbers_BD)
        draws_BL = np.full((len(requests), requests.arms_RL.shape[1]), -np.inf)
        for b, context_F in enumerate(requests.contexts_BF.astype(np.float64)):
            theta_1D = self.theta_MD + self.noise * (numbers_BD[b] @ root_DD)
            arms_L = requests.arms_RL[min(b, len(requests.arms_RL) - 1)]
            scores_L = made.scores(made.weights(theta_1D, context_F), arms_L)[0]
            draws_BL[b] = np.where(arms_L >= 0, scores_L, -np.inf)
        return draws_BL

    def _replayed(self, requests: Requests, b: int, k: int) -> np.ndarray:
        """Return int32 [N, K]: the positions that further draws choose for request b."""
        assert requests.contexts_BF is not None
        made, root_DD = self._shared(), root_of(self.factors_MT[0], self.theta_MD.shape[1])
        key = stream_key(self.seed, REPLAYS + int(requests.keys_B[b]))
        draws_N = np.arange(self.propensity_draws, dtype=np.uint64)
        numbers_ND = np.empty((len(draws_N), len(root_DD)))
        normals(key, draws_N, numbers_ND)
        weights_NG = made.weights(
            self.theta_MD + self.noise * (numbers_ND @ root_DD), requests.contexts_BF[b].astype(np.float64)
        )
        arms_1L = requests.arms_RL[min(b, len(requests.arms_RL) - 1)][None]
        scores_NL = made.scores(weights_NG, arms_1L[0])
        places_NK = np.empty((len(draws_N), k), np.int32)
        best_first(scores_NL, arms_1L, key, draws_N, places_NK)
        return places_NK
