"""How far two distributions over the same groups are apart. G groups, I items."""

from __future__ import annotations

import numpy as np

FLOOR = 1e-4  # share of a group that holds nothing, so that one empty group is not infinitely far


def stability_index(then_G: np.ndarray, now_G: np.ndarray) -> float:
    """Return the population stability index: sum of (now - then) * ln(now / then) over the groups' shares.

    Siddiqi 2006, "Credit Risk Scorecards": below 0.1 is taken as no change, above 0.25 as a large one. Shares below 0.0001 count as that.

    Args:
        then_G: counts or shares.
        now_G: likewise.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.monitoring.drift import stability_index
        >>> stability_index(np.array([50, 50]), np.array([50, 50])), round(stability_index(np.array([50, 50]), np.array([80, 20])), 3)
        (0.0, 0.416)
    """
    then, now = (np.maximum(one / max(one.sum(), 1e-300), FLOOR) for one in (np.asarray(then_G), np.asarray(now_G)))
    return float(((now - then) * np.log(now / then)).sum())


def by_chance(num_groups: int, num_then: float, num_now: float) -> float:
    """Return the stability index that samples of these sizes from one distribution have on average.

    Yurdakul and Naranjo 2020, "Statistical properties of the population stability index": (G - 1) (1 / then + 1 / now).
    """
    return float((num_groups - 1) * (1 / max(num_then, 1.0) + 1 / max(num_now, 1.0)))


def popularity_groups(counts_I: np.ndarray, num_groups: int = 10) -> np.ndarray:
    """Return int64 [I]: groups of items from the most popular on, each with about the same share of the interactions.

    Items that nobody interacted with are in the last group.
    """
    order = np.lexsort((np.arange(len(counts_I)), -counts_I))
    before = np.concatenate([[0], np.cumsum(counts_I[order])[:-1]]) / max(int(counts_I.sum()), 1)
    groups = np.empty(len(counts_I), np.int64)
    groups[order] = np.minimum((before * num_groups).astype(np.int64), num_groups - 1)
    return groups


def share_of_top(items: np.ndarray, num_items: int, top: float = 0.01) -> float:
    """Return the share of places that the most shown items take: as many as `top` of the catalog, at least one."""
    counts = np.sort(np.bincount(items, minlength=1))[::-1]
    return float(counts[: max(1, round(top * num_items))].sum() / max(len(items), 1))
