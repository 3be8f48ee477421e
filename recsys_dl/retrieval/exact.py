"""Exact search: every permitted item is scored."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_dl.kernels.device import Device, place, resolve
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.topk import top_k_dot

from .scoring import best_permitted
from .vector_index import Measure, VectorIndex, grown


class Exact(VectorIndex):
    """The exact k nearest, in blocks: memory does not grow with queries times items.

    Scores are float32 inner products summed in the order of D, so that a query gets the same answer alone and in a batch; ties
    go to the lower item. On a GPU the vectors stay there between searches.

    Args:
        measure: "dot" or "cosine".
        device: where to search.

    Raises:
        ValueError: another measure.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.retrieval import Exact
        >>> Exact(device="cpu").build(np.eye(3)).search([[0.1, 0.9, 0.5]], k=2).items_BK
        array([[1, 2]], dtype=int32)
    """

    exhaustive = True
    lower = "Take ivf_pq with rescore=0, which keeps a code of each vector, or fewer dimensions."

    def __init__(self, *, measure: Measure = "dot", device: Device = "auto") -> None:
        self.measure: Measure = measure
        self.device = device

    @property
    def item_emb_ID(self) -> np.ndarray:
        """float32 [I, D]; zeros for rows that were never added."""
        return self._table[: self.num_items]

    @property
    def num_bytes(self) -> int:
        """Memory used by the index, in bytes."""
        return self._table.nbytes + self.present_I.nbytes

    def bytes_needed(self, num_items: int, size: int) -> int:
        """Return the approximate memory, in bytes, of an index of `num_items` vectors of length `size`."""
        return num_items * (4 * size + 1)

    def check(self, num_items: int) -> None:
        """Check that the requested GPU is available."""
        resolve(self.device)

    def _build(self, emb_ID: np.ndarray) -> None:
        resolve(self.device)
        self._table = np.array(emb_ID)
        self._placed: tuple[Any, ...] | None = None

    def _add(self, emb_ND: np.ndarray, items_N: np.ndarray) -> None:
        self._table = grown(self._table, int(items_N.max()) + 1)
        self._table[items_N] = emb_ND
        self._placed = None

    def _remove(self, items_N: np.ndarray) -> None:
        self._placed = None

    def _search(
        self, query_BD: np.ndarray, k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if allow is not None and resolve(self.device) == "cpu":
            return best_permitted(query_BD, k, self.vectors, self.present_I, exclude=exclude, allow=allow)
        if self._placed is None:  # an absent item's score is -inf, which is never returned
            absent_I = np.where(self.present_I, 0, -np.inf).astype(np.float32)
            self._placed = place((self.item_emb_ID, absent_I), self.device)
        item_emb_ID, absent_I = self._placed
        return top_k_dot(
            query_BD, item_emb_ID, k, item_bias_I=absent_I, exclude=exclude, allow=allow, device=self.device
        )

    def vectors(self, items_N: np.ndarray) -> np.ndarray:
        """Return float32 [N, D]: the vectors of items."""
        return self._table[items_N]

    def arrays(self) -> dict[str, Any]:
        """Return the arrays of the index, by name."""
        return {"item_emb_ID": self.item_emb_ID, "present_I": self.present_I}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the state that `arrays` returned, in place of `build`."""
        self._build(arrays["item_emb_ID"])
        self._present(arrays["present_I"])
        self.num_items, self.embedding_size = self._table.shape
