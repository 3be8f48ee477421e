"""Sanity checks of a fit: finite numbers, scores that differ between items, and enough memory.

B users tried, I items.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

import numpy as np
import psutil

from recsys_dl.data.interactions import Interactions
from recsys_dl.learning import is_finite, not_finite

from .evidence import report_never_listed

log = logging.getLogger(__name__)

TRIED = 16  # users whose scores are checked
COLLAPSED = 1e-6  # scores below this in magnitude are meaningless
BYTES = 24  # that a model takes per interaction, at least, if it reads the whole log
SCORES = 8 << 20  # maximum number of scores checked


class Scoring(Protocol):
    """The interface of a model that can be checked."""

    num_items: int
    sparse_advice: str
    user_counts_U: np.ndarray

    def arguments(self) -> dict[str, Any]: ...  # noqa: D102
    def arrays(self) -> dict[str, Any]: ...  # noqa: D102
    def never_listed(self) -> np.ndarray: ...  # noqa: D102
    def _values(self, users_B: np.ndarray) -> Any: ...
    def _scores(self, values: Any) -> np.ndarray: ...


def check_learned(model: Scoring) -> None:
    """Check a newly fitted model; warn if it has learned nothing useful for ranking.

    Raises:
        ValueError: parameters or scores that are NaN or infinite.
    """
    name = type(model).__name__
    if bad := not_finite(model.arrays()):
        raise ValueError(f"{name} learned parameters that are not finite (in {', '.join(bad[:3])}). {_advice(model)}")
    known = np.flatnonzero(model.user_counts_U)
    size = max(1, min(TRIED, SCORES // model.num_items))
    users_B = known[np.linspace(0, len(known) - 1, min(size, len(known))).astype(np.int64)]
    with np.errstate(all="ignore"):
        scores_BI = model._scores(model._values(users_B))
    listed_I = np.ones(model.num_items, bool)
    listed_I[model.never_listed()] = False
    scores_BI = scores_BI[:, listed_I]
    if not is_finite(scores_BI):
        bad_B = ~np.isfinite(scores_BI).all(axis=1)
        raise ValueError(
            f"{name} learned scores that are not finite, for {bad_B.sum()} of {len(users_B)} users tried. {_advice(model)}"
        )
    report_never_listed(model)
    if scores_BI.shape[1] > 1 and len(users_B) and 0 < (most := float(np.abs(scores_BI).max())) < COLLAPSED:
        log.warning(
            "%s learned almost nothing: its largest score is %.1g (%d users tried). Regularization is too strong for a log this sparse; "
            "lower it%s, using a validation metric.",
            *(name, most, len(users_B), model.sparse_advice),
        )
    elif scores_BI.shape[1] > 1 and len(users_B) and (np.ptp(scores_BI, axis=1) == 0).all():
        log.warning(
            "%s learned nothing useful: each user has the same score for all items (%d users tried), so lists are in row "
            "order. The log is too small, its weights are all equal, or regularization is too strong.",
            name,
            len(users_B),
        )


def _advice(model: Scoring) -> str:
    arguments = model.arguments()
    lower = "Lower learning_rate. " if "learning_rate" in arguments else ""
    higher = "Raise regularization. " if "regularization" in arguments else ""
    return f"{lower}{higher}Weights that are very large or very small should be scaled (weights=scaled or log). The model was not updated."


def check_size(model: Any, log_: Interactions, needed: int) -> None:
    """Check that enough memory is available to fit a model; warn if it reads a log larger than memory as a whole.

    Args:
        model: to be fitted.
        log_: to fit it to.
        needed: bytes besides the log.

    Raises:
        MemoryError: there is not enough.
    """
    name = type(model).__name__
    whole = BYTES * len(log_) if log_.mapped and not model.bounded else 0
    if whole:
        log.warning(
            "%s reads the whole log into memory, about %.1f GB; models that do not are als, bpr, gmf, mlp, neumf and popularity",
            *(name, whole / 1e9),
        )
    check_memory(name, needed + whole)


def check_memory(name: str, needed: int) -> None:
    """Check that enough memory (in bytes) is available.

    Raises:
        MemoryError: there is not enough.
    """
    free = psutil.virtual_memory().available
    if needed > free:
        raise MemoryError(
            f"{name} needs about {needed:,} bytes of memory to be trained on this log, and {free:,} are free. Lower "
            "embedding_size or the sizes of its layers, or filter out rare users and items (filter=k_core)"
        )
