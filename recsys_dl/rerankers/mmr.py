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

    Examples:
        >>> import numpy as np
        >>> from recsys_dl import Interactions, Ranking
        >>> from recsys_dl.rerankers import MMR
        >>> mmr = MMR(weight=0.5).prepare(Interactions([0, 0, 1], [0, 1, 2]))  # items 0 and 1 share their user
        >>> candidates = Ranking(np.array([[0, 1, 2]]), np.array([[1.0, 0.9, 0.8]]))
        >>> mmr.rerank([0], candidates, k=2).items_BK
        array([[0, 2]], dtype=int32)
    """

    def _choose(self, batch: RerankBatch, k: int) -> Chosen:
        places_BK = np.empty((len(batch.items_BL), k), np.int32)
        mmr(batch.items_BL, relevance(batch, self.relevance), self._vectors, float(self.weight), places_BK)
        return Chosen(places_BK, reasons=["mmr"])
