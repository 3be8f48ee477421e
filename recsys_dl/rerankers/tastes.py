"""Users' tastes as shares of categories. B users requested, U users, I items, C categories."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from recsys_dl.arguments import Share
from recsys_dl.data.dataset import Dataset, as_interactions
from recsys_dl.data.interactions import Interactions
from recsys_dl.protocols import UserState

from .attributes import categories, column, shares, tastes
from .list_reranker import ListReranker, Relevance, RerankBatch


class Tasteful(ListReranker):
    """A re-ranker that uses the category shares of each user's history.

    A user without interactions gets the average taste of all users.

    Args:
        categories: column of item features; an item of n categories has a share of 1 / n in each.
        weight: of the categories against relevance, in [0, 1]; 0 keeps the order of the scores.
        relevance: `min_max`: scores scaled to [0, 1] per list; `scores`: unchanged.

    Attributes:
        shares_IC: CSR, float64.
        taste_UC: CSR, float64: each user's shares.
        everyone_C: float64: shares over all users.
    """

    fitted = ("shares_IC", "taste_UC", "everyone_C")
    nothing_counts: ClassVar[bool] = False  # whether having no category is a category of its own
    shares_IC: sp.csr_matrix
    taste_UC: sp.csr_matrix
    everyone_C: np.ndarray

    def __init__(self, *, categories: str, weight: Share = 0.3, relevance: Relevance = "min_max") -> None:
        self.categories = categories
        self.weight = weight
        self.relevance: Relevance = relevance

    def _learn(self, train: Dataset | Interactions, item_vectors_ID: np.ndarray | None) -> None:
        member_IC = categories(column(train, self.categories, f"categories={self.categories}"))[0]
        if self.nothing_counts:
            without = np.diff(member_IC.indptr) == 0
            member_IC = sp.hstack([member_IC, sp.csr_matrix(without[:, None], dtype=np.float32)], format="csr")
        self.shares_IC = shares(member_IC)
        histories_UI = as_interactions(train).by_user
        self.taste_UC = tastes(histories_UI, self.shares_IC)
        self.everyone_C = tastes(sp.csr_matrix(histories_UI.sum(axis=0)), self.shares_IC).toarray()[0]

    def _tastes(self, batch: RerankBatch) -> np.ndarray:
        """Return float64 [B, C]."""
        if isinstance(batch.users, UserState):
            taste_BC = tastes(batch.users.histories.by_user, self.shares_IC).toarray()
        else:
            taste_BC = self.taste_UC[batch.rows(self.num_users)].toarray()
        taste_BC[taste_BC.sum(axis=1) == 0] = self.everyone_C
        return taste_BC

    def _shares(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.shares_IC.indptr, self.shares_IC.indices, self.shares_IC.data
