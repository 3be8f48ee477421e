"""Rejecting scores that are not finite, instead of counting them as misses. B users, I items, K list."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_dl.data.interactions import Interactions
from recsys_dl.protocols import Ranking, Recommender

TRIED = 16  # users whose scores of the whole catalog are checked
PAIRS = 4 << 20  # maximum number of scores checked


def check_finite(
    model: Recommender, users_B: np.ndarray, asked: np.ndarray | Interactions, num_items: int, where: str = "tried"
) -> None:
    """Check the scores of all items for some users.

    Args:
        model: the model.
        users_B: their rows, for the message.
        asked: the users in the form the model takes: rows, or histories to fold in.
        num_items: I.
        where: description of these users, for the message.

    Raises:
        ValueError: some are NaN or infinite (only -inf is allowed, for items the model never recommends).
    """
    if not callable(getattr(model, "score", None)) or not len(users_B):
        return
    chosen = np.linspace(0, len(users_B) - 1, max(1, min(TRIED, len(users_B), PAIRS // num_items))).astype(np.int64)
    some: Any = model.fold_in(asked.of_users(chosen)) if isinstance(asked, Interactions) else asked[chosen]
    scores_BI = model.score(some, np.tile(np.arange(num_items), (len(chosen), 1)))
    bad_BI = np.isnan(scores_BI) | (scores_BI == np.inf)
    if bad_BI.any():
        refuse_scores(model, users_B[chosen][bad_BI.any(axis=1)], len(chosen), where, int(bad_BI.sum()))


def check_lists(
    model: Recommender,
    users_B: np.ndarray,
    asked: np.ndarray | Interactions,
    unwanted: Interactions,
    found: Ranking,
    num_items: int,
) -> None:
    """Check a block's answer: its scores, and if lists are shorter than possible, the scores of all items.

    Raises:
        ValueError: scores that are NaN or infinite.
    """
    there_BK = found.items_BK >= 0
    bad_B = (there_BK & ~np.isfinite(found.scores_BK)).any(axis=1)
    if bad_B.any():
        refuse_scores(
            model, users_B[bad_B], len(users_B), "asked", int((there_BK & ~np.isfinite(found.scores_BK)).sum())
        )
    rows_B = np.arange(len(users_B)) if isinstance(asked, Interactions) else users_B
    possible_B = np.minimum(found.items_BK.shape[1], num_items - unwanted.user_counts_U[rows_B])
    short_B = there_BK.sum(axis=1) < possible_B
    if short_B.any():
        at = np.flatnonzero(short_B)
        mine = asked.of_users(at) if isinstance(asked, Interactions) else asked[at]
        check_finite(model, users_B[at], mine, num_items, f"tried of {len(at):,} whose lists are short")


def refuse_scores(model: Recommender, users: np.ndarray, num: int, where: str, pairs: int) -> None:
    """Raise a ValueError that names the model, the users and the number of scores."""
    raise ValueError(
        f"{type(model).__name__} gives scores that are NaN or infinite, so it cannot be evaluated: {pairs:,} scores of "
        f"{len(users):,} of {num:,} users {where}, the first of them user row {int(users[0])}. Its training may have diverged: "
        "lower its learning_rate, raise its regularization or scale the weights, and fit it again"
    )
