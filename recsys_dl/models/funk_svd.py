"""Biased matrix factorization of ratings by stochastic gradient descent (Funk 2006; Koren 2008, section 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.arguments import Count, NotNegative, Positive, Seed
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.repeats import average_ratings
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.families.rated_pairs import rated_pairs
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.pair_dots import pair_dots
from recsys_dl.kernels.rating_sgd import biased_epoch
from recsys_dl.kernels.topk import top_k_dot
from recsys_dl.progress import track
from recsys_dl.protocols import Served, UserState


class FunkSVD(CatalogModel):
    """rating(u, i) = mean + b_u + b_i + p_u . q_i, where weights are ratings.

    An unknown user gets mean + b_i, and an unrated item mean + b_u: a ranking by how well items
    are liked, not by popularity. Repeated ratings of an item by a user are averaged.

    Args:
        embedding_size: length of p_u and q_i.
        epochs: passes over the ratings.
        learning_rate: SGD step size.
        regularization: weight of |p_u|^2 + |q_i|^2 at each rating.
        bias_regularization: weight of b_u^2 + b_i^2 at each rating.
        initial_scale: initial standard deviation of the embeddings.
        seed: for the initial embeddings and the order of the ratings.

    Attributes:
        mean: float32 scalar, of all ratings.
        rating_range_2: float32, the lowest and the highest rating in training.
        bias_U: float32.
        bias_I: float32.
        user_emb_UD: float32.
        item_emb_ID: float32.

    Raises:
        ValueError: a size, a number of epochs or a learning rate that is not positive; negative regularization; or
            diverging training (not finite).

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import FunkSVD
        >>> ratings = Interactions([0, 0, 1, 1, 2], [0, 1, 0, 1, 0], [5, 1, 5, 1, 5])
        >>> FunkSVD(embedding_size=2).fit(ratings).predict([2, 2], [0, 1]).round(1)
        array([5. , 2.3], dtype=float32)
    """

    fitted: ClassVar[tuple[str, ...]] = ("mean", "rating_range_2", "bias_U", "bias_I", "user_emb_UD", "item_emb_ID")
    item_parameters: ClassVar[tuple[str, ...]] = ("item_emb_ID", "bias_I")
    popularity_fallback = False
    mean: np.ndarray
    rating_range_2: np.ndarray
    bias_U: np.ndarray
    bias_I: np.ndarray
    user_emb_UD: np.ndarray
    item_emb_ID: np.ndarray

    def __init__(
        self,
        *,
        embedding_size: Count = 100,
        epochs: Count = 100,
        learning_rate: Positive = 0.005,
        regularization: NotNegative = 0.1,
        bias_regularization: NotNegative = 0.02,
        initial_scale: NotNegative = 0.03,
        seed: Seed = 7,
    ) -> None:
        self.embedding_size = embedding_size
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.regularization = regularization
        self.bias_regularization = bias_regularization
        self.initial_scale = initial_scale
        self.seed = seed

    def fit(self, train: Dataset | Interactions) -> Self:
        """Run `epochs` SGD passes over the ratings, each in a new random order."""
        ratings = self._start(train)
        for epoch in track(range(self.epochs), type(self).__name__):
            biased_epoch(
                ratings.indptr.astype(np.int64),
                ratings.indices,
                ratings.data,
                float(self.mean),
                self.bias_U,
                self.bias_I,
                self.user_emb_UD,
                self.item_emb_ID,
                learning_rate=self.learning_rate,
                regularization=self.regularization,
                bias_regularization=self.bias_regularization,
                seed=self.seed,
                epoch=epoch,
            )
        self._check_finite()
        return self

    def fold_in(self, histories: Dataset | Interactions | Sequence[Sequence[int]]) -> UserState:
        """Return the state of new users from their ratings; `recommend` and `score` accept it in place of rows.

        Args:
            histories: Interactions whose user rows are 0..B-1 and whose weights are ratings; or one list of item rows
                per user, all assumed to be rated at the top of the range seen in training.

        Raises:
            ValueError: an item row that was not in training.
        """
        self._check_fitted()
        if not isinstance(histories, Dataset | Interactions):
            liked = Interactions.from_histories(histories, num_items=self.num_items)
            histories = liked.with_weights(np.full(len(liked), self.rating_range_2[1]))
        return super().fold_in(histories)

    def predict(self, users_P: np.ndarray, items_P: np.ndarray) -> np.ndarray:
        """Return float32 [P]: the rating of items_P[p] by users_P[p], within the range of ratings seen in training.

        A user or item row of -1 means unknown: its bias and embedding are left out.

        Raises:
            ValueError: arrays of unequal length, or a row out of range.
        """
        self._check_fitted()
        users_P, items_P = rated_pairs(users_P, items_P, self.num_users, self.num_items)
        dots_P = np.einsum("pd,pd->p", self.user_emb_UD[users_P], self.item_emb_ID[items_P])
        rating_P = (
            self.mean
            + np.where(users_P < 0, 0, self.bias_U[users_P])
            + np.where(items_P < 0, 0, self.bias_I[items_P])
            + np.where((users_P < 0) | (items_P < 0), 0, dots_P)
        )
        return np.clip(rating_P, *self.rating_range_2).astype(np.float32)

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`."""
        from recsys_dl.families.served import RatingUser, inner_product, stored

        tower = RatingUser(
            self.item_emb_ID,
            self.bias_I,
            float(self.mean),
            regularization=self.regularization,
            bias_regularization=self._bias_penalty,
            implicit_emb_ID=getattr(self, "implicit_emb_ID", None),
        )
        states_UE = self._queries(stored(self, seen))
        return inner_product(self, seen, states_UE, self.item_vectors(), tower, fill=float(self.rating_range_2[1]))

    def item_vectors(self) -> np.ndarray:
        """Return the item embeddings, a column of ones for user biases, and the item biases."""
        self._check_fitted()
        return np.column_stack([self.item_emb_ID, np.ones_like(self.bias_I), self.bias_I])

    @property
    def _bias_penalty(self) -> float:
        return self.bias_regularization

    def _start(self, train: Dataset | Interactions) -> sp.csr_matrix:
        """Initialize every fitted array; return the ratings, users x items."""
        ratings = average_ratings(self._begin(train))
        rng = np.random.default_rng([self.seed, 0])
        self.mean = np.array(ratings.data.mean(dtype=np.float64), np.float32)
        self.rating_range_2 = np.array([ratings.data.min(), ratings.data.max()], np.float32)
        self.bias_U = np.zeros(self.num_users, np.float32)
        self.bias_I = np.zeros(self.num_items, np.float32)
        self.user_emb_UD = rng.normal(0, self.initial_scale, (self.num_users, self.embedding_size)).astype(np.float32)
        self.item_emb_ID = rng.normal(0, self.initial_scale, (self.num_items, self.embedding_size)).astype(np.float32)
        self.user_emb_UD[self.user_counts_U == 0] = 0
        self.item_emb_ID[self.item_counts_I == 0] = 0
        return ratings

    def _check_finite(self) -> None:
        if not all(np.isfinite(getattr(self, name)).all() for name in self.fitted):
            low, high = self.rating_range_2
            raise ValueError(
                f"training diverged: ratings from {low} to {high} need a learning_rate below {self.learning_rate}, "
                "or ratings scaled to a narrower range"
            )

    def _values(self, users_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.bias_U[users_B], self.user_emb_UD[users_B]

    def _queries(self, values: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        bias_B, emb_BD = values
        return np.column_stack([emb_BD, bias_B + self.mean, np.ones_like(bias_B)])

    def _fold(self, histories: Interactions) -> tuple[np.ndarray, np.ndarray]:
        """Minimize the same objective over b_u and p_u alone, exactly, with all items fixed."""
        ratings = average_ratings(histories)
        offset_BD = self._offsets(ratings)
        bias_B = np.zeros(histories.num_users, np.float32)
        emb_BD = offset_BD.copy()
        penalty_E = np.append(np.full(self.embedding_size, self.regularization), self.bias_regularization) + 1e-9
        for b in track(np.flatnonzero(np.diff(ratings.indptr)), "fold in"):
            row = slice(ratings.indptr[b], ratings.indptr[b + 1])
            items_L = ratings.indices[row]
            design_LE = np.column_stack([self.item_emb_ID[items_L], np.ones(len(items_L))]).astype(np.float64)
            residual_L = ratings.data[row] - self.mean - self.bias_I[items_L] - self.item_emb_ID[items_L] @ offset_BD[b]
            gram_EE = design_LE.T @ design_LE + np.diag(penalty_E * len(items_L))
            solved_E = np.linalg.solve(gram_EE, design_LE.T @ residual_L)
            emb_BD[b] += solved_E[:-1]
            bias_B[b] = solved_E[-1]
        return bias_B, emb_BD

    def _offsets(self, ratings: sp.csr_matrix) -> np.ndarray:
        """Return float32 [B, D]: the part of a user's embedding determined by which items were rated."""
        return np.zeros((ratings.shape[0], self.embedding_size), np.float32)

    def _scores(self, values: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        bias_B, emb_BD = values
        scores_BI = emb_BD @ self.item_emb_ID.T
        scores_BI += self.bias_I
        scores_BI += (bias_B + self.mean)[:, None]
        return scores_BI

    def _top_k(
        self, values: tuple[np.ndarray, np.ndarray], k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        bias_B, emb_BD = values
        items_BK, scores_BK = top_k_dot(
            emb_BD, self.item_emb_ID, k, item_bias_I=self.bias_I, exclude=exclude, allow=allow, device=self.device
        )
        return items_BK, scores_BK + (bias_B + self.mean)[:, None]

    def _pair_scores(self, values: tuple[np.ndarray, np.ndarray], items_BL: np.ndarray) -> np.ndarray:
        bias_B, emb_BD = values
        dots_BL = pair_dots(emb_BD, self.item_emb_ID, items_BL)
        return dots_BL + self.bias_I[items_BL] + (bias_B + self.mean)[:, None]

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        """Cosine of the embeddings."""
        return self._cosines(self.item_emb_ID, items_B)
