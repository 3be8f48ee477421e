"""Validating user-item pairs for rating prediction."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_dl.data.requests import check_item_rows
from recsys_dl.protocols import UserState


def rated_pairs(users: Any, items: Any, num_users: int, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of users and of items, both [P]; -1 means unknown.

    Raises:
        ValueError: a fold_in state, lists of unequal length, values that are not rows, or a row out of range.
    """
    if isinstance(users, UserState):
        raise ValueError(
            "predict takes rows of training users (-1 for unknown), not a fold_in state; use score or "
            "recommend for new users"
        )
    users_P, items_P = np.atleast_1d(np.asarray(users)), np.atleast_1d(np.asarray(items))
    if users_P.shape != items_P.shape or users_P.ndim != 1:
        raise ValueError(f"users and items must be two lists of the same length, got {users_P.shape}, {items_P.shape}")
    if users_P.size and not np.issubdtype(users_P.dtype, np.integer):
        raise ValueError(f"user rows must be integers, got {users_P.dtype}; ids become rows through a Vocabulary")
    check_item_rows(items_P, num_items, lowest=-1)
    if users_P.size and not -1 <= users_P.min() <= users_P.max() < num_users:
        bad = users_P[(users_P < -1) | (users_P >= num_users)][0]
        raise ValueError(f"user row {bad} is outside the {num_users} users seen in training; -1 means unknown")
    return users_P, items_P
