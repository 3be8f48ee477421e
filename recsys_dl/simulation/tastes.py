"""A world of users with tastes and arms with content. U users, A arms, D dimensions, B requests, F = D + 1."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy.special import expit, ndtri

from recsys_dl.arguments import Count, NotNegative, Share

from .chance import REQUESTS, uniform
from .world import World


class Tastes(World):
    """Users arrive, some more often than others, and click on what agrees with their taste.

    With u the user's taste and v the arm, both of length 1, an examined arm earns 1 with probability 0.5 + 0.5 <u, v> (`link="linear"`)
    or sigmoid(-2 + 4 <u, v> + q) with q a normal quality of the arm (`link="logistic"`). The context is (1, u). An arm's features
    are its content: a unit vector near v, as near as `content` says.

    Args:
        num_users: U.
        num_arms: A.
        embedding_size: D.
        link: "linear", as linear policies assume, or "logistic".
        content: share of an arm's v that its content explains; 1: the content is v, 0: unrelated.
        popularity: exponent s: the n-th user makes requests in proportion to n^-s.
        drift: requests in which every v turns by a full circle, each in its own plane; 0: none.
        **options: of every world.

    Attributes:
        tastes_UD: float64.
        arm_features_AF: float32, the content.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.simulation import Tastes
        >>> world = Tastes(num_users=5, num_arms=3, embedding_size=2, seed=1)
        >>> world.contexts(np.arange(4)).shape, world.chances(np.arange(4)).shape
        ((4, 3), (4, 3))
    """

    tastes_UD: np.ndarray

    def __init__(
        self,
        *,
        num_users: Count = 1000,
        num_arms: Count = 50,
        embedding_size: Count = 8,
        link: Literal["linear", "logistic"] = "linear",
        content: Share = 0.8,
        popularity: NotNegative = 0.5,
        drift: NotNegative = 0.0,
        **options: Any,
    ) -> None:
        self.num_users, self.num_arms, self.embedding_size = num_users, num_arms, embedding_size
        self.link, self.content, self.popularity, self.drift = link, content, popularity, drift
        self.context_size = embedding_size + 1
        super().__init__(**options)

    def _begin(self, rng: np.random.Generator) -> None:
        shape = (self.num_arms, self.embedding_size)
        self.tastes_UD = _unit(rng.normal(size=(self.num_users, self.embedding_size)))
        content_AD, own_AD = _unit(rng.normal(size=shape)), _unit(rng.normal(size=shape))
        self._now_AD = _unit(np.sqrt(self.content) * content_AD + np.sqrt(1 - self.content) * own_AD)
        other_AD = rng.normal(size=shape)  # spans with v the plane in which it turns
        other_AD -= (other_AD * self._now_AD).sum(1, keepdims=True) * self._now_AD
        self._other_AD = _unit(other_AD)
        self._quality_A = ndtri(rng.random(self.num_arms))
        weights_U = np.arange(1.0, self.num_users + 1) ** -self.popularity
        self._cumulated_U = np.cumsum(weights_U) / weights_U.sum()
        self.arm_features_AF = content_AD.astype(np.float32)

    def users(self, requests_B: np.ndarray) -> np.ndarray:
        """Return int32 user rows [B]."""
        found_B = np.searchsorted(self._cumulated_U, uniform(self.seed, REQUESTS, requests_B))
        return np.minimum(found_B, self.num_users - 1).astype(np.int32)

    def contexts(self, requests_B: np.ndarray) -> np.ndarray:
        """Return float32 [B, F]: 1 and the user's taste."""
        tastes_BD = self.tastes_UD[self.users(requests_B)]
        return np.concatenate([np.ones((len(requests_B), 1)), tastes_BD], axis=1).astype(np.float32)

    def chances(self, requests_B: np.ndarray) -> np.ndarray:
        """Return float64 [B, A]: the probability that each arm earns 1 if it is examined."""
        tastes_BD = self.tastes_UD[self.users(requests_B)]
        agreement_BA = _products(tastes_BD, self._now_AD)
        if self.drift:
            angles_B1 = 2 * np.pi * requests_B[:, None] / self.drift
            agreement_BA = np.cos(angles_B1) * agreement_BA + np.sin(angles_B1) * _products(tastes_BD, self._other_AD)
        return self._linked(agreement_BA)

    def theory(self, rounds_P: np.ndarray) -> dict[str, np.ndarray]:
        """Return the order of the regret that is proved for linear policies with weights for each arm (Chu et al. 2011), without its constants and logarithms."""
        if self.link != "linear" or self.drift:
            return {}
        return {"order sqrt(A F t)": np.sqrt(self.num_arms * self.context_size * rounds_P)}

    def of_users(self, tastes_UD: np.ndarray) -> np.ndarray:
        """Return float64 [U, A]: the probabilities before the first request, of users by their tastes."""
        return self._linked(_products(tastes_UD, self._now_AD))

    def _linked(self, agreement_BA: np.ndarray) -> np.ndarray:
        if self.link == "linear":
            return np.clip(0.5 + 0.5 * agreement_BA, 0.0, 1.0)
        return expit(-2 + 4 * agreement_BA + self._quality_A)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _products(tastes_BD: np.ndarray, arms_AD: np.ndarray) -> np.ndarray:
    """Return float64 [B, A] inner products, with the same bits in any batch, as those of BLAS are not."""
    return np.einsum("bd,ad->ba", tastes_BD, arms_AD)
