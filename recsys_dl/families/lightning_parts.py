"""A neural model's LightningModule and DataLoaders for your own Lightning Trainer."""

from __future__ import annotations

import copy
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
    """A model that the caller's Trainer can train; see docs/training.md."""

    @with_own_settings
    def lightning_module(
        self,
        train: Dataset | Interactions | None = None,
        *,
        metric: str = "ndcg@10",
        num_steps: int | None = None,
    ) -> RecommenderModule:
        """Return this model as a LightningModule for your own Trainer; the model uses what it learns.

        Args:
            train: start from scratch, as `fit` does; None continues from the fitted network.
            metric: logged with prefix `val_`, such as `val_ndcg@10`, if the Trainer validates.
            num_steps: length of the learning rate schedule; None means all steps of the Trainer.

        Raises:
            ValueError: an empty log, no `train` for a model that is not fitted, or an unknown metric.
        """
        from .lightning import RecommenderModule

        if train is not None:
            log = self._begin(train)
            self._make()
            self._take(log)
            self.losses, self.best_epoch, self.stopped_epoch = [], None, None
            self._serve()
        elif self.mapped:  # read-only files
            self.network, self.mapped = copy.deepcopy(self.network), False
        return RecommenderModule(self, metric=metric, num_steps=num_steps)

    def train_dataloader(self, train: Dataset | Interactions) -> DataLoader[dict[str, Tensor]]:
        """Return batches of `train` for your own Trainer: dicts of tensors, the same that `fit` uses.

        Raises:
            ValueError: rows that differ from the model's, or `Shards`, which only `fit` streams.
        """
        from recsys_dl.training.loading import batch_loader

        log = as_interactions(train)
        self._check_fitted()
        check_numbering(train, self.users, self.items)
        if (log.num_users, log.num_items) != (self.num_users, self.num_items):
            raise ValueError(
                f"train must be over the rows of the model, {self.num_users} users x {self.num_items} items, got "
                f"{log.num_users} x {log.num_items}; start with lightning_module(train)"
            )
        batches = self._batches(self._examples(log), mixed(self.seed, 1))
        if not isinstance(batches, Batches):
            raise ValueError("a DataLoader takes a log in memory; fit(train) streams Shards")
        return batch_loader(batches)

    def val_dataloader(self, validation: Dataset | Interactions) -> DataLoader[dict[str, Tensor]]:
        """Return the users of a validation part in batches, for your own Trainer.

        Raises:
            ValueError: rows that differ from the model's, or nothing to validate on.
        """
        self._check_fitted()
        trained = Interactions.from_csr(self.train_UI)
        questions = Validation(self, validation, trained, "ndcg@10").batches()
        return DataLoader(questions, batch_size=None)  # type: ignore[arg-type]
