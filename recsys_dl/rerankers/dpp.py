"""A determinantal point process (DPP): lists of diverse items."""

from __future__ import annotations

import numpy as np

from recsys_dl.kernels.rerank.diverse import dpp

from .by_vectors import Compared
from .list_reranker import Chosen, RerankBatch, relevance


class DPP(Compared):
    """Each position takes the item with the largest (1 - weight) relevance + weight * gain in log det of the list's cosines.

    The greedy maximum of Chen, Zhang and Zhou 2018, "Fast Greedy MAP Inference for Determinantal Point Process to Improve
    Recommendation Diversity", section 5; their theta is 1 - weight. Once no remaining item adds to the span of the list (at
    most D do, and no two with the same vector), the rest follow in order. Ties go to the
    lower row.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl import Interactions, Ranking
        >>> from recsys_dl.rerankers import DPP
        >>> dpp = DPP(weight=0.5).prepare(Interactions([0, 0, 1], [0, 1, 2]))  # items 0 and 1 share their user
        >>> candidates = Ranking(np.array([[0, 1, 2]]), np.array([[1.0, 0.9, 0.8]]))
        >>> dpp.rerank([0], candidates, k=2).items_BK
        array([[0, 2]], dtype=int32)
    """

    def _choose(self, batch: RerankBatch, k: int) -> Chosen:
        items_BL = batch.items_BL
        places_BK = np.empty((len(items_BL), k), np.int32)
        filled_B = dpp(items_BL, relevance(batch, self.relevance), self._vectors, float(self.weight), places_BK)
        moved_BK = ((places_BK != np.arange(k)) & (places_BK >= 0)).astype(np.int16)
        moved_BK[(np.arange(k) >= filled_B[:, None]) & (places_BK >= 0)] = 2
        return Chosen(places_BK, moved_BK=moved_BK, reasons=["dpp", "dpp: no dissimilar item was left"])
