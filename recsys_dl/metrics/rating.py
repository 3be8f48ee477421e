"""Rating prediction errors. P pairs."""

from __future__ import annotations

import numpy as np


def rmse(predicted_P: np.ndarray, ratings_P: np.ndarray) -> float:
    """Return the root of the mean squared error, in the unit of the ratings.

    Examples:
        >>> from recsys_dl.metrics.rating import rmse
        >>> round(rmse([4.0, 2.0], [5.0, 2.0]), 3)
        0.707
    """
    return float(np.sqrt(np.mean(errors(predicted_P, ratings_P) ** 2)))


def mae(predicted_P: np.ndarray, ratings_P: np.ndarray) -> float:
    """Return the mean absolute error, in the unit of the ratings.

    Examples:
        >>> from recsys_dl.metrics.rating import mae
        >>> mae([4.0, 2.0], [5.0, 2.0])
        0.5
    """
    return float(np.mean(np.abs(errors(predicted_P, ratings_P))))


def errors_per_user(
    predicted_P: np.ndarray, ratings_P: np.ndarray, owner_P: np.ndarray, num_users: int
) -> dict[str, np.ndarray]:
    """Return "rmse" and "mae" of each user, float64 [num_users], NaN for a user without a pair.

    The overall figure is the mean of users' squared (absolute) errors weighted by their number of pairs: users with many
    pairs count more, as in `rmse` and `mae`.

    Args:
        predicted_P: predictions.
        ratings_P: true ratings.
        owner_P: the user of each pair, in [0, num_users).
        num_users: length of the result.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.rating import errors_per_user
        >>> errors_per_user([4.0, 2.0, 3.0], [5.0, 2.0, 3.0], np.array([0, 0, 1]), num_users=2)["mae"]
        array([0.5, 0. ])
    """
    errors_P = errors(predicted_P, ratings_P)
    counts = np.bincount(owner_P, minlength=num_users).astype(np.float64)
    counts[counts == 0] = np.nan
    squared = np.bincount(owner_P, weights=errors_P**2, minlength=num_users)
    absolute = np.bincount(owner_P, weights=np.abs(errors_P), minlength=num_users)
    return {"rmse": np.sqrt(squared / counts), "mae": absolute / counts}


def errors(predicted_P: np.ndarray, ratings_P: np.ndarray) -> np.ndarray:
    """Return float64 [P]: predictions minus ratings.

    Raises:
        ValueError: not one prediction per rating, or none at all.

    Examples:
        >>> from recsys_dl.metrics.rating import errors
        >>> errors([4.0, 2.0], [5.0, 2.0])
        array([-1.,  0.])
    """
    predicted_P, ratings_P = np.asarray(predicted_P, np.float64), np.asarray(ratings_P, np.float64)
    if predicted_P.shape != ratings_P.shape or predicted_P.ndim != 1:
        raise ValueError(
            f"there must be one prediction for each rating, got shapes {predicted_P.shape} and {ratings_P.shape}"
        )
    if not len(ratings_P):
        raise ValueError("the error of predictions needs at least one rating, got none")
    return predicted_P - ratings_P
