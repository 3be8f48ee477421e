"""One side of an alternation, solved by several processes: each owns some rows, and gathers those of the other side in blocks.

Mehta, Rendle, Krichene, Zhang 2021, "ALX: Large Scale Matrix Factorization on TPUs", section 4. R rows of this side, S of the other,
D embedding size, P processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from recsys_dl.kernels.als import gram_bounds, gram_parts, summed
from recsys_dl.processes import Group

GATHERED_BYTES = 64 << 20  # rows of the other side held at a time; one row's own entries may need more


class Block(NamedTuple):
    """Rows solved together.

    Attributes:
        rows: which of this process's rows.
        entries: CSR of these rows over S; its columns are places in the gathered table, not rows of the other side.
    """

    rows: slice
    entries: sp.csr_matrix


class _Exchange(NamedTuple):
    """Which rows of the other side a block moves."""

    asked_N: np.ndarray  # own rows that other processes need, sorted by process
    sent_P: np.ndarray
    received_P: np.ndarray


class SharedGram:
    """Y^T Y of a table whose rows the processes own, bit for bit that of one process, which sums it in fixed parts.

    Args:
        group: the processes.
        bounds_P1: of each process's rows.
    """

    def __init__(self, group: Group, bounds_P1: np.ndarray) -> None:
        self.group = group
        parts = gram_bounds(int(bounds_P1[-1]))
        self.firsts_P1 = np.searchsorted(parts, bounds_P1)  # a part is summed by the process that owns its first row
        self.firsts_P1[0], self.firsts_P1[-1] = 0, len(parts) - 1
        edges_P1 = parts[self.firsts_P1]
        rank = group.rank
        low_P, high_P = edges_P1[:-1], edges_P1[1:]
        mine = bounds_P1[rank : rank + 2]
        self.sent_P = np.maximum(np.minimum(high_P, mine[1]) - np.maximum(low_P, mine[0]), 0)
        self.received_P = np.maximum(
            np.minimum(bounds_P1[1:], high_P[rank]) - np.maximum(bounds_P1[:-1], low_P[rank]), 0
        )
        self.bounds = parts[self.firsts_P1[rank] : self.firsts_P1[rank + 1] + 1] - low_P[rank]

    def of(self, own_RD: np.ndarray) -> np.ndarray:
        """Return float32 [D, D] from this process's rows."""
        size = own_RD.shape[1]
        mine = gram_parts(self.group.exchange(own_RD, self.sent_P, self.received_P), self.bounds)
        return summed(self.group.stacked(mine, self.firsts_P1))[:size, :size]


class SharedRows:
    """The rows of one side that this process solves.

    Args:
        group: the processes.
        entries: CSR [R, S] of this process's rows.
        others_P1: bounds of each process's rows of the other side.
        row_bytes: of a gathered row.

    Attributes:
        blocks: of this process's rows; as many on each process, some perhaps empty.
        gram: Y^T Y of all rows of the other side, if there are several processes.
    """

    def __init__(self, group: Group, entries: sp.csr_matrix, others_P1: np.ndarray, row_bytes: int) -> None:
        self.group = group
        if group.size == 1:
            self.blocks = [Block(slice(0, entries.shape[0]), entries)]
            return
        self.gram = SharedGram(group, others_P1)
        bounds = _block_bounds(entries, max(1, GATHERED_BYTES // row_bytes))
        most = max(group.gather(len(bounds) - 1))
        bounds += [bounds[-1]] * (most + 1 - len(bounds))
        self.blocks, self._exchanges = [], []
        for first, last in pairwise(bounds):
            part = entries[first:last]
            needed = np.unique(part.indices)
            received_P = np.diff(np.searchsorted(needed, others_P1))
            sent_P = np.array([counts[group.rank] for counts in group.gather(received_P)])
            asked = group.exchange(needed, received_P, sent_P) - needed.dtype.type(others_P1[group.rank])
            places = np.searchsorted(needed, part.indices).astype(np.int32)
            self.blocks.append(Block(slice(first, last), sp.csr_matrix((part.data, places, part.indptr), part.shape)))
            self._exchanges.append(_Exchange(asked, sent_P, received_P))

    def gathered(self, own_RD: np.ndarray) -> Iterator[np.ndarray]:
        """Yield, for each block, the rows of the other side that it needs; `own_RD`: this process's rows of the other side."""
        if self.group.size == 1:
            yield own_RD
            return
        for one in self._exchanges:
            yield self.group.exchange(own_RD[one.asked_N], one.sent_P, one.received_P)


class Halves(NamedTuple):
    """The log as this process's users and this process's items, with the bounds of all processes' rows."""

    by_user: sp.csr_matrix
    by_item: sp.csr_matrix
    users_P1: np.ndarray
    items_P1: np.ndarray


def halves(group: Group, entries_UI: sp.csr_matrix, size: int) -> Halves:
    """Split a log among processes, into contiguous rows of about equal cost.

    Args:
        group: the processes.
        entries_UI: CSR of the whole log, the same on all of them.
        size: D; a row costs as much as D / 2 entries.

    Raises:
        ValueError: more processes than users or items, or another log on another process.
    """
    num_users, num_items = entries_UI.shape
    if group.size == 1:
        by_item = entries_UI.T.tocsr()
        return Halves(entries_UI, by_item, np.array([0, num_users]), np.array([0, num_items]))
    if min(num_users, num_items) < group.size:
        raise ValueError(
            f"processes must be at most the number of users and of items, {num_users} and {num_items}, got {group.size}"
        )
    logs = group.gather((*entries_UI.shape, entries_UI.nnz, float(entries_UI.data.sum(dtype=np.float64))))
    if len(set(logs)) > 1:
        raise ValueError(f"all processes must fit the same log, got {len(set(logs))} different ones")
    counts_I = np.bincount(entries_UI.indices, minlength=num_items)
    users_P1 = _even(np.diff(entries_UI.indptr), size, group.size)
    items_P1 = _even(counts_I, size, group.size)
    users, items = (slice(*bounds[group.rank : group.rank + 2]) for bounds in (users_P1, items_P1))
    by_item = entries_UI[:, items].T.tocsr()
    by_item.sort_indices()
    return Halves(entries_UI[users], by_item, users_P1, items_P1)


def _even(counts_R: np.ndarray, size: int, processes: int) -> np.ndarray:
    """Return bounds of rows of about equal cost, at least one each."""
    cost = np.concatenate([[0], np.cumsum(counts_R + max(size // 2, 1))])
    bounds = np.searchsorted(cost, np.linspace(0, cost[-1], processes + 1))
    numbers = np.arange(processes + 1)
    bounds = np.maximum.accumulate(np.maximum(bounds, numbers))
    return np.minimum(bounds, len(counts_R) - numbers[::-1])


def _block_bounds(entries: sp.csr_matrix, most: int) -> list[int]:
    """Return bounds of rows with at most `most` distinct columns, or one row with more."""
    num_rows, num_columns = entries.shape
    if num_columns <= most:
        return [0, num_rows]
    bounds = [0]
    while bounds[-1] < num_rows:
        last = int(np.searchsorted(entries.indptr, int(entries.indptr[bounds[-1]]) + most, side="right")) - 1
        bounds.append(min(max(last, bounds[-1] + 1), num_rows))
    return bounds
