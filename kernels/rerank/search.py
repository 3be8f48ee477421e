"""One list under at-most and at-least rules, with items pinned to positions.

C candidates that no rule removes, K positions, I items, R rules, G groups (one for each at-most rule, or for each value of
its column), F at-most rules, M at-least rules, P pins, W windows.

Among all lists that satisfy the rules the result is the longest, and among these the first in lexicographic candidate order.
Almost always it is found greedily: each position takes the first candidate that no at-most rule bars. If that leaves a
position empty or an at-least rule unmet, a backtracking search follows. It prunes with upper bounds on what the
remaining candidates can contribute, fills the positions between two windows in candidate order (their order does not affect
the rules), and skips candidates equivalent to one that failed. It is exhaustive up to STEPS candidates tried for
each length; a rule relaxed because the limit was reached is reported as such.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from ..compiling import INSIDE

STEPS = 1000  # candidates tried per list length before trying a shorter list or relaxing a rule
MOST_GROUPS = 15  # groups of one rule that an item can be counted in; more are treated as this many

# why a rule was not satisfied, or a list is short
KEPT, FEW, CAPPED, NO_ROOM, TOGETHER, GIVEN_UP, SEEN, PIN_CAPPED, PIN_RAISED, SHORT = range(10)


class Caps(NamedTuple):
    """At-most rules: the groups of item i are groups_N[indptr[i]:indptr[i + 1]]."""

    indptr: np.ndarray  # integers
    groups_N: np.ndarray  # int32
    most_G: np.ndarray  # int32
    window_G: np.ndarray  # int32, number of top positions it applies to
    family_G: np.ndarray  # int32 in [0, F)
    rule_F: np.ndarray  # int32 in [0, R)


class Needs(NamedTuple):
    """At-least rules: bit m of serves_I[i] says whether item i counts for need m."""

    serves_I: np.ndarray  # uint32
    least_M: np.ndarray  # int32
    window_M: np.ndarray  # int32
    rule_M: np.ndarray  # int32


class Pins(NamedTuple):
    """Items at positions, by ascending position."""

    items_P: np.ndarray  # int32
    places_P: np.ndarray  # int32
    rule_P: np.ndarray  # int32


class State(NamedTuple):
    """State of one list under construction."""

    free_C: np.ndarray  # positions of candidates
    items_C: np.ndarray
    kinds_C: np.ndarray  # equal for candidates that all rules treat alike
    used_C: np.ndarray
    marks_C: np.ndarray  # reason a candidate was passed over
    count_G: np.ndarray  # items placed or pinned within the group's window
    tally_G: np.ndarray  # zeros between uses
    free_F: np.ndarray  # free slots in groups
    sizes_FN: np.ndarray  # candidates by number of groups
    left_M: np.ndarray  # items still needed
    pinned_K: np.ndarray  # pin at each position, or -1
    chosen_K: np.ndarray  # candidate at each position, or -1
    start_K: np.ndarray
    failed_KC: np.ndarray
    steps_1: np.ndarray


@njit(**INSIDE)
def new_state(size, num_places, caps, needs):
    """Return a state for lists of up to `size` candidates."""
    return State(
        np.empty(size, np.int32),
        np.empty(size, np.int32),
        np.empty(size, np.int32),
        np.empty(size, np.bool_),
        np.empty(size, np.int16),
        np.empty(len(caps.most_G), np.int32),
        np.zeros(len(caps.most_G), np.int32),
        np.empty(len(caps.rule_F), np.int64),
        np.empty((len(caps.rule_F), MOST_GROUPS + 1), np.int64),
        np.empty(len(needs.least_M), np.int32),
        np.empty(num_places, np.int32),
        np.empty(num_places, np.int32),
        np.empty(num_places, np.int32),
        np.empty((num_places, size), np.bool_),
        np.zeros(1, np.int64),
    )


@njit(**INSIDE)
def barred_by(state, caps, item, place):
    """Return the at-most rule that bars an item from a position, or -1."""
    for n in range(caps.indptr[item], caps.indptr[item + 1]):
        group = caps.groups_N[n]
        if place < caps.window_G[group] and state.count_G[group] >= caps.most_G[group]:
            return caps.rule_F[caps.family_G[group]]
    return -1


@njit(**INSIDE)
def count(state, caps, needs, item, place, by):
    """Count an item at a position toward its groups and needs; `by` is 1, or -1 to undo."""
    for n in range(caps.indptr[item], caps.indptr[item + 1]):
        group = caps.groups_N[n]
        if place < caps.window_G[group]:
            state.count_G[group] += by
    served = needs.serves_I[item]
    for m in range(len(state.left_M)):
        if (served >> np.uint32(m)) & np.uint32(1) and place < needs.window_M[m]:
            state.left_M[m] -= by


@njit(**INSIDE)
def begin(state, caps, needs, least_M, pins, active_P, length):
    """Clear the list and place the pins; return whether they satisfy the at-most rules.

    Pins past the end of the list are placed at its end, in order.
    """
    state.count_G[:] = 0
    state.used_C[:] = False
    for m in range(len(least_M)):  # whole-array assignment adds error paths that take seconds to compile
        state.left_M[m] = least_M[m]
    state.pinned_K[:] = -1
    state.chosen_K[:] = -1
    last = length - 1
    for p in range(len(active_P) - 1, -1, -1):
        if active_P[p]:
            place = min(np.int64(pins.places_P[p]), last)
            last = place - 1
            state.pinned_K[place] = p
    keeps = True
    for place in range(length):
        p = state.pinned_K[place]
        if p >= 0:
            keeps &= barred_by(state, caps, pins.items_P[p], place) < 0
            count(state, caps, needs, pins.items_P[p], place, np.int64(1))
    return keeps


@njit(**INSIDE)
def _available(state, caps, needs, num_free, m, window):
    """Return an upper bound on how many unused candidates serving need m (-1: any) fit into the top positions, and what sets it.

    The second number is the at-most rule that sets the bound, or -1 if it is simply their count. Under an at-most rule a candidate
    uses one slot in each group it belongs to, so the bound takes the candidates in the fewest groups first.
    """
    raw, barring = 0, -1
    state.free_F[:] = 0
    state.sizes_FN[:] = 0
    for c in range(num_free):
        item = state.items_C[c]
        if state.used_C[c] or (m >= 0 and not (needs.serves_I[item] >> np.uint32(m)) & np.uint32(1)):
            continue
        raw += 1
        begun, end = caps.indptr[item], caps.indptr[item + 1]
        barred = False
        for n in range(begun, end):
            group = caps.groups_N[n]
            if caps.window_G[group] >= window and state.count_G[group] >= caps.most_G[group]:
                barred = True
                barring = caps.rule_F[caps.family_G[group]]
        if barred:
            raw -= 1
            continue
        at = begun
        for family in range(len(caps.rule_F)):  # groups are ascending, and so are families
            size = 0
            while at < end and caps.family_G[caps.groups_N[at]] == family:
                group = caps.groups_N[at]
                at += 1
                if caps.window_G[group] >= window:
                    size += 1
                    if state.count_G[group] + state.tally_G[group] < caps.most_G[group]:
                        state.tally_G[group] += 1
                        state.free_F[family] += 1
            state.sizes_FN[family, min(size, MOST_GROUPS)] += 1
    best, rule = raw, barring
    for family in range(len(caps.rule_F)):
        fit, left = state.sizes_FN[family, 0], state.free_F[family]
        for size in range(1, MOST_GROUPS + 1):
            some = min(state.sizes_FN[family, size], left // size)
            fit += some
            left -= some * size
        if fit < best:
            best, rule = fit, caps.rule_F[family]
    for c in range(num_free):
        for n in range(caps.indptr[state.items_C[c]], caps.indptr[state.items_C[c] + 1]):
            state.tally_G[caps.groups_N[n]] = 0
    return best, rule


@njit(**INSIDE)
def _room(state, first, end):
    room = 0
    for place in range(first, end):
        room += state.pinned_K[place] < 0
    return room


@njit(**INSIDE)
def _can_finish(state, caps, needs, num_free, first, length):
    """Return False if the positions from `first` on provably cannot be filled so that every need is met."""
    num_needs = len(state.left_M)
    served_by = np.zeros(num_needs + 1, np.int64)
    for at in range(num_needs):
        window = min(np.int64(needs.window_M[at]), length)
        mask, wanted = np.uint32(0), 0
        for m in range(num_needs):
            if state.left_M[m] > 0 and min(np.int64(needs.window_M[m]), length) <= window:
                mask |= np.uint32(1) << np.uint32(m)
                wanted += state.left_M[m]
        if wanted == 0:
            continue
        served_by[:] = 0  # candidates by the number of these needs they serve
        for c in range(num_free):
            if not state.used_C[c]:
                served, bits = 0, needs.serves_I[state.items_C[c]] & mask
                while bits:
                    bits &= bits - np.uint32(1)
                    served += 1
                served_by[served] += 1
        room = _room(state, first, window)
        for served in range(num_needs, 0, -1):
            taken = min(room, served_by[served])
            room -= taken
            wanted -= taken * served
        if wanted > 0:
            return False
    for m in range(num_needs):
        if state.left_M[m] > 0:
            window = min(np.int64(needs.window_M[m]), length)
            if _available(state, caps, needs, num_free, np.int64(m), window)[0] < state.left_M[m]:
                return False
    return _available(state, caps, needs, num_free, np.int64(-1), length)[0] >= _room(state, first, length)


@njit(**INSIDE)
def _met(state):
    for left in state.left_M:
        if left > 0:
            return False
    return True


@njit(**INSIDE)
def _plain(state, caps, needs, num_free, length):
    """Fill each position with the first candidate that is not barred; return whether that satisfies all rules."""
    for place in range(length):
        if state.pinned_K[place] >= 0:
            continue
        found = -1
        for c in range(num_free):
            if not state.used_C[c] and barred_by(state, caps, state.items_C[c], place) < 0:
                found = c
                break
        if found < 0:
            return False
        state.used_C[found] = True
        state.chosen_K[place] = found
        count(state, caps, needs, state.items_C[found], place, np.int64(1))
    return _met(state)


@njit(**INSIDE)
def _unpinned(state, place, step, length):
    """Return the next position without a pin from `place` on; `length` or -1 if there is none."""
    while 0 <= place < length and state.pinned_K[place] >= 0:
        place += step
    return place


@njit(**INSIDE)
def _fail(state, num_free, place, c):
    """Skip a candidate at a position from now on, along with all equivalent ones."""
    for other in range(num_free):
        if state.kinds_C[other] == state.kinds_C[c]:
            state.failed_KC[place, other] = True


@njit(**INSIDE)
def _search(state, caps, needs, num_free, length, windows_W):
    """Find the first list that satisfies all rules; return whether there is one. Stops after STEPS."""
    place = _unpinned(state, np.int64(0), np.int64(1), length)
    if place == length:
        return _met(state)
    if not _can_finish(state, caps, needs, num_free, np.int64(0), length):
        return False
    state.start_K[place] = 0
    state.failed_KC[place] = False
    while True:
        found = -1
        for c in range(state.start_K[place], num_free):
            item = state.items_C[c]
            if state.used_C[c] or state.failed_KC[place, c]:
                continue
            if barred_by(state, caps, item, place) < 0:
                state.steps_1[0] += 1
                if state.steps_1[0] > STEPS:
                    return False
                state.used_C[c] = True
                count(state, caps, needs, item, place, np.int64(1))
                if _can_finish(state, caps, needs, num_free, place + 1, length):
                    found = c
                    break
                state.used_C[c] = False
                count(state, caps, needs, item, place, np.int64(-1))
            _fail(state, num_free, place, c)
        if found >= 0:
            state.chosen_K[place] = found
            state.start_K[place] = found + 1
            after = _unpinned(state, place + 1, np.int64(1), length)
            if after == length:
                return True
            state.start_K[after] = found + 1
            for window in windows_W:
                if place < window <= after:
                    state.start_K[after] = 0
            state.failed_KC[after] = False
            place = after
        else:
            place = _unpinned(state, place - 1, np.int64(-1), length)
            if place < 0:
                return False
            c = state.chosen_K[place]
            state.used_C[c] = False
            count(state, caps, needs, state.items_C[c], place, np.int64(-1))
            _fail(state, num_free, place, c)


@njit(**INSIDE)
def _lower(state, caps, needs, least_M, pins, active_P, num_free, most, problems_R3):
    """Lower each need that these candidates cannot meet on its own, and record why; return whether there are any."""
    begin(state, caps, needs, least_M, pins, active_P, most)
    lowered = False
    for m in range(len(least_M)):
        if state.left_M[m] <= 0:
            continue
        window = min(np.int64(needs.window_M[m]), most)
        given, rule = _available(state, caps, needs, num_free, np.int64(m), window)
        cause = FEW if rule < 0 else CAPPED
        room = _room(state, np.int64(0), window)
        if room < given:
            given, rule, cause = room, -1, NO_ROOM if most >= needs.window_M[m] else FEW
        if given < state.left_M[m]:
            missing = state.left_M[m] - given
            least_M[m] -= missing
            problems_R3[needs.rule_M[m], 0], problems_R3[needs.rule_M[m], 1] = cause, missing
            problems_R3[needs.rule_M[m], 2] = rule
            lowered = True
    return lowered


@njit(**INSIDE)
def fill(state, caps, needs, least_M, pins, active_P, num_free, most, windows_W, problems_R3):
    """Fill the list; lower `least_M` where needs cannot be met. Return its length, or -1 if the pins break a rule."""
    num_pins = 0
    for active in active_P:
        num_pins += active
    if begin(state, caps, needs, least_M, pins, active_P, most) and _plain(state, caps, needs, num_free, most):
        return most
    asked_each = num_pins == 0  # in a shorter list pins move up, and may meet needs that the longest does not
    if asked_each:
        _lower(state, caps, needs, least_M, pins, active_P, num_free, most, problems_R3)
    while True:
        given_up = False
        for length in range(most, num_pins - 1, -1):
            if not begin(state, caps, needs, least_M, pins, active_P, length):
                continue
            if _plain(state, caps, needs, num_free, length):
                return length
            begin(state, caps, needs, least_M, pins, active_P, length)
            state.steps_1[0] = 0
            if _search(state, caps, needs, num_free, length, windows_W):
                return length
            given_up |= state.steps_1[0] > STEPS
        if not asked_each:
            asked_each = True
            if _lower(state, caps, needs, least_M, pins, active_P, num_free, most, problems_R3):
                continue
        last = len(least_M) - 1
        while last >= 0 and least_M[last] <= 0:
            last -= 1
        if last < 0:
            return -1
        least_M[last] -= 1
        rule = needs.rule_M[last]
        problems_R3[rule, 0] = GIVEN_UP if given_up else TOGETHER
        problems_R3[rule, 1] += 1
        problems_R3[rule, 2] = -1
