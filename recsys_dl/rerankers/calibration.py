"""Calibration: lists that match a user's category proportions."""

from __future__ import annotations

import numpy as np

from recsys_dl.arguments import OpenShare, Share
from recsys_dl.kernels.rerank.categories import calibrated

from .list_reranker import Chosen, Relevance, RerankBatch, relevance
from .tastes import Tasteful


class Calibration(Tasteful):
    """Each position takes the item with the largest (1 - weight) relevance - weight * KL(p, q) of the list with it, in nats.

    Steck 2018, "Calibrated Recommendations"; his lambda is `weight`. p are the shares of
    categories in the user's history, by weight; q those of the list, with equal weight per position, mixed with a share `smoothing`
    of p. Having no category is a category of its own. Ties go to the lower row.

    Args:
        categories: column of item features; an item of n categories has a share of 1 / n in each.
        weight: of calibration against relevance, in [0, 1]; 0 keeps the order of the scores.
        relevance: `min_max`: scores scaled to [0, 1] per list; `scores`: unchanged.
        smoothing: share of p mixed into q, in (0, 1); keeps the divergence finite.

    Examples:
        >>> import numpy as np, polars as pl
        >>> from recsys_dl import Ranking, read_log
        >>> from recsys_dl.rerankers import Calibration
        >>> books = pl.DataFrame({"item": ["b1", "b2", "b3", "b4"], "genre": ["crime", "poetry", "crime", "poetry"]})
        >>> log = read_log([("ann", "b1"), ("ann", "b2"), ("bob", "b3"), ("bob", "b4")], item_features=books)
        >>> candidates = Ranking(np.array([[0, 2, 3]]), np.array([[1.0, 0.9, 0.8]]))
        >>> Calibration(categories="genre", weight=0.9).prepare(log).rerank([0], candidates, k=2).items_BK
        array([[0, 3]], dtype=int32)
    """

    nothing_counts = True

    def __init__(
        self, *, categories: str, weight: Share = 0.3, relevance: Relevance = "min_max", smoothing: OpenShare = 0.01
    ) -> None:
        super().__init__(categories=categories, weight=weight, relevance=relevance)
        self.smoothing = smoothing

    def _choose(self, batch: RerankBatch, k: int) -> Chosen:
        places_BK = np.empty((len(batch.items_BL), k), np.int32)
        weights = float(self.weight), float(self.smoothing)
        relevance_BL = relevance(batch, self.relevance)
        calibrated(batch.items_BL, relevance_BL, *self._shares(), self._tastes(batch), *weights, places_BK)
        return Chosen(places_BK, reasons=["calibration"])
