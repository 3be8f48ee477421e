"""What a log can say about a policy: whether every arm that the policy shows could have been logged, and how large weights can be.

R rounds, A arms, P positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.messages import shorten

from .targets import Target, blocks

BY_CHANCE = 1e-6  # probability below which arms that a uniform log lacks could not have been logged
NAMED = 5  # arms that a message names


@dataclass(frozen=True)
class Support:
    """Where a policy shows what the log lacks.

    Attributes:
        share: of the policy's probability, over the logged rounds, at arms that the log lacks.
        missing: these arms, (position, arm, share of rounds in which the policy shows it), the most frequent first; position -1 if
            the log has none.
        known: whether the logging policy's probabilities are known, so that an arm is lacking only if its propensity is zero; else arms
            that were never logged are taken to be lacking.
        largest_weight: largest possible weight, if known; else None.
    """

    share: float
    missing: Sequence[tuple[int, int, float]]
    known: bool
    largest_weight: float | None

    def describe(self, names: Sequence[str] | None = None) -> str:
        """Return the missing arms in words."""
        shown = [
            f"arm {shorten(str(names[arm]), 40) if names else arm}{f' at position {position + 1}' if position >= 0 else ''} in "
            f"{share:.2%}"
            for position, arm, share in self.missing[:NAMED]
        ]
        more = len(self.missing) - len(shown)
        return ", ".join(shown) + (f" and {more:,} more" if more else "") + " of the rounds"


def support_of(feedback: BanditFeedback, target: Target, logging: Target | None) -> Support:
    """Return where a policy shows what the log lacks.

    A log all of whose propensities are 1 / A is that of a uniformly random policy: every arm could have been logged, unless the log is so
    long that an arm which it lacks would have been.
    """
    assert feedback.propensities_RK is not None
    size = feedback.num_arms
    positions_R = np.zeros(len(feedback), np.int64) if feedback.positions_R is None else feedback.positions_R
    uniform = is_uniform(feedback)
    logged_PA = np.zeros((int(positions_R.max()) + 1, size), bool)
    logged_PA[positions_R, feedback.arms_RK[:, 0]] = True
    lacking_PA, largest = np.zeros(logged_PA.shape), 0.0
    for rows_B in blocks(np.arange(len(feedback)), size):
        policy_BA = target.rows(rows_B)
        if logging is not None:
            logging_BA = logging.rows(rows_B)
            there_BA = logging_BA > 0
            ratios = np.divide(policy_BA, logging_BA, out=np.zeros(policy_BA.shape), where=there_BA)
            largest = max(largest, float(ratios.max()))
        elif uniform:
            largest = max(largest, float(policy_BA.max()) * size)
            continue
        else:
            there_BA = logged_PA[positions_R[rows_B]]
        np.add.at(lacking_PA, positions_R[rows_B], np.where(there_BA, 0.0, policy_BA))
    lacking_PA /= len(feedback)
    order = np.argsort(-lacking_PA, axis=None, kind="stable")
    order = order[: int((lacking_PA > 0).sum())]
    has_positions = feedback.positions_R is not None
    missing = [(at // size if has_positions else -1, at % size, float(lacking_PA.ravel()[at])) for at in order.tolist()]
    known = logging is not None or uniform
    return Support(float(lacking_PA.sum()), missing, known, largest if known else None)


def is_uniform(feedback: BanditFeedback) -> bool:
    """Return whether a log is that of a uniformly random policy: by every propensity, and no arm is missing that chance would have shown."""
    if feedback.propensities_RK is None:
        return False
    size = feedback.num_arms
    missing = size - len(np.unique(feedback.arms_RK[feedback.arms_RK >= 0]))
    by_chance = missing * (1 - 1 / size) ** len(feedback) > BY_CHANCE  # of any arm that is missing, if all are drawn
    return (not missing or by_chance) and bool(np.allclose(feedback.propensities_RK, 1 / size, rtol=1e-6))
