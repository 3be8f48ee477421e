"""Sequential rules: items that often follow a user's recent ones (Kamehkhosh, Jannach, Ludewig 2017)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.arguments import Count, NotNegative
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.families.evidence import without_evidence
from recsys_dl.families.neighborhood import as_vectors, stored_scores
from recsys_dl.families.rows import best_of_rows, rows_of, stored_rows
from recsys_dl.kernels.device import Device
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.neighbors import sparse_product
from recsys_dl.kernels.sequences import followers
from recsys_dl.protocols import Served


class SequentialRules(CatalogModel):
    """score(u, i) = sum over the newest items j of u, at positions r = 1, 2, ... from the end: weight(u, j) / r * rule(j -> i).

    rule(j -> i) = sum over occurrences of i within `window` steps after j of weight / steps, divided by (number of occurrences of j +
    shrinkage). Kamehkhosh, Jannach, Ludewig 2017, "A Comparison of Frequent Pattern Techniques and a Deep Learning Method for
    Session-Based Recommendation", score by the rules of the last item only, which is `history_size=1` without shrinkage.

    Interactions are ordered by time, or by log order without times and among equal times: an unordered log is useless here. A user
    without a history gets the most popular items; an item that follows nothing scores 0. Rules are counted on the CPU.

    Args:
        window: steps ahead that count.
        history_size: number of a user's newest items used for scoring.
        num_followers: followers kept per item.
        shrinkage: in occurrences: rules of an item with n occurrences are multiplied by n / (n + shrinkage).
        device: where scores are computed.

    Attributes:
        recent_UI: CSR float32, weights of each user's newest items, divided by position.
        rules_II: CSR float32, followers of each row's item, strongest first.

    Raises:
        ValueError: a count below 1, or negative shrinkage.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import SequentialRules
        >>> train = Interactions([0, 0, 0, 1], [0, 1, 2, 0], times_N=[10, 20, 30, 10])
        >>> SequentialRules(device="cpu").fit(train).recommend([1], k=2, exclude=train).items_BK
        array([[1, 2]], dtype=int32)
    """

    fitted = ("recent_UI", "rules_II")
    recent_UI: sp.csr_matrix
    rules_II: sp.csr_matrix

    def __init__(
        self,
        *,
        window: Count = 30,
        history_size: Count = 30,
        num_followers: Count = 500,
        shrinkage: NotNegative = 20.0,
        device: Device = "auto",
    ) -> None:
        self.window = window
        self.history_size = history_size
        self.num_followers = num_followers
        self.shrinkage = shrinkage
        self.device = device

    def fit(self, train: Dataset | Interactions) -> Self:
        """Count what follows each item."""
        log = self._begin(train)
        order_N, starts_U1 = log.sequences
        rules = followers(
            log.items_N[order_N],
            log.weights_N[order_N],
            starts_U1,
            self.num_items,
            self.num_followers,
            window=self.window,
            shrinkage=self.shrinkage,
        )
        self.rules_II = sp.csr_matrix((rules[2], rules[1], rules[0]), shape=(self.num_items, self.num_items))
        self.recent_UI = self._fold(log)
        return self

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`."""
        from recsys_dl.families.served import Followers, Recent, item_to_item

        tower = Recent(self.num_items, self.history_size)
        return item_to_item(self, seen, Followers(self.rules_II), tower, pair_floats=self.history_size)

    def _values(self, users_B: np.ndarray) -> sp.csr_matrix:
        return rows_of(self.recent_UI, users_B)

    def _fold(self, histories: Interactions) -> sp.csr_matrix:
        """Return CSR [B, I]: weight / position from the end, summed over occurrences of an item."""
        order_N, starts_B1 = histories.sequences
        users_N = histories.users_N[order_N]
        places_N = starts_B1[users_N + 1] - np.arange(len(order_N))
        near_N = places_N <= self.history_size
        weights_N = (histories.weights_N[order_N] / places_N)[near_N].astype(np.float32)
        cells = (weights_N, (users_N[near_N], histories.items_N[order_N][near_N]))
        return sp.csr_matrix(cells, shape=(histories.num_users, histories.num_items))

    def _influential_items(self) -> np.ndarray:
        return np.diff(self.rules_II.indptr) > 0

    def _without_evidence(self, values: sp.csr_matrix) -> np.ndarray:
        return without_evidence(values, stored_rows(self.rules_II, values.indices))

    def _scores(self, values: sp.csr_matrix) -> np.ndarray:
        return sparse_product(as_vectors(values), as_vectors(self._ascending), device=self.device)

    def _top_k(
        self, values: sp.csr_matrix, k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        return best_of_rows(values, self._ascending, k, exclude, allow, device=self.device, dense=super()._top_k)

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        return stored_scores(self.rules_II, items_B)

    @property
    def _ascending(self) -> sp.csr_matrix:
        """The rules with each row's followers in order of items, as sums over spans of items need them.

        While these are kept, the rules themselves are read-only: written in place, they would not be what is answered from.
        """
        arrays = (self.rules_II.data, self.rules_II.indices, self.rules_II.indptr)
        if (
            any(array.flags.writeable for array in arrays)
            or self.__dict__.get("_sorted", (None,))[0] is not self.rules_II
        ):
            for array in arrays:
                array.flags.writeable = False
            self._sorted = (self.rules_II, self.rules_II.sorted_indices())
        return self._sorted[1]
