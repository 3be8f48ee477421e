"""cuVS's graph on a GPU, through FAISS: for the wheel faiss-gpu-cuvs alone. Never run; see docs/retrieval.md."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_dl.arguments import Links

from .flat import Flat
from .library import faiss_library, out_of_memory
from .vector_index import Measure


class CAGRA(Flat):
    """Graph index of Ootomo et al. 2024 ("CAGRA: Highly Parallel Graph Construction and Approximate Nearest Neighbor Search").

    The vectors are also kept in memory, for items that the graph does not find. A saved index holds only the vectors; the graph is
    rebuilt on loading.

    Args:
        num_links: of a vector.
        measure: "dot" or "cosine".

    Raises:
        ValueError: an argument out of range, or items to add: the graph does not grow.
        RuntimeError: no GPU, or a FAISS without CAGRA.

    Examples:
        >>> from recsys_dl.retrieval import CAGRA
        >>> CAGRA(num_links=32)  # build(vectors) and search(queries, k) need a GPU
        CAGRA(num_links=32, measure='dot'), not built
    """

    exhaustive = False

    def __init__(self, *, num_links: Links = 64, measure: Measure = "dot") -> None:
        super().__init__(measure=measure, device="cuda")
        self.num_links = num_links

    def check(self, num_items: int) -> None:
        """Check that there are a GPU and a FAISS built with cuVS."""
        super().check(num_items)
        if not hasattr(faiss_library(), "GpuIndexCagra"):
            raise RuntimeError("cagra needs a FAISS built with cuVS: pip install 'recsys_dl[cuvs]'")

    def _add(self, emb_ND: np.ndarray, items_N: np.ndarray) -> None:
        raise ValueError("the cagra graph cannot grow: rebuild it with all vectors, or use ivf or hnsw")

    def _place(self) -> None:
        self.check(len(self.item_P))
        self._on_gpu(_Graph(faiss_library(), self._faiss, self.num_links))

    def _parameters(self, faiss: Any, fetch: int, widen: int, selector: dict[str, Any]) -> Any:
        parameters = faiss.SearchParametersCagra()
        parameters.itopk_size = max(64, 32 * -(-fetch * widen // 32))
        return parameters


class _Graph:
    """The graph on the first GPU, where `OnGpu` has a copy."""

    def __init__(self, faiss: Any, vectors: Any, num_links: int) -> None:
        self._resources = faiss.StandardGpuResources()  # must outlive the index
        config = faiss.GpuIndexCagraConfig()
        config.graph_degree = num_links
        config.intermediate_graph_degree = 2 * num_links
        self.index = faiss.GpuIndexCagra(self._resources, vectors.d, faiss.METRIC_INNER_PRODUCT, config)
        try:
            self.index.train(vectors.reconstruct_n(0, vectors.ntotal))
        except RuntimeError as error:
            raise out_of_memory(error) from error
