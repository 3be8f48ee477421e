"""Judging a model's lists with ties averaged. B users in a block, K ranks counted, D ranks examined, I items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from recsys_dl.metrics import ranking
from recsys_dl.protocols import Ranking, Recommender, Staged

DEPTH = 100  # times K: ranks examined for the end of a tie
TOGETHER = 64 << 20  # bytes of such long lists judged at a time, at about 200 per rank

Ask = Callable[[np.ndarray, int], Ranking]  # positions among the test users [B], length of list -> their lists


def accuracy(
    ask: Ask,
    first: Ranking,
    at_B: np.ndarray,
    relevant: sp.csr_matrix,
    metrics: Sequence[str],
    ks: Sequence[int],
    *,
    gains: ranking.Gains,
    blank_users: ranking.BlankUsers,
) -> dict[str, np.ndarray]:
    """Return float64 [B] for each metric at each k, averaged over all orders of ties.

    A tie that continues beyond rank K is resolved with longer lists, of K * DEPTH ranks. Ties beyond that
    count as misses, which underestimates a hit by at most 1 / DEPTH.

    Args:
        ask: called for longer lists.
        first: lists computed already: one longer than K, or of all items, or a pipeline's of K.
        at_B: positions of its users among the test users.
        relevant: CSR [B, I] of grades.
        metrics: of `ranking.METRICS`.
        ks: ascending; K is the last.
        gains: gain of a grade in NDCG.
        blank_users: how users without a relevant item count.
    """
    k, num_items = ks[-1], relevant.shape[1]
    known, deep = with_ties(first, k, num_items), np.zeros(0, np.int64)
    if not isinstance(first, Staged) and known.items_BK.shape[1] > k:
        goes_on_B = (known.items_BK[:, k] >= 0) & (known.scores_BK[:, k] == known.scores_BK[:, k - 1])
        deep = np.flatnonzero(goes_on_B)
    length = min(k * DEPTH + 1, num_items)
    size = max(1, TOGETHER // (200 * length))
    rest = np.setdiff1d(np.arange(len(at_B)), deep)
    columns: dict[str, np.ndarray] = {}
    for some in [rest, *(deep[start : start + size] for start in range(0, len(deep), size))]:
        if some is rest:
            lists = Ranking(known.items_BK[rest], known.scores_BK[rest])
        else:
            lists = _closed(ask(at_B[some], length), k, num_items)
        judged = replace(ranking.judge(lists.items_BK, relevant[some], lists.scores_BK), ranks=k)
        for name, values in ranking.per_user(judged, metrics, ks, gains=gains, blank_users=blank_users).items():
            columns.setdefault(name, np.empty(len(at_B)))[some] = values
    return columns


def with_ties(answer: Ranking, k: int, num_items: int) -> Ranking:
    """Return lists in which equal scores mean a tie, extended beyond the answer if possible.

    A re-ranker's order is by position, regardless of scores; earlier stages may leave ties, and keep more
    items than the answer.
    """
    if not isinstance(answer, Staged):
        return answer
    last = answer.stages[-1]
    if last.kind == "reranker":
        places_BK = np.broadcast_to(-np.arange(answer.items_BK.shape[1], dtype=np.float32), answer.items_BK.shape)
        return Ranking(answer.items_BK, places_BK)
    return last.ranking if last.kind == "ranker" else _closed(last.ranking, k, num_items)


def rows_of(answer: Ranking, chosen: np.ndarray) -> Ranking:
    """Return some lists of an answer; of a pipeline's with its last stage, which says what is tied."""
    part = Ranking(answer.items_BK[chosen], answer.scores_BK[chosen])
    if not isinstance(answer, Staged):
        return part
    last = replace(answer.stages[-1], ranking=rows_of(answer.stages[-1].ranking, chosen))
    return Staged(part.items_BK, part.scores_BK, (last,), np.zeros((0, 2), np.int32), ())


def reach(model: Recommender, k: int, num_items: int) -> int:
    """Return the length of list to ask for: one more item shows whether a tie continues; a pipeline's lists depend on their length, so its stages are used instead."""
    return k if getattr(model, "staged", False) else min(k + 1, num_items)


def _closed(lists: Ranking, k: int, num_items: int) -> Ranking:
    """Remove items tied with both rank K and the last rank, whose tie may continue beyond the list."""
    items_BD, scores_BD = lists.items_BK, lists.scores_BK
    if not k < items_BD.shape[1] < num_items:
        return lists
    endless_B = (items_BD[:, -1] >= 0) & (scores_BD[:, -1] == scores_BD[:, k - 1])
    missed_BD = endless_B[:, None] & (scores_BD == scores_BD[:, k - 1 : k])
    return Ranking(np.where(missed_BD, -1, items_BD), scores_BD)


def orders_nothing(answer: Ranking, k: int) -> np.ndarray:
    """Return bool [B]: lists of two or more items with equal scores."""
    if isinstance(answer, Staged):
        scored = [stage.ranking for stage in answer.stages if stage.kind != "reranker"]
        if not scored:
            return np.zeros(len(answer), bool)
        answer = scored[-1]
    there_BK = answer.items_BK[:, :k] >= 0
    scores_BK = answer.scores_BK[:, :k]
    return (there_BK.sum(axis=1) > 1) & (~there_BK | (scores_BK == scores_BK[:, :1])).all(axis=1)
