"""What users like, from their interactions. B users, I items, N interactions."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recsys_dl.data.interactions import Interactions

DAMPING = 5.0  # ratings of the mean that a user's own mean is drawn toward
DAY = 86_400  # seconds


def preferences(
    histories: Interactions, mean: float, dislikes: float, half_life_days: float | None, *, new: bool = False
) -> sp.csr_matrix:
    """Return CSR float32 [B, I]: each user's weight of an item, negative where disliked (Rocchio 1971).

    The weights of liked items sum to 1, those of disliked ones to `-dislikes`; items of weight 0 are left out.

    Args:
        histories: weights are ratings or counts.
        mean: of all ratings; 0 if weights are no ratings, so that everything is liked.
        dislikes: of the disliked items in all.
        new: users are new, and one whose weights are all 1 gave no ratings: everything is liked.
        half_life_days: days before the user's last interaction after which one counts half; None: all alike.

    Raises:
        ValueError: half_life_days for interactions without times.
    """
    users_N, weights_N = histories.users_N, histories.weights_N.astype(np.float64)
    num_users = histories.num_users
    if half_life_days is None:
        decay_N = np.ones(len(histories))
    else:
        if histories.times_N is None:
            raise ValueError(
                f"half_life_days={half_life_days:g} needs times, and the interactions have none: leave it out"
            )
        times_N = histories.times_N.astype(np.float64)
        last_U = np.full(num_users, -np.inf)
        np.maximum.at(last_U, users_N, times_N)
        decay_N = 0.5 ** ((last_U[users_N] - times_N) / (DAY * half_life_days))
    counts_U = np.bincount(users_N, minlength=num_users)
    center_U = np.zeros(num_users)
    if mean:
        center_U = (np.bincount(users_N, weights_N, num_users) + DAMPING * mean) / (counts_U + DAMPING)
        if new:
            rated_U = np.bincount(users_N, weights_N != 1, num_users) > 0
            center_U[~rated_U] = 0
    above_N = weights_N - center_U[users_N]
    liked_N = np.where(above_N >= 0, weights_N, 0) * decay_N
    disliked_N = np.where(above_N < 0, -above_N, 0) * decay_N
    values_N = _shares(liked_N, users_N, num_users) - dislikes * _shares(disliked_N, users_N, num_users)
    matrix = sp.csr_matrix((values_N, (users_N, histories.items_N)), shape=(num_users, histories.num_items))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix.astype(np.float32)


def _shares(values_N: np.ndarray, users_N: np.ndarray, num_users: int) -> np.ndarray:
    """Return each value's share of its user's sum, 0 of nothing."""
    sums_N = np.bincount(users_N, values_N, num_users)[users_N]
    return np.divide(values_N, sums_N, out=np.zeros(len(values_N)), where=sums_N > 0)
