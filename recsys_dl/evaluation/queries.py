"""A ranker on grouped documents becomes figures over queries, with intervals and conventions."""

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
    """Return how well a fitted ranker orders the documents of each query; a document is relevant if its label is above 0.

    Args:
        ranker: with `score_groups` and `gains`, which say what a grade is worth in NDCG.
        groups: what it is judged on.
        k: length or lengths of list; a query may have fewer documents.
        metrics: of `metrics.ranking`.
        blank_queries: what queries without a relevant document count as: "left_out", "zero", "one".
        confidence: of the intervals, over queries.
        num_resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: other features than in training, no relevant document, a length below 1, an unknown metric or convention.
    """
    ks = sorted({int(one) for one in np.atleast_1d(k)})
    if not (groups.labels_N > 0).any():
        raise ValueError("evaluation needs a document that is relevant (label above 0), got none")
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
