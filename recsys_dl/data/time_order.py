"""The order of rows within the same second. N rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .blocks import blocks, ranges

BINS = 1 << 16  # of times, to sort some at once


def order_within_seconds(
    seconds_N: np.ndarray, nanos_N: np.ndarray | None, size: int | None = None
) -> np.ndarray | None:
    """Return positions that sort rows within the same second by nanoseconds, moving no others; None if all are in order.

    `size`: how many rows to sort at once, None for all.
    """
    if nanos_N is None:
        return None
    order = None
    for positions in _of_seconds(seconds_N, size):
        seconds, nanos = seconds_N[positions], nanos_N[positions]
        coarse, fine = np.argsort(seconds, kind="stable"), np.lexsort((nanos, seconds))
        if (coarse == fine).all():
            continue
        order = (
            np.arange(len(seconds_N), dtype=np.int32 if len(seconds_N) < 1 << 31 else np.int64)
            if order is None
            else order
        )
        order[positions[coarse]] = positions[fine]
    return order


def _of_seconds(seconds_N: np.ndarray, size: int | None) -> Iterator[np.ndarray]:
    """Yield positions by ranges of seconds, of about `size` each."""
    if size is None or len(seconds_N) <= size:
        yield np.arange(len(seconds_N))
        return
    first = int(seconds_N.min())
    width = (int(seconds_N.max()) - first) // BINS + 1
    counts = np.zeros(BINS, np.int64)
    for block in blocks(len(seconds_N)):
        counts += np.bincount((seconds_N[block] - first) // width, minlength=BINS)
    for start, stop in ranges(np.concatenate([[0], np.cumsum(counts)]), size):
        low, high = first + start * width, first + stop * width
        yield np.concatenate(
            [
                block.start + np.flatnonzero((seconds_N[block] >= low) & (seconds_N[block] < high))
                for block in blocks(len(seconds_N))
            ]
        )
