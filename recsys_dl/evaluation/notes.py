"""What a table of figures cannot show by itself and a reader must know. I items, U test users."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recsys_dl.data.interactions import Interactions
from recsys_dl.protocols import Recommender

WORTH_A_NOTE = 0.1  # share of what is asked for, or of what was learned from


def trained_otherwise(model: Recommender, known: Interactions) -> list[str]:
    """Return a warning where a model was not fitted on what is given as train."""
    counts_U = getattr(model, "user_counts_U", None)
    if counts_U is None:
        return []
    trained, given = int(counts_U.sum()), int(known.user_counts_U.sum())
    if abs(trained - given) <= WORTH_A_NOTE * max(trained, given):
        return []
    return [
        f"{type(model).__name__} was fitted on {trained:,} pairs of users and items, but train holds {given:,}: give evaluate() the "
        "part that the model was fitted on, then the test part; else figures are too high, or too low."
    ]


def mostly_excluded(relevant: sp.csr_matrix, num_excluded: int) -> list[str]:
    """Return a warning where much of what is asked for is left out of the lists."""
    num_relevant = int((relevant.data > 0).sum())
    if num_excluded < WORTH_A_NOTE * num_relevant:
        return []
    return [
        f"{num_excluded:,} of {num_relevant:,} relevant test items are excluded from the lists, since their users have them in train or "
        "exclude: they count as missed, whatever the model is worth. A test part shares no pair with train; a log with repeats is "
        "split without them if it is read with repeats=last."
    ]


def unreachable(model: Recommender, relevant: sp.csr_matrix, unknown_I: np.ndarray, *, shown: bool) -> list[str]:
    """Return a warning where much is asked for that training does not know and of which no list holds any."""
    asked_N = relevant.indices[relevant.data > 0]
    lost = int(unknown_I[asked_N].sum())
    if lost < WORTH_A_NOTE * len(asked_N):
        return []
    return [
        f"{lost:,} of {len(asked_N):,} relevant test items are unknown to training, and {type(model).__name__} "
        + ("found none of them" if shown else "never recommends such an item")
        + ": they count as missed, whatever the model is worth. Models that read item features or texts can reach them "
        "(two_tower, youtube_dnn, of a log with item_features)."
    ]
