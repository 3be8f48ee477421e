"""Batches without workers: batch k of epoch e is a pure function of (seed, e, k), so a training can go on anywhere.

B examples of one process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

FEWEST_STEPS = 16  # an epoch takes at least so many: a small log is cut into smaller batches


class Share(NamedTuple):
    """What one process works on in a step.

    Attributes:
        batch: whatever the examples made.
        weight: scales the loss, so that what processes and accumulated batches come to is the mean over all examples of a
            step: this process's examples over the mean number of a process, times the batch's over the mean of its step's.
        names: the step in words, for messages.
    """

    batch: Any
    weight: float
    names: str


class Examples(Protocol):
    """Training examples, numbered; kept where the model computes."""

    device: torch.device

    def __len__(self) -> int:
        """Return the number of examples of an epoch."""
        ...

    def begin(self, epoch: int) -> None:
        """Make ready for an epoch."""
        ...

    def take(self, chosen_G: Tensor, mine: slice, *, epoch: int, step: int) -> Any:
        """Return this process's part of a batch.

        Args:
            chosen_G: int64, the numbers of the whole batch's examples, of all processes.
            mine: the part of it that this process works on; what is drawn must not depend on how it is cut.
            epoch: from 0.
            step: of the epoch, from 0.
        """
        ...


class Batches:
    """An epoch's batches, in an order drawn anew for each epoch. Lightning takes this in place of a DataLoader.

    Args:
        examples: what to take from.
        batch_size: examples a step, of all processes together; at most a sixteenth of all.
        seed: of the order.
        rank: this process.
        world_size: number of processes.
        accumulate: batches whose gradients make one step.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
    ) -> None:
        self.examples = examples
        self.batch_size = max(1, min(batch_size, -(-len(examples) // FEWEST_STEPS)))
        self.seed, self.rank, self.world_size, self.accumulate = seed, rank, world_size, accumulate
        self.epoch, self.first = 0, 0

    def __len__(self) -> int:
        return -(-len(self.examples) // self.batch_size)

    def seek(self, epoch: int, step: int = 0) -> None:
        """Make the next iteration begin with this step of this epoch."""
        self.epoch, self.first = epoch, step

    def __iter__(self) -> Iterator[Share]:
        epoch, first = self.epoch, self.first
        self.examples.begin(epoch)
        order = shuffled(len(self.examples), self.seed, epoch).to(self.examples.device)
        for step in range(first, len(self)):
            chosen_G = order[step * self.batch_size : (step + 1) * self.batch_size]
            mine, weight = part_of(len(chosen_G), self.rank, self.world_size)
            weight *= in_its_step(len(self.examples), self.batch_size, step, self.accumulate)
            batch = self.examples.take(chosen_G, mine, epoch=epoch, step=step)
            yield Share(batch, weight, f"batch {step} of epoch {epoch}")
        self.first = 0


def shuffled(num: int, seed: int, epoch: int) -> Tensor:
    """Return int64 0 ... num - 1 in an order that is a function of (seed, epoch)."""
    return torch.randperm(num, generator=torch.Generator().manual_seed(mixed(seed, epoch)))


def part_of(num: int, rank: int, world_size: int) -> tuple[slice, float]:
    """Return which of `num` examples are a process's, and their number over the mean number of a process.

    Where there are fewer examples than processes, one without any works on the first, with weight 0.
    """
    first, last = num * rank // world_size, num * (rank + 1) // world_size
    if first == last:
        return slice(0, 1), 0.0
    return slice(first, last), (last - first) * world_size / num


def in_its_step(num: int, batch_size: int, batch: int, accumulate: int) -> float:
    """Return a batch's examples over an `accumulate`-th of those whose gradients are added up with its own.

    It is 1 but at the end of an epoch, where a batch may be small, and batches few.
    """
    first = batch // accumulate * accumulate
    together = min(num, (first + accumulate) * batch_size) - first * batch_size
    return (min(num, (batch + 1) * batch_size) - batch * batch_size) * accumulate / together


def mixed(*numbers: int) -> int:
    """Return one seed made of several: a 63-bit number, another for each tuple in practice."""
    value = 0
    for number in numbers:
        value = (value ^ (number % 2**64)) + 0x9E3779B97F4A7C15
        value = ((value ^ (value >> 30 & 0x3FFFFFFFF)) * 0xBF58476D1CE4E5B9) % 2**64
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) % 2**64
        value ^= value >> 31
    return value >> 1
