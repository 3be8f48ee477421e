"""The base of ItemKNN and UserKNN: finding and updating neighbors, and predicting ratings from them.

R rows compared (items of ItemKNN, users of UserKNN), C columns they are compared over, K neighbors, P pairs.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import numpy as np
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.arguments import Count, NotNegative
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.repeats import times_each
from recsys_dl.kernels.comparison import Prepared, Vectors
from recsys_dl.kernels.device import Device
from recsys_dl.kernels.neighbors import updated, weighted_deviations
from recsys_dl.kernels.similarity import nearest
from recsys_dl.kernels.vectors import prepare
from recsys_dl.kernels.weighting import bm25, tfidf
from recsys_dl.processes import current
from recsys_dl.progress import track
from recsys_dl.sizes import LogSize, Part, Sizes, Work

from .catalog import CatalogModel
from .rated_pairs import rated_pairs

Measure = Literal["cosine", "adjusted_cosine", "pearson", "pearson_baseline", "jaccard"]
Weighting = Literal["tfidf", "bm25"]

SWEEPS = 10  # alternating updates of user and item biases
USER_DAMPING, ITEM_DAMPING = 15.0, 10.0  # pseudo-ratings that shrink a bias toward 0 (Koren 2010, section 2.1)
ROWS_AT_ONCE = 4096  # between two steps of the progress bar


class Neighborhood(CatalogModel):
    """Nearest neighbors among user or item vectors; the subclass decides which.

    Repeated pairs are compared with their summed weight, as suits counts; `predict` averages them, as suits
    ratings. `read_log` removes repetitions from ratings. Several processes (`recsys_dl.processes`) compare some rows each.
    """

    shares_fit = True
    fitted = ("interactions_UI", "times_UI", "neighbors_RR", "mean", "rating_range_2", "bias_U", "bias_I")
    interactions_UI: sp.csr_matrix
    times_UI: sp.csr_matrix | None
    neighbors_RR: sp.csr_matrix
    mean: np.ndarray
    rating_range_2: np.ndarray
    bias_U: np.ndarray
    bias_I: np.ndarray

    def __init__(
        self,
        *,
        num_neighbors: Count = 100,
        measure: Measure = "cosine",
        weighting: Weighting | None = None,
        shrinkage: NotNegative = 0.0,
        min_common: Count = 1,
        num_raters: Count = 40,
        device: Device = "auto",
    ) -> None:
        self.num_neighbors = num_neighbors
        self.measure = measure
        self.weighting = weighting
        self.shrinkage = shrinkage
        self.min_common = min_common
        self.num_raters = num_raters
        self.device = device

    # Implemented by subclasses

    @abstractmethod
    def _compared(self, users_items: sp.csr_matrix) -> sp.csr_matrix:
        """Return the matrix with the compared vectors as its rows."""

    @abstractmethod
    def _rows_and_columns(self, users_P: np.ndarray, items_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return each pair's rows, the compared side first."""

    @abstractmethod
    def _num_compared(self, log: LogSize) -> tuple[int, float]:
        """Return the number of rows compared in a log of that size, and of pairs of entries in the same column."""

    # Public methods

    def fit(self, train: Dataset | Interactions) -> Self:
        """Find the neighbors of every row."""
        interactions = self._begin(train)
        self._know(interactions.by_user, times_each(interactions))
        prepared = self._ready()
        num_rows, group = len(prepared.order_R), current()
        size = ROWS_AT_ONCE if group.size == 1 else min(ROWS_AT_ONCE, -(-num_rows // (4 * group.size)))
        starts = range(0, num_rows, size)
        parts = []
        for start in track(starts[group.rank :: group.size], f"{type(self).__name__} neighbors"):
            rows = np.arange(start, min(start + size, num_rows))
            parts.append(nearest(prepared, self.num_neighbors, rows=rows, device=self.device))
        parts = group.in_turn(parts, len(starts))
        rows_RK, best_RK = (np.concatenate(lists) for lists in zip(*parts, strict=True))
        self.neighbors_RR = list_matrix(rows_RK, best_RK)
        return self

    def fine_tune(self, new: Dataset | Interactions) -> Self:
        """Update with new interactions; the result is the same as `fit` on the old and new ones together.

        Neighbors are recomputed only where interactions changed. New users and items are appended.

        Args:
            new: a Dataset is matched by ids; Interactions are taken as rows.

        Raises:
            ValueError: new rows without ids, although training had ids.
        """
        added = self._aligned(new)
        known, times = self.interactions_UI.copy(), self._times().copy()
        for matrix in (known, times):
            matrix.resize((added.num_users, added.num_items))
        together = Interactions.concat([Interactions.from_csr(known), added])
        times = Interactions.concat([Interactions.from_csr(times), added.with_weights(np.ones(len(added)))]).by_user
        before, neighbors = self._ready(), self.neighbors_RR
        self._remember(together)
        self._know(together.by_user, times)
        lists = updated(before, self._ready(), *_padded_lists(neighbors, self.num_neighbors), device=self.device)
        self.neighbors_RR = list_matrix(*lists)
        return self

    def sizes(self, log: LogSize) -> Sizes:
        """Return what training takes: see `recsys_dl.sizes`."""
        num, rows, pairs = log.num_interactions, *self._num_compared(log)
        lists = 8.0 * self.num_neighbors * rows
        return Sizes(
            [
                Part("tables", "neighbors_RR", lists, "items", saved=True),
                Part("tables", "biases", 4.0 * (log.num_users + log.num_items), "users", saved=True),
                Part("interactions", "by user", 8.0 * num + 4 * log.num_users, "interactions", saved=True),
                Part("work", "deviations from the mean", 28.0 * num, "interactions", when="start"),
                Part("work", "vectors by row and by column", 16.0 * num, "interactions", when="epoch"),
                Part("work", "lists of neighbors", 2.0 * lists, "items", when="epoch"),
            ],
            work=[Work("pairs", 2.0 * pairs, 8.0 * pairs), Work("lists", 16.0 * rows * self.num_neighbors, 2 * lists)],
        )

    def predict(self, users_P: np.ndarray, items_P: np.ndarray) -> np.ndarray:
        """Return float32 [P]: the rating of items_P[p] by users_P[p], within the range of weights seen in training.

        The baseline mean + b_u + b_i plus the similarity-weighted deviations of the `num_raters` nearest with a known rating
        (Koren 2010, eq. 3); the baseline alone if there are none. Similarities are exact, over all rows and
        not just the stored neighbors. A row of -1 means an unknown user or item, whose bias is left out.

        Raises:
            ValueError: arrays of unequal length, or a row out of range.
        """
        self._check_fitted()
        users_P, items_P = rated_pairs(users_P, items_P, self.num_users, self.num_items)
        user_bias_P = np.where(users_P < 0, 0, self.bias_U[users_P])
        rating_P = self.mean + user_bias_P + np.where(items_P < 0, 0, self.bias_I[items_P])
        known = np.flatnonzero((users_P >= 0) & (items_P >= 0))
        deviations = as_vectors(self._compared(self._deviations(self._ratings())))
        pairs = self._rows_and_columns(users_P[known], items_P[known])
        rating_P[known] += weighted_deviations(self._ready(), deviations, *pairs, self.num_raters)
        return np.clip(rating_P, *self.rating_range_2).astype(np.float32)

    # Internal

    def _know(self, interactions_UI: sp.csr_matrix, times_UI: sp.csr_matrix) -> None:
        """Store the interactions and the baseline of ratings: mean + b_u + b_i, by alternating damped means."""
        self.interactions_UI = interactions_UI
        self.times_UI = None if (times_UI.data == 1).all() else times_UI
        self.__dict__.pop("_prepared", None)
        ratings_UI = self._ratings()
        mean = float(ratings_UI.data.mean(dtype=np.float64))
        parts = (ratings_UI.indices, ratings_UI.indptr)
        rated_UI = sp.csr_matrix((np.ones_like(ratings_UI.data), *parts), ratings_UI.shape)
        left_UI = sp.csr_matrix((ratings_UI.data.astype(np.float64) - mean, *parts), ratings_UI.shape)
        left_U, left_I = (np.asarray(left_UI.sum(axis=axis)).ravel() for axis in (1, 0))
        bias_U = np.zeros(rated_UI.shape[0])
        for _ in range(SWEEPS):
            bias_I = (left_I - rated_UI.T @ bias_U) / (self.item_counts_I + ITEM_DAMPING)
            bias_U = (left_U - rated_UI @ bias_I) / (self.user_counts_U + USER_DAMPING)
        self.mean = np.array(mean, np.float32)
        self.bias_I = bias_I.astype(np.float32)
        self.bias_U = _user_biases(ratings_UI, self.mean, self.bias_I).astype(np.float32)
        self.rating_range_2 = np.array([ratings_UI.data.min(), ratings_UI.data.max()], np.float32)

    def _times(self) -> sp.csr_matrix:
        """Return how often each pair occurs."""
        if self.times_UI is not None:
            return self.times_UI
        stored = self.interactions_UI
        return sp.csr_matrix((np.ones_like(stored.data), stored.indices, stored.indptr), stored.shape)

    def _ratings(self) -> sp.csr_matrix:
        """Return the interactions with the average of each pair's weights."""
        if self.times_UI is None:
            return self.interactions_UI
        stored = self.interactions_UI
        return sp.csr_matrix((stored.data / self.times_UI.data, stored.indices, stored.indptr), stored.shape)

    def _ready(self) -> Prepared:
        """Return the prepared vectors; computed once per fit or load."""
        if "_prepared" not in self.__dict__:
            measure = "common_cosine" if self.measure == "pearson_baseline" else self.measure
            vectors = self._weighted(self.interactions_UI)
            self._prepared = prepare(vectors, measure=measure, shrinkage=self.shrinkage, min_common=self.min_common)
        return self._prepared

    def _weighted(self, users_items: sp.csr_matrix) -> Vectors:
        """Return the vectors to compare, of the training interactions or of others."""
        if self.measure == "pearson_baseline":
            users_items = self._ratings() if users_items is self.interactions_UI else users_items
            return as_vectors(self._compared(self._deviations(users_items)))
        vectors = as_vectors(self._compared(users_items))
        if self.weighting is None:
            return vectors
        learned = vectors if users_items is self.interactions_UI else as_vectors(self._compared(self.interactions_UI))
        return (tfidf if self.weighting == "tfidf" else bm25)(vectors, learned)

    def _deviations(self, users_items: sp.csr_matrix) -> sp.csr_matrix:
        """Return the ratings minus their baselines, keeping every entry."""
        bias_B = _user_biases(users_items, self.mean, self.bias_I).astype(np.float32)
        bias_N = np.repeat(bias_B, np.diff(users_items.indptr)) + self.bias_I[users_items.indices]
        deviations = users_items.copy()
        deviations.data = users_items.data - self.mean - bias_N
        return deviations


def _user_biases(ratings: sp.csr_matrix, mean: float | np.ndarray, bias_I: np.ndarray) -> np.ndarray:
    """Return each user's mean rating beyond those of the items rated, damped."""
    sizes = np.diff(ratings.indptr)
    users_N = np.repeat(np.arange(len(sizes)), sizes)
    left_N = ratings.data.astype(np.float64) - mean - bias_I[ratings.indices]
    return np.bincount(users_N, left_N, len(sizes)) / (sizes + USER_DAMPING)


def as_vectors(matrix: sp.csr_matrix) -> Vectors:
    """Return the rows of a matrix in the form the kernels take."""
    return Vectors(matrix.indptr, matrix.indices, matrix.data, matrix.shape[1])


def by_item(users_items: sp.csr_matrix) -> sp.csr_matrix:
    """Return the matrix transposed, columns sorted."""
    turned = users_items.T.tocsr()
    turned.sort_indices()
    return turned


def list_matrix(rows_BK: np.ndarray, best_BK: np.ndarray, num_columns: int | None = None) -> sp.csr_matrix:
    """Return lists padded with -1 as a CSR matrix in list order; square if no width is given."""
    found_BK = rows_BK >= 0
    indptr = np.concatenate([[0], np.cumsum(found_BK.sum(axis=1))])
    shape = (len(rows_BK), len(rows_BK) if num_columns is None else num_columns)
    return sp.csr_matrix((best_BK[found_BK], rows_BK[found_BK], indptr), shape=shape)


def _padded_lists(matrix: sp.csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Invert `list_matrix`."""
    sizes = np.diff(matrix.indptr)
    rows_RK = np.full((len(sizes), k), -1, np.int32)
    best_RK = np.full((len(sizes), k), -np.inf, np.float32)
    found_RK = np.arange(k) < sizes[:, None]
    rows_RK[found_RK], best_RK[found_RK] = matrix.indices, matrix.data
    return rows_RK, best_RK


def stored_scores(neighbors: sp.csr_matrix, rows_B: np.ndarray) -> np.ndarray:
    """Return float32 [B, R] similarities to the stored neighbors of some rows; -inf for all others."""
    lists = neighbors[rows_B]
    scores_BR = np.full(lists.shape, -np.inf, np.float32)
    scores_BR[np.repeat(np.arange(len(rows_B)), np.diff(lists.indptr)), lists.indices] = lists.data
    return scores_BR
