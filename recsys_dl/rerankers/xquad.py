"""xQuAD: lists that cover each category a user likes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from recsys_dl.kernels.rerank.categories import xquad

from .list_reranker import Chosen, RerankBatch, relevance
from .tastes import Tasteful


class XQuAD(Tasteful):
    """Explicit query aspect diversification, with the categories of items as aspects.

    Each position takes the item i with the largest (1 - weight) relevance + weight * sum over categories c of P(c | user) P(i
    satisfies c) * product over those above it of (1 - P(they satisfy c)): Santos, Macdonald and Ounis 2010, "Exploiting Query
    Reformulations for Web Search Result Diversification", section 3; their lambda is `weight`. P(c | user) is the share
    of c in the user's history; an item of n categories satisfies each with probability 1 / n. Ties go to the lower row.

    Examples:
        >>> import numpy as np, polars as pl
        >>> from recsys_dl import Ranking, read_log
        >>> from recsys_dl.rerankers import XQuAD
        >>> books = pl.DataFrame({"item": ["b1", "b2", "b3", "b4"], "genre": ["crime", "poetry", "crime", "poetry"]})
        >>> log = read_log([("ann", "b1"), ("ann", "b2"), ("bob", "b3"), ("bob", "b4")], item_features=books)
        >>> candidates = Ranking(np.array([[0, 2, 3]]), np.array([[1.0, 0.9, 0.8]]))
        >>> XQuAD(categories="genre", weight=0.9).prepare(log).rerank([0], candidates, k=2).items_BK
        array([[0, 3]], dtype=int32)
    """

    adjustable: ClassVar[dict[str, str]] = {"diversity": "weight"}

    def _choose(self, batch: RerankBatch, k: int) -> Chosen:
        places_BK = np.empty((len(batch.items_BL), k), np.int32)
        relevance_BL = relevance(batch, self.relevance)
        xquad(batch.items_BL, relevance_BL, *self._shares(), self._tastes(batch), float(self.weight), places_BK)
        return Chosen(places_BK, reasons=["xquad"])
