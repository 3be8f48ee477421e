"""Cost and recall of index settings, and the choice of one for a given loss.

B queries, D embedding size, K list.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recsys_dl.data.interactions import Interactions
from recsys_dl.data.requests import item_lists
from recsys_dl.kernels.item_lists import ItemLists, lists_of
from recsys_dl.processes import current

from .vector_index import VectorIndex

FEWEST_SINGLE = 100  # queries asked one at a time, however slow
BATCHES = 3  # of which the median counts, fewer of slow ones
LONGEST = 5.0  # seconds, for each of the two

PREFERENCES = ("latency", "throughput", "memory")


@dataclass(frozen=True)
class Figures:
    """Cost and recall of one setting.

    Attributes:
        index: its name.
        built: arguments that the grid set before the build.
        tuned: those that it set afterwards.
        build_seconds: training and adding; the same for settings that share an index.
        num_bytes: of memory.
        recall: share of the exact k nearest that are found, mean over queries.
        p50_ms: median time of a single query.
        p99_ms: 99th percentile.
        queries_per_second: all queries in one call.
        ndcg: on the held-out part, if there is one.
        ndcg_lost: share of the NDCG of exact search that is lost: value, and ends of its interval.
    """

    index: str
    built: Mapping[str, Any]
    tuned: Mapping[str, Any]
    build_seconds: float
    num_bytes: int
    recall: float
    p50_ms: float
    p99_ms: float
    queries_per_second: float
    ndcg: float | None = None
    ndcg_lost: tuple[float, float, float] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """All arguments that the grid set."""
        return {**self.built, **self.tuned}

    @property
    def label(self) -> str:
        """The name with the settings."""
        return _words(self.index, self.settings)

    @property
    def line(self) -> str:
        """The name with the settings before the build: rows that share it are one index, searched in several ways."""
        return _words(self.index, self.built)

    def loss(self, of: str) -> float:
        """Share that is lost: of recall, or of NDCG as far as its interval reaches."""
        if of == "recall":
            return 1 - self.recall
        assert self.ndcg_lost is not None
        return self.ndcg_lost[2]


def _words(name: str, settings: Mapping[str, Any]) -> str:
    return " ".join([name, *(f"{argument}={value}" for argument, value in settings.items())])


def survey(
    kinds: Mapping[str, Callable[..., VectorIndex]],
    grids: Mapping[str, Mapping[str, Sequence[Any]]],
    item_emb_ID: np.ndarray,
    query_BD: np.ndarray,
    k: int,
    *,
    exclude: Interactions | None = None,
    quality: Callable[[VectorIndex], tuple[float, tuple[float, float, float]]] | None = None,
) -> Iterator[Figures]:
    """Yield the figures of every setting of every kind of index; within `processes.together` all build, and the first measures.

    Args:
        kinds: name -> constructor. The first must be exact: the others are measured by what it finds.
        grids: name -> argument -> values, of which all combinations are tried. An index is built once for those that its
            class calls `tunable`.
        item_emb_ID: what is indexed.
        query_BD: what is asked for.
        k: length of the lists.
        exclude: user b's interactions are excluded from the list of query b.
        quality: returns `ndcg` and `ndcg_lost` of a built index.
    """
    out = None if exclude is None else ItemLists(
        *item_lists(exclude, np.arange(len(query_BD)), num_items=len(item_emb_ID), name="exclude")
    )  # fmt: skip
    ways = [(name, *way) for name, make in kinds.items() for way in _ways(grids.get(name) or {}, make().tunable)]
    exact_BK: np.ndarray | None = None
    for name, built, searched in ways:
        start = time.perf_counter()
        index = kinds[name](**built).build(item_emb_ID)
        seconds = time.perf_counter() - start
        if exact_BK is None:
            exact_BK = index.search(query_BD, k, exclude=out).items_BK
        given = {argument: value for argument, value in built.items() if value is not None}
        for setting in searched:
            for argument, value in setting.items():
                setattr(index, argument, value)
            found = current().by_first(  # in silence: a progress bar would take time from it
                functools.partial(measured, index, query_BD, exact_BK, exclude=out)
            )
            row = Figures(name, given, setting, seconds, index.num_bytes, *found)
            if quality is not None:
                ndcg, ndcg_lost = quality(index)
                row = replace(row, ndcg=ndcg, ndcg_lost=ndcg_lost)
            yield row


def _ways(grid: Mapping[str, Sequence[Any]], tunable: Sequence[str]) -> Iterator[tuple[dict, list[dict]]]:
    """Yield each way to build an index, with the ways to search it."""
    searched = [name for name in grid if name in tunable]
    built = [name for name in grid if name not in tunable]
    ways = [dict(zip(searched, values, strict=True)) for values in itertools.product(*(grid[n] for n in searched))]
    for values in itertools.product(*(grid[name] for name in built)):
        yield dict(zip(built, values, strict=True)), ways


def recall(found_BK: np.ndarray, exact_BK: np.ndarray) -> float:
    """Return the share of the exact lists' items that were found, mean over lists; -1 pads both."""
    hits_B = [
        len(np.intersect1d(mine[mine >= 0], true[true >= 0])) for mine, true in zip(found_BK, exact_BK, strict=True)
    ]
    return float(np.mean(np.array(hits_B) / np.maximum(1, (exact_BK >= 0).sum(axis=1))))


