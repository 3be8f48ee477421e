"""What new arms are expected to earn, from their features and what other arms earned.

A arms, N new arms, F features.
"""

from __future__ import annotations

import numpy as np


def expected_means(
    features_AF: np.ndarray, count_A: np.ndarray, sum_A: np.ndarray, new_NF: np.ndarray, *, regularization: float = 1.0
) -> np.ndarray | None:
    """Return float64 [N]: expected rewards by a ridge regression of the arms' mean rewards, weighted by their counts.

    The intercept is not penalized. Expectations are kept within the means of arms with rewards. None: there are no rewards yet.
    """
    known_A = count_A > 0
    if not known_A.any():
        return None
    weights_A, means_A = count_A[known_A], sum_A[known_A] / count_A[known_A]
    features_AF = features_AF[known_A].astype(np.float64)
    center_F = weights_A @ features_AF / weights_A.sum()
    middle = float(weights_A @ means_A / weights_A.sum())
    centered_AF = features_AF - center_F
    gram_FF = (centered_AF.T * weights_A) @ centered_AF + regularization * np.eye(len(center_F))
    slope_F = np.linalg.solve(gram_FF, (centered_AF.T * weights_A) @ (means_A - middle))
    return np.clip(middle + (new_NF - center_F) @ slope_F, means_A.min(), means_A.max())
