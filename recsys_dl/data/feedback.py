"""Bandit feedback: which arms a policy showed, with which probability, and what they earned.

R requests, K positions, A arms, F numbers of a context.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .messages import shorten
from .times import LATEST, NOUNS, UNITS


@dataclass(frozen=True)
class BanditFeedback:
    """Decisions of a logging policy and their rewards, one row a request.

    Columns are converted and checked when it is made.

    Attributes:
        arms_RK: int32, the arm at each position; -1 where nothing was shown, after all shown arms.
        rewards_RK: float64, finite; NaN where the reward is not known (yet), and where nothing was shown.
        propensities_RK: float64 in (0, 1], the probability with which the logging policy showed this arm at this position,
            given the request; NaN where nothing was shown. None: not logged, enough for updates but not for evaluation.
        num_arms: A; may exceed the largest arm.
        contexts_RF: float32, finite; None for policies that do not look at a context.
        joint_R: float64 in (0, 1], the probability of the whole slate; None if not logged.
        positions_R: int16, the position from 0 of logs that have a row a position (K = 1); None if columns are positions.
        times_R: int64 seconds since 1970, or None.
        users_R: int32 user rows, or None.
        draws: 0 if the propensities are exact, else the number of draws from which they are estimated.

    Raises:
        ValueError: columns of unequal length, arms out of range, propensities of zero, above one or missing, infinite
            rewards, contexts that are not finite.

    Examples:
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> log = BanditFeedback([[2], [0]], [[1.0], [0.0]], [[0.25], [0.5]], num_arms=3)
        >>> len(log), log.num_arms, log.rewards_RK.mean()
        (2, 3, 0.5)
    """

    arms_RK: np.ndarray
    rewards_RK: np.ndarray
    propensities_RK: np.ndarray | None
    num_arms: int
    contexts_RF: np.ndarray | None = None
    joint_R: np.ndarray | None = None
    positions_R: np.ndarray | None = None
    times_R: np.ndarray | None = None
    users_R: np.ndarray | None = None
    draws: int = 0

    def __post_init__(self) -> None:
        for name, least in (("num_arms", 1), ("draws", 0)):
            size = getattr(self, name)
            if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {shorten(repr(size))}")
        arms = _array("arms", self.arms_RK)
        if arms.ndim != 2 or arms.dtype.kind not in "iu":
            raise ValueError(
                f"arms must be a matrix of integers [requests, positions], got {arms.dtype} {arms.shape}; arms are numbered from 0, "
                "and Vocabulary(ids, noun='arm').rows(names) has the numbers of names"
            )
        shown = arms >= 0
        wrong = arms[(arms < -1) | (arms >= self.num_arms)]
        if len(wrong):
            raise ValueError(f"arms must be in [0, {self.num_arms}) or -1 for an empty position, got {wrong[0]}")
        if (shown[:, 1:] & ~shown[:, :-1]).any():
            row = int(np.flatnonzero((shown[:, 1:] & ~shown[:, :-1]).any(1))[0])
            raise ValueError(f"empty positions must follow all shown arms, got {arms[row].tolist()} in row {row}")
        ordered = np.sort(np.where(shown, arms, -1 - np.arange(arms.shape[1])), axis=1)
        if (ordered[:, 1:] == ordered[:, :-1]).any():
            row = int(np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(1))[0])
            raise ValueError(
                f"an arm may be shown once in a request, got {shorten(str(arms[row].tolist()))} in row {row}"
            )
        rewards = np.where(shown, self._column("rewards", self.rewards_RK, arms.shape), np.nan)
        if np.isinf(rewards).any():
            raise ValueError(f"rewards must be finite, or NaN if not known, got {rewards[np.isinf(rewards)][0]}")
        chances = self.propensities_RK
        if chances is not None:
            chances = np.where(shown, self._column("propensities", chances, arms.shape), np.nan)
            _check_chances("propensities", chances, shown)
        columns: dict[str, Any] = {"arms_RK": arms.astype(np.int32), "rewards_RK": rewards, "propensities_RK": chances}
        if self.contexts_RF is not None:
            with np.errstate(over="ignore"):  # infinite ones are refused below
                contexts = _array("contexts", self.contexts_RF, np.float32)
            if contexts.ndim != 2 or len(contexts) != len(arms):
                raise ValueError(f"contexts must be a matrix of {len(arms)} rows, one a request, got {contexts.shape}")
            if not np.isfinite(contexts).all():
                row = int(np.flatnonzero(~np.isfinite(contexts).all(1))[0])
                raise ValueError(
                    f"contexts must be finite, got {contexts[row][~np.isfinite(contexts[row])][0]} in row {row}"
                )
            columns["contexts_RF"] = contexts
        if self.joint_R is not None:
            columns["joint_R"] = self._column("joint", self.joint_R, (len(arms),))
            _check_chances("joint propensities", columns["joint_R"], np.ones(len(arms), bool))
            if chances is not None:
                least_R = np.where(shown, chances, 1.0).min(axis=1, initial=1.0)
                if (above := columns["joint_R"] > 1.001 * least_R).any():  # integrals are not exact to the last digit
                    row = int(above.argmax())
                    raise ValueError(
                        f"the joint propensity of a slate must be at most that of each of its arms, got {columns['joint_R'][row]:g} "
                        f"and {least_R[row]:g} in row {row}"
                    )
        for name, kind in (("positions_R", np.int16), ("times_R", np.int64), ("users_R", np.int32)):
            values: Any = getattr(self, name)
            if values is not None:
                values = np.asarray(values)
                if name == "times_R" and values.dtype.kind == "M":
                    values = values.astype("datetime64[s]").astype(np.int64)
                if values.shape != (len(arms),) or (values.dtype.kind not in "iu" and values.size):
                    what = ", seconds since 1970" if name == "times_R" else ""
                    raise ValueError(
                        f"{name[:-2]} must be {len(arms)} integers{what}, got {values.dtype} {values.shape}"
                    )
                least = 0 if name == "positions_R" else np.iinfo(kind).min
                wrong = values[(values < least) | (values > np.iinfo(kind).max)]
                if len(wrong):
                    raise ValueError(
                        f"{name[:-2]} must be between {least:,} and {np.iinfo(kind).max:,}, got {wrong[0]}"
                    )
                columns[name] = values.astype(kind)
                if name == "times_R":
                    check_seconds("times", columns[name])
        for name, values in columns.items():
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.arms_RK)

    def take(self, rows: Any) -> BanditFeedback:
        """Return the decisions of these rows (positions or a mask), in their order.

        Examples:
            >>> from recsys_dl.data.feedback import BanditFeedback
            >>> log = BanditFeedback([[2], [0]], [[1.0], [0.0]], [[0.25], [0.5]], num_arms=3)
            >>> log.take([1]).arms_RK
            array([[0]], dtype=int32)
        """
        columns = {one.name: getattr(self, one.name) for one in fields(self)}
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        return BanditFeedback(
            **{name: value[rows] if isinstance(value, np.ndarray) else value for name, value in columns.items()}
        )

    @staticmethod
    def _column(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
        column = _array(name, values, np.float64)
        if column.shape != shape:
            raise ValueError(f"{name} must have the shape of the arms, {shape}, got {column.shape}")
        return column


def as_feedback(value: Any, name: str = "feedback") -> BanditFeedback:
    """Return bandit feedback as it is.

    Raises:
        ValueError: something else; the message says how tables and logs become feedback.
    """
    if isinstance(value, BanditFeedback):
        return value
    raise ValueError(
        f"{name} must be a BanditFeedback, got {type(value).__name__}. A table, frame or file becomes one by "
        "recsys_dl.readers.bandit_log.read_bandit_log(table).feedback, the folder of a feedback log by FeedbackLog(folder).feedback()"
    )


def _array(name: str, values: Any, kind: Any = None) -> np.ndarray:
    try:
        return np.asarray(values, kind)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers, in rows of equal length: {shorten(str(error), 200)}") from None


def integers(name: str, values: Any, size: int, least: int = 0) -> np.ndarray:
    """Return a column of `size` integers from `least`, as int64."""
    column = np.atleast_1d(np.asarray(values))
    if column.shape != (size,) or (size and column.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be {size} integers, one each, got {column.dtype} {column.shape}")
    if size and (int(column.min()) < least or int(column.max()) >= 2**63):
        raise ValueError(f"{name} must be between {least:,} and 2^63 - 1, got {column.min()} to {column.max()}")
    return column.astype(np.int64)


def check_seconds(name: str, times_N: np.ndarray) -> np.ndarray:
    """Return the times; raise ValueError if one is too late for seconds since 1970, as milliseconds are."""
    if len(late := np.flatnonzero(times_N > LATEST)):
        value = int(times_N[late[0]])
        unit = next((unit for unit, parts in UNITS.items() if value // parts <= LATEST), "ns")
        raise ValueError(
            f"{name} must be seconds since 1970, got {value} in row {late[0]}, which is in another unit: "
            f"divide by {UNITS[unit]:,} if it is {NOUNS[unit]}"
        )
    return times_N


def _check_chances(name: str, chances: np.ndarray, shown: np.ndarray) -> None:
    wrong = shown & ~((chances > 0) & (chances <= 1))
    if wrong.any():
        where = np.argwhere(wrong)[0]
        raise ValueError(
            f"{name} must be above 0 and at most 1 wherever an arm was shown, got {chances[tuple(where)]} in row {where[0]} "
            f"({int(wrong.sum()):,} of {int(shown.sum()):,} are not): log the probability with which the arm was chosen"
        )
