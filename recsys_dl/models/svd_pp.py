"""SVD++: biased matrix factorization that also learns from which items a user rated (Koren 2008, equation 15)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.arguments import Count, NotNegative, Positive, Seed
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.rating_sgd import svdpp_epoch
from recsys_dl.progress import track

from .funk_svd import FunkSVD


class SVDpp(FunkSVD):
    """rating(u, i) = mean + b_u + b_i + q_i . (p_u + |N(u)|^-1/2 sum_{j in N(u)} y_j), N(u) the items that u rated.

    An unknown user gets mean + b_i, and an unrated item mean + b_u. Repeated ratings of an item
    by a user are averaged.

    Args:
        embedding_size: length of p_u, q_i and y_j.
        epochs: passes over the ratings.
        learning_rate: SGD step size.
        regularization: weight of |p_u|^2 + |q_i|^2 + sum_j |y_j|^2 at each rating.
        bias_regularization: weight of b_u^2 + b_i^2 at each rating.
        initial_scale: initial standard deviation of the embeddings.
        seed: for the initial embeddings and the order of users and ratings.

    Attributes:
        mean: float32 scalar, of all ratings.
        rating_range_2: float32, the lowest and the highest rating in training.
        bias_U: float32.
        bias_I: float32.
        user_emb_UD: float32, the whole bracket: p_u plus the sum over rated items.
        item_emb_ID: float32, q.
        implicit_emb_ID: float32, y.

    Raises:
        ValueError: as `FunkSVD`.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import SVDpp
        >>> ratings = Interactions([0, 0, 1, 1, 2], [0, 1, 0, 1, 0], [5, 1, 5, 1, 5])
        >>> SVDpp(embedding_size=2).fit(ratings).predict([2, 2], [0, 1]).round(1)
        array([4.6, 2.7], dtype=float32)
    """

    fitted = (*FunkSVD.fitted, "implicit_emb_ID")
    item_parameters: ClassVar[tuple[str, ...]] = ("item_emb_ID", "bias_I", "implicit_emb_ID")
    implicit_emb_ID: np.ndarray

    def __init__(
        self,
        *,
        embedding_size: Count = 100,
        epochs: Count = 40,
        learning_rate: Positive = 0.007,
        regularization: NotNegative = 0.06,
        bias_regularization: NotNegative = 0.02,
        initial_scale: NotNegative = 0.03,
        seed: Seed = 7,
    ) -> None:
        super().__init__(
            embedding_size=embedding_size,
            epochs=epochs,
            learning_rate=learning_rate,
            regularization=regularization,
            bias_regularization=bias_regularization,
            initial_scale=initial_scale,
            seed=seed,
        )

    def fit(self, train: Dataset | Interactions) -> Self:
        """Run `epochs` SGD passes over the ratings, user by user, each in a new random order of users."""
        ratings = self._start(train)
        rng = np.random.default_rng([self.seed, 2])
        self.implicit_emb_ID = rng.normal(0, self.initial_scale, self.item_emb_ID.shape).astype(np.float32)
        self.implicit_emb_ID[self.item_counts_I == 0] = 0
        shuffled_N = rng.permutation(ratings.nnz)
        users_N = np.repeat(np.arange(self.num_users), np.diff(ratings.indptr))
        grouped_N = shuffled_N[np.argsort(users_N[shuffled_N], kind="stable")]
        starts_U, items_N, ratings_N = (
            ratings.indptr.astype(np.int64),
            ratings.indices[grouped_N],
            ratings.data[grouped_N],
        )
        for epoch in track(range(self.epochs), type(self).__name__):
            svdpp_epoch(
                np.random.default_rng([self.seed, 1, epoch]).permutation(self.num_users),
                starts_U,
                items_N,
                ratings_N,
                float(self.mean),
                self.bias_U,
                self.bias_I,
                self.user_emb_UD,
                self.item_emb_ID,
                self.implicit_emb_ID,
                learning_rate=self.learning_rate,
                regularization=self.regularization,
                bias_regularization=self.bias_regularization,
            )
        self.user_emb_UD += self._offsets(ratings)
        self._check_finite()
        return self

    def _offsets(self, ratings: sp.csr_matrix) -> np.ndarray:
        counts_B = np.diff(ratings.indptr)
        rated = sp.csr_matrix((np.ones(ratings.nnz, np.float32), ratings.indices, ratings.indptr), ratings.shape)
        return (rated @ self.implicit_emb_ID) / np.sqrt(np.maximum(counts_B, 1), dtype=np.float32)[:, None]
