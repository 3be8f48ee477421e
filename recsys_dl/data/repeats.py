"""Handling repeated user-item rows: copies of one event, updated ratings, counts that add up."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import scipy.sparse as sp

from .blocks import distinct
from .checks import pairs_of
from .dataset import Dataset, WeightKind
from .interactions import Interactions

log = logging.getLogger(__name__)

Repeats = Literal["keep", "first", "last", "mean", "sum"]

RATINGS = {"rating", "ratings", "rate", "rated", "stars", "star", "score", "overall", "preference", "grade"}
COUNTS = {
    "count",
    "counts",
    "plays",
    "playcount",
    "listencount",
    "listens",
    "views",
    "clicks",
    "click",
    "quantity",
    "qty",
}
COUNTS |= {
    "purchases",
    "orders",
    "visits",
    "hits",
    "frequency",
    "freq",
    "total",
    "amount",
    "duration",
    "seconds",
    "minutes",
}
RATING_ENDINGS = ("rating", "ratings", "stars")
COUNT_ENDINGS = ("quantity", "qty", "count", "counts", "plays", "played", "clicks", "views", "purchases", "hours")
LARGEST_RATING, MOST_RATINGS = 10.0, 21  # weights in a column with an uninformative name: 0 to 10 in halves


def kind_of(name: str | None, weights_N: np.ndarray) -> WeightKind | None:
    """Return whether weights are ratings or counts, judging by the name of their column, else by their values.

    With an uninformative name, weights are ratings if there are at most 21 distinct values, more than one, and none above 10; else
    counts. Weights that are all equal, or only 0 and 1, are neither: they record that something happened or did not.

    Args:
        name: of the column; None if it has none.
        weights_N: its values.
    """
    values, _ = distinct(weights_N)
    if len(values) < 2 or set(values.tolist()) == {0.0, 1.0}:
        return None
    plain = "".join(letter for letter in (name or "").lower() if letter.isalnum())
    if plain in RATINGS or plain.endswith(RATING_ENDINGS):
        return "ratings"
    if plain in COUNTS or plain.endswith(COUNT_ENDINGS):
        return "counts"
    return "ratings" if values[-1] <= LARGEST_RATING and len(values) <= MOST_RATINGS else "counts"


def settled(data: Dataset, repeats: Repeats | None = None) -> Dataset:
    """Return a log with its repeated rows resolved; what was done is logged, and counted in its report.

    Rows with the same user, item, time and weight are one event. Other rows that repeat a user and an item are handled
    by `fold`. Weights of 0 become `seen_only`, unless they are ratings.

    Args:
        data: with its `weight_kind`.
        repeats: see `fold`; None means "last" for ratings with times, since a new rating replaces the previous one, and
            "keep" for everything else, since each repetition is an event.

    Raises:
        ValueError: an unknown choice.
    """
    if repeats is not None and repeats not in get_args(Repeats):
        raise ValueError(f"repeats must be null or one of {', '.join(get_args(Repeats))}, got {repeats!r}")
    read = len(data)
    interactions = data.interactions
    again = _num_repeated(interactions)
    if again and interactions.times_N is not None:
        interactions = interactions.select(~_copies(interactions))
    copies = read - len(interactions)
    again -= copies
    if copies:
        log.warning(
            "%s: %s of %s rows repeat the user, item, time and weight of an earlier row; copies count once",
            *(data.name, f"{copies:,}", f"{read:,}"),
        )
    timed = interactions.times_N is not None
    choice: Repeats = repeats or ("last" if data.weight_kind == "ratings" and timed else "keep")
    if again:
        done = {"keep": "all are kept", "sum": "their weights are summed", "mean": "their weights are averaged"}
        log.info(
            "%s: %s of %s interactions repeat a user and an item; %s (repeats=%s)",
            *(data.name, f"{again:,}", f"{len(interactions):,}", done.get(choice, f"the {choice} one counts"), choice),
        )
        interactions = fold(interactions, choice)
    report = data.report
    if report is not None:
        report = replace(report, copies=copies, repeated=again, repeats=choice if again else None)
    data = replace(data, interactions=interactions, report=report)
    if data.weight_kind == "ratings" or interactions.weights_N.all():
        return data
    if not interactions.weights_N.any():
        log.warning(
            "%s: all weights are 0, so there is nothing to learn. Leave the column out if each row is an interaction: "
            "weight=False (data.weight=false).",
            data.name,
        )
        return data
    data = data.learn_from(interactions.weights_N > 0)
    assert data.seen_only is not None
    log.info(
        "%s: %s interactions of weight 0 are kept as seen, but not used for training",
        data.name,
        f"{len(data.seen_only):,}",
    )
    return data


def fold(interactions: Interactions, repeats: Repeats) -> Interactions:
    """Return a log in which each user-item pair occurs once, at the position and time of one of its rows.

    Args:
        interactions: any; rows with the same time, or without times, are in log order.
        repeats: "keep" changes nothing; "first" and "last" take one row, by time; "mean" and "sum" take the last one with
            the average or the sum of all their weights.
    """
    if repeats == "keep" or not _num_repeated(interactions):
        return interactions
    kept_N, weights_N = np.zeros(len(interactions), bool), None
    for _, _, positions, mine in interactions.by_user_ranges():
        order_N, pairs_N = _by_pair(mine)
        starts_P = np.flatnonzero(np.r_[True, pairs_N[1:] != pairs_N[:-1]])
        ends_P = np.r_[starts_P[1:], len(order_N)] - 1
        kept_P = positions[order_N[starts_P if repeats == "first" else ends_P]]
        kept_N[kept_P] = True
        if repeats in ("mean", "sum"):
            weights_N = np.array(interactions.weights_N) if weights_N is None else weights_N
            sums_P = np.add.reduceat(mine.weights_N[order_N].astype(np.float64), starts_P)
            weights_N[kept_P] = sums_P / (ends_P - starts_P + 1) if repeats == "mean" else sums_P
    return (interactions if weights_N is None else interactions.with_weights(weights_N)).select(kept_N)


def average_ratings(interactions: Interactions) -> sp.csr_matrix:
    """Return float32 ratings, CSR [U, I]; repeated ones are averaged."""
    ratings = interactions.by_user
    if ratings.nnz == len(interactions):
        return ratings
    counts = times_each(interactions)
    return sp.csr_matrix((ratings.data / counts.data, ratings.indices, ratings.indptr), ratings.shape)


def times_each(interactions: Interactions) -> sp.csr_matrix:
    """Return CSR [U, I], with the entries of `by_user`: how often each pair occurs."""
    return interactions.with_weights(np.ones(len(interactions), np.float32)).by_user


def _num_repeated(interactions: Interactions) -> int:
    """Return how many interactions repeat a user and an item: one integer sort, cheap if there are none."""
    again = 0
    for _, _, _, mine in interactions.by_user_ranges():
        sorted_N = np.sort(pairs_of(mine))
        again += int((sorted_N[1:] == sorted_N[:-1]).sum())
    return again


def _by_pair(interactions: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """Return positions sorted by user and item and, within each, by time; and the pair at each."""
    pairs_N = pairs_of(interactions)
    keys = (pairs_N,) if interactions.times_N is None else (interactions.times_N, pairs_N)
    order_N = np.lexsort(keys)
    return order_N, pairs_N[order_N]


def _copies(interactions: Interactions) -> np.ndarray:
    """Return bool [N]: rows with the user, item, time and weight of an earlier one, in a log with times."""
    copies_N = np.zeros(len(interactions), bool)
    for _, _, positions, mine in interactions.by_user_ranges():
        pairs_N = pairs_of(mine)
        sorted_N = np.sort(pairs_N)
        repeated = np.unique(sorted_N[1:][sorted_N[1:] == sorted_N[:-1]])
        if not len(repeated):
            continue
        at_N = np.minimum(np.searchsorted(repeated, pairs_N), len(repeated) - 1)
        among = np.flatnonzero(repeated[at_N] == pairs_N)  # only these need to be sorted by all columns
        mine, positions = mine.select(among), positions[among]
        columns = [
            column for column in (mine.users_N, mine.items_N, mine.times_N, mine.weights_N) if column is not None
        ]
        order_N = np.lexsort(columns)
        same_N = np.ones(max(len(order_N) - 1, 0), bool)
        for column_N in columns:
            sorted_N = column_N[order_N]
            same_N &= sorted_N[1:] == sorted_N[:-1]
        copies_N[positions[order_N[1:][same_N]]] = True
    return copies_N
