"""The parts of a split, and what every split is made with: drawing rows, counting shares, ordering each user's log."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from .blocks import blocks
from .checks import known_pairs
from .dataset import Dataset
from .interactions import Interactions

logger = logging.getLogger("recsys_dl.data.split")

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


def log_of(data: Dataset) -> Interactions:
    """Return the log to split.

    Raises:
        TypeError: bare Interactions, or anything else.
    """
    if not isinstance(data, Dataset):
        raise TypeError(
            f"a split needs a Dataset, got {type(data).__name__}; use read_log(), which also takes matrices"
        )
    return data.interactions


def times_of(log: Interactions, what: str, instead: str) -> np.ndarray:
    """Return int64 [N], the times; ValueError for a log without, naming what needs them and what to use instead."""
    if log.times_N is None:
        raise ValueError(f"{what} needs interactions with times, got none. Include a time column. {instead}")
    return log.times_N


def split_of(data: Dataset, part_N: np.ndarray, *, seen_until: Until = None) -> Split:
    """Return train, validation and test: the interactions marked 0, 1 and 2; others are in none.

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
            first_U = _first_times(logs[part], each=seen_until == "own")
            for block in blocks(len(rest)):
                part_S[block][rest.times_N[block] > first_U[rest.users_N[block]]] = part
    return Split(*(replace(part, seen_only=rest.select(part_S == n)) for n, part in enumerate(parts)))


def _first_times(log: Interactions, *, each: bool) -> np.ndarray:
    """Return int64 [U]: the earliest time, per user or overall; the maximum int64 where the log is empty."""
    first_U = np.full(log.num_users, np.iinfo(np.int64).max)
    if log.times_N is not None and len(log):
        if each:
            for block in blocks(len(log)):
                np.minimum.at(first_U, log.users_N[block], log.times_N[block])
        else:
            first_U[:] = log.times_N.min()
    return first_U


def with_histories(part: Dataset, histories: Interactions) -> Dataset:
    """Return a part whose users are folded in from `histories`."""
    return part.with_interactions(part.interactions, histories=histories)


def drawn_parts(
    known: np.ndarray, size: int, validation: float, test: float, noun: str, rng: np.random.Generator
) -> np.ndarray:
    """Return the part of each of `size` rows: 1 and 2 for rows drawn from `known`, 0 for all others."""
    num_validation, num_test = held_counts(len(known), validation, test, noun)
    drawn = rng.permutation(known)
    part = np.zeros(size, np.int8)
    part[drawn[:num_test]] = 2
    part[drawn[num_test : num_test + num_validation]] = 1
    return part


def held_counts(n: int, validation: float, test: float, noun: str) -> tuple[int, int]:
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


def places(
    log: Interactions, order: Literal["time", "log", "random"], rng: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each interaction, how many of its user's come after it, and the user's total."""
    key_N: np.ndarray | None = None
    if order == "time":
        key_N = times_of(
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


def newest(times_N: np.ndarray, count: int) -> np.ndarray:
    """Return bool [N], the `count` newest; among equal times, those later in the log."""
    if not count:
        return np.zeros(len(times_N), bool)
    low, high = int(times_N.min()), int(times_N.max())
    while low < high:  # the largest time that at least `count` reach
        middle = (low + high + 1) // 2
        if int((times_N >= middle).sum()) >= count:
            low = middle
        else:
            high = middle - 1
    chosen_N = times_N >= low
    surplus = int(chosen_N.sum()) - count
    chosen_N[np.flatnonzero(times_N == low)[:surplus]] = False
    return chosen_N
