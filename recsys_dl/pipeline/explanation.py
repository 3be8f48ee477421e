"""Explaining an item's position in a pipeline's answer. B users, K list."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_dl.protocols import Ranking, Reranked, Staged


def explained(answer: Staged, b: int) -> list[dict[str, Any]]:
    """Explain each item of list b, best first.

    Returns:
        For each item: `item` (row), `score`, `found_by` (retrievers, each with its rank: "als 3, item_knn 1"), the rank from 1 after
        each further stage under the stage's name (None if the stage did not choose it), and `moved_by`, the reasons of re-rankers.
    """
    rows = []
    for place in np.flatnonzero(answer.items_BK[b] >= 0):
        item = int(answer.items_BK[b, place])
        found, moved = [], []
        ranks: dict[str, int | None] = {}
        for stage in answer.stages:
            rank = _rank(stage.ranking, b, item)
            if stage.kind == "retriever":
                found += [] if rank is None else [f"{stage.name} {rank}"]
                continue
            ranks[stage.name] = rank
            if isinstance(stage.ranking, Reranked) and rank is not None and stage.ranking.moved_BK[b, rank - 1]:
                reason = stage.ranking.reasons[stage.ranking.moved_BK[b, rank - 1]]
                moved.append(reason if reason.startswith(stage.name) else f"{stage.name}: {reason}")
        score = float(answer.scores_BK[b, place])
        rows.append({"item": item, "score": score, "found_by": ", ".join(found), **ranks, "moved_by": "; ".join(moved)})
    return rows


def taken_out(answer: Staged, b: int) -> list[dict[str, Any]]:
    """Return the items within list b's length that a re-ranker removed.

    Returns:
        For each item: `item` (row), `rank` from 1 before the stage, `stage` and `reason`.
    """
    rows = []
    for before, stage in zip(answer.stages, answer.stages[1:], strict=False):
        if isinstance(stage.ranking, Reranked):
            for at in np.flatnonzero(stage.ranking.dropped_BL[b, : answer.items_BK.shape[1]]):
                reason = stage.ranking.reasons[stage.ranking.dropped_BL[b, at]]
                item = int(before.ranking.items_BK[b, at])
                rows.append({"item": item, "rank": int(at) + 1, "stage": stage.name, "reason": reason})
    return rows


def _rank(ranking: Ranking, b: int, item: int) -> int | None:
    found = np.flatnonzero(ranking.items_BK[b] == item)
    return int(found[0]) + 1 if len(found) else None
