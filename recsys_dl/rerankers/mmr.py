"""Maximal marginal relevance (MMR): relevant items that differ from those above them."""

from __future__ import annotations

import numpy as np

from recsys_dl.kernels.rerank.diverse import mmr

from .by_vectors import Compared
from .list_reranker import Chosen, RerankBatch, relevance


class MMR(Compared):
    """Each position takes the item with the largest (1 - weight) relevance - weight * largest cosine with those above it.

    Carbonell and Goldstein 1998, "The Use of MMR, Diversity-Based Reranking"; their lambda is 1 - weight. At the
    first position the cosine term is 0. Ties go to the lower row.
    """

    def _choose(self, batch: RerankBatch, k: int) -> Chosen:
        places_BK = np.empty((len(batch.items_BL), k), np.int32)
        mmr(batch.items_BL, relevance(batch, self.relevance), self._vectors, float(self.weight), places_BK)
        return Chosen(places_BK, reasons=["mmr"])
