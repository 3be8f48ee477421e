"""Item-based nearest neighbors (Sarwar, Karypis, Konstan, Riedl 2001; Deshpande and Karypis 2004)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recsys_dl.data.interactions import Interactions
from recsys_dl.families.evidence import without_evidence
from recsys_dl.families.neighborhood import Neighborhood, as_vectors, by_item, stored_scores
from recsys_dl.families.rows import best_of_rows, rows_of, stored_rows
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.neighbors import sparse_product
from recsys_dl.protocols import Served
from recsys_dl.sizes import LogSize


class ItemKNN(Neighborhood):
    """score(u, i) = sum over the items j in u's history that are neighbors of i of similarity(i, j) * weight(u, j).

    The sum is over the nearest neighbors of the recommended item, not of the history's items, and is not divided by the
    sum of similarities: more support from the history means a higher score (Cremonesi, Koren, Turrin 2010, "Performance of
    Recommender Algorithms on Top-N Recommendation Tasks", section 3.1).

    A user without a history gets the most popular items. An item without neighbors in the history scores 0; an item
    without users always does, and is similar to none.

    Args:
        num_neighbors: most similar items kept per item.
        measure: "cosine" and "jaccard" for implicit feedback; "adjusted_cosine" (ratings minus the user's mean), "pearson" and
            "pearson_baseline" (ratings minus mean + b_u + b_i) for ratings. Formulas: `kernels.similarity`.
        weighting: "tfidf" or "bm25" down-weight users with long histories; None keeps weights unchanged. Formulas:
            `kernels.weighting`. "pearson_baseline" compares deviations and is never weighted.
        shrinkage: in users; a similarity over n common users is multiplied by n / (n + shrinkage).
        min_common: items with fewer common users are not neighbors.
        num_raters: neighbors among a user's rated items that `predict` uses.
        device: where neighbors and scores are computed.

    Attributes:
        interactions_UI: CSR float32, the training interactions.
        neighbors_RR: CSR float32 [I, I], the nearest items of each, best first.
        mean: float32 scalar, of all weights.
        rating_range_2: float32, the lowest and the highest weight in training.
        bias_U: float32, user deviations from the mean.
        bias_I: float32, item deviations from the mean.

    Raises:
        ValueError: an unknown measure or weighting, or a count or shrinkage out of range.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import ItemKNN
        >>> train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
        >>> ItemKNN(device="cpu").fit(train).recommend([0], k=1, exclude=train).items_BK
        array([[2]], dtype=int32)
    """

    def _compared(self, users_items: sp.csr_matrix) -> sp.csr_matrix:
        return by_item(users_items)

    def _rows_and_columns(self, users_P: np.ndarray, items_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return items_P, users_P

    def _num_compared(self, log: LogSize) -> tuple[int, float]:
        return log.num_items, log.pairs_by_user

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`."""
        from recsys_dl.families.served import TOGETHER, Neighbors, item_to_item

        return item_to_item(self, seen, Neighbors(self.neighbors_RR), pair_floats=2 * TOGETHER)

    def _values(self, users_B: np.ndarray) -> sp.csr_matrix:
        return rows_of(self.interactions_UI, users_B)

    def _fold(self, histories: Interactions) -> sp.csr_matrix:
        return histories.by_user

    def _influential_items(self) -> np.ndarray:
        return np.diff(self._supported.indptr) > 0

    def _without_evidence(self, values: sp.csr_matrix) -> np.ndarray:
        return without_evidence(values, stored_rows(self._supported, values.indices))

    def _scores(self, values: sp.csr_matrix) -> np.ndarray:
        return sparse_product(as_vectors(values), as_vectors(self._supported), device=self.device)

    def _top_k(
        self, values: sp.csr_matrix, k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        return best_of_rows(values, self._supported, k, exclude, allow, device=self.device, dense=super()._top_k)

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        return stored_scores(self.neighbors_RR, items_B)

    @property
    def _supported(self) -> sp.csr_matrix:
        """CSR [I, I]: the items that have item j among their neighbors, in row j."""
        if self.__dict__.get("_turned", (None,))[0] is not self.neighbors_RR:
            self._turned = (self.neighbors_RR, by_item(self.neighbors_RR))
        return self._turned[1]
