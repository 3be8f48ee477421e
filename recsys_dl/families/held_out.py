"""Part of the training log held out within a fit, for choices that need interactions which a model did not see."""

from __future__ import annotations

from typing import Literal

import numpy as np

from recsys_dl.data.dataset import Dataset, as_interactions
from recsys_dl.data.interactions import Interactions

HeldOutOrder = Literal["auto", "last", "random"]
Log = Dataset | Interactions


def hold_out(train: Log, share: float, order: HeldOutOrder, seed: int) -> tuple[Log, Log] | None:
    """Return the log without a share of each user's interactions, and those; None if no user has two of them.

    Args:
        train: the log.
        share: of a user's interactions; at least one and not all, of every user with two.
        order: "last" holds out the newest; "random" draws them; "auto" is "last" for a log with times.
        seed: of the draw.

    Raises:
        ValueError: "last" for a log without times.
    """
    log = as_interactions(train)
    if order == "last" and log.times_N is None:
        raise ValueError(
            "holdout=last needs interactions with times, got none; include a time column, or use holdout=random"
        )
    if log.times_N is not None and order != "random":
        key_N = log.times_N
    else:
        key_N = np.random.default_rng(seed).permutation(len(log))
    within_N = np.lexsort((key_N, log.users_N))
    counts_U = np.bincount(log.users_N, minlength=log.num_users)
    held_U = np.where(counts_U >= 2, np.clip(np.rint(share * counts_U), 1, np.maximum(counts_U - 1, 1)), 0)
    ends_U = np.cumsum(counts_U)
    users_N = log.users_N[within_N]
    held_N = np.zeros(len(log), bool)
    held_N[within_N] = np.arange(len(log)) >= ends_U[users_N] - held_U[users_N]
    if not held_N.any():
        return None
    return _only(train, ~held_N), _only(train, held_N)


def _only(train: Log, chosen_N: np.ndarray) -> Log:
    some = as_interactions(train).select(chosen_N)
    return train.with_interactions(some) if isinstance(train, Dataset) else some