def measured(
    index: VectorIndex, query_BD: np.ndarray, exact_BK: np.ndarray, *, exclude: ItemLists | None = None
) -> tuple[float, float, float, float]:
    """Return recall, median and 99th percentile of the ms of single queries, and queries/s of all in one call.

    Times are a caller's: checking, excluding and refilling are in them.

    Args:
        index: built.
        query_BD: what to ask for.
        exact_BK: the true lists.
        exclude: left out of each list, there too.
    """
    k = exact_BK.shape[1]
    found = index.search(query_BD, k, exclude=exclude)  # not timed: compiles, and wakes the threads
    batches: list[float] = []
    while not batches or (len(batches) < BATCHES and sum(batches) < LONGEST):
        start = time.perf_counter()
        index.search(query_BD, k, exclude=exclude)
        batches.append(time.perf_counter() - start)
    index.search(query_BD[:1], k, exclude=lists_of(exclude, slice(0, 1)))
    singles: list[float] = []
    began = time.perf_counter()
    for b in range(len(query_BD)):
        mine = lists_of(exclude, slice(b, b + 1))
        start = time.perf_counter()
        index.search(query_BD[b : b + 1], k, exclude=mine)
        singles.append(time.perf_counter() - start)
        if b >= FEWEST_SINGLE and start - began > LONGEST:
            break
    p50, p99 = np.percentile(singles, [50, 99]) * 1000
    return recall(found.items_BK, exact_BK), float(p50), float(p99), len(query_BD) / float(np.median(batches))


def choose(rows: Sequence[Figures], *, loss: float, of: str, prefer: str) -> Figures:
    """Return the best of the settings that lose at most `loss`, of "ndcg" or "recall".

    Of NDCG the upper end of the interval counts: a setting must be known to lose no more. Exact search loses nothing, so
    that there always is one.

    Raises:
        ValueError: an unknown preference, or no setting within the loss.
    """
    if prefer not in PREFERENCES:
        raise ValueError(f"prefer must be one of {', '.join(PREFERENCES)}, got {prefer!r}")
    within = [row for row in rows if row.loss(of) <= loss + 1e-12]
    if not within:
        raise ValueError(f"no setting loses at most {loss:g} of {of}; put exact among the indexes")
    cost = {
        "latency": lambda row: (row.p50_ms, row.num_bytes),
        "throughput": lambda row: (-row.queries_per_second, row.num_bytes),
        "memory": lambda row: (row.num_bytes, row.p50_ms),
    }[prefer]
    return min(within, key=cost)
