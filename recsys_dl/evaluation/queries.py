"""Evaluating a ranker on grouped documents, over queries, with intervals and conventions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys_dl.data.groups import Groups
from recsys_dl.metrics import ranking
from recsys_dl.metrics.grouped import judge_groups
from recsys_dl.metrics.sampled import TIES

from .scorecard import Evaluation

METRICS = ("ndcg", "map", "mrr", "precision")


def evaluate_queries(
    ranker: Any,
    groups: Groups,
    k: int | Sequence[int] = (1, 3, 5, 10),
    *,
    metrics: Sequence[str] = METRICS,
    blank_queries: ranking.BlankUsers = "left_out",
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a fitted ranker on grouped documents; a document is relevant if its label is above 0.

    Args:
        ranker: with `score_groups`, and `gains` for NDCG.
        groups: test groups.
        k: list length or lengths; a query may have fewer documents.
        metrics: of `metrics.ranking`.
        blank_queries: how queries without a relevant document count: "left_out", "zero", "one".
        confidence: of the intervals, over queries.
        num_resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: different features than in training, no relevant document, a k below 1, an unknown metric or convention.
    """
    ks = sorted({int(one) for one in np.atleast_1d(k)})
    if not (groups.labels_N > 0).any():
        raise ValueError("evaluation needs a relevant document (label above 0), got none")
    longest = max(*ks, int(groups.sizes_Q.max()))
    judged = judge_groups(ranker.score_groups(groups), groups.labels_N, groups.starts_Q, k=longest)
    per_query = ranking.per_user(judged, metrics, ks, gains=ranker.gains, blank_users=blank_queries)
    blank = int((np.add.reduceat(groups.labels_N > 0, groups.starts_Q[:-1]) == 0).sum())
    conventions = {
        "documents": f"{groups.num_documents:,}",
        "queries": len(groups),
        "blank_queries": f"{blank_queries.replace('_', ' ')} ({blank:,})",
        "gains": ranker.gains,
        "ties": TIES,
        "data": groups.content_hash[:16],
    }
    return Evaluation.measured(
        np.arange(len(groups), dtype=np.int32),
        per_query,
        weights={},
        figures={},
        order=[f"{name}@{n}" for name in metrics for n in ks],
        conventions=conventions,
        k=ks,
        confidence=confidence,
        num_resamples=num_resamples,
        seed=seed,
    )
