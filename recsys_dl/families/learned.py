"""What a fit must have led to: finite numbers, and scores that differ; and memory that suffices for it.

B users tried, I items.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

import numpy as np
import psutil

from recsys_dl.learning import is_finite, not_finite

log = logging.getLogger(__name__)

TRIED = 16  # users whose scores are looked at
COLLAPSED = 1e-6  # scores below it in size mean nothing
SCORES = 8 << 20  # of them, at most


class Scoring(Protocol):
    """What a model that can be checked has."""

    num_items: int
    user_counts_U: np.ndarray

    def arguments(self) -> dict[str, Any]: ...  # noqa: D102
    def arrays(self) -> dict[str, Any]: ...  # noqa: D102
    def _values(self, users_B: np.ndarray) -> Any: ...
    def _scores(self, values: Any) -> np.ndarray: ...


def check_learned(model: Scoring) -> None:
    """Check what a model has just learned; warn where it has learned nothing to rank by.

    Raises:
        ValueError: numbers, or scores made from them, that are NaN or infinite.
    """
    name = type(model).__name__
    if bad := not_finite(model.arrays()):
        raise ValueError(f"{name} learned numbers that are not finite (in {', '.join(bad[:3])}). {_advice(model)}")
    known = np.flatnonzero(model.user_counts_U)
    size = max(1, min(TRIED, SCORES // model.num_items))
    users_B = known[np.linspace(0, len(known) - 1, min(size, len(known))).astype(np.int64)]
    with np.errstate(all="ignore"):
        scores_BI = model._scores(model._values(users_B))
    if not is_finite(scores_BI):
        bad_B = ~np.isfinite(scores_BI).all(axis=1)
        raise ValueError(
            f"{name} learned scores that are not finite, for {bad_B.sum()} of {len(users_B)} users tried. {_advice(model)}"
        )
    if model.num_items > 1 and len(users_B) and 0 < (most := float(np.abs(scores_BI).max())) < COLLAPSED:
        log.warning(
            "%s learned next to nothing: its largest score is %.1g (%d users tried). Regularization outweighs a log as sparse as this "
            "one; lower it, by a validation metric.",
            name,
            most,
            len(users_B),
        )
    elif model.num_items > 1 and len(users_B) and (np.ptp(scores_BI, axis=1) == 0).all():
        log.warning(
            "%s learned nothing to rank by: each user has one score for all items (%d users tried), so lists are in the order "
            "of the rows. There is too little in the log, its weights are all alike, or regularization outweighs it.",
            name,
            len(users_B),
        )


def _advice(model: Scoring) -> str:
    arguments = model.arguments()
    lower = "Lower learning_rate. " if "learning_rate" in arguments else ""
    higher = "Raise regularization. " if "regularization" in arguments else ""
    return f"{lower}{higher}Weights that are very large or very small should be scaled (weights=scaled or log). Nothing was kept."


def check_memory(name: str, needed: int) -> None:
    """Check that there is so much memory, in bytes.

    Raises:
        MemoryError: there is not.
    """
    free = psutil.virtual_memory().available
    if needed > free:
        raise MemoryError(
            f"{name} needs about {needed:,} bytes of memory to be trained on this log, and {free:,} are free. Lower "
            "embedding_size or the sizes of its layers, or leave out rare users and items (filter=k_core)"
        )
