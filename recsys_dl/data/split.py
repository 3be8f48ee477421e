"""Splitting a Dataset into train, validation and test over the same rows.

Every part keeps the log order and all users and items with their ids and features; only the interactions
differ. `Dataset.seen_only` stays with train, or, in a split by time, with the part of its time; pairs held out in validation or test
are dropped from it. The same data and seed give the same split. Interactions at the same time stay in log order.
`recsys_dl.data.checks.leakage` finds remaining problems (a pair in two parts, time travel).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from recsys_dl.arguments import Count, CountOrZero, OpenShare, Seed, ShareBelowOne, checked

from .blocks import count_rows, taken
from .cold_split import cold_items, cold_split, cold_users
from .dataset import Dataset
from .interactions import Interactions
from .parts import (
    Order,
    Split,
    Until,
    drawn_parts,
    held_counts,
    log_of,
    newest,
    places,
    split_of,
    times_of,
    with_histories,
)

__all__ = [
    "Split",
    "cold_items",
    "cold_split",
    "cold_users",
    "leave_last_out",
    "no_split",
    "random_split",
    "seen_besides_test",
    "time_split",
    "user_split",
]


def no_split(data: Dataset) -> Split:
    """Return everything as train, and nothing as validation and test: for a production model.

    Examples:
        >>> from recsys_dl.data.generated import generated
        >>> from recsys_dl.data.split import no_split
        >>> [len(part.interactions) for part in no_split(generated(num_users=20, num_items=50, num_interactions=100))]
        [100, 0, 0]
    """
    return split_of(data, np.zeros(len(log_of(data)), np.int8))


def seen_besides_test(split: tuple[Dataset, Dataset, Dataset]) -> Interactions:
    """Return all known interactions of a split's users, except those held out in test.

    Includes the `histories` of validation and test, and `seen_only` interactions, even those after the test period began.
    """
    train, validation, test = split
    nothing = test.interactions.select(np.zeros(len(test), bool))
    histories = [part.histories for part in (validation, test) if part.histories is not None]
    return Interactions.concat([train.seen, validation.seen, replace(test, interactions=nothing).seen, *histories])


@checked
def random_split(data: Dataset, *, validation: ShareBelowOne = 0.1, test: OpenShare = 0.1, seed: Seed) -> Split:
    """Split the interactions uniformly at random.

    Uses future data (a user's test may precede their train): meant for rating prediction and for comparison with
    papers that split this way. Repeated pairs may fall into different parts.

    Args:
        data: what to split.
        validation: share of the interactions, 0 for none.
        test: share of the interactions.
        seed: for the draw.

    Raises:
        ValueError: shares out of range, or too few interactions for them.

    Examples:
        >>> from recsys_dl.data.generated import generated
        >>> from recsys_dl.data.split import random_split
        >>> log = generated(num_users=20, num_items=50, num_interactions=100)
        >>> [len(part.interactions) for part in random_split(log, validation=0.1, test=0.2, seed=7)]
        [70, 10, 20]
    """
    n = len(log_of(data))
    num_validation, num_test = held_counts(n, validation, test, "interactions")
    part_N = np.zeros(n, np.int8)
    shuffled_N = np.arange(n, dtype=np.int32)
    np.random.default_rng(seed).shuffle(shuffled_N)
    part_N[shuffled_N[:num_test]] = 2
    part_N[shuffled_N[num_test : num_test + num_validation]] = 1
    return split_of(data, part_N)


@checked
def leave_last_out(
    data: Dataset,
    *,
    num_validation: CountOrZero = 1,
    num_test: Count = 1,
    min_interactions: Count | None = None,
    order: Order = "time",
) -> Split:
    """Hold out each user's last interactions as test, those before them as validation; the rest is train.

    This measures next-item prediction. The parts of different users overlap in time: another user's train may be later than the
    test (`time_split` prevents that).

    Args:
        data: what to split.
        num_validation: interactions per user, 0 for none.
        num_test: interactions per user.
        min_interactions: users with fewer stay entirely in train; None means one more than is held out.
        order: "time", or "log" if the rows of a log without times are in time order.

    Raises:
        ValueError: no times, or no user with enough interactions.

    Examples:
        >>> from recsys_dl import leave_last_out, read_log
        >>> log = read_log({"user": ["ann"] * 3, "item": ["b1", "b2", "b3"], "time": [10, 30, 20]})
        >>> [part.items.at(part.interactions.items_N).to_list() for part in leave_last_out(log)]
        [['b1'], ['b3'], ['b2']]
    """
    log = log_of(data)
    least = num_validation + num_test + 1
    needed = least if min_interactions is None else min_interactions
    if needed < least:
        raise ValueError(
            f"min_interactions must be at least {least}, so that one remains in train besides {num_validation} for "
            f"validation and {num_test} for test; got {needed}"
        )
    part_N, most = np.zeros(len(log), np.int8), 0
    for _, _, positions, mine in log.by_user_ranges():
        from_end_N, count_N = places(mine, order)
        held_N = count_N >= needed
        most = max(most, int(count_N.max(initial=0)))
        part_N[positions[held_N & (from_end_N < num_test + num_validation)]] = 1
        part_N[positions[held_N & (from_end_N < num_test)]] = 2
    if most < needed:
        raise ValueError(
            f"no user has the {needed} interactions needed to hold out {num_test} for test and "
            f"{num_validation} for validation; the most active has {most}. Hold out fewer, or use "
            "random_split or time_split (split=random, split=time)."
        )
    return split_of(data, part_N, seen_until="own" if order == "time" else None)


@checked
def time_split(data: Dataset, *, validation: ShareBelowOne = 0.1, test: OpenShare = 0.1) -> Split:
    """Hold out the newest interactions overall as test, those before them as validation; the rest is train.

    Nothing in train is newer than anything in test. Users and items that first appear after train are held out as well.

    Args:
        data: what to split; it must have times.
        validation: share of the interactions, 0 for none.
        test: share of the interactions.

    Raises:
        ValueError: no times, shares out of range, or too few interactions for them.

    Examples:
        >>> from recsys_dl import read_log
        >>> from recsys_dl.data.split import time_split
        >>> log = read_log({"user": ["ann", "ann", "bob"], "item": ["b1", "b2", "b3"], "time": [10, 20, 30]})
        >>> [part.items.at(part.interactions.items_N).to_list() for part in time_split(log, validation=0.3, test=0.3)]
        [['b1'], ['b2'], ['b3']]
    """
    log = log_of(data)
    times_N = times_of(
        log, "time_split", "Use random_split, or leave_last_out with order='log' if the log is in order."
    )
    n = len(log)
    num_validation, num_test = held_counts(n, validation, test, "interactions")
    part_N = np.zeros(n, np.int8)
    part_N[newest(times_N, num_test + num_validation)] = 1
    part_N[newest(times_N, num_test)] = 2
    return split_of(data, part_N, seen_until="all")


@checked
def user_split(
    data: Dataset,
    *,
    validation: ShareBelowOne = 0.1,
    test: OpenShare = 0.1,
    asked: OpenShare = 0.2,
    order: Literal["time", "log", "random"] = "time",
    seed: Seed,
) -> Split:
    """Split the users: train has no interactions of those in validation and test (strong generalization).

    A part of each held-out user's log becomes the `histories` of the validation or test Dataset, from which a model
    folds the user in; the rest is held out. Users with one interaction stay in train.

    Args:
        data: what to split.
        validation: share of the users, 0 for none.
        test: share of the users.
        asked: share of each held-out user's log that is held out, rounded, at least one interaction and never all.
        order: the held-out part is the newest by "time" or by "log" order, or drawn at "random" (as Liang et
            al. 2018, "Variational Autoencoders for Collaborative Filtering", section 4.2).
        seed: for the choice of users and the random order.

    Raises:
        ValueError: no times, shares out of range, or too few users for them.

    Examples:
        >>> from recsys_dl.data.generated import generated
        >>> from recsys_dl.data.split import user_split
        >>> train, _, test = user_split(generated(num_users=20, num_items=50, num_interactions=100), seed=7)
        >>> set(train.interactions.users_N) & set(test.histories.users_N), len(test.histories), len(test.interactions)
        (set(), 5, 2)
    """
    log = log_of(data)
    rng = np.random.default_rng(seed)
    counts_U = count_rows(log.users_N, log.num_users)
    part_U = drawn_parts(
        np.flatnonzero(counts_U >= 2), log.num_users, validation, test, "users with two interactions", rng
    )
    part_N = taken(part_U, log.users_N)
    held_N = np.flatnonzero(part_N)
    from_end_N, count_N = places(log.select(held_N), order, rng)
    known_N = np.zeros(len(log), bool)
    known_N[held_N] = from_end_N >= np.clip(np.rint(asked * count_N), 1, count_N - 1)
    seen_until: Until = "own" if order == "time" else None
    parts = split_of(data, np.where(known_N, np.int8(-1), part_N), seen_until=seen_until)
    histories = (log.select(known_N & (part_N == part)) for part in (1, 2))
    return Split(parts.train, *map(with_histories, parts[1:], histories))
