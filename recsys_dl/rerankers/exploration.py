"""Exploration: random items at given positions, with logged propensities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_dl.arguments import Counts, Seed
from recsys_dl.data.dataset import Dataset, seen_of
from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.random import stream_key
from recsys_dl.kernels.rerank.explore import digests, explore
from recsys_dl.protocols import UserState

from .attributes import meets
from .list_reranker import Chosen, ListReranker, RerankBatch, plain


class Exploration(ListReranker):
    """Keeps the candidates' order, but draws random items at some positions, so that logs reveal the value of other items.

    Draws are uniform and without replacement. `Reranked.propensities_BK` holds the probability of each shown item at its
    position: 1 over the size of the pool at an exploring position, 1 elsewhere; over the pool they sum to 1 at each exploring
    position. They are the weights' denominators in inverse propensity weighting (Li et al. 2011, "Unbiased Offline Evaluation of
    Contextual-bandit-based News Article Recommendation Algorithms"). Put this stage last: reordering after it would invalidate
    them. A pool smaller than the number of positions is shown entirely.

    The same user and request get the same draw, in any batch and on any number of threads. A user is identified by row, a new
    one by history.

    Args:
        places: exploring positions, from 1; those beyond k are ignored.
        pool: condition on item features (as in Rules) for items to draw from the catalog, excluding the user's training
            items and items in the list; None draws from the candidates that would not be shown.
        seed: for the draws.

    Attributes:
        pool_P: int32, ascending; empty without a condition.
        had_UI: CSR, users' training items; empty without a condition.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl import Interactions, Ranking
        >>> from recsys_dl.rerankers import Exploration
        >>> candidates = Ranking(np.array([[0, 1, 2, 3]]), np.array([[1.0, 0.9, 0.8, 0.7]]))
        >>> explored = Exploration(places=[2]).prepare(Interactions([0], [0], num_items=4)).rerank([0], candidates, k=2)
        >>> explored.items_BK[:, 0], explored.propensities_BK.round(2)
        (array([0], dtype=int32), array([[1.  , 0.33]]))
    """

    fitted = ("pool_P", "had_UI")
    pool_P: np.ndarray
    had_UI: sp.csr_matrix

    def __init__(self, *, places: Counts, pool: Mapping[str, Any] | None = None, seed: Seed = 0) -> None:
        if len(set(places)) < len(places):
            raise ValueError(f"places must be distinct, got {places!r}")
        self.places = list(places)
        self.pool = plain(pool)
        self.seed = seed

    def _learn(self, train: Dataset | Interactions, item_vectors_ID: np.ndarray | None) -> None:
        by_user = seen_of(train).by_user
        if self.pool is None:
            self.pool_P = np.zeros(0, np.int32)
            self.had_UI = sp.csr_matrix(by_user.shape, dtype=np.int8)
            return
        self.pool_P = np.flatnonzero(meets(train, self.pool, "the pool of exploration")).astype(np.int32)
        if not len(self.pool_P):
            raise ValueError(f"the exploration pool must not be empty, but none of {train.num_items} meets {self.pool}")
        self.had_UI = sp.csr_matrix((np.ones(by_user.nnz, np.int8), by_user.indices, by_user.indptr), by_user.shape)

    def _choose(self, batch: RerankBatch, k: int) -> Chosen:
        if isinstance(batch.users, UserState):
            matrix, rows = batch.users.histories.by_user, np.arange(len(batch.users))
        else:
            matrix, rows = self.had_UI, batch.rows(self.num_users)
        starts_B, ends_B = matrix.indptr[rows].astype(np.int64), matrix.indptr[rows + 1].astype(np.int64)
        seen_H = matrix.indices.astype(np.int32, copy=False)
        if isinstance(batch.users, UserState):
            users_B = digests(starts_B, ends_B, seen_H)
        else:
            users_B = rows.astype(np.uint64)
        shape = (len(rows), k)
        places_BK, outside_BK = np.empty(shape, np.int32), np.empty(shape, np.int32)
        chances_BK, moved_BK = np.empty(shape, np.float64), np.empty(shape, np.int16)
        slots_S = np.array(sorted(place - 1 for place in self.places if place <= k), np.int64)
        drawn_from = (stream_key(self.seed, batch.request), users_B, self.pool_P, starts_B, ends_B, seen_H)
        explore(batch.items_BL, slots_S, *drawn_from, places_BK, outside_BK, chances_BK, moved_BK)
        return Chosen(
            places_BK,
            outside_BK=outside_BK,
            moved_BK=moved_BK,
            reasons=["exploration"],
            propensities_BK=chances_BK,
        )
