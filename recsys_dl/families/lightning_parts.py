"""What a neural model gives to a Lightning Trainer of one's own: itself as a module, and DataLoaders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.utils.data import DataLoader

from recsys_dl.data.dataset import Dataset, as_interactions, check_numbering
from recsys_dl.data.interactions import Interactions
from recsys_dl.training.batches import Batches, mixed
from recsys_dl.training.surroundings import with_own_settings

from .network_model import NetworkModel
from .validation import Validation

if TYPE_CHECKING:
    from .lightning import RecommenderModule


class LightningParts(NetworkModel):
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

        if train is not None:
            log = self._begin(train)
            self._make()
            self._take(log)
            self.losses, self.best_epoch, self.stopped_epoch = [], None, None
            self._serve()
        return RecommenderModule(self, metric=metric, num_steps=num_steps)

    def train_dataloader(self, train: Dataset | Interactions) -> DataLoader[dict[str, Tensor]]:
        """Return batches of `train` for a Trainer of your own: dicts of tensors, those that `fit` learns from.

        Raises:
            ValueError: other rows than the model's, or `Shards`, which only `fit` streams.
        """
        from recsys_dl.training.loading import batch_loader

        log = as_interactions(train)
        self._check_fitted()
        check_numbering(train, self.users, self.items)
        if (log.num_users, log.num_items) != (self.num_users, self.num_items):
            raise ValueError(
                f"train must be over the rows of the model, {self.num_users} users x {self.num_items} items, got "
                f"{log.num_users} x {log.num_items}; begin with lightning_module(train)"
            )
        batches = self._batches(self._examples(log), mixed(self.seed, 1))
        if not isinstance(batches, Batches):
            raise ValueError("a DataLoader takes a log in memory; fit(train) streams Shards")
        return batch_loader(batches)

    def val_dataloader(self, validation: Dataset | Interactions) -> DataLoader[dict[str, Tensor]]:
        """Return the users of a validation part in batches, for a Trainer of your own.

        Raises:
            ValueError: other rows than the model's, or nothing to validate on.
        """
        self._check_fitted()
        trained = Interactions.from_csr(self.train_UI)
        questions = Validation(self, validation, trained, "ndcg@10").batches()
        return DataLoader(questions, batch_size=None)  # type: ignore[arg-type]
