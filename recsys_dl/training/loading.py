"""Batches as plain dicts of tensors from an ordinary torch DataLoader, for your own Lightning Trainer or loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from .batches import Batches, shuffled


def batch_loader(batches: Batches) -> DataLoader[dict[str, Tensor]]:
    """Return a DataLoader of these batches; each is a function of (seed, epoch, step), as in `fit`."""
    return DataLoader(Steps(batches), sampler=StepSampler(len(batches)), batch_size=None)


class StepSampler(Sampler[tuple[int, int]]):
    """The steps of an epoch as (epoch, step). Lightning sets the epoch; otherwise each pass is the next epoch."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps, self.epoch = num_steps, 0

    def __len__(self) -> int:
        return self.num_steps

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return ((epoch, step) for step in range(self.num_steps))


class Steps(Dataset[dict[str, Tensor]]):
    """Whole batches by (epoch, step), covering all processes."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.epoch = batches, -1

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, at: tuple[int, int]) -> dict[str, Tensor]:
        epoch, step = at
        examples, size = self.batches.examples, self.batches.batch_size
        if epoch != self.epoch:
            examples.begin(epoch)
            self.order = shuffled(len(examples), self.batches.seed, epoch).to(examples.device)
            self.epoch = epoch
        chosen_G = self.order[step * size : (step + 1) * size]
        return plain(examples.take(chosen_G, slice(None), epoch=epoch, step=step))


def plain(batch: Any) -> dict[str, Tensor]:
    """Flatten a NamedTuple and those nested in it into one dict; None values are left out."""
    found: dict[str, Tensor] = {}
    for name, value in batch._asdict().items():
        if isinstance(value, tuple):
            found |= plain(value)
        elif value is not None:
            found[name] = value
    return found
