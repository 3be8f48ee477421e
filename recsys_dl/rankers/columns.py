"""Features from retrievers and from the log.

U users, I items, L candidates, B users of a block, C features of a column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from recsys_dl.data.interactions import Interactions

from .column import Block, Column, ItemColumn, Known, UserColumn

DAY = 86_400  # seconds


class _Retrievers(Column):
    """Base of columns from retrievers.

    Args:
        retrievers: their names; None takes all passed to `CandidateFeatures.fit`.
    """

    fitted = ("taken",)
    taken: np.ndarray

    def __init__(self, *, retrievers: Sequence[str] | None = None) -> None:
        self.retrievers = None if retrievers is None else list(retrievers)

    def fit(self, known: Known) -> None:
        """Select the retrievers."""
        taken = known.retrievers if self.retrievers is None else self.retrievers
        if not taken:
            raise ValueError(
                f"{type(self).__name__} needs retrievers, got none; name them here, or in fit(train, retrievers=...)"
            )
        if unknown := [name for name in taken if known.retrievers and name not in known.retrievers]:
            raise ValueError(
                f"{type(self).__name__} must name retrievers among {', '.join(known.retrievers)}, got {unknown[0]!r}"
            )
        self.taken = np.array(taken, np.str_)


class RetrieverScores(_Retrievers):
    """Each retriever's score of the candidate, and whether this retriever returned it (1 or 0).

    If a retriever has no score for it, the retriever's lowest score in the list is used.

    Args:
        retrievers: their names; None takes all passed to `CandidateFeatures.fit`.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.rankers import CandidateFeatures
        >>> from recsys_dl.rankers.columns import RetrieverScores
        >>> features = CandidateFeatures([RetrieverScores(retrievers=["als"])]).fit(Interactions([0, 0], [0, 1]))
        >>> features.compute([0], [[0, 1]], {"als": np.array([[0.2, -np.inf]])})
        array([[[0.2, 1. ],
                [0.2, 0. ]]], dtype=float32)
    """

    def fit(self, known: Known) -> None:
        """Name the features."""
        super().fit(known)
        self.names = tuple(f"{name} {what}" for name in self.taken for what in ("score", "found"))

    def values(self, block: Block) -> np.ndarray:
        """Return scores, and whether the retriever returned the candidate."""
        columns_BLC = np.empty((*block.valid_BL.shape, len(self.names)), np.float32)
        for at, name in enumerate(self.taken.tolist()):
            scores_BL = _of_retriever(name, block.retriever_scores, "scores")
            scored_BL = block.valid_BL & (scores_BL != -np.inf)
            if not np.isfinite(scores_BL, where=scored_BL, out=np.ones_like(scored_BL)).all():
                raise ValueError(f"the scores of {name!r} must be numbers, or -inf for candidates without a score")
            lowest_B1 = scores_BL.min(axis=1, where=scored_BL, initial=np.inf, keepdims=True)
            lowest_B1[lowest_B1 == np.inf] = 0
            columns_BLC[:, :, 2 * at] = np.where(scored_BL, scores_BL, lowest_B1)
            columns_BLC[:, :, 2 * at + 1] = _of_retriever(name, block.retriever_ranks, "ranks") > 0
        return columns_BLC


class RetrieverRanks(_Retrievers):
    """1 / rank of the candidate in the list that each retriever returned; 0 if it is not in it.

    Args:
        retrievers: their names; None takes all passed to `CandidateFeatures.fit`.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.rankers import CandidateFeatures
        >>> from recsys_dl.rankers.columns import RetrieverRanks
        >>> features = CandidateFeatures([RetrieverRanks(retrievers=["als"])]).fit(Interactions([0, 0], [0, 1]))
        >>> features.compute([0], [[0, 1]], {"als": np.array([[0.2, 0.9]])})
        array([[[0.5],
                [1. ]]], dtype=float32)
    """

    def fit(self, known: Known) -> None:
        """Name the features."""
        super().fit(known)
        self.names = tuple(f"{name} 1/rank" for name in self.taken)

    def values(self, block: Block) -> np.ndarray:
        """Return reciprocal ranks."""
        ranks = [_of_retriever(name, block.retriever_ranks, "ranks") for name in self.taken.tolist()]
        ranks_BLC = np.stack(ranks, axis=2).astype(np.float32)
        return np.divide(1, ranks_BLC, out=np.zeros_like(ranks_BLC), where=ranks_BLC > 0)


class ItemPopularity(ItemColumn):
    """ln(1 + users who interacted with the item).

    Args:
        window_days: count only the last days before now; None counts all.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.rankers import CandidateFeatures
        >>> from recsys_dl.rankers.columns import ItemPopularity
        >>> features = CandidateFeatures([ItemPopularity()]).fit(Interactions([0, 1, 1], [0, 0, 1]))
        >>> features.compute([0], [[0, 1]]).round(2)
        array([[[1.1 ],
                [0.69]]], dtype=float32)
    """

    def __init__(self, *, window_days: float | None = None) -> None:
        self.window_days = None if window_days is None else _days(window_days)

    def fit(self, known: Known) -> None:
        """Count."""
        days = self.window_days
        self.names = ("popularity",) if days is None else (f"popularity of {days:g} days",)
        counts_I = known.log.item_counts_I if days is None else _counts(known, self, days, 0)
        self.values_IC = np.log1p(counts_I)[:, None].astype(np.float32)


class PopularityTrend(ItemColumn):
    """ln(1 + users in the last window) - ln(1 + users in the window before): positive if an item is trending.

    Args:
        window_days: length of each of the two windows.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.rankers import CandidateFeatures
        >>> from recsys_dl.rankers.columns import PopularityTrend
        >>> train = Interactions([0, 1, 2], [0, 1, 1], times_N=[0, 40 * 86_400, 50 * 86_400])
        >>> CandidateFeatures([PopularityTrend(window_days=30)]).fit(train).compute([0], [[0, 1]]).round(2)
        array([[[-0.69],
                [ 1.1 ]]], dtype=float32)
    """

    def __init__(self, *, window_days: float = 30) -> None:
        self.window_days = _days(window_days)

    def fit(self, known: Known) -> None:
        """Count both windows."""
        days = self.window_days
        self.names = (f"trend of {days:g} days",)
        now_I, before_I = _counts(known, self, days, 0), _counts(known, self, 2 * days, days)
        self.values_IC = (np.log1p(now_I) - np.log1p(before_I))[:, None].astype(np.float32)


class ItemAge(ItemColumn):
    """ln(1 + days since the item's first interaction), and likewise the last. An item without users is new, with its last before the log.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.rankers import CandidateFeatures
        >>> from recsys_dl.rankers.columns import ItemAge
        >>> train = Interactions([0, 1, 1], [0, 0, 1], times_N=[0, 86_400, 2 * 86_400])
        >>> CandidateFeatures([ItemAge()]).fit(train).compute([0], [[0, 1]]).round(2)
        array([[[1.1 , 0.69],
                [0.  , 0.  ]]], dtype=float32)
    """

    def fit(self, known: Known) -> None:
        """Find first and last times."""
        times_N, now = _times(known, self)
        self.names = ("item age", "item recency")
        first_I = np.full(known.log.num_items, now)
        last_I = np.full(known.log.num_items, times_N.min(initial=now))
        np.minimum.at(first_I, known.log.items_N, times_N)
        np.maximum.at(last_I, known.log.items_N, times_N)
        self.values_IC = np.stack([_log_days(now - first_I), _log_days(now - last_I)], axis=1)

    def _of_new(self) -> np.ndarray:
        return np.array([0, self.values_IC[:, 1].max(initial=0)], np.float32)  # the last before the log


class UserActivity(UserColumn):
    """ln(1 + the user's items), and with times ln(1 + those in the window) and ln(1 + days since the last).

    A new user's history without times counts as just now.

    Args:
        window_days: length of the window.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.rankers import CandidateFeatures
        >>> from recsys_dl.rankers.columns import UserActivity
        >>> features = CandidateFeatures([UserActivity()]).fit(Interactions([0, 0, 1], [0, 1, 1]))
        >>> features.compute([0, 1], [[0], [0]]).round(2)[:, 0]
        array([[1.1 ],
               [0.69]], dtype=float32)
    """

    fitted: ClassVar[tuple[str, ...]] = (*UserColumn.fitted, "oldest")
    oldest: np.ndarray

    def __init__(self, *, window_days: float = 30) -> None:
        self.window_days = _days(window_days)

    def fit(self, known: Known) -> None:
        """Count, and find last times."""
        self.names = ("activity",)
        self.oldest = np.asarray(-1)
        if known.now is not None:
            self.oldest = np.asarray(_times(known, self)[0].min(initial=known.now))
            self.names = ("activity", f"activity of {self.window_days:g} days", "days since the user's last")
        super().fit(known)

    def _of(self, log: Interactions, now: int) -> np.ndarray:
        counts_U = np.log1p(log.user_counts_U).astype(np.float32)
        if len(self.names) == 1:
            return counts_U[:, None]
        times_N = np.full(len(log), now) if log.times_N is None else log.times_N
        recent_U = np.bincount(log.users_N[times_N > now - self.window_days * DAY], minlength=log.num_users)
        last_U = np.full(log.num_users, int(self.oldest))
        np.maximum.at(last_U, log.users_N, times_N)
        return np.stack([counts_U, np.log1p(recent_U).astype(np.float32), _log_days(now - last_U)], axis=1)


def _of_retriever(name: str, given: Mapping[str, np.ndarray], what: str) -> np.ndarray:
    """Return one retriever's values for each candidate, [B, L]."""
    if name not in given:
        raise ValueError(
            f"candidates need the {what} of the retriever {name!r}, got those of {', '.join(given) or 'none'}"
        )
    return given[name]


def _days(days: float) -> float:
    if not days > 0:
        raise ValueError(f"window_days must be above 0, got {days}")
    return days


def _times(known: Known, column: Column) -> tuple[np.ndarray, int]:
    if known.log.times_N is None or known.now is None:
        raise ValueError(
            f"{type(column).__name__} needs interactions with times, got none; include a time column (time=… in read_log, "
            "data.time=…), or use features without times: features=untimed, or remove this column"
        )
    return known.log.times_N, known.now


def _counts(known: Known, column: Column, since_days: float, until_days: float) -> np.ndarray:
    """Return the users of each item from `since_days` to `until_days` before now."""
    times_N, now = _times(known, column)
    chosen = (times_N > now - since_days * DAY) & (times_N <= now - until_days * DAY)
    return known.log.select(chosen).item_counts_I


def _log_days(seconds: np.ndarray) -> np.ndarray:
    return np.log1p(np.maximum(seconds, 0) / DAY).astype(np.float32)
