"""Tables of a policy's probabilities, from its own log or from its draws. P positions, A arms."""

from __future__ import annotations

import numpy as np

from recsys_dl.arguments import Count, Seed, checked
from recsys_dl.data.feedback import BanditFeedback, as_feedback
from recsys_dl.protocols import Policy, as_policy

from .targets import blocks


def policy_table(feedback: BanditFeedback) -> np.ndarray:
    """Return float64 [A], or [P, A] for a log with positions: the share of each arm in a policy's own log.

    An estimate of a policy that does not look at contexts: what it shows on average, of a policy that does.

    Raises:
        ValueError: no rounds, or none at a position.

    Examples:
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> from recsys_dl.off_policy import policy_table
        >>> policy_table(BanditFeedback([[0], [0], [2], [0]], [[1.0]] * 4, None, num_arms=3))
        array([0.75, 0.  , 0.25])
    """
    if not len(as_feedback(feedback)):
        raise ValueError("a policy's shares are taken from at least one round, got none")
    if feedback.positions_R is None:
        positions_R = np.broadcast_to(np.arange(feedback.arms_RK.shape[1]), feedback.arms_RK.shape)
    else:
        positions_R = feedback.positions_R[:, None]
    counts_PA = np.zeros((int(positions_R.max()) + 1, feedback.num_arms))
    shown = feedback.arms_RK >= 0
    np.add.at(counts_PA, (positions_R[shown], feedback.arms_RK[shown]), 1)
    totals = counts_PA.sum(axis=1, keepdims=True)
    if (totals == 0).any():
        raise ValueError(f"position {int((totals == 0).argmax())} (from 0) has no rounds to take shares from")
    table = counts_PA / totals
    return table[0] if feedback.positions_R is None and len(table) == 1 else table


@checked
def position_table(policy: Policy, num_positions: Count, *, draws: Count = 100_000, seed: Seed = 0) -> np.ndarray:
    """Return float64 [P, A]: how often each arm is shown at each position, of slates drawn from a policy without contexts.

    A table of estimated probabilities: 100,000 draws have a standard error of at most 0.0016. Arms never drawn get 0.

    Args:
        policy: started; draws requests `seed x draws` and on.
        num_positions: of a slate, at most the number of arms.
        draws: number of slates.
        seed: other seeds draw other requests.

    Raises:
        ValueError: a policy that is none or has not been started, or more positions than arms.

    Examples:
        >>> from recsys_dl.bandits import EpsilonGreedy
        >>> from recsys_dl.off_policy import position_table
        >>> position_table(EpsilonGreedy(epsilon=1.0).start(2), 2, draws=10_000).round(1)
        array([[0.5, 0.5],
               [0.5, 0.5]])
    """
    as_policy(policy, started=True)
    counts = np.zeros((num_positions, policy.num_arms))
    for rows_B in blocks(np.arange(draws) + seed * draws, policy.num_arms):
        arms_BK = policy.select(None, num_positions, requests_B=rows_B).arms_BK
        for position in range(num_positions):
            counts[position] += np.bincount(arms_BK[:, position], minlength=policy.num_arms)
    return counts / draws
