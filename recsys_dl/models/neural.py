"""What every neural model here shares: a network trained by Lightning, weights kept as arrays, answers in bounded memory.

B batch, U users, I items, K list, L candidates, S and T sizes of what is computed of a user and of an item beforehand.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self

from recsys_dl import losses
from recsys_dl.arguments import Count, CountOrZero, NotNegative, Positive, Seed, ShareBelowOne, check_argument
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.device import Device, resolve
from recsys_dl.protocols import UserState
from recsys_dl.training import TrainerOptions
from recsys_dl.training.batches import Batches, Examples, mixed
from recsys_dl.training.devices import torch_device
from recsys_dl.training.optimizers import OptimizerName, Schedule
from recsys_dl.training.options import checked
from recsys_dl.training.surroundings import scoring, with_own_settings

from .growing import check_tuning, grow, only_learning, replayed, unchanged_on_error
from .learned import check_memory
from .lightning_parts import LightningParts
from .validation import Validation

NUMBERS_A_WEIGHT = 4  # itself, its gradient and two moments of Adam


class NeuralModel(LightningParts):
    """A recommender whose scores are a network's.

    A subclass gives `_build` (the network, untrained), `_examples` (what a step learns from), `_objective` (its loss) and
    `_prepare` (what serving needs, computed from the network), beside what every `CatalogueModel` gives.

    Args:
        epochs: passes over the examples; fewer if `trainer.patience` stops it.
        batch_size: examples a step; an epoch takes at least 16 steps, so a small log is cut into smaller batches.
        optimizer: "adam", "row_adam" (touches only the rows of a batch: for tables of millions) or "sgd".
        learning_rate: of the optimizer.
        weight_decay: of the optimizer, of all weights.
        schedule: of the learning rate: "constant", "linear" or "cosine".
        warmup: share of the steps in which the learning rate rises.
        seed: of the weights at the start, of the order, of draws and dropout.
        device: where to train and to answer.

    Attributes:
        network: the trained nn.Module; `lightning_module` wraps it for a Trainer of your own.
        losses: mean loss of each epoch of the last training.
        best_epoch: of the last training, from 1, whose weights were kept; None where it was not validated.
        stopped_epoch: the last one that was trained, from 1.
        train_UI: CSR float32, what was learnt from.
    """

    fitted: ClassVar[tuple[str, ...]] = ("train_UI",)
    network: Any
    losses: list[float]
    best_epoch: int | None = None
    stopped_epoch: int | None = None
    train_UI: Any
    batch_type: ClassVar[Any]  # a NamedTuple of the tensors that `_objective` takes
    stale = False  # whether weights have changed since `_prepare`

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

    # What a model gives

    @abstractmethod
    def _build(self) -> nn.Module:
        """Return a new network for `num_users` and `num_items`; Torch's generator is seeded."""

    @abstractmethod
    def _examples(self, log: Interactions) -> Examples:
        """Return what to learn from, on `torch_device`."""

    @abstractmethod
    def _tuning_examples(self, fresh: Interactions, replayed: Interactions) -> Examples:
        """Return what to learn on from: new interactions and some of the old; `train_UI` has all of both."""

    @abstractmethod
    def _objective(self, network: nn.Module, batch: Any) -> Tensor:
        """Return the loss of a batch that the examples made: a mean over its examples."""

    @abstractmethod
    def _prepare(self) -> None:
        """Compute from `network`, which is in evaluation mode on `torch_device`, what answering needs."""

    # What users call

    @with_own_settings
    def fit(
        self,
        train: Dataset | Interactions,
        *,
        validation: Dataset | Interactions | None = None,
        trainer: TrainerOptions | None = None,
    ) -> Self:
        """Learn from `train`; return self.

        Args:
            train: what to learn from.
            validation: what `trainer.metric` is measured on where `trainer.patience` is given; over the same rows.
            trainer: how to run; None takes `TrainerOptions()`.

        Raises:
            ValueError: nothing to learn from, patience without a validation part, a checkpoint of another training.
            RuntimeError: device "cuda" without a usable GPU.
        """
        options = checked(trainer)
        log = self._begin(train)
        if options.patience is not None and validation is None:
            raise ValueError(
                "trainer.patience stops by a validation metric, but no validation part was given: fit(train, "
                "validation=…), or patience=None"
            )
        with torch.device("meta"):  # nothing is allocated there
            num_bytes = sum(weights.nbytes for weights in self._build().parameters())
        check_memory(type(self).__name__, NUMBERS_A_WEIGHT * num_bytes)
        self._make()
        self._learn(log, validation, options, self.epochs)
        return self

    @with_own_settings
    def grow(self, new: Dataset | Interactions) -> Self:
        """Make room for users and items of `new` that this model did not meet in training, learn nothing; return self.

        Rows that were trained keep their weights to the bit. The others begin as what their features say, where the model
        encodes features, else as the mean of the trained rows.

        Args:
            new: a Dataset, matched by ids, if the model was fitted on one: known ids keep their rows, new ones are appended.
                Interactions if it was fitted on Interactions: rows past the known ones are new.

        Raises:
            ValueError: a Dataset for a model that knows no ids, Interactions with new rows for one that does, features missing
                or of another type than in training. The model then is as it was.
        """
        self._check_fitted()
        with unchanged_on_error(self):
            grow(self, new, learn=False)
            self._serve()
        return self

    @with_own_settings
    def fine_tune(
        self,
        new: Dataset | Interactions,
        *,
        epochs: int = 5,
        freeze: Sequence[str] = (),
        learning_rate: float | None = None,
        replay: float = 0.0,
        trainer: TrainerOptions | None = None,
    ) -> Self:
        """Learn on from new interactions, of known and new users and items; return self.

        The model grows first, as `grow` says; then the new interactions are learnt as in `fit`, from weights as they stand and
        with a new optimizer. What users had in the old log or in the new one is never drawn as not had.

        Args:
            new: as `grow` takes it.
            epochs: passes over the new interactions; 0 only takes them in.
            freeze: weights that stay as they are to the bit, by the beginnings of their names, such as "item_emb" or
                "layers.hidden"; rows of new users or items in a frozen table stay as they begin.
            learning_rate: None takes that of the model.
            replay: old interactions that are learnt again for each new one, drawn at random once.
            trainer: how to run; without patience, since there is no validation part here.

        Raises:
            ValueError: nothing new, a number out of range, a name in `freeze` that is none, or what `grow` raises. On any error
                the model is as it was.
        """
        self._check_fitted()
        options = checked(trainer)
        if options.patience is not None:
            raise ValueError(
                "fine_tune has no validation part to stop by; leave trainer.patience at None and set epochs"
            )
        frozen = check_tuning(self, new, freeze, epochs=epochs, learning_rate=learning_rate, replay=replay)
        with unchanged_on_error(self):
            past, fresh = grow(self, new, learn=True)
            examples = self._tuning_examples(fresh, replayed(past, len(fresh), replay, self.seed))
            told = {"fine_tune": f"{sorted(frozen)}, learning_rate {learning_rate}, replay {replay}, epochs {epochs}"}
            identity = self._identity(Interactions.from_csr(self.train_UI)) | told
            with only_learning(self.network, frozen):
                self._train(examples, epochs, options, identity, learning_rate=learning_rate)
        return self

    @with_own_settings
    def fold_in(self, histories: Dataset | Interactions | Sequence[Sequence[int]]) -> UserState:
        """Return the state of users never seen, see `CatalogueModel.fold_in`."""
        return super().fold_in(histories)

    @property
    def torch_device(self) -> torch.device:
        """Where the network lies.

        Raises:
            RuntimeError: device "cuda" where Torch finds none.
        """
        return torch_device(self.device if resolve(self.device) == "cuda" else "cpu")  # our kernels must find it too

    def arrays(self) -> dict[str, Any]:
        """Return all that was learnt, by name; the network's weights as `network.…`."""
        weights = {f"network.{name}": value.cpu().numpy() for name, value in self.network.state_dict().items()}
        course = {name: getattr(self, name) for name in ("best_epoch", "stopped_epoch")}
        return super().arrays() | weights | {name: np.int64(num) for name, num in course.items() if num is not None}

    @with_own_settings
    def restore(self, arrays: dict[str, Any]) -> None:
        """Take what `arrays` returned, in place of `fit`."""
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
        """Make a new network."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mixed(self.seed))
            self.network = self._build().to(self.torch_device)
        self._start()

    def _take(self, log: Interactions) -> None:
        """Remember what is learned from."""
        self.train_UI = log.by_user

    def _start(self) -> None:
        """Change the new network before it is trained, as pre-training does."""

    def _take_in(self, new: Dataset | Interactions, known: dict[str, int]) -> None:
        """Grow what a model keeps of users and items beside weights; `known`: how many of each "user" and "item" it had."""

    def _newcomer(self, noun: str, trained_XD: Tensor) -> Tensor:
        """Return [D], what the row of a new "user" or "item" begins as in a table, from the rows that were trained."""
        return trained_XD.mean(0)

    def _batches(self, examples: Any, seed: int) -> Batches:
        """Return an epoch of the examples."""
        return Batches(examples, self.batch_size, seed=seed)

    def _learn(
        self, log: Interactions, validation: Dataset | Interactions | None, options: TrainerOptions, epochs: int
    ) -> None:
        """Train the network on a log, from where it stands."""
        self._take(log)
        validate = None
        if options.patience is not None and validation is not None:
            validate = Validation(self, validation, log, options.metric).figure
        self._train(self._examples(log), epochs, options, self._identity(log), validate=validate)

    def _train(
        self,
        examples: Examples,
        epochs: int,
        options: TrainerOptions,
        identity: dict[str, Any],
        *,
        validate: Callable[[], float] | None = None,
        learning_rate: float | None = None,
    ) -> None:
        """Train the network on examples, and make ready to answer."""
        from recsys_dl.training.fitting import fit_scorer
        from recsys_dl.training.scorer import Scorer

        self.losses, self.best_epoch, self.stopped_epoch = [], None, None
        batches = self._batches(examples, mixed(self.seed, 1))
        if epochs:
            scorer = Scorer(
                self.network,
                self._objective,
                optimizer=self.optimizer,
                learning_rate=learning_rate or self.learning_rate,
                weight_decay=self.weight_decay,
                schedule=self.schedule,
                warmup=self.warmup,
                num_steps=epochs * -(-len(batches) // options.accumulate),
                seed=mixed(self.seed, 2),
            )
            scorer.train()
            course = fit_scorer(
                scorer,
                batches,
                epochs=epochs,
                options=options,
                device=self.torch_device,
                identity=identity,
                validate=validate,
                name=type(self).__name__,
            )
            self.losses, self.best_epoch, self.stopped_epoch = course.losses, course.best_epoch, course.stopped_epoch
        self.network.to(self.torch_device)
        self._serve()

    def _identity(self, log: Interactions) -> dict[str, Any]:
        """Return what a checkpoint must agree in, plain values."""
        arguments = {key: repr(value) for key, value in self.arguments().items() if key != "device"}
        return {"model": type(self).__name__, "data": log.content_hash} | arguments

    def _serve(self) -> None:
        self.network.eval()
        with scoring():
            self._prepare()
        self.stale = False

    def _check_fitted(self) -> None:
        super()._check_fitted()
        if self.stale:  # a Trainer of the caller's has moved on
            self.network.to(self.torch_device)
            self._serve()

    def _ints(self, rows: np.ndarray) -> Tensor:
        """Return int64 rows where the network lies."""
        return torch.from_numpy(np.ascontiguousarray(rows, np.int64)).to(self.torch_device)


def check_loss(name: str) -> None:
    """Check that `losses` has a loss of this name.

    Raises:
        ValueError: it has none.
    """
    known = tuple(one for one in losses.__all__ if one.endswith("_loss"))
    check_argument("loss", name, Literal[known])
