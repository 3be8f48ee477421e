"""Batches without workers: batch k of epoch e is a pure function of (seed, e, k), so training can resume anywhere.

B examples on one process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

FEWEST_STEPS = 16  # minimum steps per epoch: a small log uses smaller batches


class Share(NamedTuple):
    """One process's share of a step.

    Attributes:
        batch: the examples' batch.
        weight: scales the loss so that the result over processes and accumulated batches is the mean over all examples of a
            step: this process's number of examples over the mean per process, times the batch's over the mean in its step.
        names: description of the step, for messages.
    """

    batch: Any
    weight: float
    names: str


class Examples(Protocol):
    """Numbered training examples, stored on the model's device."""

    device: torch.device

    def __len__(self) -> int:
        """Return the number of examples per epoch."""
        ...

    def begin(self, epoch: int) -> None:
        """Prepare for an epoch."""
        ...

    def take(self, chosen_G: Tensor, mine: slice, *, epoch: int, step: int) -> Any:
        """Return this process's part of a batch.

        Args:
            chosen_G: int64, the numbers of the whole batch's examples, on all processes.
            mine: this process's part of it; random draws must not depend on the partition.
            epoch: from 0.
            step: of the epoch, from 0.
        """
        ...


class Batches:
    """An epoch's batches, reshuffled in each epoch. Lightning accepts this in place of a DataLoader.

    Args:
        examples: source of examples.
        batch_size: examples per step, over all processes; at most a sixteenth of all.
        seed: for shuffling.
        rank: this process.
        world_size: number of processes.
        accumulate: batches whose gradients are accumulated per step.
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
        """Make the next iteration start at this step of this epoch."""
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
    """Return a permutation of 0 ... num - 1 (int64) that is a function of (seed, epoch)."""
    return torch.randperm(num, generator=torch.Generator().manual_seed(mixed(seed, epoch)))


def part_of(num: int, rank: int, world_size: int) -> tuple[slice, float]:
    """Return a process's slice of `num` examples, and its size over the mean per process.

    With fewer examples than processes, a process without any takes the first, with weight 0.
    """
    first, last = num * rank // world_size, num * (rank + 1) // world_size
    if first == last:
        return slice(0, 1), 0.0
    return slice(first, last), (last - first) * world_size / num


def in_its_step(num: int, batch_size: int, batch: int, accumulate: int) -> float:
    """Return a batch's size over the mean size of the batches accumulated in its step.

    It is 1 except at the end of an epoch, where batches may be smaller and fewer.
    """
    first = batch // accumulate * accumulate
    together = min(num, (first + accumulate) * batch_size) - first * batch_size
    return (min(num, (batch + 1) * batch_size) - batch * batch_size) * accumulate / together


def mixed(*numbers: int) -> int:
    """Combine several numbers into one 63-bit seed, practically unique per tuple."""
    value = 0
    for number in numbers:
        value = (value ^ (number % 2**64)) + 0x9E3779B97F4A7C15
        value = ((value ^ (value >> 30 & 0x3FFFFFFFF)) * 0xBF58476D1CE4E5B9) % 2**64
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) % 2**64
        value ^= value >> 31
    return value >> 1
