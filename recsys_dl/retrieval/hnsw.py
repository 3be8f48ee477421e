"""FAISS's graph: each vector is linked to near ones, and a query walks along the links."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from recsys_dl.arguments import Count, Links
from recsys_dl.processes import current
from recsys_dl.progress import waiting

from .faiss_index import FaissIndex
from .library import faiss_library
from .vector_index import Measure

log = logging.getLogger(__name__)


class HNSW(FaissIndex):
    """Hierarchical navigable small world graph (Malkov, Yashunin 2018), by inner product, on the CPU alone.

    Scores are exact; what is missed was not met on the walk. Vectors of very unlike lengths link badly by inner product, and
    parts of the graph may not be reached at all: the promise of k results is then kept by exact scoring. The graph depends
    on the number of threads that built it.

    Args:
        num_links: of a vector, in each direction ("M"); twice as many at the bottom.
        ef_construction: candidates kept while linking a vector.
        ef_search: candidates kept while walking; may be changed at any time.
        measure: "dot" or "cosine".

    Raises:
        ValueError: an argument out of range.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.retrieval import HNSW
        >>> HNSW().build(np.eye(3)).search([[0.1, 0.9, 0.5]], k=2).items_BK
        array([[1, 2]], dtype=int32)
    """

    lower = "Lower num_links, or take ivf_pq with rescore=0, which keeps a code of each vector."
    tunable = ("ef_search",)

    def __init__(
        self, *, num_links: Links = 32, ef_construction: Count = 80, ef_search: Count = 64, measure: Measure = "dot"
    ) -> None:
        self.num_links = num_links
        self.ef_construction = ef_construction
        self.ef_search = ef_search
        self.measure: Measure = measure

    def bytes_needed(self, num_items: int, size: int) -> int:
        """Return the approximate memory, in bytes, of an index of `num_items` vectors of length `size`."""
        return num_items * (4 * size + 8 * self.num_links + 25)

    def _trained(self, emb_ID: np.ndarray) -> Any:
        faiss = faiss_library()
        index = faiss.IndexHNSWFlat(emb_ID.shape[1], self.num_links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.ef_construction
        return index

    def _filled(self, ready_ID: np.ndarray) -> Any:
        if (group := current()).size == 1:
            return self._linked(ready_ID)
        log.warning(
            "HNSW links each vector to earlier ones, and graphs of parts cannot be merged: the first of %d processes builds it alone; "
            "ivf and ivf_pq are built by all",
            group.size,
        )
        faiss = faiss_library()
        return faiss.deserialize_index(group.by_first(lambda: faiss.serialize_index(self._linked(ready_ID))))

    def _linked(self, ready_ID: np.ndarray) -> Any:
        with waiting(f"HNSW: {len(ready_ID):,} vectors"):
            return super()._filled(ready_ID)

    def _parameters(self, faiss: Any, fetch: int, widen: int, selector: dict[str, Any]) -> Any:
        return faiss.SearchParametersHNSW(efSearch=max(self.ef_search * widen, fetch), **selector)

    def _faiss_bytes(self) -> int:
        graph = self._faiss.hnsw
        links = 4 * (graph.neighbors.size() + graph.levels.size()) + 8 * graph.offsets.size()
        return self._faiss.ntotal * self._faiss.d * 4 + links
