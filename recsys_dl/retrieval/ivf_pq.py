"""FAISS's inverted file with product quantization: a code of a few bytes in place of each vector."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_dl.arguments import Count, CountOrZero, ShortSeed
from recsys_dl.kernels.device import Device

from .ivf import IVF
from .vector_index import Measure

CODES = 256  # of each part of a vector: one byte
DIMENSIONS = 4  # of a part, where the number of parts is not given


class IVFPQ(IVF):
    """Inverted file of codes (Jégou, Douze, Schmid 2011): each part of a vector becomes the nearest of 256 learned ones.

    With `rescore` the vectors are kept in addition to the codes, and the top `rescore` * k by code are scored exactly: better lists
    and exact scores, for 4 bytes a dimension and item. With rescore=0 the index is small and scores are those of the codes.

    Args:
        num_lists: centroids; None takes 4 sqrt(I), and no more than leave 39 items for each.
        num_probes: lists probed per query; may be changed at any time.
        num_subvectors: parts of a vector, and bytes of its code; None takes one for every four dimensions. Vectors whose
            size it does not divide are filled up with zeros.
        rescore: candidates by code for each of the k, scored exactly; 0 keeps no vectors.
        measure: "dot" or "cosine".
        seed: of the centroids.
        device: where to search; centroids and codes are always learned on the CPU.

    Raises:
        ValueError: an argument out of range; more lists than vectors; fewer than 256 vectors to learn the codes from.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.retrieval import IVFPQ
        >>> vectors = np.random.default_rng(7).normal(size=(300, 8))
        >>> IVFPQ(num_lists=2, measure="cosine", device="cpu").build(vectors).search(vectors[:1], k=1).items_BK
        array([[0]], dtype=int32)
    """

    lower = "Take rescore=0, fewer num_subvectors, or fewer dimensions."

    def __init__(
        self,
        *,
        num_lists: Count | None = None,
        num_probes: Count = 16,
        num_subvectors: Count | None = None,
        rescore: CountOrZero = 8,
        measure: Measure = "dot",
        seed: ShortSeed = 7,
        device: Device = "auto",
    ) -> None:
        super().__init__(num_lists=num_lists, num_probes=num_probes, measure=measure, seed=seed, device=device)
        self.num_subvectors = num_subvectors
        self.rescore = rescore

    def bytes_needed(self, num_items: int, size: int) -> int:
        """Return the approximate memory, in bytes, of an index of `num_items` vectors of length `size`."""
        kept = 4 * size if self.rescore else 0
        return num_items * (self._parts(size) + kept + 25) + 4 * size * (self._lists_for(num_items) + CODES)

    @property
    def exact_vectors(self) -> bool:
        """Whether vectors are kept in addition to their codes."""
        return self.rescore > 0

    def _parts(self, size: int) -> int:
        return -(-size // DIMENSIONS) if self.num_subvectors is None else self.num_subvectors

    def _ready(self, emb: np.ndarray) -> np.ndarray:
        short = -emb.shape[1] % self._parts(emb.shape[1])
        return np.pad(emb, ((0, 0), (0, short))) if short else emb

    def check(self, num_items: int) -> None:
        """Check as for IVF, and that there are items to learn the codes from."""
        if num_items < CODES:
            raise ValueError(
                f"ivf_pq learns {CODES} codes and needs as many vectors, got {num_items}; so few are searched quickly by exact"
            )
        super().check(num_items)

    def _empty(self, faiss: Any, size: int, num_lists: int) -> Any:
        coarse = faiss.IndexFlatIP(size)
        index = faiss.IndexIVFPQ(coarse, size, num_lists, self._parts(size), 8, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.seed = self.seed
        index.pq.cp.min_points_per_centroid = 1
        return index

    def _faiss_bytes(self) -> int:
        return super()._faiss_bytes() + CODES * self._faiss.d * 4
