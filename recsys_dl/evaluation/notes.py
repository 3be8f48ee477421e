"""Notes on an evaluation that its readers must know. I items, U test users."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recsys_dl.data.interactions import Interactions
from recsys_dl.protocols import Recommender

WORTH_A_NOTE = 0.1  # share of the test items, or of the training pairs


def trained_otherwise(model: Recommender, known: Interactions) -> list[str]:
    """Return a warning if a model was not fitted on the data given as train."""
    counts_U = getattr(model, "user_counts_U", None)
    if counts_U is None:
        return []
    trained, given = int(counts_U.sum()), int(known.user_counts_U.sum())
    if abs(trained - given) <= WORTH_A_NOTE * max(trained, given):
        return []
    return [
        f"{type(model).__name__} was fitted on {trained:,} pairs of users and items, but train holds {given:,}: pass evaluate() the "
        "part that the model was fitted on, then the test part; otherwise figures are too high or too low."
    ]


def mostly_excluded(relevant: sp.csr_matrix, num_excluded: int) -> list[str]:
    """Return a warning if many relevant items are excluded from the lists."""
    num_relevant = int((relevant.data > 0).sum())
    if num_excluded < WORTH_A_NOTE * num_relevant:
        return []
    return [
        f"{num_excluded:,} of {num_relevant:,} relevant test items are excluded from the lists, since their users have them in train or "
        "exclude: they count as misses for any model. A test part should share no pair with train; read a log with repetitions "
        "with repeats=last to split it without them."
    ]


def unreachable(model: Recommender, relevant: sp.csr_matrix, unknown_I: np.ndarray, *, shown: bool) -> list[str]:
    """Return a warning if many relevant items are unknown to training and no list contains any of them."""
    asked_N = relevant.indices[relevant.data > 0]
    lost = int(unknown_I[asked_N].sum())
    if lost < WORTH_A_NOTE * len(asked_N):
        return []
    return [
        f"{lost:,} of {len(asked_N):,} relevant test items are unknown to training, and {type(model).__name__} "
        + ("found none of them" if shown else "never recommends such items")
        + ": they count as misses. Models that use item features or texts can reach them "
        "(two_tower, youtube_dnn, of a log with item_features)."
    ]
