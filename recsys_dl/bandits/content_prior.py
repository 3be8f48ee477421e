"""What is expected of new arms, from their features and what is known of other arms.

A arms, N new arms, F features, X numbers that are expected.
"""

from __future__ import annotations

import numpy as np


def expected(
    features_AF: np.ndarray,
    weights_A: np.ndarray,
    targets_AX: np.ndarray,
    new_NF: np.ndarray,
    *,
    regularization: float = 1.0,
) -> np.ndarray | None:
    """Return float64 [N] or [N, X]: what a ridge regression of targets on features expects of new arms.

    Arms count by their weights, such as their number of rewards; those without any are left out. The intercept is not penalized.
    Expectations are kept within the targets. None: no arm has a weight.
    """
    known_A = weights_A > 0
    if not known_A.any():
        return None
    weights_A, targets_AX = weights_A[known_A], targets_AX[known_A]
    features_AF = features_AF[known_A].astype(np.float64)
    center_F = weights_A @ features_AF / weights_A.sum()
    middle_X = weights_A @ targets_AX / weights_A.sum()
    centered_AF = features_AF - center_F
    weighted_FA = centered_AF.T * weights_A
    slope_FX = np.linalg.solve(
        weighted_FA @ centered_AF + regularization * np.eye(len(center_F)), weighted_FA @ (targets_AX - middle_X)
    )
    return np.asarray(np.clip(middle_X + (new_NF - center_F) @ slope_FX, targets_AX.min(0), targets_AX.max(0)))
