"""The best possible recommendations for a generated log, from its ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys_dl.data.dataset import Dataset, as_interactions, seen_of
from recsys_dl.data.generated import Planted
from recsys_dl.data.interactions import Interactions
from recsys_dl.progress import track
from recsys_dl.protocols import Ranking

BLOCK = 1_000  # users at a time


class Oracle:
    """Ranks by the true probability of the next item; `evaluate` accepts it like a fitted model.

    With one test interaction per user and known items excluded (leave_last_out), no recommender has
    a higher expected hit rate, recall, MRR, MAP or NDCG at any k.

    Args:
        planted: the log's ground truth.
        asked: the evaluated part: recommendations are for the time of each user's first interaction in it. For None, and
            for users not in it, probabilities are averaged over the whole period, without seasons.
    """

    def __init__(self, planted: Planted, asked: Dataset | Interactions | None = None) -> None:
        self.planted = planted
        self.times_U: np.ndarray = np.full(planted.num_users, -1, np.int64)
        if asked is not None:
            log = as_interactions(asked)
            if log.times_N is None:
                raise ValueError("asked must have times, got none")
            latest = np.iinfo(np.int64).max
            self.times_U[:] = latest
            np.minimum.at(self.times_U, log.users_N, log.times_N)
            self.times_U[self.times_U == latest] = -1

    def recommend(
        self, users: np.ndarray | Sequence[int], k: int, *, exclude: Dataset | Interactions | None = None
    ) -> Ranking:
        """Return the k most likely items of each user, without excluded ones; padded with -1 / -inf."""
        rows = np.asarray(users)
        items_BK = np.empty((len(rows), k), np.int32)
        scores_BK = np.empty((len(rows), k), np.float32)
        for start in range(0, len(rows), BLOCK):
            block = slice(start, start + BLOCK)
            scores_BI = self._scores(rows[block], exclude)
            best_BK = np.argpartition(-scores_BI, min(k, scores_BI.shape[1] - 1), axis=1)[:, :k]
            best_BK.sort(axis=1)
            found_BK = np.take_along_axis(scores_BI, best_BK, axis=1)
            order_BK = np.argsort(-found_BK, axis=1, kind="stable")
            scores_BK[block] = np.take_along_axis(found_BK, order_BK, axis=1)
            items_BK[block] = np.where(np.isfinite(scores_BK[block]), np.take_along_axis(best_BK, order_BK, axis=1), -1)
        return Ranking(items_BK, scores_BK)

    def score(self, users: np.ndarray | Sequence[int], items_BL: np.ndarray) -> np.ndarray:
        """Return float32 [B, L]: the probabilities of items; -inf where the item is -1."""
        scores_BL = np.take_along_axis(self._scores(np.asarray(users), None), np.maximum(items_BL, 0), axis=1)
        return np.where(items_BL < 0, -np.inf, scores_BL).astype(np.float32)

    def best_possible(self, test: Dataset | Interactions, known: Dataset | Interactions, k: int) -> dict[str, float]:
        """Return the maximum expected hit rate and NDCG at k for one interaction per user, in closed form.

        Args:
            test: one interaction per user, the next after `known`.
            known: each user's previous interactions, excluded from lists.
            k: length of the lists.

        Raises:
            ValueError: a user with several test interactions.
        """
        users, counts = np.unique(as_interactions(test).users_N, return_counts=True)
        if counts.max(initial=1) > 1:
            raise ValueError(f"test must have one interaction per user, got {counts.max()} of one; use leave_last_out")
        gains_K = 1 / np.log2(np.arange(2, k + 2))
        hits = ndcg = 0.0
        for start in track(range(0, len(users), BLOCK), "best possible"):
            left_BI = np.maximum(self._scores(users[start : start + BLOCK], known), 0)
            left_BI /= left_BI.sum(1, keepdims=True)
            best_BK = -np.sort(np.partition(-left_BI, min(k, left_BI.shape[1]) - 1, axis=1)[:, :k], axis=1)
            hits += best_BK.sum()
            ndcg += (best_BK * gains_K[: best_BK.shape[1]]).sum()
        return {f"hit_rate@{k}": float(hits / len(users)), f"ndcg@{k}": float(ndcg / len(users))}

    def _scores(self, rows: np.ndarray, exclude: Any) -> np.ndarray:
        """Return float64 [B, I]; -inf where an item is excluded."""
        timed_B = self.times_U[rows] >= 0
        scores_BI = np.empty((len(rows), self.planted.num_items))
        scores_BI[timed_B] = self.planted.probabilities(rows[timed_B], self.times_U[rows[timed_B]])
        if not timed_B.all():
            scores_BI[~timed_B] = self.planted.probabilities(rows[~timed_B])
        if exclude is not None:
            mine = seen_of(exclude).by_user[rows]
            scores_BI[np.repeat(np.arange(len(rows)), np.diff(mine.indptr)), mine.indices] = -np.inf
        return scores_BI
