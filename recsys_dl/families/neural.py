"""How neural models learn: from the start, on from new interactions, and room for users and items that are new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from typing_extensions import Self

from recsys_dl import losses
from recsys_dl.arguments import check_argument
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.training import TrainerOptions
from recsys_dl.training.batches import Examples, mixed
from recsys_dl.training.options import checked
from recsys_dl.training.surroundings import with_own_settings

from .growing import check_tuning, grow, only_learning, replayed, unchanged_on_error
from .learned import check_memory
from .lightning_parts import LightningParts
from .validation import Validation

NUMBERS_A_WEIGHT = 4  # itself, its gradient and two moments of Adam


class NeuralModel(LightningParts):
    """A `NetworkModel` that Lightning trains: from the start (`fit`) or on from new interactions (`fine_tune`)."""

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

        The model grows first, as `grow` says; then the new interactions are learned as in `fit`, from weights as they stand and
        with a new optimizer. What users had in the old log or in the new one is never drawn as not had.

        Args:
            new: as `grow` takes it.
            epochs: passes over the new interactions; 0 only takes them in.
            freeze: weights that stay as they are to the bit, by the beginnings of their names, such as "item_emb" or
                "layers.hidden"; rows of new users or items in a frozen table stay as they begin.
            learning_rate: None takes that of the model.
            replay: old interactions that are learned again for each new one, drawn at random once.
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


def check_loss(name: str) -> None:
    """Check that `losses` has a loss of this name.

    Raises:
        ValueError: it has none.
    """
    known = tuple(one for one in losses.__all__ if one.endswith("_loss"))
    check_argument("loss", name, Literal[known])
