"""Seconds of an epoch on this machine: small fits of the same model, scaled by the work that it states.

U users, I items, N interactions.
"""

from __future__ import annotations

import copy
import gc
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from scipy.optimize import nnls

from recsys_dl.data.interactions import Interactions
from recsys_dl.sizes import LogSize, Sizes, Work

LEAST, MOST = 20_000, 4_000_000  # interactions of a small log
LONG_ENOUGH = 0.2  # seconds that can be measured
MOST_EPOCHS = 64  # of the longer of two fits, beyond those of the other
MORE = 4  # times as many rows, or interactions, in the other small logs
DENSEST = 0.2  # share of all pairs in a small log
SPREAD = 0.9  # standard deviation of the logarithm of a user's number of interactions
ZIPF = 0.8  # exponent of the items' popularity


@dataclass(frozen=True)
class Calibration:
    """Speeds measured on this machine.

    Attributes:
        seconds_per_operation: by name of the work.
        process_bytes: memory of a process that has imported everything and fitted a small log.
        seconds: that the calibration took.
        logs: sizes of the small logs.
    """

    seconds_per_operation: dict[str, float]
    process_bytes: int
    seconds: float
    logs: tuple[LogSize, ...]

    def epoch(self, sizes: Sizes) -> float:
        """Return the predicted seconds of an epoch (of the fit, if there are no epochs)."""
        return sum(self.seconds_per_operation[work.name] * _amount(work) for work in sizes.work)


def calibrate(model: Any, log: LogSize, clock: Callable[[], float] = time.perf_counter) -> Calibration:
    """Fit the model to small logs shaped like `log`, and return the speeds; takes a few seconds.

    Three logs are fitted: a small one, one of `MORE` times the rows, one of `MORE` times the interactions. A speed for each kind of
    work that the model states is fitted to their times by non-negative least squares.

    Args:
        model: not fitted.
        log: what will be trained on.
        clock: `time.process_time`, with one thread, leaves out what other programs on the machine take.
    """
    start = time.perf_counter()
    with _quietly():
        base = _shaped(log, min(LEAST, log.num_interactions))
        _fit_seconds(_with_epochs(model, 1), base, clock)  # compiles
        process = psutil.Process().memory_info().rss
        took = epoch_seconds(model, base, clock)
        while took < LONG_ENOUGH and MORE * len(base) <= min(MOST, log.num_interactions):
            base = _shaped(log, MORE * len(base))
            took = epoch_seconds(model, base, clock)
        tried = [(LogSize.of(base), took)]
        for rows, entries in ((MORE, 1), (1, MORE)):
            other = _shaped(log, entries * len(base), users=rows * base.num_users, items=rows * base.num_items)
            tried.append((LogSize.of(other), epoch_seconds(model, other, clock)))
    names = [work.name for work in model.sizes(log).work]
    amounts = np.array([[_amount(work) for work in model.sizes(size).work] for size, _ in tried])
    times = np.array([max(took, 1e-6) for _, took in tried])
    scale = np.maximum(amounts.max(axis=0), 1e-30)
    speeds, _ = nnls(amounts / scale / times[:, None], np.ones(len(times)))  # relative errors
    rates = dict(zip(names, (speeds / scale).tolist(), strict=True))
    return Calibration(rates, process, time.perf_counter() - start, tuple(size for size, _ in tried))


def _amount(work: Work) -> float:
    return work.operations or work.moved


def _shaped(log: LogSize, num: int, users: int | None = None, items: int | None = None) -> Interactions:
    """Return a random log of about `num` interactions with as many per user and per item as in `log`, as far as pairs suffice."""
    share = num / log.num_interactions
    num_users = users or max(2, round(log.num_users * share))
    roomy = round(MORE * num / num_users / DENSEST)  # so that more interactions find free pairs
    num_items = items or max(2, min(log.num_items, max(round(log.num_items * share), roomy)))
    num = max(2, min(num, int(num_users * num_items * DENSEST)))
    rng = np.random.default_rng(7)
    active_U = rng.lognormal(0, SPREAD, num_users)
    counts_U = np.minimum(np.maximum(1, np.round(active_U / active_U.sum() * num)), num_items // 2 or 1).astype(
        np.int64
    )
    users_N = np.repeat(np.arange(num_users), counts_U)
    popular_I = np.cumsum(np.arange(1, num_items + 1) ** -ZIPF)
    items_N = np.searchsorted(popular_I, rng.random(len(users_N)) * popular_I[-1])
    distinct = np.unique(users_N * num_items + items_N)
    times_N = rng.integers(0, 10**8, len(distinct))
    rows = (distinct // num_items, distinct % num_items)
    return Interactions(*rows, times_N=times_N, num_users=num_users, num_items=num_items)


def epoch_seconds(model: Any, log: Interactions, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds of an epoch: a fit of more epochs less one of one; of a whole fit if the model has no epochs."""
    if not hasattr(model, "epochs"):
        return _fit_seconds(copy.copy(model), log, clock)
    one = _fit_seconds(_with_epochs(model, 1), log, clock)
    more = 1
    while True:
        took = _fit_seconds(_with_epochs(model, 1 + more), log, clock) - one
        if took >= LONG_ENOUGH or more >= MOST_EPOCHS:
            return max(took, 0.0) / more
        more *= 4


def _with_epochs(model: Any, epochs: int) -> Any:
    twin = copy.copy(model)
    twin.epochs = epochs
    return twin


def _fit_seconds(model: Any, log: Interactions, clock: Callable[[], float]) -> float:
    gc.collect()
    start = clock()
    model.fit(log)
    return clock() - start


@contextmanager
def _quietly() -> Iterator[None]:
    """Suppress what fits of meaningless logs would warn of."""
    logger = logging.getLogger("recsys_dl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
