"""What a neural model gives to a Lightning Trainer of one's own: itself as a module, and DataLoaders."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import Tensor
from torch.utils.data import DataLoader

from recsys_dl.data.dataset import Dataset, as_interactions, check_numbering
from recsys_dl.data.interactions import Interactions
from recsys_dl.training.batches import Batches, mixed
from recsys_dl.training.surroundings import with_own_settings

from .catalogue import CatalogueModel
from .validation import Validation

if TYPE_CHECKING:
    from .lightning import RecommenderModule
    from .neural import NeuralModel


class LightningParts(CatalogueModel):
    """A model that a Trainer of the caller's can train; see docs/training.md."""

    @with_own_settings
    def lightning_module(
        self,
        train: Dataset | Interactions | None = None,
        *,
        metric: str = "ndcg@10",
        num_steps: int | None = None,
    ) -> RecommenderModule:
        """Return this model as a LightningModule for a Trainer of your own; the model answers by what it learns.

        Args:
            train: begin anew, as `fit` does, for what is to be learned; None takes the fitted network, to go on.
            metric: logged as `val_ndcg@10` or the like, where the Trainer validates.
            num_steps: of the learning rate's schedule; None takes all that the Trainer is going to do.

        Raises:
            ValueError: nothing to learn from, no `train` for a model that was not fitted, or another metric.
        """
        from .lightning import RecommenderModule

        model = cast("NeuralModel", self)
        if train is not None:
            log = model._begin(train)
            model._make()
            model._take(log)
            model.losses, model.best_epoch, model.stopped_epoch = [], None, None
            model._serve()
        return RecommenderModule(model, metric=metric, num_steps=num_steps)

    def train_dataloader(self, train: Dataset | Interactions) -> DataLoader[dict[str, Tensor]]:
        """Return batches of `train` for a Trainer of your own: dicts of tensors, those that `fit` learns from.

        Raises:
            ValueError: other rows than the model's, or `Shards`, which only `fit` streams.
        """
        from recsys_dl.training.loading import batch_loader

        model, log = cast("NeuralModel", self), as_interactions(train)
        model._check_fitted()
        check_numbering(train, model.users, model.items)
        if (log.num_users, log.num_items) != (model.num_users, model.num_items):
            raise ValueError(
                f"train must be over the rows of the model, {model.num_users} users x {model.num_items} items, got "
                f"{log.num_users} x {log.num_items}; begin with lightning_module(train)"
            )
        batches = model._batches(model._examples(log), mixed(model.seed, 1))
        if not isinstance(batches, Batches):
            raise ValueError("a DataLoader takes a log in memory; fit(train) streams Shards")
        return batch_loader(batches)

    def val_dataloader(self, validation: Dataset | Interactions) -> DataLoader[dict[str, Tensor]]:
        """Return the users of a validation part in batches, for a Trainer of your own.

        Raises:
            ValueError: other rows than the model's, or nothing to validate on.
        """
        model = cast("NeuralModel", self)
        model._check_fitted()
        trained = Interactions.from_csr(model.train_UI)
        questions = Validation(model, validation, trained, "ndcg@10").batches()
        return DataLoader(questions, batch_size=None)  # type: ignore[arg-type]
