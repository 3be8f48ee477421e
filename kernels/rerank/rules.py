"""Lists under rules: denied items, items pinned to positions, at most n items of a group, at least n of a kind.

B lists, L candidates, K positions, I items, R rules, G groups, F at-most rules, M at-least rules, P pins, C candidates that no
rule removes, W windows, H items users interacted with. `search.py` fills one list; this module runs the batch and records reasons.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from ..compiling import INSIDE
from .search import PIN_CAPPED, PIN_RAISED, SEEN, SHORT, barred_by, begin, count, fill, new_state


class Seen(NamedTuple):
    """Items users interacted with, ascending; rule is -1 if they may be shown again."""

    starts_B: np.ndarray  # int64
    ends_B: np.ndarray  # int64
    items_H: np.ndarray  # int32
    rule: int


@njit(**INSIDE)
def _has(items_H, start, end, item):
    while start < end:
        middle = (start + end) // 2
        if items_H[middle] < item:
            start = middle + 1
        elif items_H[middle] > item:
            end = middle
        else:
            return True
    return False


@njit(**INSIDE)
def _explain(state, caps, needs, least_M, pins, active_P, num_free, length, num_places, num_rules, moved_K):
    """Fill the list again and record what moved each item, and by which rule candidates were passed over."""
    chosen_K = state.chosen_K.copy()
    begin(state, caps, needs, least_M, pins, active_P, length)
    state.marks_C[:] = 0
    for place in range(min(length + 1, num_places)):
        if place < length and state.pinned_K[place] >= 0:
            moved_K[place] = pins.rule_P[state.pinned_K[place]] + 1
            continue
        chosen = np.int64(chosen_K[place]) if place < length else num_free
        pulled = 0
        for c in range(chosen):
            if state.used_C[c] or state.marks_C[c]:
                continue
            rule = barred_by(state, caps, state.items_C[c], place)
            if rule < 0 and place < length:
                rule = num_rules  # the combination of rules
                for m in range(len(needs.rule_M)):
                    bit = np.uint32(1) << np.uint32(m)
                    if (
                        state.left_M[m] > 0
                        and needs.serves_I[state.items_C[chosen]] & bit
                        and not needs.serves_I[state.items_C[c]] & bit
                    ):
                        rule = needs.rule_M[m]
                        break
                pulled = rule + 1 if pulled == 0 else pulled
            state.marks_C[c] = rule + 1
        if place < length:
            moved_K[place] = pulled if pulled else state.marks_C[chosen]
            state.used_C[chosen] = True
            count(state, caps, needs, state.items_C[chosen], place, np.int64(1))
    for place in range(length):
        state.chosen_K[place] = chosen_K[place]


@njit(**INSIDE)
def _pins_of(items_K, pins, seen, start, end, active_P, problems_R3):
    """Mark the pins that this list shows: not those past its end, nor items the user already interacted with if those are denied."""
    for p in range(len(active_P)):
        active_P[p] = pins.places_P[p] < len(items_K)
        if active_P[p] and seen.rule >= 0 and _has(seen.items_H, start, end, pins.items_P[p]):
            active_P[p] = False
            problems_R3[pins.rule_P[p], 0], problems_R3[pins.rule_P[p], 2] = SEEN, seen.rule


@njit(**INSIDE)
def _sift(state, items_L, denied_I, kinds_I, pins, seen, start, end, active_P, at_P, dropped_L):
    """Collect the candidates that no rule removes and no pin holds; return their number and the number of all candidates."""
    num_free, num_there = 0, 0
    at_P[:] = -1
    for l in range(len(items_L)):
        item = items_L[l]
        dropped_L[l] = 0
        if item < 0:
            continue
        num_there += 1
        dropped = np.int64(denied_I[item])
        if seen.rule >= 0 and (dropped == 0 or seen.rule + 1 < dropped) and _has(seen.items_H, start, end, item):
            dropped = seen.rule + 1
        dropped_L[l] = dropped
        pinned = False
        for p in range(len(active_P)):
            if active_P[p] and pins.items_P[p] == item:
                at_P[p] = l
                pinned = True
        if dropped == 0 and not pinned:
            state.free_C[num_free], state.items_C[num_free], state.kinds_C[num_free] = l, item, kinds_I[item]
            num_free += 1
    return num_free, num_there


@njit(**INSIDE)
def _rule_list(
    b,
    items_BL,
    denied_I,
    kinds_I,
    caps,
    needs,
    pins,
    seen,
    windows_W,
    places_BK,
    outside_BK,
    moved_BK,
    dropped_BL,
    problems_BR3,
):
    items_L, dropped_L, problems_R3 = items_BL[b], dropped_BL[b], problems_BR3[b]
    places_K, outside_K, moved_K = places_BK[b], outside_BK[b], moved_BK[b]
    start, end = seen.starts_B[b], seen.ends_B[b]
    state = new_state(len(items_L), len(places_K), caps, needs)
    num_places, num_rules = len(places_K), len(problems_R3) - 1
    active_P, at_P = np.empty(len(pins.items_P), np.bool_), np.empty(len(pins.items_P), np.int32)
    least_M = needs.least_M.copy()
    _pins_of(places_K, pins, seen, start, end, active_P, problems_R3)
    while True:
        num_free, num_there = _sift(
            state, items_L, denied_I, kinds_I, pins, seen, start, end, active_P, at_P, dropped_L
        )
        most = min(num_places, num_free + active_P.sum())
        length = fill(state, caps, needs, least_M, pins, active_P, num_free, most, windows_W, problems_R3)
        if length >= 0:
            break
        for m in range(len(least_M)):  # again, without the last pin
            least_M[m] = needs.least_M[m]
            problems_R3[needs.rule_M[m], 0] = problems_R3[needs.rule_M[m], 1] = 0
        p = len(active_P) - 1
        while not active_P[p]:
            p -= 1
        active_P[p] = False
        problems_R3[pins.rule_P[p], 0] = PIN_CAPPED
    _explain(state, caps, needs, least_M, pins, active_P, num_free, length, num_places, num_rules, moved_K)
    places_K[:] = -1
    outside_K[:] = -1
    for place in range(length):
        p = state.pinned_K[place]
        if p < 0:
            places_K[place] = state.free_C[state.chosen_K[place]]
            continue
        places_K[place] = at_P[p]
        if at_P[p] < 0:
            outside_K[place] = pins.items_P[p]
        if place < pins.places_P[p]:
            problems_R3[pins.rule_P[p], 0], problems_R3[pins.rule_P[p], 1] = PIN_RAISED, place + 1
    for c in range(num_free):
        for rule in caps.rule_F:
            if not state.used_C[c] and state.marks_C[c] == rule + 1:
                dropped_L[state.free_C[c]] = rule + 1
    if length < min(num_places, num_there):
        problems_R3[num_rules, 0], problems_R3[num_rules, 1] = SHORT, length


@njit(cache=True, nogil=True, parallel=True)
def ruled(
    items_BL,
    denied_I,
    kinds_I,
    caps,
    needs,
    pins,
    seen,
    windows_W,
    places_BK,
    outside_BK,
    moved_BK,
    dropped_BL,
    problems_BR3,
):
    """Write lists under rules.

    Args:
        items_BL: candidates, best first.
        denied_I: int16, 1 + the rule that removes an item for every user, or 0.
        kinds_I: int32, equal for items that all at-most and at-least rules treat alike.
        caps: at-most rules.
        needs: at-least rules; windows no longer than K.
        pins: pinned items.
        seen: items users interacted with.
        windows_W: every window of a rule.
        places_BK: out, int32 positions among the candidates, or -1.
        outside_BK: out, int32 pinned items that were not candidates, else -1.
        moved_BK: out, int16, zeros on entry; 1 + the rule that moved an item, R + 1 for the combination of rules.
        dropped_BL: out, int16, 1 + the rule that removed a candidate, or 0.
        problems_BR3: out, int32, zeros on entry; for each rule, and last for the list itself: a cause, a number, another rule or -1.
            FEW, CAPPED, NO_ROOM, TOGETHER, GIVEN_UP: number of items missing; SEEN, PIN_CAPPED: the pin is left out;
            PIN_RAISED: its new position; SHORT: number of positions filled.
    """
    for b in prange(len(items_BL)):
        _rule_list(
            np.int64(b),
            items_BL,
            denied_I,
            kinds_I,
            caps,
            needs,
            pins,
            seen,
            windows_W,
            places_BK,
            outside_BK,
            moved_BK,
            dropped_BL,
            problems_BR3,
        )
