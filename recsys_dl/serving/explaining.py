"""Lists as they are sent, and why each item is in them. K list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.names import with_article
from recsys_dl.protocols import Staged
from recsys_dl.run_requests import NOTHING_LEFT, Requests, flattened
from recsys_dl.runs import Run

from .catalog import finite
from .live import Live

NEIGHBORS = 50  # of an item, among which those that the user liked are looked for
REASONS = 3  # that are given


def adjusted(run: Run, k: int, wanted: Mapping[str, float]) -> Run:
    """Return a run whose pipeline has other settings, for one request.

    Raises:
        ValueError: it has no such setting.
    """
    if not wanted:
        return run
    if not hasattr(run.model, "adjusted"):
        raise ValueError(
            f"{' and '.join(wanted)} {'are settings' if len(wanted) > 1 else 'is a setting'} of a pipeline's re-rankers, and {run.folder} holds "
            f"{with_article(type(run.model).__name__)}; serve a pipeline, such as of recsys-dl train pipeline=three_stage"
        )
    return replace(run, model=run.model.adjusted(k, wanted))


def explanation(
    live: Live, run: Run, requests: Requests, k: int, within: np.ndarray | None, seed: int
) -> dict[str, Any]:
    """Return one list with reasons: of a pipeline, what each stage did; of others, in words where the model has them.

    Every item has `similar_to`: those of the user's items that the model says are most similar to it.
    """
    ranking = run.answer(requests, k, within, request=seed)
    out, stages, notes = pl.DataFrame(), [], []
    if isinstance(ranking, Staged):
        table, out = run.explained_answers(requests.names, [ranking])
        notes = ranking.notes(0)
        for stage in ranking.stages:
            rows = stage.ranking.items_BK[0][:k]
            rows = rows[rows >= 0]
            listed = entries(live, rows, stage.ranking.scores_BK[0, : len(rows)])
            stages.append({"name": stage.name, "kind": stage.kind, "items": listed})
    elif any(callable(getattr(run.model, method, None)) for method in ("reasons", "answered_by")):
        table, _ = run.explained(requests, k, within)
    else:
        flat = flattened(ranking)
        ids = run.items.at(flat.items)
        titles = None if run.titles is None else run.titles.gather(flat.items)
        table = pl.DataFrame({"rank": flat.ranks, "item_id": ids, "title": titles, "score": flat.scores})
    rows_K = run.items.find(table["item_id"]) if len(table) else np.zeros(0, np.int32)
    if not len(table):
        notes = [*notes, NOTHING_LEFT]
    items = sent(live, table)
    for item, near in zip(items, _similar(live, run, requests, rows_K), strict=True):
        item["similar_to"] = near
    return {"items": items, "removed": sent(live, out), "stages": stages, "notes": notes}


def _similar(live: Live, run: Run, requests: Requests, rows_K: np.ndarray) -> list[list[dict[str, Any]]]:
    """Return, for each item, the user's items among its neighbors, nearest first."""
    if requests.rows_B is not None:
        liked = run.seen.by_user[requests.rows_B[0]]
    else:
        assert requests.histories is not None
        liked = requests.histories.by_user[0]
    mine = liked.indices[liked.data > 0]
    if not len(rows_K) or not len(mine):
        return [[] for _ in rows_K]
    near = run.model.similar_items(rows_K, min(NEIGHBORS, len(run.items)))
    found = []
    for neighbors, scores in zip(near.items_BK, near.scores_BK, strict=True):
        kept = np.flatnonzero(np.isin(neighbors, mine))[:REASONS]
        found.append(entries(live, neighbors[kept], scores[kept]))
    return found


def entries(live: Live, rows: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
    """Return items as they are sent."""
    known = live.run.titles
    titles = [None] * len(rows) if known is None else [known[row] for row in rows.tolist()]
    return [
        {"item": item, "title": title, "score": score if np.isfinite(score) else None}
        for item, title, score in zip(live.ids(rows), titles, scores.tolist(), strict=True)
    ]


def sent(live: Live, table: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of an explanation as they are sent."""
    rows = [{name: value for name, value in row.items() if name != "user_id"} for row in table.to_dicts()]
    return [{"item": int(row.pop("item_id")) if live.numbers else row.pop("item_id")} | finite(row) for row in rows]
