"""A model as a LightningModule, for your own Trainer.

B users, L items of a list, T targets or relevant items, H items of a history, C candidates.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recsys_dl.data.interactions import Interactions
from recsys_dl.training.batches import Share, mixed
from recsys_dl.training.optimizers import rate_at
from recsys_dl.training.options import check_metric

from .histories import Candidates
from .network_model import NetworkModel
from .validation import metric_of, per_user

with warnings.catch_warnings():  # Lightning adds its own warning filters on import
    from recsys_dl.training.scorer import Scorer


OF_TRAINING = ("epochs", "batch_size", "learning_rate", "weight_decay", "schedule", "warmup", "seed")
ITEMS, USERS = ("items", "targets", "history", "relevant"), ("users", "owners")  # prefixes of tensors that hold rows
OPTIONAL = ("valid_BL", "ages_B", "mean_length", "candidates")


class RecommenderModule(Scorer):
    """Returned by `NeuralModel.lightning_module`; shares the model's network, so the model uses what a Trainer learned.

    A training batch is a dict of tensors, see the model's `batch_type`; a validation batch has `users_B` and
    `relevant_BT` (item rows, padded with -1), and `history_BH` for users not in training. It logs `train_loss`
    and the metric prefixed by `val_`, such as `val_ndcg@10`, over the full catalog excluding training interactions.

    Args:
        model: fitted, or initialized by `lightning_module(train)`.
        metric: validation metric, such as "ndcg@10".
        num_steps: length of the learning rate schedule; None means all steps of the Trainer.

    Raises:
        ValueError: a model that has no network yet, or an unknown metric.
    """

    def __init__(
        self,
        model: NetworkModel,
        *,
        metric: str = "ndcg@10",
        num_steps: int | None = None,
    ) -> None:
        model._check_fitted()
        check_metric(metric)
        super().__init__(
            model.network,
            model._objective,
            optimizer=model.optimizer,
            learning_rate=model.learning_rate,
            weight_decay=model.weight_decay,
            schedule=model.schedule,
            warmup=model.warmup,
            num_steps=num_steps or 1,
            seed=mixed(model.seed, 2),
        )
        self.model, self.metric, self.num_steps = model, metric, num_steps
        self.trained = Interactions.from_csr(model.train_UI)  # excluded from validation lists

    def on_fit_start(self) -> None:
        """Check that the Trainer uses the model's device, and put the network into training mode."""
        if self.device.type != self.model.torch_device.type:
            raise ValueError(
                f"the Trainer runs on {self.device.type}, {type(self.model).__name__} on {self.model.torch_device.type}: use "
                f'Trainer(accelerator="{self.model.torch_device.type}"), or construct the model with another device'
            )
        self._learns()

    def training_step(self, batch: Share | Mapping[str, Tensor], index: int) -> Tensor:
        """Return the loss of one batch, and log it."""
        if not isinstance(batch, Share):
            where = f"batch {index} of epoch {self.current_epoch}"
            batch = Share(read_batch(self.model, batch, rows=index == 0), 1.0, where)
        self._learns()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            loss = super().training_step(batch, index)
        size = len(batch.batch.users_B)
        self.log("train_loss", loss.detach(), on_step=True, on_epoch=True, prog_bar=True, batch_size=size)
        return loss

    def _learns(self) -> None:
        """Continue in training mode; the model must recompute its serving state before it is used."""
        self.model.stale = True
        if not self.network.training:
            self.network.train()

    def on_validation_epoch_start(self) -> None:
        """Compute the model's serving state."""
        self.model._serve()

    def on_validation_epoch_end(self) -> None:
        """Mark the serving state as stale: the network goes back into training mode."""
        self.model.stale = True

    def validation_step(self, batch: Mapping[str, Tensor], index: int) -> None:
        """Log the mean of the metric over a batch's users."""
        users_B, relevant_BT = (_given(batch, name) for name in ("users_B", "relevant_BT"))
        relevant = _lists(relevant_BT, self.model.num_items)
        histories = _lists(batch["history_BH"], self.model.num_items) if "history_BH" in batch else None
        name, k = metric_of(self.metric, self.model.num_items)
        values = per_user(self.model, users_B.cpu().numpy(), relevant.by_user, self.trained, histories, name, k)
        self.log(
            f"val_{self.metric}",
            float(values.mean()),
            prog_bar=True,
            batch_size=len(values),
            sync_dist=True,
            on_epoch=True,
        )

    def configure_optimizers(self) -> Any:
        """Return the model's optimizer and schedule, over all steps of the Trainer unless `num_steps` was given."""
        if self.num_steps is None and (self.model.schedule, self.model.warmup) != ("constant", 0):
            steps = self.trainer.estimated_stepping_batches
            if steps == float("inf"):
                raise ValueError(
                    f"schedule={self.model.schedule!r} with warmup={self.model.warmup} needs an end: Trainer(max_epochs=…), or "
                    "lightning_module(num_steps=…)"
                )
            self.rate = rate_at(self.model.schedule, self.model.warmup, int(steps))
        return super().configure_optimizers()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Return the batch on the device."""
        if not isinstance(batch, Mapping):  # from our own loader, already on the device
            return batch
        return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}

    def load_state_dict(self, *arguments: Any, **named: Any) -> Any:
        """Load weights, which the model then uses."""
        self.model.stale = True
        return super().load_state_dict(*arguments, **named)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what the weights belong to."""
        checkpoint["recsys_dl"] = self._identity()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the weights belong to this model and its data."""
        found, mine = checkpoint.get("recsys_dl"), self._identity()
        if not isinstance(found, dict):
            raise ValueError(
                f"a checkpoint for {type(self.model).__name__} must come from its lightning_module, got one without its marker"
            )
        differ = [key for key in {**mine, **found} if found.get(key) != mine.get(key)]  # the model first, then the data
        if differ:
            words = "; ".join(f"{key} was {found.get(key)}, is {mine.get(key)}" for key in differ[:3])
            raise ValueError(
                f"the checkpoint belongs to another model: {words}. Construct the model with the same settings, on the same data."
            )

    def _identity(self) -> dict[str, Any]:
        if not hasattr(self, "_mark"):
            mark = self.model._identity(self.trained)
            self._mark = {key: value for key, value in mark.items() if key not in OF_TRAINING}
        return self._mark


def read_batch(model: NetworkModel, batch: Mapping[str, Tensor], *, rows: bool) -> Any:
    """Convert a dict of tensors to the model's batch type.

    Args:
        model: whose `batch_type` names the tensors.
        batch: from `train_dataloader`, or your own DataLoader.
        rows: whether to check that all rows are in range.

    Raises:
        ValueError: not a dict of tensors, a missing or unknown tensor, or rows out of range.
    """
    kind = model.batch_type
    fields = [name for name in kind._fields if name != "candidates"]
    drawn = list(Candidates._fields) if "candidates" in kind._fields else []
    needed = [name for name in fields if name not in OPTIONAL]
    if not isinstance(batch, Mapping) or not all(isinstance(value, Tensor) for value in batch.values()):
        raise ValueError(f"{_wanted(model, needed)}, got {type(batch).__name__}")
    missing = [name for name in needed if name not in batch]
    if foreign := missing or [name for name in batch if name not in (*fields, *drawn)]:
        raise ValueError(
            f"{_wanted(model, needed)}; {'missing' if missing else 'unknown'}: {', '.join(foreign[:5])}, got "
            f"{', '.join(map(str, [*batch][:8]))}"
        )
    values = {name: _typed(name, value) for name, value in batch.items()}
    for name, value in values.items():
        if not rows or not name.startswith((*ITEMS, *USERS)) or "valid" in name or not value.numel():
            continue
        size = model.num_items if name.startswith(ITEMS) else model.num_users
        low, high, lowest = int(value.min()), int(value.max()), -1 if name.startswith("owners") else 0
        if low < lowest or high >= size:
            raise ValueError(
                f"{name} must be rows in [{lowest}, {size}), got {low} to {high}; padding must be 0 and not valid"
            )
    if "mean_length" in kind._fields and "mean_length" not in values:
        values["mean_length"] = values["valid_BH"].sum() / len(values["valid_BH"])
    if drawn:
        given = {name: values.pop(name) for name in drawn if name in values}
        values["candidates"] = Candidates(**given) if given else None  # type: ignore[assignment]
    return kind(**{name: values.get(name) for name in kind._fields})


def _typed(name: str, value: Tensor) -> Tensor:
    if name.startswith(("labels", "ages", "log_counts", "history_valid", "mean_length")):
        return value.float()
    return value.bool() if name.startswith("valid") else value.long()


def _wanted(model: NetworkModel, needed: list[str]) -> str:
    return f"a batch of {type(model).__name__} must be a dict of the tensors {', '.join(needed)} (see docs/training.md)"


def _given(batch: Mapping[str, Tensor], name: str) -> Tensor:
    if not isinstance(batch, Mapping) or name not in batch:
        raise ValueError(
            "a validation batch must be a dict of users_B and relevant_BT, as from val_dataloader(validation)"
        )
    return batch[name]


def _lists(items_BT: Tensor, num_items: int) -> Interactions:
    """Return lists padded with -1 as interactions."""
    rows_BT = items_BT.cpu().numpy()
    users_N, places_N = np.nonzero(rows_BT >= 0)
    return Interactions(users_N, rows_BT[users_N, places_N], num_users=len(rows_BT), num_items=num_items)
