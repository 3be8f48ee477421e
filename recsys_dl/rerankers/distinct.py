"""De-duplication: show only one of several duplicates."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import polars as pl

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.rerank.candidate_lists import firsts

from .attributes import column
from .list_reranker import Chosen, ListReranker, RerankBatch


class Distinct(ListReranker):
    """Keeps the candidates' order, with only the first of each group.

    Args:
        by: column of item features whose equal values form a group; or `title`: titles with the same words, ignoring
            case, accents, punctuation and order ("Matrix, The (1999)" and "The Matrix (1999)"). An item without a value is
            its own group.

    Attributes:
        group_I: int32.

    Examples:
        >>> import numpy as np, polars as pl
        >>> from recsys_dl import Ranking, read_log
        >>> from recsys_dl.rerankers import Distinct
        >>> films = pl.DataFrame({"item": ["1", "2", "3"], "title": ["The Matrix", "Matrix, The", "Heat"]})
        >>> log = read_log([("ann", "1"), ("ann", "2"), ("bob", "3")], item_features=films)
        >>> candidates = Ranking(np.array([[0, 1, 2]]), np.array([[1.0, 0.9, 0.8]]))
        >>> Distinct(by="title").prepare(log).rerank([0], candidates, k=3).items_BK
        array([[ 0,  2, -1]], dtype=int32)
    """

    fitted = ("group_I",)
    group_I: np.ndarray

    def __init__(self, *, by: str = "title") -> None:
        self.by = by

    def _learn(self, train: Dataset | Interactions, item_vectors_ID: np.ndarray | None) -> None:
        values = column(train, self.by, f"by={self.by}")
        if values.dtype.is_nested():
            raise ValueError(f"by={self.by} must be a column of single values, got {values.dtype}")
        if self.by == "title":
            values = pl.Series([words(title) for title in values], dtype=pl.String)
        group_I = values.rank("dense").fill_null(0).to_numpy().astype(np.int32)
        alone = group_I == 0
        group_I[alone] = group_I.max(initial=0) + 1 + np.arange(alone.sum())
        self.group_I = group_I

    def _choose(self, batch: RerankBatch, k: int) -> Chosen:
        places_BK = np.empty((len(batch.items_BL), k), np.int32)
        dropped_BL = np.empty(batch.items_BL.shape, np.int16)
        firsts(batch.items_BL, self.group_I, places_BK, dropped_BL)
        moved_BK = np.zeros(places_BK.shape, np.int16)
        return Chosen(places_BK, moved_BK=moved_BK, dropped_BL=dropped_BL, reasons=[f"same {self.by}"])


def words(title: str | None) -> str | None:
    """Return a title's words sorted alphabetically, without case and accents; None if there are none."""
    bare = unicodedata.normalize("NFKD", title or "").casefold()
    bare = "".join(char for char in bare if not unicodedata.combining(char))
    return " ".join(sorted(re.findall(r"\w+", bare))) or None
