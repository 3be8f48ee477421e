"""Notes on an evaluation that its readers must know. I items, U test users."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recsys_dl.fitted_on import fitted_otherwise
from recsys_dl.protocols import Recommender

from .questions import Questions

WORTH_A_NOTE = 0.1  # share of the test items, or of the training pairs


def trained_otherwise(model: Recommender, questions: Questions) -> list[str]:
    """Return a warning for each recommender, the model or one inside it, that was not fitted on the data given as train."""
    known, known_or_left_out, asked = questions.known, questions.left_out, questions.asked
    beside = {one.name: one for one in fitted_otherwise(model, known_or_left_out)}
    notes = []
    for one in fitted_otherwise(model, known):
        more = beside.get(one.name)
        if more is not None and more.may_know(asked, known_or_left_out):
            notes.append(
                f"{one.words()}, and has as many more of every user and item as the test part: it has very likely been fitted on the test "
                "part too, so that its figures are far too high. Fit it on train."
            )
        elif abs(one.trained - one.given) > WORTH_A_NOTE * max(one.trained, one.given) or (
            more is not None and more.num_more > WORTH_A_NOTE * asked.by_user.nnz
        ):
            notes.append(
                f"{one.words()}: pass evaluate() the part that the model was fitted on, then the test part; otherwise figures are too high "
                "or too low."
            )
    return notes


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
