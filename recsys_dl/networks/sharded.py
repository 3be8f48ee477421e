"""Embedding tables divided by rows over the processes of torch.distributed, each of which holds a range of them.

R rows of the whole table, E columns, P processes, M distinct rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

DRAWN = 1 << 20  # weights drawn at a time
VECTOR = 16  # Torch draws this many normal numbers together, so that blocks of a multiple of it give the numbers of the whole


class Sharding(NamedTuple):
    """The part of each table that a process holds: that of process `rank` among `size`."""

    rank: int
    size: int

    def bounds(self, num_rows: int) -> list[int]:
        """Return the first row of each process, and the number of rows."""
        return [num_rows * rank // self.size for rank in range(self.size + 1)]


class ShardedEmbedding(nn.Module):
    """An `nn.Embedding` of which each process holds some rows; all processes must look rows up at the same time.

    A process receives the distinct rows of its batch from those that hold them, and sends their gradients back. Gradients are averaged over
    processes, as DDP does with all others; DDP must ignore these weights (`sharded_tables`).

    Args:
        num_rows: R.
        num_columns: E.
        sharding: which of the rows are here.
        sparse: whether the gradient contains only rows that were looked up.

    Attributes:
        weight: rows `first` to `last` of the table, initially those of a whole `nn.Embedding` drawn from the same random generator.
    """

    def __init__(self, num_rows: int, num_columns: int, sharding: Sharding, *, sparse: bool) -> None:
        super().__init__()
        self.num_rows, self.sharding, self.sparse = num_rows, sharding, sparse
        self._bounds = torch.tensor(sharding.bounds(num_rows), device="cpu")
        self.first, self.last = sharding.bounds(num_rows)[sharding.rank : sharding.rank + 2]
        self.weight = nn.Parameter(torch.empty(self.last - self.first, num_columns))
        self.draw(1.0)  # as nn.Embedding does, so that what is drawn next is the same

    @torch.no_grad()
    def draw(self, std: float) -> None:
        """Initialize as `nn.init.normal_` does the whole table, of which only a block is in memory at a time."""
        for start, end in blocks(self.num_rows, self.weight.shape[1]):
            drawn = torch.empty(end - start, self.weight.shape[1], device=self.weight.device).normal_(std=std)
            low, high = max(start, self.first), min(end, self.last)
            if low < high:
                self.weight[low - self.first : high - self.first] = drawn[low - start : high - start]

    def forward(self, rows: Tensor) -> Tensor:
        """Return the vectors [..., E] of int64 rows [...], each in [0, R)."""
        distinct_M, places = torch.unique(rows, return_inverse=True)
        return F.embedding(places, self._fetched(distinct_M))

    def held(self, start: int, end: int) -> Tensor:
        """Return some of the rows that are here, without an exchange."""
        return self.weight[start - self.first : end - self.first]

    def _fetched(self, distinct_M: Tensor) -> Tensor:
        """Return [M, E] for sorted rows."""
        if self.sharding.size == 1:
            return F.embedding(distinct_M, self.weight, sparse=self.sparse)
        asked_P = torch.searchsorted(distinct_M, self._bounds).diff()
        wanted_P = torch.empty_like(asked_P)
        dist.all_to_all_single(wanted_P, asked_P)
        asked, wanted = asked_P.tolist(), wanted_P.tolist()
        here = _exchanged(distinct_M, asked, wanted) - self.first
        return _Exchange.apply(F.embedding(here, self.weight, sparse=self.sparse), wanted, asked)


def embedding(num_rows: int, num_columns: int, *, sparse: bool, sharding: Sharding | None) -> Any:
    """Return an `nn.Embedding`, or this process's part of it."""
    if sharding is None:
        return nn.Embedding(num_rows, num_columns, sparse=sparse)
    return ShardedEmbedding(num_rows, num_columns, sharding, sparse=sparse)


def draw(table: nn.Embedding | ShardedEmbedding, std: float) -> None:
    """Draw a table from a normal distribution; the same numbers whether it is divided or not."""
    if isinstance(table, ShardedEmbedding):
        table.draw(std)
    else:
        nn.init.normal_(table.weight, std=std)


def own_rows(table: nn.Embedding | ShardedEmbedding, whole_RE: Tensor) -> Tensor:
    """Return the rows of a whole table that a table holds."""
    return whole_RE[table.first : table.last] if isinstance(table, ShardedEmbedding) else whole_RE


def sharded_tables(network: nn.Module) -> dict[str, ShardedEmbedding]:
    """Return the tables of a network that are divided, by the names of their weights."""
    found = network.named_modules()
    return {f"{name}.weight": module for name, module in found if isinstance(module, ShardedEmbedding)}


def blocks(num_rows: int, num_columns: int) -> list[tuple[int, int]]:
    """Return the first and last row of each block; all but the last have a multiple of 16 rows, and none fewer than 16 if there are as many."""
    size = max(VECTOR, DRAWN // num_columns // VECTOR * VECTOR)
    starts = range(0, max(num_rows - size, 0) + 1, size)
    return list(zip(starts, [*starts[1:], num_rows], strict=True))


class _Exchange(torch.autograd.Function):
    """Rows sent to each process; backward, gradients returned to where the rows came from, averaged over processes."""

    @staticmethod
    def forward(ctx: Any, rows_ME: Tensor, sent: list[int], received: list[int]) -> Tensor:
        ctx.sent, ctx.received = sent, received
        return _exchanged(rows_ME, sent, received)

    @staticmethod
    def backward(ctx: Any, gradient_ME: Tensor) -> tuple[Tensor, None, None]:
        return _exchanged(gradient_ME, ctx.received, ctx.sent) / len(ctx.sent), None, None


def _exchanged(rows: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
    found = rows.new_empty(sum(received), *rows.shape[1:])
    dist.all_to_all_single(found, rows.contiguous(), list(received), list(sent))
    return found
