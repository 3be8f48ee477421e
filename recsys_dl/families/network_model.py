"""A recommender based on a network: its parts, saving and serving; `neural.py` trains it.

B batch, U users, I items, K list, L candidates, S and T sizes of precomputed user and item states.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import TypedDict

from recsys_dl.arguments import Count, CountOrZero, NotNegative, Positive, Seed, ShareBelowOne
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.device import Device, resolve
from recsys_dl.networks.sharded import Sharding
from recsys_dl.protocols import UserState
from recsys_dl.training.batches import Batches, Examples, mixed
from recsys_dl.training.devices import torch_device
from recsys_dl.training.optimizers import OptimizerName, Schedule
from recsys_dl.training.surroundings import scoring, with_own_settings

from .known_items import KnownItems


class TrainingArguments(TypedDict, total=False):
    """The arguments of `NetworkModel`, for type checkers and editors."""

    epochs: CountOrZero
    batch_size: Count
    optimizer: OptimizerName
    learning_rate: Positive
    weight_decay: NotNegative
    schedule: Schedule
    warmup: ShareBelowOne
    seed: Seed
    device: Device


class NetworkModel(KnownItems):
    """A recommender whose scores come from a network.

    A subclass implements `_build` (the untrained network), `_examples` (training examples), `_objective` (the loss) and
    `_prepare` (the serving state computed from the network), in addition to the methods of every `CatalogModel`.

    Args:
        epochs: passes over the examples; fewer if `trainer.patience` stops it.
        batch_size: examples per step; an epoch has at least 16 steps, so small logs use smaller batches.
        optimizer: "adam", "row_adam" (updates only the rows in a batch: for tables with millions of rows) or "sgd".
        learning_rate: of the optimizer.
        weight_decay: of the optimizer, for all weights.
        schedule: of the learning rate: "constant", "linear" or "cosine".
        warmup: share of the steps during which the learning rate increases.
        seed: for weight initialization, shuffling, sampling and dropout.
        device: where to train and recommend.

    Attributes:
        network: the trained nn.Module; `lightning_module` wraps it for your own Trainer.
        losses: mean loss of each epoch of the last training.
        best_epoch: epoch of the last training, from 1, whose weights were kept; None if not validated.
        stopped_epoch: the last epoch trained, from 1.
        train_UI: CSR float32, the training interactions.
    """

    fitted: ClassVar[tuple[str, ...]] = ("train_UI",)
    network: Any
    losses: list[float]
    best_epoch: int | None = None
    stopped_epoch: int | None = None
    train_UI: Any
    batch_type: ClassVar[Any]  # a NamedTuple of the tensors that `_objective` takes
    stale = False  # whether weights have changed since `_prepare`
    shards_tables = False  # whether embedding tables can be divided among processes (trainer.shard_tables)
    sharding: Sharding | None = None  # which rows of the tables this process holds while training; None: all
    mapped = False  # whether tables are files that processes share, as after a training with divided tables

    def __init__(
        self,
        *,
        epochs: CountOrZero = 20,
        batch_size: Count = 1024,
        optimizer: OptimizerName = "adam",
        learning_rate: Positive = 0.001,
        weight_decay: NotNegative = 0.0,
        schedule: Schedule = "constant",
        warmup: ShareBelowOne = 0.0,
        seed: Seed = 7,
        device: Device = "auto",
    ) -> None:
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup = warmup
        self.seed = seed
        self.device = device

    # Implemented by models

    @abstractmethod
    def _build(self) -> nn.Module:
        """Return a new network for `num_users` and `num_items`; Torch's random generator is seeded."""

    @abstractmethod
    def _examples(self, log: Interactions) -> Examples:
        """Return the training examples, on `torch_device`."""

    @abstractmethod
    def _tuning_examples(self, fresh: Interactions, replayed: Interactions) -> Examples:
        """Return fine-tuning examples: new interactions and some replayed old ones; `train_UI` has all of both."""

    @abstractmethod
    def _objective(self, network: nn.Module, batch: Any) -> Tensor:
        """Return the loss of a batch of examples, averaged over them."""

    @abstractmethod
    def _prepare(self) -> None:
        """Compute the serving state from `network`, which is in evaluation mode on `torch_device`."""

    # Public methods

    @with_own_settings
    def fold_in(self, histories: Dataset | Interactions | Sequence[Sequence[int]]) -> UserState:
        """Return the state of new users, see `CatalogModel.fold_in`."""
        return super().fold_in(histories)

    @property
    def torch_device(self) -> torch.device:
        """The network's device.

        Raises:
            RuntimeError: device "cuda" if Torch finds none.
        """
        return torch_device(self.device if resolve(self.device) == "cuda" else "cpu")  # our kernels must support it too

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state by name; the network's weights as `network.…`."""
        weights = {f"network.{name}": value.cpu().numpy() for name, value in self.network.state_dict().items()}
        course = {name: getattr(self, name) for name in ("best_epoch", "stopped_epoch")}
        return super().arrays() | weights | {name: np.int64(num) for name, num in course.items() if num is not None}

    @with_own_settings
    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the fitted state that `arrays` returned, in place of `fit`."""
        super().restore(arrays)
        self.losses = []
        for name in ("best_epoch", "stopped_epoch"):
            setattr(self, name, int(arrays[name]) if name in arrays else None)
        with torch.random.fork_rng(devices=[]):
            self.network = self._build().to(self.torch_device)
        weights = {key[len("network.") :]: value for key, value in arrays.items() if key.startswith("network.")}
        self.network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        self._serve()

    # For subclasses

    def _make(self) -> None:
        """Create a new network."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mixed(self.seed))
            self.network = self._build().to(self.torch_device)
        self._start()

    def _take(self, log: Interactions) -> None:
        """Store the training interactions."""
        self.train_UI = log.by_user

    def _imagine(self) -> None:
        """Set what `_build` reads of a log besides `num_users` and `num_items`, for a network that is only counted."""

    def _start(self) -> None:
        """Change the new network before it is trained, as pre-training does."""

    def _take_in(self, new: Dataset | Interactions, known: dict[str, int]) -> None:
        """Grow the model's other user and item state; `known`: the previous number of each "user" and "item"."""

    def _newcomer(self, noun: str, trained_XD: Tensor) -> Tensor:
        """Return [D], the initial embedding of a new "user" or "item", from the trained rows."""
        return trained_XD.mean(0)

    def _batches(self, examples: Any, seed: int) -> Batches:
        """Return one epoch of batches."""
        return Batches(examples, self.batch_size, seed=seed)

    def _identity(self, log: Interactions) -> dict[str, Any]:
        """Return plain values that a checkpoint must match."""
        arguments = {key: repr(value) for key, value in self.arguments().items() if key != "device"}
        return {"model": type(self).__name__, "data": log.content_hash} | arguments

    def _serve(self) -> None:
        self.network.eval()
        with scoring():
            self._prepare()
        self.stale = False

    def _check_fitted(self) -> None:
        super()._check_fitted()
        if self.stale:  # the caller's Trainer has changed the weights
            self.network.to(self.torch_device)
            self._serve()

    def _ints(self, rows: np.ndarray) -> Tensor:
        """Return int64 rows on the network's device."""
        return torch.from_numpy(np.ascontiguousarray(rows, np.int64)).to(self.torch_device)
