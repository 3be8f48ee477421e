"""Merging several retrievers' lists into one list of candidates.

B users, R retrievers, N positions of the longest list, L candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from recsys_dl.kernels.merge import fuse, take_turns
from recsys_dl.protocols import Ranking


def round_robin(lists: Mapping[str, Ranking], length: int) -> Ranking:
    """Take each retriever's best remaining item in turn, in the order of the retrievers.

    Args:
        lists: each retriever's list, over the same B users.
        length: L, maximum length of the merged list.

    Returns:
        Ranking of [B, L]; scores are 1 / position.
    """
    items_BRN = _stacked(lists)
    return _in_turns(items_BRN, np.full(len(lists), items_BRN.shape[2]), length, alternate=True)


def quota(lists: Mapping[str, Ranking], length: int, *, quotas: Mapping[str, int]) -> Ranking:
    """Take each retriever's best items not taken from an earlier one, up to its quota.

    Args:
        lists: each retriever's list, over the same B users.
        length: L, maximum length of the merged list.
        quotas: number of items per retriever.

    Returns:
        Ranking of [B, L]; scores are 1 / position.
    """
    return _in_turns(_stacked(lists), np.array([quotas[name] for name in lists]), length, alternate=False)


def reciprocal_rank(
    lists: Mapping[str, Ranking], length: int, *, offset: float = 60.0, weights: Mapping[str, float] | None = None
) -> Ranking:
    """Sort items by the sum over retrievers of weight / (offset + rank).

    Reciprocal rank fusion (Cormack, Clarke and Buettcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and Individual Rank
    Learning Methods"), where the weights are 1 and the offset, their k, is 60.

    Args:
        lists: each retriever's list, over the same B users.
        length: L, maximum length of the merged list.
        offset: larger values reduce the advantage of top ranks.
        weights: of the retrievers; 1 for those not named.

    Returns:
        Ranking of [B, L]; scores are the sums.
    """
    items_BRN = _stacked(lists)
    weights_R = np.array([(weights or {}).get(name, 1.0) for name in lists])
    items_BL = np.empty((len(items_BRN), length), np.int32)
    scores_BL = np.empty((len(items_BRN), length), np.float32)
    fuse(items_BRN, weights_R, float(offset), items_BL, scores_BL)
    return Ranking(items_BL, scores_BL)


MERGES: dict[str, Callable[..., Ranking]] = {
    "round_robin": round_robin,
    "quota": quota,
    "reciprocal_rank": reciprocal_rank,
}


def check_merge(merge: str, arguments: Mapping[str, Any], retrievers: Mapping[str, Any]) -> None:
    """Validate the merge method and its arguments.

    Raises:
        ValueError: an unknown method, argument or retriever, or numbers out of range.
    """
    known = {"round_robin": set(), "quota": {"quotas"}, "reciprocal_rank": {"offset", "weights"}}
    if merge not in known:
        raise ValueError(f"merge must be one of {', '.join(known)}, got {merge!r}")
    if wrong := sorted(set(arguments) - known[merge]):
        takes = ", ".join(sorted(known[merge])) or "none"
        raise ValueError(f"merge={merge} takes the arguments {takes}; got {wrong[0]!r}")
    for argument in ("quotas", "weights"):
        given = arguments.get(argument) or {}
        if not isinstance(given, Mapping):
            raise ValueError(f"{argument} must be a mapping from retrievers to numbers, got {given!r:.200}")
        if wrong := sorted(set(given) - set(retrievers)):
            raise ValueError(f"{argument} must name retrievers ({', '.join(retrievers)}), got {wrong[0]!r}")
    quotas = arguments.get("quotas") or {}
    for name in retrievers if merge == "quota" else ():
        count = quotas.get(name)
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"quotas must have an integer of at least 1 for every retriever, got {count!r} for {name}")
    offset, weights = arguments.get("offset", 60), dict(arguments.get("weights") or {})
    if not _is_finite(offset) or offset < 0:
        raise ValueError(f"offset must be a number that is not negative, got {offset!r}")
    if any(not _is_finite(weight) or weight < 0 for weight in weights.values()):
        raise ValueError(f"weights must be numbers that are not negative, got {weights}")
    if all(weights.get(name, 1) == 0 for name in retrievers):
        raise ValueError("weights must be above 0 for at least one retriever, got 0 for all")


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _stacked(lists: Mapping[str, Ranking]) -> np.ndarray:
    """Return int32 [B, R, N], shorter lists padded with -1."""
    given = [one.items_BK for one in lists.values()]
    items_BRN = np.full((len(given[0]), len(given), max(one.shape[1] for one in given)), -1, np.int32)
    for at, items_BN in enumerate(given):
        items_BRN[:, at, : items_BN.shape[1]] = items_BN
    return items_BRN


def _in_turns(items_BRN: np.ndarray, quotas_R: np.ndarray, length: int, *, alternate: bool) -> Ranking:
    items_BL = np.empty((len(items_BRN), length), np.int32)
    take_turns(items_BRN, quotas_R.astype(np.int64), alternate, items_BL)
    scores_L = (1 / np.arange(1, length + 1)).astype(np.float32)
    return Ranking(items_BL, np.where(items_BL >= 0, scores_L, np.float32(-np.inf)))
