"""Requests to a policy, and what must hold of them.

B requests, R rows (1: the same for all requests, else B), L candidates, A arms, F numbers of a context or of an arm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys_dl.data.messages import shorten


@dataclass(frozen=True)
class Requests:
    """Validated requests.

    Attributes:
        keys_B: uint64, each request's number.
        arms_RL: int32, the candidates, padded with -1; one row if they are the same for all.
        contexts_BF: float32, or None.
        moments: means and widths of linear models, float32 [B, L] each, where they have been computed.
    """

    keys_B: np.ndarray
    arms_RL: np.ndarray
    contexts_BF: np.ndarray | None
    moments: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.keys_B)

    def blocks(self, pairs: int) -> Iterator[Requests]:
        """Return parts of about so many pairs of a request and a candidate, to bound memory."""
        size = max(1, pairs // max(1, self.arms_RL.shape[1]))
        for start in range(0, max(1, len(self)), size):
            part = slice(start, start + size)
            arms_RL = self.arms_RL if len(self.arms_RL) == 1 else self.arms_RL[part]
            yield Requests(self.keys_B[part], arms_RL, None if self.contexts_BF is None else self.contexts_BF[part])


def check_size(name: str, value: Any, least: int) -> None:
    """Raise ValueError unless a size is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")


def check_arms(arms: np.ndarray, num_arms: int) -> None:
    """Raise ValueError for an arm out of range."""
    wrong = arms[(arms < 0) | (arms >= num_arms)]
    if len(wrong):
        raise ValueError(f"arms must be in [0, {num_arms}), got {wrong[0]}; add new ones with add_arms")


def checked_contexts(contexts: Any, rows: int, size: int, policy: str) -> np.ndarray:
    """Return contexts, float32 [rows, size].

    Raises:
        ValueError: there are none, of another shape, or not finite.
    """
    if contexts is None:
        raise ValueError(f"{policy} needs contexts, {rows} rows of {size} numbers, got None")
    found = as_numbers("contexts", contexts, np.float32)
    if found.shape != (rows, size):
        raise ValueError(
            f"contexts must be {rows} rows, one a request, of the {size} numbers that start() was given, got "
            f"{found.shape}"
        )
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found).all(1))[0])
        raise ValueError(f"contexts must be finite, got {found[row][~np.isfinite(found[row])][0]} in row {row}")
    return np.ascontiguousarray(found)


def checked_candidates(candidates_BL: Any, rows: int, active_A: np.ndarray) -> np.ndarray:
    """Return candidates, int32 [rows, L].

    Raises:
        ValueError: not such a matrix, or an arm out of range, retired or repeated in a row.
    """
    found = as_numbers("candidates", candidates_BL, None)
    if found.ndim != 2 or len(found) != rows or not found.shape[1] or found.dtype.kind not in "iu":
        raise ValueError(
            f"candidates must be a matrix of integers with {rows} rows, one a request, padded with -1, got {found.dtype} {found.shape}"
        )
    check_arms(found[found != -1], len(active_A))
    arms = np.ascontiguousarray(found, np.int32)
    gone = arms[(arms >= 0) & ~active_A[arms]]
    if len(gone):
        raise ValueError(f"candidates must be active arms, but arm {gone[0]} was retired")
    ordered = np.sort(arms, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        row, at = np.argwhere(twice)[0]
        raise ValueError(f"an arm must occur once among the candidates, got arm {ordered[row, at]} twice in row {row}")
    return arms


def checked_features(arm_features_AF: Any, rows: int) -> np.ndarray | None:
    """Return features of arms, float32 [rows, F]; None stays None.

    Raises:
        ValueError: of another shape, or not finite.
    """
    if arm_features_AF is None:
        return None
    found = as_numbers("arm features", arm_features_AF, np.float32)
    if found.ndim != 2 or len(found) != rows:
        raise ValueError(f"arm features must be a matrix of {rows} rows, one an arm, got {found.shape}")
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found).all(1))[0])
        raise ValueError(f"arm features must be finite, got {found[row][~np.isfinite(found[row])][0]} in row {row}")
    return np.ascontiguousarray(found)


def check_between_0_and_1(rewards: np.ndarray, policy: str) -> None:
    """Raise ValueError if a reward is outside [0, 1]."""
    rewards = as_numbers("rewards", rewards, np.float64)
    wrong = rewards[(rewards < 0) | (rewards > 1)]
    if len(wrong):
        raise ValueError(
            f"{policy} needs rewards between 0 and 1, got {wrong[0]:g} ({len(wrong):,} of {len(rewards):,} are outside): scale them"
        )


def as_numbers(name: str, values: Any, kind: Any) -> np.ndarray:
    """Return an array.

    Raises:
        ValueError: the values are none.
    """
    try:
        return np.asarray(values, kind)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} must be numbers, in rows of equal length, got {shorten(repr(values))}") from error
