"""Maximal marginal relevance: what is relevant, and unlike what stands above."""

from __future__ import annotations

import numpy as np

from recsys_dl.kernels.rerank.diverse import mmr

from .by_vectors import Compared
from .list_reranker import Chosen, RerankBatch, relevance


class MMR(Compared):
    """Each place takes the item with the largest (1 - weight) relevance - weight * largest cosine with those above it.

    Carbonell and Goldstein 1998, "The Use of MMR, Diversity-Based Reranking"; their lambda is 1 - weight. At the
    first place there is nothing to be unlike. Equal items go to the lower row.
    """

    def _choose(self, batch: RerankBatch, k: int) -> Chosen:
        places_BK = np.empty((len(batch.items_BL), k), np.int32)
        mmr(batch.items_BL, relevance(batch, self.relevance), self._vectors, float(self.weight), places_BK)
        return Chosen(places_BK, reasons=["mmr"])
