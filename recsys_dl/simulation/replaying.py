"""Replaying a real log: what a learning policy would have earned. R rounds, A arms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from recsys_dl.arguments import Count, Seed, checked
from recsys_dl.data.feedback import BanditFeedback, as_feedback
from recsys_dl.protocols import Policy, as_policy

from .chance import REWARDS, uniform
from .running import rows_of


@dataclass(frozen=True)
class Replayed:
    """What a policy earned on the rounds of a log in which it chose the logged arm.

    Attributes:
        rewards_M: float64, of the matching rounds, in order.
        rounds: of the log with a known reward.
    """

    rewards_M: np.ndarray
    rounds: int

    @property
    def mean(self) -> float:
        """Mean reward of the matching rounds."""
        return float(self.rewards_M.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95%, by the normal approximation; the policy's changes between rounds are part of the spread."""
        half = ndtri(0.975) * self.rewards_M.std(ddof=1) / np.sqrt(len(self.rewards_M))
        return float(self.mean - half), float(self.mean + half)


@checked
def replay(policy: Policy, log: BanditFeedback, *, batch: Count = 1, seed: Seed = 0) -> Replayed:
    """Let a policy decide each round of a log again; it earns and learns where it chooses the logged arm, other rounds are skipped.

    Unbiased for a log of uniform draws (Li et al. 2011, "Unbiased Offline Evaluation of Contextual-bandit-based News Article Recommendation
    Algorithms"). Of a log with other propensities, a match counts with probability min(p) / p, which makes its matches uniform.

    Args:
        policy: started here.
        log: one position a row, with propensities; rounds without a known reward are left out.
        batch: rounds decided before the next update.
        seed: chooses which matches count.

    Raises:
        ValueError: a log of slates or without propensities, or in which the policy matches fewer than two rounds.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.bandits import EpsilonGreedy
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> from recsys_dl.simulation import replay
        >>> arms = np.random.default_rng(0).integers(0, 2, 1000)[:, None]
        >>> log = BanditFeedback(arms, arms * 1.0, np.full((1000, 1), 0.5), num_arms=2)  # arm 1 always earns 1
        >>> replay(EpsilonGreedy(epsilon=0.1), log, batch=10).mean > 0.85
        True
    """
    as_policy(policy)
    if as_feedback(log, "log").arms_RK.shape[1] != 1:
        raise ValueError(f"replay needs a log of single arms, got slates of {log.arms_RK.shape[1]}")
    if log.propensities_RK is None:
        raise ValueError("replay needs a log with propensities, since only matches with uniform draws are fair")
    log = rows_of(log, np.isfinite(log.rewards_RK[:, 0]))
    assert log.propensities_RK is not None
    size = 0 if log.contexts_RF is None else log.contexts_RF.shape[1]
    policy.start(log.num_arms, context_size=size)
    keep_R = (
        uniform(seed, REWARDS, np.arange(len(log))) < log.propensities_RK.min(initial=1.0) / log.propensities_RK[:, 0]
    )
    rewards = []
    for start in range(0, len(log), batch):
        part = rows_of(log, slice(start, start + batch))
        requests_B = np.arange(start, start + len(part))
        shown = policy.select(part.contexts_RF, 1, requests_B=requests_B)
        matches_B = (shown.arms_BK[:, 0] == part.arms_RK[:, 0]) & keep_R[requests_B]
        if matches_B.any():
            matched = rows_of(part, matches_B)
            rewards.append(matched.rewards_RK[:, 0])
            policy.update(matched)
    found = Replayed(np.concatenate([np.zeros(0), *rewards]), len(log))
    if len(found.rewards_M) < 2:
        raise ValueError(
            f"the policy chose the logged arm in {len(found.rewards_M)} of {len(log):,} rounds, too few to judge it; with {log.num_arms} arms "
            f"about one round in {log.num_arms} matches: log more rounds"
        )
    return found
