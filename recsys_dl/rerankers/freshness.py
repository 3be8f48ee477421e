"""Freshness: relevance that decays with an item's age."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from typing_extensions import Self

from recsys_dl.arguments import Positive, Share
from recsys_dl.data.dataset import Dataset, as_interactions
from recsys_dl.data.interactions import Interactions

from .attributes import ages, column
from .list_reranker import Chosen, ListReranker, Relevance, RerankBatch, relevance

DAY = 86400.0  # seconds
Unit = Literal["s", "ms", "us", "ns", "year"]


class Freshness(ListReranker):
    """Sorts candidates by relevance * (1 - weight + weight * 2^(-age / half_life)).

    The form is the usual exponential decay (Ding and Li 2005, "Time Weight Collaborative Filtering") on items
    instead of ratings. Ties go to the lower row.

    Args:
        half_life_days: age at which the decay is one half.
        weight: of the decay, in [0, 1]: a very old item keeps 1 - weight of its relevance.
        age_column: column of item features with dates, times or numbers; None uses the item's first interaction in
            training. An item without a time gets the median age of the others; with None, an item without
            interactions is new, with age 0.
        age_unit: of a numeric column: s, ms, us or ns since 1970, or year.
        now: reference time for ages, seconds since 1970; None means the last interaction in training.
        relevance: `min_max`: scores scaled to [0, 1] per list; `scores`: unchanged, which must not be negative.

    Attributes:
        age_I: float64, seconds.
        latest: float64, the time that ages are counted from, seconds since 1970; NaN if prepared by an earlier version.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl import Interactions, Ranking
        >>> from recsys_dl.rerankers import Freshness
        >>> log = Interactions([0, 0, 1], [0, 1, 2], times_N=[0, 60 * 86_400, 90 * 86_400])
        >>> candidates = Ranking(np.array([[0, 1, 2]]), np.array([[1.0, 0.9, 0.8]]))
        >>> Freshness(half_life_days=30, relevance="scores").prepare(log).rerank([0], candidates, k=3).items_BK
        array([[2, 1, 0]], dtype=int32)
    """

    fitted = ("age_I", "latest")
    adjustable: ClassVar[dict[str, str]] = {"freshness": "weight"}
    age_I: np.ndarray
    latest: np.ndarray

    def __init__(
        self,
        *,
        half_life_days: Positive,
        weight: Share = 1.0,
        age_column: str | None = None,
        age_unit: Unit = "s",
        now: float | None = None,
        relevance: Relevance = "min_max",
    ) -> None:
        self.half_life_days = half_life_days
        self.weight = weight
        self.age_column = age_column
        self.age_unit = age_unit
        self.now = now
        self.relevance: Relevance = relevance

    def _learn(self, train: Dataset | Interactions, item_vectors_ID: np.ndarray | None) -> None:
        log = as_interactions(train)
        if (self.now is None or self.age_column is None) and (log.times_N is None or not len(log)):
            raise ValueError(
                "freshness needs interactions with times, or both age_column and now; this log has no times"
            )
        now = float(log.times_N.max() if self.now is None else self.now)  # type: ignore[union-attr]
        if self.age_column is not None:
            age_I = self._by_column(train, now)
        else:
            assert log.times_N is not None
            first_I = np.full(self.num_items, now)
            np.minimum.at(first_I, log.items_N, log.times_N)
            age_I = np.maximum(now - first_I, 0.0)
        self.age_I, self.latest = age_I, np.asarray(now)

    def grow(self, train: Dataset | Interactions, *, item_vectors_ID: np.ndarray | None = None) -> Self:
        """Take in items after those of `prepare`, at the time of that; return self. The log needs no times.

        Raises:
            ValueError: not prepared, or by an earlier version, which did not keep the time.
        """
        self._check_fitted()
        num_items = as_interactions(train).num_items
        if self.age_column is None:
            self.age_I = np.pad(self.age_I, (0, num_items - self.num_items))
        elif np.isfinite(self.latest):
            self.age_I = self._by_column(train, float(self.latest))
        else:
            raise ValueError(
                "this Freshness was prepared by an earlier version, which did not keep the time that ages are counted from: prepare(train)"
            )
        self.num_items = num_items
        return self

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the state that `arrays` returned, in place of `prepare`."""
        super().restore({"latest": np.asarray(np.nan)} | arrays)

    def _by_column(self, train: Dataset | Interactions, now: float) -> np.ndarray:
        """Return float64 [I], the items' ages by `age_column`."""
        assert self.age_column is not None
        age_I = ages(column(train, self.age_column, "freshness"), self.age_unit, now)
        known_I = np.isfinite(age_I)
        if not known_I.any():
            raise ValueError(f"freshness needs times in the column {self.age_column!r}; it has none")
        age_I[~known_I] = np.median(age_I[known_I])
        return age_I

    def _choose(self, batch: RerankBatch, k: int) -> Chosen:
        relevance_BL = relevance(batch, self.relevance)
        there_BL = batch.items_BL >= 0
        if self.relevance == "scores" and (relevance_BL[there_BL] < 0).any():
            raise ValueError(
                f"negative scores would increase as they decay, got {relevance_BL[there_BL].min()}; use relevance=min_max"
            )
        decay_I = 1 - self.weight + self.weight * np.exp2(-self.age_I / (self.half_life_days * DAY))
        fresh_BL = np.where(there_BL, np.where(there_BL, relevance_BL, 0.0) * decay_I[batch.items_BL], -np.inf)
        places_BK = np.lexsort((batch.items_BL, -fresh_BL), axis=-1)[:, :k]
        short = k - places_BK.shape[1]
        places_BK = np.pad(places_BK, ((0, 0), (0, max(short, 0))), constant_values=-1)
        places_BK[np.arange(k) >= there_BL.sum(axis=1)[:, None]] = -1
        return Chosen(places_BK, scores_BL=fresh_BL.astype(np.float32), reasons=["freshness"])
