"""FAISS's inverted file: vectors in lists around centroids, of which a query visits the nearest few."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_dl.arguments import Count, ShortSeed
from recsys_dl.kernels.device import Device
from recsys_dl.processes import current
from recsys_dl.progress import waiting

from .faiss_index import FaissIndex
from .library import LONGEST_ON_GPU, OnGpu, faiss_library, resolve
from .vector_index import Measure

# Vectors that k-means sees for each centroid: half of what FAISS takes, in half the time, for lists about as good.
POINTS_A_LIST = 128
# Items of a list, where their number is not given: with fewer, FAISS warns of poor centroids.
FEWEST_A_LIST = 39
# Vectors that one of several processes assigns at once: as many as FAISS does, so that its products round alike.
BLOCK = 1 << 16


class IVF(FaissIndex):
    """Inverted file (Jégou, Douze, Schmid 2011, "Product Quantization for Nearest Neighbor Search", section 4) of whole vectors.

    Scores are exact; what is missed lies in lists that were not visited.

    Args:
        num_lists: centroids; None takes 4 sqrt(I), and no more than leave 39 items for each.
        num_probes: lists probed per query; may be changed at any time.
        measure: "dot" or "cosine".
        seed: of the centroids.
        device: where to search; centroids are always learned on the CPU.

    Raises:
        ValueError: an argument out of range; more lists than vectors.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.retrieval import IVF
        >>> vectors = np.random.default_rng(7).normal(size=(100, 8))
        >>> index = IVF(num_lists=2, num_probes=1, measure="cosine", device="cpu").build(vectors)
        >>> index.search(vectors[:1], k=1).items_BK
        array([[0]], dtype=int32)
    """

    lower = "Take ivf_pq with rescore=0, which keeps a code of each vector, or fewer dimensions."
    tunable = ("num_probes",)

    def __init__(
        self,
        *,
        num_lists: Count | None = None,
        num_probes: Count = 16,
        measure: Measure = "dot",
        seed: ShortSeed = 7,
        device: Device = "auto",
    ) -> None:
        self.num_lists = num_lists
        self.num_probes = num_probes
        self.measure: Measure = measure
        self.seed = seed
        self.device = device

    def bytes_needed(self, num_items: int, size: int) -> int:
        """Return the approximate memory, in bytes, of an index of `num_items` vectors of length `size`."""
        return num_items * (4 * size + 25) + 4 * size * self._lists_for(num_items)

    def _lists_for(self, num_items: int) -> int:
        if self.num_lists is None:
            return max(1, min(round(4 * num_items**0.5), num_items // FEWEST_A_LIST))
        return self.num_lists

    def check(self, num_items: int) -> None:
        """Check that FAISS is installed, that the requested GPU is available, and that there are no more lists than items."""
        super().check(num_items)
        resolve(self.device)
        if (num_lists := self._lists_for(num_items)) > max(1, num_items):
            raise ValueError(
                f"num_lists must be at most the {num_items:,} vectors there are, got {num_lists}; null chooses it"
            )

    def _trained(self, emb_ID: np.ndarray) -> Any:
        faiss = faiss_library()
        num_lists = self._lists_for(len(emb_ID))
        index = self._empty(faiss, emb_ID.shape[1], num_lists)
        index.cp.seed = self.seed
        index.cp.min_points_per_centroid = 1  # the number was checked, or is the user's own
        index.cp.max_points_per_centroid = POINTS_A_LIST
        with waiting(f"{type(self).__name__}: {num_lists:,} centroids"):
            index.train(emb_ID)
        index.make_direct_map()  # from an item to its vector
        return index

    def _filled(self, ready_ID: np.ndarray) -> Any:
        """Return the index that one process builds: centroids are learned by the first, vectors assigned and encoded by all, in turns."""
        if (group := current()).size == 1:
            return super()._filled(ready_ID)
        faiss = faiss_library()
        index = faiss.deserialize_index(group.by_first(lambda: faiss.serialize_index(self._trained(ready_ID))))
        in_full = isinstance(index, faiss.IndexIVFFlat)  # a code is the vector, which all processes have
        for start in range(0, len(ready_ID), BLOCK * group.size):
            vectors_ND = ready_ID[start : start + BLOCK * group.size]
            bounds_P1 = np.minimum(np.arange(group.size + 1) * BLOCK, len(vectors_ND))
            own = slice(*bounds_P1[group.rank : group.rank + 2])
            codes = index.sa_encode(vectors_ND[own])
            if in_full:
                lists = group.stacked(codes[:, : index.coarse_code_size()], bounds_P1)
                codes = np.concatenate([lists, vectors_ND.view(np.uint8)], axis=1)
            else:
                codes = group.stacked(codes, bounds_P1)
            index.add_sa_codes(codes)
        return index

    def _empty(self, faiss: Any, size: int, num_lists: int) -> Any:
        """Return an index that is not trained yet."""
        return faiss.IndexIVFFlat(faiss.IndexFlatIP(size), size, num_lists, faiss.METRIC_INNER_PRODUCT)

    def _place(self) -> None:
        if resolve(self.device) == "cuda":
            self._on_gpu(OnGpu(self._faiss))

    def _parameters(self, faiss: Any, fetch: int, widen: int, selector: dict[str, Any]) -> Any:
        probes = min(self.num_probes * widen, self._faiss.nlist, LONGEST_ON_GPU if self._gpu else self._faiss.nlist)
        return faiss.SearchParametersIVF(nprobe=probes, **selector)

    def _faiss_bytes(self) -> int:
        index = self._faiss
        return index.ntotal * (index.code_size + 16) + index.nlist * index.d * 4  # ids and the map from items: 8 each
