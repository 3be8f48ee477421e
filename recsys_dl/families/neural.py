"""Training neural models: from scratch, fine-tuning on new interactions, and growing by new users and items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from typing_extensions import Self

from recsys_dl import losses
from recsys_dl.arguments import check_argument
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.lazy import importing
from recsys_dl.training import TrainerOptions
from recsys_dl.training.batches import Examples, mixed
from recsys_dl.training.options import checked
from recsys_dl.training.surroundings import enough_memory, with_own_settings

from .growing import check_tuning, grow, only_learning, replayed, unchanged_on_error
from .learned import check_memory
from .lightning_parts import LightningParts
from .sharding import asked_sharding, assemble, check_rows
from .validation import Validation

NUMBERS_A_WEIGHT = 4  # the weight, its gradient and Adam's two moments


class NeuralModel(LightningParts):
    """A `NetworkModel` that Lightning trains: from scratch (`fit`) or by fine-tuning on new interactions (`fine_tune`)."""

    # Public methods

    @with_own_settings
    def fit(
        self,
        train: Dataset | Interactions,
        *,
        validation: Dataset | Interactions | None = None,
        trainer: TrainerOptions | None = None,
    ) -> Self:
        """Fit to `train`; return self.

        Args:
            train: training interactions.
            validation: interactions over the same rows on which `trainer.metric` is measured if `trainer.patience` is given.
            trainer: how to run; None means `TrainerOptions()`.

        Raises:
            ValueError: an empty log, patience without a validation part, a checkpoint of another training, or tables that cannot be
                divided (`trainer.shard_tables`).
            RuntimeError: device "cuda" without a usable GPU.
        """
        options = checked(trainer)
        self.sharding = asked_sharding(self, options)
        log = self._begin(train)
        if options.patience is not None and validation is None:
            raise ValueError(
                "trainer.patience needs a validation metric, but no validation part was given: fit(train, "
                "validation=…), or patience=None"
            )
        with torch.device("meta"):  # allocates nothing
            network = self._build()
        check_rows(network)
        num_bytes = sum(weights.nbytes for weights in network.parameters())
        check_memory(type(self).__name__, NUMBERS_A_WEIGHT * num_bytes)
        with enough_memory(self.torch_device):
            self._make()
            self._learn(log, validation, options, self.epochs)
            assemble(self)
        return self

    @with_own_settings
    def grow(self, new: Dataset | Interactions) -> Self:
        """Add rows for users and items of `new` that were not in training, without training them; return self.

        Trained rows keep their weights bit for bit. New rows start from their features if the model
        encodes features, else from the mean of the trained rows.

        Args:
            new: a Dataset, matched by ids, if the model was fitted on one: known ids keep their rows, new ones are appended.
                Interactions if it was fitted on Interactions: rows past the known ones are new.

        Raises:
            ValueError: a Dataset for a model without ids, Interactions with new rows for a model with ids, or features missing
                or with a different type than in training. The model is then unchanged.
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
        """Fine-tune on new interactions of known and new users and items; return self.

        The model first grows (see `grow`) and is then trained on the new interactions as in `fit`, from the current weights and
        with a new optimizer. Items a user interacted with in the old or new log are never drawn as negatives.

        Args:
            new: as in `grow`.
            epochs: passes over the new interactions; 0 only adds them.
            freeze: weights to keep bit for bit, by name prefix, such as "item_emb" or
                "layers.hidden"; new rows in a frozen table keep their initial values.
            learning_rate: None means the model's.
            replay: number of old interactions to train on per new one, drawn at random once.
            trainer: how to run; without patience, since there is no validation part.

        Raises:
            ValueError: no new interactions, a number out of range, an unknown name in `freeze`, or as in `grow`. On any error
                the model is unchanged.
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
            identity = {
                "fine_tune": f"{sorted(frozen)}, learning_rate {learning_rate}, replay {replay}, epochs {epochs}"
            }
            identity = self._identity(Interactions.from_csr(self.train_UI)) | identity
            with only_learning(self.network, frozen):
                self._train(examples, epochs, options, identity, learning_rate=learning_rate)
        return self

    def _learn(
        self, log: Interactions, validation: Dataset | Interactions | None, options: TrainerOptions, epochs: int
    ) -> None:
        """Train the network on a log, from its current weights."""
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
        """Train the network on examples, and compute the serving state."""
        with importing():
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


def check_loss(name: str) -> None:
    """Check that `losses` has a loss of this name.

    Raises:
        ValueError: it does not.
    """
    known = tuple(one for one in losses.__all__ if one.endswith("_loss"))
    check_argument("loss", name, Literal[known])
