"""Splits that hold out whole items, whole users, or both."""

from __future__ import annotations

import logging

import numpy as np

from recsys_dl.arguments import OpenShare, Seed, ShareBelowOne, checked

from .dataset import Dataset
from .interactions import Interactions
from .parts import Split, drawn_parts, held_counts, log_of, split_of, with_histories

logger = logging.getLogger("recsys_dl.data.split")


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
    log = log_of(data)
    known = np.unique(log.items_N)
    rng = np.random.default_rng(seed)
    return split_of(data, drawn_parts(known, log.num_items, validation, test, "items", rng)[log.items_N])


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
    log = log_of(data)
    known = np.unique(log.users_N)
    rng = np.random.default_rng(seed)
    parts = split_of(data, drawn_parts(known, log.num_users, validation, test, "users", rng)[log.users_N])
    nothing = log.select(np.zeros(len(log), bool))
    return Split(parts.train, *map(with_histories, parts[1:], (nothing, nothing)))


@checked
def cold_split(data: Dataset, *, validation: ShareBelowOne = 0.1, test: OpenShare = 0.1, seed: Seed) -> Split:
    """Hold out whole items, whole users, and some interactions of the others, so that one model meets every kind.

    Three draws with the same shares: of the items, of the users, and of the interactions between the users and items that remain (warm ones). Test
    holds what test's items and users take part in, and its share of the warm interactions: warm users with warm items, warm users with
    cold items, cold users with warm items, and both cold. Validation likewise. An item or user that is cold in test occurs neither in train nor
    in validation, and one that is cold in validation neither in train nor in test; to keep that so, the few interactions between a cold one of
    validation and a cold one of test are in no part, which is logged. Every warm user and item keeps an interaction in train. A user whose items are all cold is
    as cold as they are, likewise an item.

    Args:
        data: what to split.
        validation: share of the items, of the users, and of the warm interactions; 0 for none.
        test: likewise.
        seed: for the draws.

    Raises:
        ValueError: shares out of range, or too few items, users or interactions for them.

    Examples:
        >>> from recsys_dl.data.generated import generated
        >>> from recsys_dl.data.split import cold_split
        >>> train, _, test = cold_split(generated(num_users=40, num_items=100, num_interactions=400), seed=7)
        >>> known, held = train.interactions, test.interactions
        >>> len(set(held.items_N) - set(known.items_N)), len(set(held.users_N) - set(known.users_N))
        (14, 4)
    """
    log = log_of(data)
    rng = np.random.default_rng(seed)
    part_I = drawn_parts(np.unique(log.items_N), log.num_items, validation, test, "items", rng)
    part_U = drawn_parts(np.unique(log.users_N), log.num_users, validation, test, "users", rng)
    items_N, users_N = part_I[log.items_N], part_U[log.users_N]
    warm_N = (items_N == 0) & (users_N == 0)
    if not warm_N.any():
        raise ValueError(
            f"validation={validation} and test={test} leave no interaction of warm users with warm items; lower them"
        )
    _stranded(part_U, log.users_N, items_N, warm_N)
    _stranded(part_I, log.items_N, users_N, warm_N)
    items_N, users_N = part_I[log.items_N], part_U[log.users_N]
    part_N = np.maximum(items_N, users_N)
    apart_N = (items_N > 0) & (users_N > 0) & (items_N != users_N)
    part_N[apart_N] = -1
    if apart_N.any():
        logger.info(
            "%s of %s interactions are in no part: between a cold item of validation and a cold user of test, or the reverse",
            *(f"{apart_N.sum():,}", f"{len(log):,}"),
        )
    drawn_N = rng.permutation(np.flatnonzero(warm_N))
    free_N = drawn_N[~_first_of_each(log, drawn_N)]
    num_validation, num_test = held_counts(len(drawn_N), validation, test, "warm interactions")
    if num_validation + num_test > len(free_N):
        raise ValueError(
            f"validation={validation} and test={test} of {len(drawn_N):,} warm interactions are {num_validation + num_test:,}, but only "
            f"{len(free_N):,} can be held out if every warm user and item keeps one in train; lower them"
        )
    part_N[free_N[:num_test]] = 2
    part_N[free_N[num_test : num_test + num_validation]] = 1
    return split_of(data, part_N)


def _stranded(part_X: np.ndarray, rows_N: np.ndarray, others_N: np.ndarray, warm_N: np.ndarray) -> None:
    """Make rows without a warm interaction as cold as what they interacted with: test's if any of it is.

    Args:
        part_X: of the users (or items); changed in place.
        rows_N: of the same side.
        others_N: the part of the other side of each interaction.
        warm_N: bool, interactions between warm rows of both sides.
    """
    lost_X = part_X == 0
    lost_X[rows_N[warm_N]] = False
    mine_N = lost_X[rows_N]
    np.maximum.at(part_X, rows_N[mine_N], others_N[mine_N])


def _first_of_each(log: Interactions, drawn_N: np.ndarray) -> np.ndarray:
    """Return bool, aligned with `drawn_N`: the first interaction of its user or of its item in that order."""
    first_N = np.zeros(len(drawn_N), bool)
    for rows_N in (log.users_N[drawn_N], log.items_N[drawn_N]):
        first_N[np.unique(rows_N, return_index=True)[1]] = True
    return first_N
