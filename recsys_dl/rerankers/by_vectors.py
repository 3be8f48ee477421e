"""The base of diversity re-rankers that compare items by vectors. I items, D vector size."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp

from recsys_dl.arguments import Share
from recsys_dl.data.dataset import Dataset, as_interactions
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.item_content import content_of
from recsys_dl.data.profile_encoder import ProfileEncoder
from recsys_dl.kernels.rerank.diverse import ItemVectors

from .attributes import categories, column
from .list_reranker import ListReranker, Relevance


class Compared(ListReranker):
    """A re-ranker that compares items by the cosine of vectors.

    Args:
        weight: of diversity against relevance, in [0, 1]; 0 keeps the order of the scores.
        compare_by: `users`: cosine of the items' user sets; `vectors`:
            those passed to `prepare`; `content`: the profiles of features, texts and titles that content models compare; else a column of
            item features: its categories. An item without any has similarity 0.
        relevance: `min_max`: scores scaled to [0, 1] per list; `scores`: unchanged.

    Attributes:
        item_vectors_ID: float32, the given vectors, or [I, 0].
        sparse_vectors_IC: CSR, users, categories or terms of each item, or [I, 0].
    """

    fitted = ("item_vectors_ID", "sparse_vectors_IC")
    adjustable: ClassVar[dict[str, str]] = {"diversity": "weight"}
    item_vectors_ID: np.ndarray
    sparse_vectors_IC: sp.csr_matrix

    def __init__(self, *, weight: Share = 0.3, compare_by: str = "users", relevance: Relevance = "min_max") -> None:
        self.weight = weight
        self.compare_by = compare_by
        self.relevance: Relevance = relevance

    def _learn(self, train: Dataset | Interactions, item_vectors_ID: np.ndarray | None) -> None:
        self.item_vectors_ID = np.zeros((self.num_items, 0), np.float32)
        self.sparse_vectors_IC = sp.csr_matrix((self.num_items, 0), dtype=np.float32)
        if self.compare_by == "vectors":
            self.item_vectors_ID = _checked(item_vectors_ID, self.num_items)
        elif self.compare_by == "users":
            seen = as_interactions(train).by_item
            self.sparse_vectors_IC = sp.csr_matrix(
                (np.ones(seen.nnz, np.float32), seen.indices, seen.indptr), seen.shape
            )
        elif self.compare_by == "content":
            content = content_of(train)
            profiles = ProfileEncoder().fit(*content).transform(*content)
            self.item_vectors_ID, self.sparse_vectors_IC = profiles.dense_RE, profiles.terms_RT
        else:
            values = column(train, self.compare_by, f"compare_by={self.compare_by}")
            self.sparse_vectors_IC = categories(values)[0]
        self._measure()

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the state that `arrays` returned, in place of `prepare`."""
        super().restore(arrays)
        self._measure()

    def _measure(self) -> None:
        dense, sparse = self.item_vectors_ID, self.sparse_vectors_IC
        squares_I = np.einsum("id,id->i", dense, dense, dtype=np.float64)
        squares_I += np.asarray(sparse.multiply(sparse).sum(axis=1), np.float64).ravel()
        inverse_I = np.divide(1.0, np.sqrt(squares_I), out=np.zeros(len(squares_I)), where=squares_I > 0)
        indptr, indices = sparse.indptr.astype(np.int64, copy=False), sparse.indices.astype(np.int32, copy=False)
        lowest = 0.0 if dense.min(initial=0) >= 0 and sparse.data.min(initial=0) >= 0 else -1.0
        some = dense if dense.shape[1] else None
        self._vectors = ItemVectors(some, indptr, indices, sparse.data, inverse_I, lowest, sparse.shape[1])


def _checked(vectors_ID: np.ndarray | None, num_items: int) -> np.ndarray:
    if vectors_ID is None:
        raise ValueError('compare_by="vectors" needs prepare(train, item_vectors_ID=...): one row per item')
    vectors_ID = np.ascontiguousarray(vectors_ID, np.float32)
    if vectors_ID.ndim != 2 or len(vectors_ID) != num_items or not vectors_ID.shape[1]:
        raise ValueError(f"item vectors must have shape [{num_items}, D], one row per item, got {vectors_ID.shape}")
    finite_I = np.isfinite(vectors_ID).all(axis=1)
    if not finite_I.all():
        raise ValueError(f"item vectors must be finite; that of item row {int(np.argmin(finite_I))} is not")
    return vectors_ID
