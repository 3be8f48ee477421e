"""Evaluation among sampled items, only for reproducing papers that report it. B rows, L candidates."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from recsys_dl.metrics.sampled import TIES, sampled_ranking_metrics
from recsys_dl.progress import track
from recsys_dl.protocols import Recommender

from .evaluate import blocks, lengths
from .finite import refuse_scores
from .scorecard import Evaluation

CANDIDATES_AT_ONCE = 1 << 20  # scored per call


def evaluate_sampled(
    model: Recommender,
    users_B: np.ndarray,
    items_BL: np.ndarray,
    k: int | Sequence[int] = 10,
    *,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Return hit rate and NDCG of one relevant item among sampled ones (see `metrics.sampled` for their limitations).

    Args:
        model: fitted.
        users_B: user rows; users may repeat.
        items_BL: the relevant item in column 0, the sampled ones after it, -1 at padding. Sampled copies of the
            relevant item are ignored.
        k: ranks counted.
        confidence: of the intervals.
        num_resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: nothing to evaluate, not one row of items for each user, k out of range.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.evaluation import evaluate_sampled
        >>> from recsys_dl.models import Popularity
        >>> model = Popularity().fit(Interactions([0, 1, 2, 2], [0, 0, 1, 0], num_items=3))
        >>> evaluate_sampled(model, [0, 1], [[1, 2], [2, 0]], k=1).values
        {'sampled_hit_rate@1': 0.5, 'sampled_ndcg@1': 0.5}
    """
    users_B, items_BL = np.asarray(users_B), np.asarray(items_BL)
    if not users_B.size or items_BL.ndim != 2 or len(items_BL) != len(users_B):
        raise ValueError(f"items must have one row for each user, got shapes {items_BL.shape} and {users_B.shape}")
    ks = lengths(k, items_BL.shape[1])
    valid_BL = (items_BL >= 0) & ((items_BL != items_BL[:, :1]) | (np.arange(items_BL.shape[1]) == 0))
    parts = []
    for block in track(blocks(len(users_B), max(1, CANDIDATES_AT_ONCE // items_BL.shape[1])), "evaluate, sampled"):
        scores_BL = model.score(users_B[block], items_BL[block])
        bad_BL = valid_BL[block] & (np.isnan(scores_BL) | (scores_BL == np.inf))
        if bad_BL.any():
            refuse_scores(model, users_B[block][bad_BL.any(axis=1)], len(scores_BL), "asked", int(bad_BL.sum()))
        parts.append(sampled_ranking_metrics(scores_BL, ks, valid_BL=valid_BL[block]))
    per_user = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    digest = hashlib.sha256(np.ascontiguousarray(users_B, np.int64).data)
    digest.update(np.ascontiguousarray(items_BL, np.int64).data)
    conventions = {
        "candidates": f"sampled, {items_BL.shape[1] - 1} beside the relevant one",
        "gains": "binary",
        "ties": TIES,
        "users": len(users_B),
        "data": digest.hexdigest()[:16],
    }
    return Evaluation.measured(
        users_B.astype(np.int32),
        per_user,
        weights={},
        figures={},
        order=list(per_user),
        conventions=conventions,
        k=ks,
        confidence=confidence,
        num_resamples=num_resamples,
        seed=seed,
    )
