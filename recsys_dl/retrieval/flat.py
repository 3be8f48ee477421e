"""FAISS without a shortcut: every vector is compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_dl.kernels.device import Device

from .faiss_index import FaissIndex
from .library import OnGpu, faiss_library, resolve
from .vector_index import Measure


class Flat(FaissIndex):
    """Exact search by FAISS: BLAS products, so a query alone is answered sooner than by `Exact`.

    Args:
        measure: "dot" or "cosine".
        device: where to search.

    Raises:
        ValueError: another measure.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.retrieval import Flat
        >>> Flat(device="cpu").build(np.eye(3)).search([[0.1, 0.9, 0.5]], k=2).items_BK
        array([[1, 2]], dtype=int32)
    """

    exhaustive = True
    lower = "Take ivf_pq with rescore=0, which keeps a code of each vector, or fewer dimensions."
    share = 2.0  # any number of candidates costs about the same

    def __init__(self, *, measure: Measure = "dot", device: Device = "auto") -> None:
        self.measure: Measure = measure
        self.device = device

    def bytes_needed(self, num_items: int, size: int) -> int:
        """Return the approximate memory, in bytes, of an index of `num_items` vectors of length `size`."""
        return num_items * (4 * size + 9)

    def check(self, num_items: int) -> None:
        """Check that FAISS is installed, and that the requested GPU is available."""
        super().check(num_items)
        resolve(self.device)

    def _trained(self, emb_ID: np.ndarray) -> Any:
        return faiss_library().IndexFlatIP(emb_ID.shape[1])

    def _place(self) -> None:
        if resolve(self.device) == "cuda":
            self._on_gpu(OnGpu(self._faiss))

    def _parameters(self, faiss: Any, fetch: int, widen: int, selector: dict[str, Any]) -> Any:
        return faiss.SearchParameters(**selector) if selector else None

    def _faiss_bytes(self) -> int:
        return self._faiss.ntotal * self._faiss.d * 4
