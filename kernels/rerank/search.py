"""One list under rules of at most and at least, with items pinned to places.

C candidates that no rule takes out, K places, I items, R rules, G groups (one for each rule of at most, or for each value of
its column), F rules of at most, M rules of at least, P pins, W windows.

Of all lists that keep the rules the answer is the longest, and of these the first in the order of the candidates, place by
place. Almost always it is found by taking at each place the first candidate that no rule of at most bars. Where that leaves a
place empty or a rule of at least unmet, a search with backtracking follows. It looks ahead by upper bounds on what the
candidates left can still give, takes the places between two windows in the candidates' order (any other order of theirs is as
good), and passes over candidates that every rule treats as one that failed. It is complete up to STEPS candidates tried for
each length; whether a rule gave way because these were used up is told.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

INSIDE = {"cache": True, "nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels alone
STEPS = 1000  # candidates tried for a list of one length before a shorter one is tried, or a rule gives way
MOST_GROUPS = 15  # of one rule that an item is counted in; more count as these

# why a rule was not kept, or a list is short
KEPT, FEW, CAPPED, NO_ROOM, TOGETHER, GIVEN_UP, SEEN, PIN_CAPPED, PIN_RAISED, SHORT = range(10)


class Caps(NamedTuple):
    """Rules of at most: the groups of item i are groups_N[indptr[i]:indptr[i + 1]]."""

    indptr: np.ndarray  # int64
    groups_N: np.ndarray  # int32
    most_G: np.ndarray  # int32
    window_G: np.ndarray  # int32, of the first places it counts
    family_G: np.ndarray  # int32 in [0, F)
    rule_F: np.ndarray  # int32 in [0, R)


class Needs(NamedTuple):
    """Rules of at least: bit m of serves_I[i] says whether item i counts for need m."""

    serves_I: np.ndarray  # uint32
    least_M: np.ndarray  # int32
    window_M: np.ndarray  # int32
    rule_M: np.ndarray  # int32


class Pins(NamedTuple):
    """Items at places, by ascending place."""

    items_P: np.ndarray  # int32
    places_P: np.ndarray  # int32
    rule_P: np.ndarray  # int32


class State(NamedTuple):
    """One list in the making."""

    free_C: np.ndarray  # positions of candidates
    items_C: np.ndarray
    kinds_C: np.ndarray  # the same for candidates that all rules treat alike
    used_C: np.ndarray
    marks_C: np.ndarray  # reason for which a candidate was passed over
    count_G: np.ndarray  # of items placed or pinned within the group's window
    tally_G: np.ndarray  # zeros between uses
    free_F: np.ndarray  # places still free in groups
    sizes_FN: np.ndarray  # candidates by the number of their groups
    left_M: np.ndarray  # still needed
    pinned_K: np.ndarray  # pin at each place, or -1
    chosen_K: np.ndarray  # candidate at each place, or -1
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
    """Return the rule of at most that bars an item from a place, or -1."""
    for n in range(caps.indptr[item], caps.indptr[item + 1]):
        group = caps.groups_N[n]
        if place < caps.window_G[group] and state.count_G[group] >= caps.most_G[group]:
            return caps.rule_F[caps.family_G[group]]
    return -1


@njit(**INSIDE)
def count(state, caps, needs, item, place, by):
    """Count an item at a place for its groups and needs; `by` is 1, or -1 to take it back."""
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
    """Empty the list, put the pins in; return whether they keep the rules of at most.

    Pins below the end of the list stand at its end, in their order.
    """
    state.count_G[:] = 0
    state.used_C[:] = False
    for m in range(len(least_M)):  # whole arrays bring code for errors that takes seconds to compile
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
            count(state, caps, needs, pins.items_P[p], place, 1)
    return keeps


@njit(**INSIDE)
def _available(state, caps, needs, num_free, m, window):
    """Return an upper bound on how many unused candidates serving need m (-1: all) fit into the first places, and by which.

    The second number is the rule of at most that gives the bound, -1 where it is their mere number. Of a rule with groups a
    candidate takes as many of their free places as it is in groups, so no more fit than those in the fewest groups do.
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
        for family in range(len(caps.rule_F)):  # groups ascend, and with them families
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
    """Return False where the places from `first` on can surely not be filled so that every need is met."""
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
        served_by[:] = 0  # candidates by how many of these needs they serve
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
            if _available(state, caps, needs, num_free, m, window)[0] < state.left_M[m]:
                return False
    return _available(state, caps, needs, num_free, -1, length)[0] >= _room(state, first, length)


@njit(**INSIDE)
def _met(state):
    for left in state.left_M:
        if left > 0:
            return False
    return True


@njit(**INSIDE)
def _plain(state, caps, needs, num_free, length):
    """Take at each place the first candidate that is not barred; return whether that keeps all rules."""
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
        count(state, caps, needs, state.items_C[found], place, 1)
    return _met(state)


@njit(**INSIDE)
def _unpinned(state, place, step, length):
    """Return the next place without a pin from `place` on; `length` or -1 where there is none."""
    while 0 <= place < length and state.pinned_K[place] >= 0:
        place += step
    return place


@njit(**INSIDE)
def _fail(state, num_free, place, c):
    """Pass over a candidate at a place from now on, and all that rules treat like it."""
    for other in range(num_free):
        if state.kinds_C[other] == state.kinds_C[c]:
            state.failed_KC[place, other] = True


@njit(**INSIDE)
def _search(state, caps, needs, num_free, length, windows_W):
    """Find the first list that keeps all rules; return whether there is one. Stops after STEPS."""
    place = _unpinned(state, 0, 1, length)
    if place == length:
        return _met(state)
    if not _can_finish(state, caps, needs, num_free, 0, length):
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
                count(state, caps, needs, item, place, 1)
                if _can_finish(state, caps, needs, num_free, place + 1, length):
                    found = c
                    break
                state.used_C[c] = False
                count(state, caps, needs, item, place, -1)
            _fail(state, num_free, place, c)
        if found >= 0:
            state.chosen_K[place] = found
            state.start_K[place] = found + 1
            after = _unpinned(state, place + 1, 1, length)
            if after == length:
                return True
            state.start_K[after] = found + 1
            for window in windows_W:
                if place < window <= after:
                    state.start_K[after] = 0
            state.failed_KC[after] = False
            place = after
        else:
            place = _unpinned(state, place - 1, -1, length)
            if place < 0:
                return False
            c = state.chosen_K[place]
            state.used_C[c] = False
            count(state, caps, needs, state.items_C[c], place, -1)
            _fail(state, num_free, place, c)


@njit(**INSIDE)
def _lower(state, caps, needs, least_M, pins, active_P, num_free, most, problems_R3):
    """Lower the needs that these candidates cannot meet, each for itself, and say why; return whether there are any."""
    begin(state, caps, needs, least_M, pins, active_P, most)
    lowered = False
    for m in range(len(least_M)):
        if state.left_M[m] <= 0:
            continue
        window = min(np.int64(needs.window_M[m]), most)
        given, rule = _available(state, caps, needs, num_free, m, window)
        cause = FEW if rule < 0 else CAPPED
        room = _room(state, 0, window)
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
    """Fill the list; lower `least_M` where needs cannot be met. Return its length, or -1 where the pins break a rule."""
    num_pins = 0
    for active in active_P:
        num_pins += active
    if begin(state, caps, needs, least_M, pins, active_P, most) and _plain(state, caps, needs, num_free, most):
        return most
    asked_each = num_pins == 0  # in a shorter list pins rise, and may meet needs that they do not meet in the longest
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
