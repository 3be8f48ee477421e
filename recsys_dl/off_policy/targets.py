"""The probabilities of a policy, in blocks of rounds, from a `Policy` or a table.

R rounds, A arms, P positions, B rounds of a block.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.messages import shorten
from recsys_dl.protocols import Policy

BLOCK_NUMBERS = 4 << 20  # probabilities held at a time
KEPT_NUMBERS = 16 << 20  # of a policy, whose probabilities are then computed once


class Target:
    """Probabilities with which a policy would choose each arm in each round of a log.

    Args:
        policy: a `Policy`; or probabilities [A] of every round, [P, A] of each position (of a log with positions) or
            [R, A] of each round; rows sum to 1.
        feedback: the log.
        what: its name in messages.

    Raises:
        ValueError: another shape, probabilities that are negative, not finite or do not sum to 1, a policy of another number
            of arms, a log of several positions a row.
    """

    def __init__(self, policy: Any, feedback: BanditFeedback, *, what: str = "policy") -> None:
        self.feedback, self.what = feedback, what
        self.policy = policy if isinstance(policy, Policy) else None
        rounds, arms = len(feedback), feedback.num_arms
        if self.policy is not None:
            if self.policy.num_arms != arms:
                raise ValueError(
                    f"the {what} has {self.policy.num_arms:,} arms, the log has {arms:,}; they must be the same arms, in one order"
                )
            if feedback.positions_R is not None and feedback.positions_R.any():
                raise ValueError(
                    f"the log has positions, and a {what}'s probabilities are those of its first one; value a table [positions, "
                    "arms] of its probabilities (position_table)"
                )
            return
        table = as_table(policy, what)
        positions = 0 if feedback.positions_R is None else int(feedback.positions_R.max(initial=-1)) + 1
        if table.ndim == 1 and len(table) == arms:
            self.table_TA, self.rows_R = table[None], None
        elif table.ndim == 2 and table.shape[1] == arms and len(table) == rounds:
            self.table_TA, self.rows_R = table, np.arange(rounds)
        elif table.ndim == 2 and table.shape[1] == arms and positions and len(table) >= positions:
            self.table_TA, self.rows_R = table, feedback.positions_R
        else:
            where = f", or [{positions}, {arms}] for each position" if positions else ""
            raise ValueError(
                f"the {what} must be a Policy or a table of probabilities, [{arms}] for every round or [{rounds}, {arms}] for "
                f"each{where}; got {table.shape}"
            )
        self._check(self.table_TA)

    def rows(self, rows_B: np.ndarray) -> np.ndarray:
        """Return float64 [B, A]: the probabilities of these rounds."""
        if self.policy is None:
            if self.rows_R is None:
                return np.broadcast_to(self.table_TA, (len(rows_B), self.feedback.num_arms))
            return self.table_TA[self.rows_R[rows_B]]
        if self._kept is not None:
            return self._kept[rows_B]
        return self._asked(rows_B)

    @cached_property
    def _kept(self) -> np.ndarray | None:
        """Probabilities of all rounds, if they are few enough to keep."""
        rounds, arms = len(self.feedback), self.feedback.num_arms
        if rounds * arms > KEPT_NUMBERS:
            return None
        return np.concatenate([self._asked(rows_B) for rows_B in blocks(np.arange(rounds), arms)])

    def _asked(self, rows_B: np.ndarray) -> np.ndarray:
        """Ask the policy."""
        assert self.policy is not None
        contexts = self.feedback.contexts_RF
        given = None if contexts is None else contexts[rows_B]
        found = np.asarray(self.policy.probabilities(given, num_requests=len(rows_B)), np.float64)
        if found.shape != (len(rows_B), self.feedback.num_arms):
            raise ValueError(
                f"the {self.what}'s probabilities must have the shape {(len(rows_B), self.feedback.num_arms)}, got {found.shape}"
            )
        self._check(found)
        return found

    def of_arms(self) -> np.ndarray:
        """Return float64 [R]: the probability of each logged arm."""
        found = np.empty(len(self.feedback))
        for rows_B in blocks(np.arange(len(self.feedback)), self.feedback.num_arms):
            arms_B = self.feedback.arms_RK[rows_B, 0]
            found[rows_B] = self.rows(rows_B)[np.arange(len(rows_B)), arms_B]
        return found

    def _check(self, table: np.ndarray) -> None:
        if not np.isfinite(table).all() or table.min(initial=0) < 0:
            bad = table[~(table >= 0) | ~np.isfinite(table)][0]
            raise ValueError(f"probabilities of the {self.what} must be at least 0 and finite, got {bad}")
        sums = table.sum(axis=1)
        far = np.abs(sums - 1) > 1e-6
        if far.any():
            row = int(far.argmax())
            raise ValueError(
                f"probabilities of the {self.what} must sum to 1 in each row, got {sums[row]:g} in row {row}"
            )


def as_table(policy: Any, what: str) -> np.ndarray:
    """Return a table of probabilities as float64.

    Raises:
        ValueError: it is none, but a policy that has not been started, its class, its name or its folder, say.
    """
    made = hasattr(policy, "probabilities")
    if not made and not isinstance(policy, str | type):
        with contextlib.suppress(TypeError, ValueError):
            return np.asarray(policy, np.float64)
    got = shorten(repr(policy)) if made or isinstance(policy, str | list | tuple) else type(policy).__name__
    raise ValueError(
        f"the {what} must be a Policy that has been started, or a table of probabilities, numbers in rows of equal length, got {got}; a "
        "saved policy: Thompson.load(folder)"
    )


def blocks(rows_N: np.ndarray, num_arms: int) -> Iterator[np.ndarray]:
    """Yield rows in blocks of bounded memory."""
    step = max(1, BLOCK_NUMBERS // max(num_arms, 1))
    for start in range(0, len(rows_N), step):
        yield rows_N[start : start + step]
