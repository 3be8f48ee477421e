"""A world of tastes that policies see as a fitted model does. U users, A arms, D factors, F = D + 1, B requests, N impressions."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import svds

from recsys_dl.arguments import Count

from .tastes import Tastes

SHRINKAGE = 2.0  # impressions that a difference of 0 from the arm's mean is worth


class Factors(Tastes):
    """Tastes that are known only as far as a matrix factorization of earlier clicks knows them.

    Before the first request, each user was shown `history` arms, uniform draws, on average. Differences of clicks from their arm's mean are factorized
    (truncated SVD), so that the model's score of a user and an arm, the inner product of their vectors, is an estimate of the chance of a click. Contexts are the
    users' vectors, arms' features the arms': what `neural_linear` is for.

    Args:
        history: impressions of each user that the model was fitted on, on average.
        factors: D, of the model; the first number of a context is 1, of an arm's features its mean.
        **options: of `Tastes`.

    Attributes:
        user_vectors_UF: float32.
        arm_features_AF: float32.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.simulation import Factors
        >>> world = Factors(num_users=200, num_arms=10, history=100, factors=4, seed=1)
        >>> scores = world.contexts(np.arange(500)) @ world.arm_features_AF.T
        >>> bool(np.corrcoef(scores.ravel(), world.chances(np.arange(500)).ravel())[0, 1] > 0.6)
        True
    """

    user_vectors_UF: np.ndarray

    def __init__(self, *, history: Count = 20, factors: Count = 8, **options: Any) -> None:
        self.history, self.factors = history, factors
        super().__init__(**options)

    def _begin(self, rng: np.random.Generator) -> None:
        if self.factors >= min(self.num_users, self.num_arms):
            raise ValueError(
                f"factors must be fewer than the {self.num_arms} arms and the {self.num_users} users, got {self.factors}"
            )
        super()._begin(rng)
        self.context_size = self.factors + 1
        count = self.history * self.num_users
        users_N, arms_N = rng.integers(0, self.num_users, count), rng.integers(0, self.num_arms, count)
        clicks_N = rng.random(count) < self.of_users(self.tastes_UD)[users_N, arms_N]
        shown_A = np.bincount(arms_N, minlength=self.num_arms)
        means_A = (np.bincount(arms_N, clicks_N, self.num_arms) + 0.5 * SHRINKAGE) / (shown_A + SHRINKAGE)
        shape = (self.num_users, self.num_arms)
        sums_UA = sp.csr_matrix((clicks_N - means_A[arms_N], (users_N, arms_N)), shape)
        shown_UA = sp.csr_matrix((np.ones(count), (users_N, arms_N)), shape)
        sums_UA.data /= shown_UA.data + SHRINKAGE
        left_UD, sizes_D, right_DA = svds(sums_UA, self.factors, v0=np.ones(min(shape)))
        root_D = np.sqrt(sizes_D)
        self.user_vectors_UF = np.column_stack([np.ones(self.num_users), left_UD * root_D]).astype(np.float32)
        self.arm_features_AF = np.column_stack([means_A, right_DA.T * root_D]).astype(np.float32)

    def contexts(self, requests_B: np.ndarray) -> np.ndarray:
        """Return float32 [B, F]: the model's vectors of the users."""
        return self.user_vectors_UF[self.users(requests_B)]
