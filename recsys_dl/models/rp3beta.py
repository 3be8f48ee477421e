"""Three-step random walks on the user-item graph (Paudel, Christoffel, Newell, Bernstein 2017)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.arguments import Count, NotNegative
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.families.evidence import without_evidence
from recsys_dl.families.neighborhood import ROWS_AT_ONCE, as_vectors, by_item, list_matrix, stored_scores
from recsys_dl.families.rows import best_of_rows, rows_of, stored_rows
from recsys_dl.kernels.device import Device
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.neighbors import sparse_product
from recsys_dl.kernels.similarity import nearest
from recsys_dl.kernels.vectors import prepare
from recsys_dl.progress import track
from recsys_dl.protocols import Served


class RP3beta(CatalogModel):
    """score(u, i) = sum over j, v of (p_uj p_jv p_vi)^alpha / popularity_i^beta: walks user -> item -> user -> item.

    p_uj is the weight of j in u's history over the sum of that history, p_jv that of v among the users of j; popularity is an
    item's sum of weights. Paudel et al. 2017, "Updatable, Accurate, Diverse, and Scalable Recommendations for Interactive
    Applications", section 3.3 (RP3beta), with the exponent of Cooper et al. 2014 (P3alpha). For each item i, the
    `num_neighbors` source items with the largest walk weights are kept.

    A user without a history gets the most popular items. An item that no walk reaches scores 0; an item without users
    always does, and is similar to none.

    Args:
        num_neighbors: items kept per item.
        alpha: exponent of transition probabilities; values below 1 flatten them.
        beta: exponent of the popularity discount; 0 means no discount.
        device: where walks and scores are computed.

    Attributes:
        histories_UI: CSR float32, p_ui^alpha.
        neighbors_II: CSR float32, source items of walks to each item, largest weight first.

    Raises:
        ValueError: num_neighbors below 1, or negative exponents.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import RP3beta
        >>> train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
        >>> RP3beta(device="cpu").fit(train).recommend([0], k=1, exclude=train).items_BK
        array([[2]], dtype=int32)
    """

    fitted = ("histories_UI", "neighbors_II")
    histories_UI: sp.csr_matrix
    neighbors_II: sp.csr_matrix

    def __init__(
        self, *, num_neighbors: Count = 200, alpha: NotNegative = 0.8, beta: NotNegative = 0.4, device: Device = "auto"
    ) -> None:
        self.num_neighbors = num_neighbors
        self.alpha = alpha
        self.beta = beta
        self.device = device

    def fit(self, train: Dataset | Interactions) -> Self:
        """Compute the item-to-item walk weights of each target item."""
        interactions = self._begin(train).by_user
        self.histories_UI = self._fold_matrix(interactions)
        popularity_I = np.bincount(interactions.indices, interactions.data, self.num_items)
        inverse_I = 1 / np.maximum(popularity_I, np.finfo(np.float32).tiny)
        # (x_uj / d_u)^alpha (x_ui / d_j)^alpha factors into one term per item in u's history and one of j alone.
        totals_U = np.bincount(
            np.repeat(np.arange(self.num_users), self.user_counts_U), interactions.data, self.num_users
        )
        halves = interactions.copy()
        halves.data = (interactions.data**self.alpha).astype(np.float32)
        halves.data /= np.repeat(np.sqrt(np.maximum(totals_U, 1e-30) ** self.alpha), self.user_counts_U).astype(
            np.float32
        )
        prepared = prepare(
            as_vectors(by_item(halves)), measure="dot", scale_R=(inverse_I**self.alpha).astype(np.float32)
        )
        parts = []
        for start in track(range(0, self.num_items, ROWS_AT_ONCE), "RP3beta walks"):
            rows = np.arange(start, min(start + ROWS_AT_ONCE, self.num_items))
            parts.append(nearest(prepared, self.num_neighbors, rows=rows, device=self.device))
        rows_IK, best_IK = (np.concatenate(lists) for lists in zip(*parts, strict=True))
        neighbors = list_matrix(rows_IK, best_IK)
        neighbors.data *= np.repeat(inverse_I**self.beta, np.diff(neighbors.indptr)).astype(np.float32)
        self.neighbors_II = neighbors
        return self

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`."""
        from recsys_dl.families.served import TOGETHER, History, Neighbors, item_to_item

        tower = History(self.num_items, self.alpha)
        return item_to_item(self, seen, Neighbors(self.neighbors_II), tower, pair_floats=2 * TOGETHER)

    def _values(self, users_B: np.ndarray) -> sp.csr_matrix:
        return rows_of(self.histories_UI, users_B)

    def _fold(self, histories: Interactions) -> sp.csr_matrix:
        return self._fold_matrix(histories.by_user)

    def _influential_items(self) -> np.ndarray:
        return np.diff(self._reached.indptr) > 0

    def _without_evidence(self, values: sp.csr_matrix) -> np.ndarray:
        return without_evidence(values, stored_rows(self._reached, values.indices))

    def _scores(self, values: sp.csr_matrix) -> np.ndarray:
        return sparse_product(as_vectors(values), as_vectors(self._reached), device=self.device)

    def _top_k(
        self, values: sp.csr_matrix, k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        return best_of_rows(values, self._reached, k, exclude, allow, device=self.device, dense=super()._top_k)

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        return stored_scores(self.neighbors_II, items_B)

    def _fold_matrix(self, histories: sp.csr_matrix) -> sp.csr_matrix:
        """Return p_ui^alpha."""
        sizes = np.diff(histories.indptr)
        totals_B = np.bincount(np.repeat(np.arange(len(sizes)), sizes), histories.data, len(sizes))
        steps = histories.copy()
        steps.data = ((histories.data / np.repeat(np.maximum(totals_B, 1e-30), sizes)) ** self.alpha).astype(np.float32)
        return steps

    @property
    def _reached(self) -> sp.csr_matrix:
        """CSR [I, I]: the items reached by walks from item j, in row j."""
        if self.__dict__.get("_turned", (None,))[0] is not self.neighbors_II:
            self._turned = (self.neighbors_II, by_item(self.neighbors_II))
        return self._turned[1]
