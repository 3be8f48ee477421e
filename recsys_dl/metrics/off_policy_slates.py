"""Off-policy estimators for slates: K arms are shown together, in positions.

R rounds, K positions, A arms, S logged or drawn slates, P = K A pairs of position and arm (position-major).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .intervals import Sample


def position_ips(rewards_RK: Any, weights_RK: Any) -> Sample:
    """Return the mean over rounds of the sum over positions of weight x reward.

    Unbiased for the sum of a slate's rewards if the reward at a position depends only on the arm there (item-position model: Li
    et al. 2018, "Offline Evaluation of Ranking Policies with Click Models"). Empty positions (NaN in both) count 0.

    Args:
        rewards_RK: of each position; NaN where nothing was shown.
        weights_RK: probability of this arm at this position under the policy over its propensity; NaN likewise.

    Raises:
        ValueError: unequal shapes, negative or infinite weights, a reward that is missing where an arm was shown.

    Examples:
        >>> from recsys_dl.metrics.off_policy_slates import position_ips
        >>> position_ips([[1.0, 0.0], [0.0, 1.0]], [[2.0, 1.0], [1.0, 0.5]]).value
        1.25
    """
    rewards_RK, weights_RK = np.asarray(rewards_RK, np.float64), np.asarray(weights_RK, np.float64)
    if rewards_RK.ndim != 2 or rewards_RK.shape != weights_RK.shape or not len(rewards_RK):
        raise ValueError(
            f"there must be a reward and a weight for each round and position, got {rewards_RK.shape} and {weights_RK.shape}"
        )
    shown_RK = ~np.isnan(weights_RK)
    if (weights_RK[shown_RK] < 0).any() or np.isinf(weights_RK).any() or not np.isfinite(rewards_RK[shown_RK]).all():
        raise ValueError("weights must be at least 0 and finite, and rewards finite wherever an arm was shown")
    return Sample(np.where(shown_RK, weights_RK * rewards_RK, 0.0).sum(axis=1))


def pseudoinverse_weights(slates_RK: Any, policy_KA: Any, pairs_PP: Any) -> np.ndarray:
    """Return float64 [R]: the weight of each round's slate reward in the pseudoinverse estimator.

    Swaminathan, Krishnamurthy, Agarwal, Dudik, Langford, Jose and Zitouni 2017, "Off-policy evaluation for slate recommendation":
    q' G^+ 1_s, with q the policy's probabilities of each arm at each position, G those of pairs under the logging policy, 1_s
    the indicator of the logged slate. `ips(rewards, weights)` is then unbiased if a slate's expected reward is a sum of unknown terms, one
    for each position and the arm there (linearity), which allows rewards of whole slates. Weights may be negative: use
    `intervals.Sample(weights * rewards)`.

    Args:
        slates_RK: arms in [0, A), all positions filled.
        policy_KA: probability of each arm at each position under the policy to be valued; rows sum to 1.
        pairs_PP: symmetric; probability that the logging policy shows arm a at position k and arm b at position j, at
            [k A + a, j A + b]. `uniform_pairs`, `independent_pairs` or `estimated_pairs`.

    Raises:
        ValueError: shapes that do not fit, rows that do not sum to 1, or a policy outside the span of the logged pairs (missing support).

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.off_policy_slates import pseudoinverse_weights, uniform_pairs
        >>> always = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # arm 0 first, arm 1 second
        >>> pseudoinverse_weights([[0, 1], [2, 1]], always, uniform_pairs(3, 2)).round(6)
        array([5., 1.])
    """
    slates_RK, policy_KA, pairs_PP = np.asarray(slates_RK), np.asarray(policy_KA, np.float64), np.asarray(pairs_PP)
    if policy_KA.ndim != 2 or pairs_PP.shape != (policy_KA.size, policy_KA.size):
        raise ValueError(
            f"the pairs must be a matrix of positions x arms on both sides, {policy_KA.size} for a policy of "
            f"{policy_KA.shape}, got {pairs_PP.shape}"
        )
    K, A = policy_KA.shape
    if slates_RK.ndim != 2 or slates_RK.shape[1] != K or slates_RK.dtype.kind not in "iu":
        raise ValueError(f"slates must be integers [rounds, {K}], got {slates_RK.dtype} {slates_RK.shape}")
    if slates_RK.size and not (slates_RK.min() >= 0 and slates_RK.max() < A):
        raise ValueError(
            f"slates must be full, of arms in [0, {A}), got one from {slates_RK.min()} to {slates_RK.max()}"
        )
    if not np.allclose(policy_KA.sum(axis=1), 1, atol=1e-6) or policy_KA.min() < 0:
        raise ValueError("the policy's probabilities must be at least 0 and sum to 1 at each position")
    q_P = policy_KA.ravel()
    solved_P = np.linalg.pinv(pairs_PP, rcond=1e-10, hermitian=True) @ q_P
    left_P = np.abs(pairs_PP @ solved_P - q_P)
    if left_P.max() > 1e-6:
        position, arm = divmod(int(left_P.argmax()), A)
        raise ValueError(
            f"the policy shows arm {arm} at position {position} with probability {q_P[left_P.argmax()]:.3g}, which the logging "
            "policy's slates cannot tell (missing support); value a policy of logged arms"
        )
    return solved_P[np.arange(K) * A + slates_RK].sum(axis=1)


def uniform_pairs(num_arms: int, num_positions: int) -> np.ndarray:
    """Return float64 [P, P]: pairs under slates of distinct arms in uniformly random order.

    Examples:
        >>> from recsys_dl.metrics.off_policy_slates import uniform_pairs
        >>> uniform_pairs(2, 2) * 2
        array([[1., 0., 0., 1.],
               [0., 1., 1., 0.],
               [0., 1., 1., 0.],
               [1., 0., 0., 1.]])
    """
    if not 1 <= num_positions <= num_arms:
        raise ValueError(f"positions must be between 1 and the {num_arms} arms, got {num_positions}")
    same_KK, same_AA = np.eye(num_positions), np.eye(num_arms)
    other = np.kron(1 - same_KK, 1 - same_AA) / (num_arms * max(num_arms - 1, 1))
    return np.kron(same_KK, same_AA) / num_arms + other


def independent_pairs(propensities_KA: Any) -> np.ndarray:
    """Return float64 [P, P]: pairs under a logging policy that draws each position on its own (arms may repeat).

    The weights are then sum over positions of policy / propensity, - K + 1.

    Raises:
        ValueError: what is not a probability of each arm at each position; rows sum to 1.

    Examples:
        >>> from recsys_dl.metrics.off_policy_slates import independent_pairs
        >>> independent_pairs([[0.5, 0.5]])
        array([[0.5, 0. ],
               [0. , 0.5]])
    """
    propensities_KA = np.asarray(propensities_KA, np.float64)
    if propensities_KA.ndim != 2 or not propensities_KA.size:
        raise ValueError(f"propensities must be a table [positions, arms], got {propensities_KA.shape}")
    if not (propensities_KA.min() >= 0 and np.allclose(propensities_KA.sum(axis=1), 1, atol=1e-6)):
        raise ValueError("propensities must be at least 0 and sum to 1 at each position")
    K, A = propensities_KA.shape
    pairs = np.outer(propensities_KA, propensities_KA)
    for k in range(K):
        pairs[k * A : (k + 1) * A, k * A : (k + 1) * A] = np.diag(propensities_KA[k])
    return pairs


def estimated_pairs(slates_SK: Any, num_arms: int) -> np.ndarray:
    """Return float64 [P, P]: pairs as shares of drawn slates, of the logging policy itself (not of the log to be weighted).

    Raises:
        ValueError: no slate, or arms outside [0, num_arms).

    Examples:
        >>> from recsys_dl.metrics.off_policy_slates import estimated_pairs
        >>> estimated_pairs([[0, 1], [1, 0]], 2) * 2
        array([[1., 0., 0., 1.],
               [0., 1., 1., 0.],
               [0., 1., 1., 0.],
               [1., 0., 0., 1.]])
    """
    import scipy.sparse as sp

    slates_SK = np.asarray(slates_SK)
    if slates_SK.ndim != 2 or slates_SK.dtype.kind not in "iu" or not slates_SK.size:
        raise ValueError(
            f"slates must be integers [slates, positions], at least one, got {slates_SK.dtype} {slates_SK.shape}"
        )
    if not (slates_SK.min() >= 0 and slates_SK.max() < num_arms):
        raise ValueError(
            f"slates must be full, of arms in [0, {num_arms}), got one from {slates_SK.min()} to {slates_SK.max()}"
        )
    S, K = slates_SK.shape
    columns = np.arange(K) * num_arms + slates_SK
    shown = sp.csr_matrix((np.ones(S * K), columns.ravel(), np.arange(S + 1) * K), shape=(S, K * num_arms))
    return np.asarray((shown.T @ shown).todense()) / S
