"""Splitting a Dataset into train, validation and test over the same rows.

Every part keeps the log order and all users and items with their ids and features; only the interactions
differ. `Dataset.seen_only` stays with train, or, in a split by time, with the part of its time; pairs held out in validation or test
are dropped from it. The same data and seed give the same split. Interactions at the same time stay in log order.
`recsys_dl.data.checks.leakage` finds remaining problems (a pair in two parts, time travel).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from recsys_dl.arguments import Count, CountOrZero, OpenShare, Seed, ShareBelowOne, checked

from .checks import known_pairs
from .dataset import Dataset
from .interactions import Interactions

logger = logging.getLogger(__name__)

Order = Literal["time", "log"]
Until = Literal["own", "all"] | None  # whose first held-out interaction ends `seen_only` in train


class Split(NamedTuple):
    """Three parts of one log.

    Attributes:
        train: for fitting.
        validation: for model selection; empty if not requested.
        test: for the final report, used once.
    """

    train: Dataset
    validation: Dataset
    test: Dataset


def no_split(data: Dataset) -> Split:
    """Return everything as train, and nothing as validation and test: for a production model.

    Examples:
        >>> from recsys_dl.data.generated import generated
        >>> from recsys_dl.data.split import no_split
        >>> [len(part.interactions) for part in no_split(generated(num_users=20, num_items=50, num_interactions=100))]
        [100, 0, 0]
    """
    return _parts(data, np.zeros(len(_log(data)), np.int8))


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
    n = len(_log(data))
    num_validation, num_test = _counts(n, validation, test, "interactions")
    part_N = np.zeros(n, np.int8)
    shuffled_N = np.random.default_rng(seed).permutation(n)
    part_N[shuffled_N[:num_test]] = 2
    part_N[shuffled_N[num_test : num_test + num_validation]] = 1
    return _parts(data, part_N)


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
    log = _log(data)
    least = num_validation + num_test + 1
    needed = least if min_interactions is None else min_interactions
    if needed < least:
        raise ValueError(
            f"min_interactions must be at least {least}, so that one remains in train besides {num_validation} for "
            f"validation and {num_test} for test; got {needed}"
        )
    from_end_N, count_N = _places(log, order)
    held_N = count_N >= needed
    if not held_N.any():
        raise ValueError(
            f"no user has the {needed} interactions needed to hold out {num_test} for test and "
            f"{num_validation} for validation; the most active has {count_N.max(initial=0)}. Hold out fewer, or use "
            "random_split or time_split."
        )
    part_N = np.zeros(len(log), np.int8)
    part_N[held_N & (from_end_N < num_test + num_validation)] = 1
    part_N[held_N & (from_end_N < num_test)] = 2
    return _parts(data, part_N, seen_until="own" if order == "time" else None)


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
    log = _log(data)
    times_N = _times(log, "time_split", "Use random_split, or leave_last_out with order='log' if the log is in order.")
    n = len(log)
    num_validation, num_test = _counts(n, validation, test, "interactions")
    part_N = np.zeros(n, np.int8)
    oldest_first_N = np.argsort(times_N, kind="stable")
    part_N[oldest_first_N[n - num_test - num_validation :]] = 1
    part_N[oldest_first_N[n - num_test :]] = 2
    return _parts(data, part_N, seen_until="all")


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
    log = _log(data)
    rng = np.random.default_rng(seed)
    counts_U = np.bincount(log.users_N, minlength=log.num_users)
    part_U = _drawn(np.flatnonzero(counts_U >= 2), log.num_users, validation, test, "users with two interactions", rng)
    part_N = part_U[log.users_N]
    held_N = np.flatnonzero(part_N)
    from_end_N, count_N = _places(log.select(held_N), order, rng)
    known_N = np.zeros(len(log), bool)
    known_N[held_N] = from_end_N >= np.clip(np.rint(asked * count_N), 1, count_N - 1)
    seen_until: Until = "own" if order == "time" else None
    parts = _parts(data, np.where(known_N, np.int8(-1), part_N), seen_until=seen_until)
    histories = (log.select(known_N & (part_N == part)) for part in (1, 2))
    return Split(parts.train, *map(_with_histories, parts[1:], histories))


@checked
def cold_items(data: Dataset, *, validation: ShareBelowOne = 0.1, test: OpenShare = 0.1, seed: Seed) -> Split:
    """Split the items: train has no interactions with those in validation and test.

    Such items can only be recommended by their side information (features, text).

    Args:
        data: what to split.
        validation: share of the items that have an interaction, 0 for none.
        test: likewise.
        seed: for the choice of items.

    Raises:
        ValueError: shares out of range, or too few items for them.

    Examples:
        >>> from recsys_dl.data.generated import generated
        >>> from recsys_dl.data.split import cold_items
        >>> train, _, test = cold_items(generated(num_users=20, num_items=50, num_interactions=100), seed=7)
        >>> set(train.interactions.items_N) & set(test.interactions.items_N), len(set(test.interactions.items_N))
        (set(), 4)
    """
    log = _log(data)
    known = np.unique(log.items_N)
    rng = np.random.default_rng(seed)
    return _parts(data, _drawn(known, log.num_items, validation, test, "items", rng)[log.items_N])


@checked
def cold_users(data: Dataset, *, validation: ShareBelowOne = 0.1, test: OpenShare = 0.1, seed: Seed) -> Split:
    """Split the users: train has no interactions of those in validation and test, and their `histories` are empty.

    They can only be served by side information (features) or non-personalized recommendations.

    Args:
        data: what to split.
        validation: share of the users who have an interaction, 0 for none.
        test: likewise.
        seed: for the choice of users.

    Raises:
        ValueError: shares out of range, or too few users for them.

    Examples:
        >>> from recsys_dl.data.generated import generated
        >>> from recsys_dl.data.split import cold_users
        >>> train, _, test = cold_users(generated(num_users=20, num_items=50, num_interactions=100), seed=7)
        >>> set(train.interactions.users_N) & set(test.interactions.users_N), len(set(test.interactions.users_N))
        (set(), 2)
    """
    log = _log(data)
    known = np.unique(log.users_N)
    rng = np.random.default_rng(seed)
    parts = _parts(data, _drawn(known, log.num_users, validation, test, "users", rng)[log.users_N])
    nothing = log.select(np.zeros(len(log), bool))
    return Split(parts.train, *map(_with_histories, parts[1:], (nothing, nothing)))


def _log(data: Dataset) -> Interactions:
    if not isinstance(data, Dataset):
        raise TypeError(
            f"a split needs a Dataset, got {type(data).__name__}; use read_log(), which also takes matrices"
        )
    return data.interactions


def _times(log: Interactions, what: str, instead: str) -> np.ndarray:
    if log.times_N is None:
        raise ValueError(f"{what} needs interactions with times, got none. Include a time column. {instead}")
    return log.times_N


def _parts(data: Dataset, part_N: np.ndarray, *, seen_until: Until = None) -> Split:
    """Return train, validation and test: the interactions marked 0, 1 and 2.

    `seen_only` stays in train if it is not later than the first interaction in validation or test, of its user or
    overall; without times, or if the split is not by time, train keeps all of it.
    """
    logs = [data.interactions.select(part_N == part) for part in (0, 1, 2)]
    if repeated := int(known_pairs(logs[2], logs[0]).sum()):
        logger.warning(
            "%s of %s test interactions repeat a user and an item of train: items in train are excluded from lists, so they "
            "count as misses. If the same event or rating comes twice, read the log with repeats=last (data.repeats=last).",
            *(f"{repeated:,}", f"{len(logs[2]):,}"),
        )
    parts = [data.with_interactions(log) for log in logs]
    rest = data.seen_only
    if rest is None:
        return Split(*parts)
    rest = rest.select(~(known_pairs(rest, logs[1]) | known_pairs(rest, logs[2])))
    part_S = np.zeros(len(rest), np.int8)
    if seen_until is not None and rest.times_N is not None:
        for part in (1, 2):
            part_S[rest.times_N > _first_times(logs[part], each=seen_until == "own")[rest.users_N]] = part
    return Split(*(replace(part, seen_only=rest.select(part_S == n)) for n, part in enumerate(parts)))


def _first_times(log: Interactions, *, each: bool) -> np.ndarray:
    """Return int64 [U]: the earliest time, per user or overall; the maximum int64 where the log is empty."""
    first_U = np.full(log.num_users, np.iinfo(np.int64).max)
    if log.times_N is not None and len(log):
        if each:
            np.minimum.at(first_U, log.users_N, log.times_N)
        else:
            first_U[:] = log.times_N.min()
    return first_U


def _with_histories(part: Dataset, histories: Interactions) -> Dataset:
    return part.with_interactions(part.interactions, histories=histories)


def _drawn(
    known: np.ndarray, size: int, validation: float, test: float, noun: str, rng: np.random.Generator
) -> np.ndarray:
    """Return the part of each of `size` rows: 1 and 2 for rows drawn from `known`, 0 for all others."""
    num_validation, num_test = _counts(len(known), validation, test, noun)
    drawn = rng.permutation(known)
    part = np.zeros(size, np.int8)
    part[drawn[:num_test]] = 2
    part[drawn[num_test : num_test + num_validation]] = 1
    return part


def _counts(n: int, validation: float, test: float, noun: str) -> tuple[int, int]:
    """Return how many of n are held out for validation and test."""
    if not (0 <= validation < 1 and 0 < test < 1 and validation + test < 1):
        raise ValueError(
            f"validation and test must be shares of the {noun}: validation at least 0, test above 0, and below 1 "
            f"together, so that some remain for train; got validation={validation}, test={test}"
        )
    counts = {"validation": round(validation * n), "test": round(test * n)}
    for part, share in (("validation", validation), ("test", test)):
        if share and not counts[part]:
            raise ValueError(f"{part}={share} of {n:,} {noun} leaves {part} empty; raise it, or use more data")
    if sum(counts.values()) >= n:
        raise ValueError(f"validation={validation} and test={test} of {n:,} {noun} leave none for train; lower them")
    return counts["validation"], counts["test"]


def _places(
    log: Interactions, order: Literal["time", "log", "random"], rng: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each interaction, how many of its user's come after it, and the user's total."""
    key_N: np.ndarray | None = None
    if order == "time":
        key_N = _times(
            log,
            "order='time'",
            "If the log's rows are in time order, set order='log'; else split at random: split=random, in Python recsys_dl.data.split.random_split(data, seed=7).",
        )
    elif order == "random" and rng is not None:
        key_N = rng.permutation(len(log))
    elif order != "log":
        raise ValueError(f"order must be {'time, log or random' if rng else 'time or log'}, got {order!r}")
    ordered_N = np.arange(len(log)) if key_N is None else np.argsort(key_N, kind="stable")
    mine_N, starts = log.select(ordered_N).positions_by_user
    sorted_N = ordered_N[mine_N]
    counts_U = np.diff(starts)
    from_end_N = np.empty(len(log), np.int64)
    from_end_N[sorted_N] = np.repeat(starts[1:], counts_U) - 1 - np.arange(len(log))
    return from_end_N, counts_U[log.users_N]
