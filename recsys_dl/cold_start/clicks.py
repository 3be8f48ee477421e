"""How good a model's lists are for new users after each number of clicks. U users, N interactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recsys_dl.arguments import CountOrZero, Seed, checked
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.messages import shorten
from recsys_dl.evaluation import Evaluation, evaluate
from recsys_dl.protocols import Recommender

CLICKS = (0, 1, 2, 5, 10, 20)


@checked
def first_clicks(histories: Interactions, num: CountOrZero, *, seed: Seed = 7) -> Interactions:
    """Return each user's oldest interactions, up to `num`; without times, random ones.

    A larger number includes those of a smaller one.

    Args:
        histories: of the users.
        num: interactions per user, 0 or more.
        seed: for the random order of a log without times.

    Raises:
        ValueError: no whole number of at least 0.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.cold_start import first_clicks
        >>> log = Interactions([0, 0, 0, 1], [5, 6, 7, 5], times_N=[30, 10, 20, 10])
        >>> first_clicks(log, 2).items_N
        array([6, 7, 5], dtype=int32)
    """
    size = len(histories)
    key_N = np.random.default_rng(seed).permutation(size) if histories.times_N is None else histories.times_N
    ordered_N = np.lexsort((np.arange(size), key_N, histories.users_N))
    starts_U = np.concatenate([[0], np.cumsum(np.bincount(histories.users_N, minlength=histories.num_users))])
    place_N = np.arange(size) - starts_U[histories.users_N[ordered_N]]
    return histories.select(np.sort(ordered_N[place_N < num]))


def after_clicks(
    model: Recommender, train: Dataset, test: Dataset, clicks: Sequence[int] = CLICKS, *, seed: int = 7, **how: Any
) -> dict[int, Evaluation]:
    """Return the evaluation of new users who are folded in from their first 0, 1, 2, ... interactions.

    For every number the users, their relevant items and the candidates are the same: `test.interactions`, and all items but those of
    `test.histories`, clicked by then or not. A user with fewer interactions is folded in from all of them.

    Args:
        model: fitted on `train`, which has none of the test users (split=user).
        train: the training part.
        test: its `histories` are what the users click.
        clicks: numbers of interactions, each 0 or more, all different.
        seed: for the order of clicks of a log without times.
        how: further arguments of `evaluate`, such as k.

    Raises:
        ValueError: clicks that are not such numbers, a test part without histories, or as in `evaluate`.

    Examples:
        >>> from recsys_dl.cold_start import after_clicks
        >>> from recsys_dl.data.generated import generated
        >>> from recsys_dl.data.split import user_split
        >>> from recsys_dl.models import Popularity
        >>> train, _, test = user_split(generated(num_users=50, num_items=50, num_interactions=250), seed=7)
        >>> list(after_clicks(Popularity().fit(train), train, test, clicks=[0, 5], k=10))
        [0, 5]
    """
    numbers = _numbers(clicks)
    histories = histories_of(test)
    return {num: folded_from(model, train, test, first_clicks(histories, num, seed=seed), **how) for num in numbers}


def _numbers(clicks: Any) -> list[int]:
    """Return numbers of clicks.

    Raises:
        ValueError: no list, an empty one, or one of something else than different whole numbers from 0.
    """
    must = "clicks must be a list of different whole numbers of at least 0, such as [0, 1, 5]"
    if isinstance(clicks, str | bytes | Mapping) or not hasattr(clicks, "__iter__"):
        raise ValueError(f"{must}, got {shorten(repr(clicks))}")
    given = list(clicks)
    for at, num in enumerate(given):
        if isinstance(num, bool) or not isinstance(num, int | np.integer) or num < 0 or num in given[:at]:
            raise ValueError(f"{must}, got {shorten(repr(num))}{' twice' if num in given[:at] else ''}")
    if not given:
        raise ValueError(f"{must}, got none")
    return [int(num) for num in given]


def histories_of(test: Dataset) -> Interactions:
    """Return what the users of a test part interacted with before.

    Raises:
        ValueError: none are held apart from what is to be found.
    """
    histories = test.histories if isinstance(test, Dataset) else None
    if histories is None or not len(histories):
        raise ValueError(
            "test must hold users whom train does not know, with histories: split by user_split (split=user), got a part without histories"
        )
    return histories


def folded_from(model: Recommender, train: Dataset, test: Dataset, known: Interactions, **how: Any) -> Evaluation:
    """Return the evaluation of test users who are folded in from `known`, with all of their histories excluded from lists."""
    part = test.with_interactions(test.interactions, histories=known)
    return evaluate(model, train, part, exclude=histories_of(test), **how)
