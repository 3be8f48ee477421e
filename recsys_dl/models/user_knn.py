"""User-based nearest neighbors (Herlocker, Konstan, Borchers, Riedl 1999)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recsys_dl.data.interactions import Interactions
from recsys_dl.families.neighborhood import Neighborhood, as_vectors, by_item, list_matrix
from recsys_dl.kernels.neighbors import sparse_product
from recsys_dl.kernels.similarity import nearest
from recsys_dl.sizes import LogSize


class UserKNN(Neighborhood):
    """score(u, i) = sum over the neighbors v of u of similarity(u, v) * weight(v, i).

    A new user is compared with every training user, just as those are with each other. Similar items are the nearest by
    cosine over their users.

    A user without a history gets the most popular items. An item that no neighbor interacted with scores 0; an item without
    users always does, and is similar to none.

    Args:
        num_neighbors: most similar users whose histories are summed.
        measure: "cosine" and "jaccard" for implicit feedback; "adjusted_cosine" (ratings minus the item's mean), "pearson" and
            "pearson_baseline" (ratings minus mean + b_u + b_i) for ratings. Formulas: `kernels.similarity`.
        weighting: "tfidf" or "bm25" down-weight popular items; None keeps weights unchanged. Formulas:
            `kernels.weighting`. "pearson_baseline" compares deviations and is never weighted.
        shrinkage: in items; a similarity over n common items is multiplied by n / (n + shrinkage).
        min_common: users with fewer common items are not neighbors.
        num_raters: neighbors among an item's raters that `predict` uses.
        device: where neighbors and scores are computed.

    Attributes:
        interactions_UI: CSR float32, the training interactions.
        neighbors_RR: CSR float32 [U, U], the nearest users of each, best first.
        mean: float32 scalar, of all weights.
        rating_range_2: float32, the lowest and the highest weight in training.
        bias_U: float32, user deviations from the mean.
        bias_I: float32, item deviations from the mean.

    Raises:
        ValueError: an unknown measure or weighting, or a count or shrinkage out of range.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import UserKNN
        >>> train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
        >>> UserKNN(device="cpu").fit(train).recommend([0], k=1, exclude=train).items_BK
        array([[2]], dtype=int32)
    """

    def _compared(self, users_items: sp.csr_matrix) -> sp.csr_matrix:
        return users_items

    def _rows_and_columns(self, users_P: np.ndarray, items_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return users_P, items_P

    def _num_compared(self, log: LogSize) -> tuple[int, float]:
        return log.num_users, log.pairs_by_item

    def _values(self, users_B: np.ndarray) -> sp.csr_matrix:
        return self.neighbors_RR[users_B]

    def _fold(self, histories: Interactions) -> sp.csr_matrix:
        queries = self._weighted(histories.by_user)
        lists = nearest(self._ready(), self.num_neighbors, queries=queries, device=self.device)
        return list_matrix(*lists, self.num_users)

    def _scores(self, values: sp.csr_matrix) -> np.ndarray:
        return sparse_product(as_vectors(values), as_vectors(self.interactions_UI), device=self.device)

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        norms_I = np.sqrt(np.bincount(self.interactions_UI.indices, self.interactions_UI.data**2, self.num_items))
        histories = by_item(self.interactions_UI[:, items_B])
        cosines_BI = sparse_product(as_vectors(histories), as_vectors(self.interactions_UI), device=self.device)
        cosines_BI /= np.maximum(np.outer(norms_I[items_B], norms_I), 1e-30).astype(np.float32)
        cosines_BI[cosines_BI == 0] = -np.inf
        return cosines_BI
