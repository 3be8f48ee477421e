"""What a model can go by: users without evidence, who get its fallback, and items of which nothing is known.

B batch, I items.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_dl.data.interactions import Interactions

log = logging.getLogger(__name__)

WORTH_A_WARNING = 0.1  # share of the items


def num_influential(histories: Interactions, influential_I: np.ndarray) -> np.ndarray:
    """Return int [B]: each history's number of interactions, with a weight above 0, that change the scores."""
    counted_N = influential_I[histories.items_N] & (histories.weights_N > 0)
    return np.bincount(histories.users_N[counted_N], minlength=histories.num_users)


def without_evidence(values: Any, influential_N: np.ndarray | None = None) -> np.ndarray:
    """Return bool [B]: users whose values are all 0, so that a linear model scores every item the same.

    Args:
        values: the input of a model's scores: CSR or dense, one row per user; for others nothing is concluded.
        influential_N: bool, which of the values stored in CSR rows change a score; None: all.
    """
    if sp.issparse(values):
        # abs() of a CSR matrix would sort it in place, and the order of its entries is that of the sums
        said_N = values.data != 0 if influential_N is None else (values.data != 0) & influential_N
        before_N1 = np.zeros(len(said_N) + 1, np.int64)
        np.cumsum(said_N, out=before_N1[1:])
        return before_N1[values.indptr[1:]] == before_N1[values.indptr[:-1]]
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return np.asarray(~values.any(axis=1))
    return np.zeros((values[0] if isinstance(values, tuple) else values).shape[0], bool)


def warn_of_unknown(model: Any, given_B: np.ndarray, blank_B: np.ndarray) -> None:
    """Warn if there are histories that a model cannot go by, and say what their users get."""
    lost = np.flatnonzero(given_B & blank_B)
    if not len(lost):
        return
    whose = (
        "the history holds"
        if len(given_B) == 1
        else f"{len(lost):,} of {len(given_B):,} histories (row {lost[0]}, ...) hold"
    )
    log.warning(
        "%s: %s only items that it learned nothing about, since nobody interacted with them in training, or with others beside "
        "them: %s",
        type(model).__name__,
        whose,
        "the most popular items are recommended" if model.popularity_fallback else "items are ranked by their averages",
    )


def report_never_listed(model: Any) -> None:
    """Log how many items are never recommended because nothing is known of them; a warning if they are many."""
    num, num_items = len(model.never_listed()), model.num_items
    if num:
        log.log(
            logging.WARNING if num >= WORTH_A_WARNING * num_items else logging.INFO,
            "%s: nothing is known of %s of %s items, which have neither interactions in training nor features: they are never "
            "recommended",
            *(type(model).__name__, f"{num:,}", f"{num_items:,}"),
        )
