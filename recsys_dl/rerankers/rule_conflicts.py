"""Detecting rules that no list can satisfy, from the rules, the items and k alone, independent of candidates.

I items, G groups, M at-least rules, P pins, as in `kernels/rerank/search.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys_dl.kernels.rerank.search import Caps, Needs, Pins

from .rule_words import Rule


def check_rules(rules: Sequence[Rule], tables: tuple[Caps, Needs, Pins], denied_I: np.ndarray, k: int) -> None:
    """Check that rules do not contradict each other for these items in lists of k.

    Raises:
        ValueError: they do; the message names the rules.
    """
    caps, needs, pins = tables
    shown = pins.places_P < k
    pinned_P, places_P, rule_P = pins.items_P[shown], pins.places_P[shown], pins.rule_P[shown]
    for item, rule in zip(pinned_P, rule_P, strict=True):
        if denied_I[item]:
            raise ValueError(f"rule {rules[denied_I[item] - 1]} removes the item that rule {rules[rule]} pins")
    if denied_I.all() and not len(pinned_P):
        causes = ", ".join(str(rules[number - 1]) for number in np.unique(denied_I))
        raise ValueError(f"rules {causes} together leave none of the {len(denied_I)} items")
    _check_pins(rules, caps, pinned_P, places_P, rule_P)
    allowed = np.flatnonzero(denied_I == 0)
    for m, rule in enumerate(needs.rule_M):
        _check_need(rules, caps, allowed[_serves(needs, allowed, m)], int(needs.window_M[m]), rule)
    for window in np.unique(needs.window_M):
        _check_room(rules, needs, allowed, pinned_P[places_P < window], int(window))


def _check_pins(
    rules: Sequence[Rule], caps: Caps, pinned_P: np.ndarray, places_P: np.ndarray, rule_P: np.ndarray
) -> None:
    holders: dict[int, list[int]] = {}
    for item, place, rule in zip(pinned_P, places_P, rule_P, strict=True):
        for group in caps.groups_N[caps.indptr[item] : caps.indptr[item + 1]]:
            if place < caps.window_G[group]:
                holders.setdefault(int(group), []).append(int(rule))
    for group, pins in holders.items():
        if len(pins) > caps.most_G[group]:
            cap = rules[caps.rule_F[caps.family_G[group]]]
            raise ValueError(f"rule {cap} bars what rules {', '.join(str(rules[pin]) for pin in pins)} pin together")


def _check_need(rules: Sequence[Rule], caps: Caps, serving: np.ndarray, window: int, rule: int) -> None:
    """Check that there are enough allowed items of a kind, in number and under each at-most rule."""
    least = rules[rule].number
    if len(serving) < least:
        raise ValueError(f"rule {rules[rule]}: only {len(serving)} of the allowed items match it")
    counts = np.diff(caps.indptr)[serving]
    starts = caps.indptr[serving]
    owners = np.repeat(np.arange(len(serving)), counts)
    at = np.arange(counts.sum()) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
    groups = caps.groups_N[at]
    for family, cap in enumerate(caps.rule_F):
        mine = (caps.family_G[groups] == family) & (caps.window_G[groups] >= window)
        met, sizes = np.unique(groups[mine], return_counts=True)
        given = np.minimum(sizes, caps.most_G[met]).sum() + len(serving) - len(np.unique(owners[mine]))
        if given < least:
            raise ValueError(f"rule {rules[cap]} allows at most {given} items where rule {rules[rule]} needs {least}")


def _check_room(rules: Sequence[Rule], needs: Needs, allowed: np.ndarray, pinned: np.ndarray, window: int) -> None:
    """Check that the top positions can satisfy all at-least rules, even if items serve several at once."""
    asking = [m for m in range(len(needs.rule_M)) if needs.window_M[m] <= window]
    wanted_M = {m: max(0, int(needs.least_M[m]) - int(_serves(needs, pinned, m).sum())) for m in asking}
    wanted = sum(wanted_M.values())
    free = allowed[~np.isin(allowed, pinned)]
    served_by = np.bincount(
        sum((_serves(needs, free, m).astype(np.int64) for m in asking if wanted_M[m]), np.int64(0) * free)
    )
    room = window - len(pinned)
    for served in range(len(served_by) - 1, 0, -1):
        taken = min(room, int(served_by[served]))
        room -= taken
        wanted -= taken * served
    if wanted > 0:
        names = ", ".join(str(rules[needs.rule_M[m]]) for m in asking if wanted_M[m])
        beside = f", {len(pinned)} of them pinned" if len(pinned) else ""
        raise ValueError(f"rules {names} need more than the {window} positions{beside}")


def _serves(needs: Needs, items: np.ndarray, m: int) -> np.ndarray:
    return (needs.serves_I[items] >> np.uint32(m)) & np.uint32(1) == 1
