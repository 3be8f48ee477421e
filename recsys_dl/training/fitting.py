"""One training from start to end: Lightning's trainer under our options, with validation, checkpoints and a bar."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor

from recsys_dl.progress import Meter

from .batches import Batches
from .options import TrainerOptions
from .scorer import Scorer

log = logging.getLogger(__name__)


def fit_scorer(
    scorer: Scorer,
    batches: Batches,
    *,
    epochs: int,
    options: TrainerOptions,
    device: torch.device,
    identity: dict[str, Any],
    validate: Callable[[], float] | None,
    name: str,
) -> list[float]:
    """Train; leave the best weights in the network where it was validated, else the last.

    Args:
        scorer: what to train.
        batches: an epoch of it; its rank and world_size are set here.
        epochs: at most so many.
        options: how.
        device: where.
        identity: what a checkpoint must have been made with to go on from it; plain values.
        validate: returns the figure of `options.metric`; called on every process, and must give all the same.
        name: shown beside the bar.

    Returns:
        The mean loss of each epoch.

    Raises:
        ValueError: a checkpoint of another training; more processes than GPUs.
        DivergedError: a loss that is no number.
        MemoryError: the device's memory does not suffice.
    """
    for noisy in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if options.patience is None:
        validate = None
    keeper = _Keeper(options, identity)
    callbacks: list[pl.Callback] = [_Position(batches), _Monitor(batches, options, validate, epochs, name), keeper]
    trainer = pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=options.processes,
        num_nodes=options.num_nodes,
        strategy=_strategy(options, device),
        precision=options.precision,  # type: ignore[arg-type]
        accumulate_grad_batches=options.accumulate,
        gradient_clip_val=options.clip_norm,
        max_epochs=epochs,
        logger=list(options.loggers) or False,
        callbacks=callbacks,
        deterministic="warn" if device.type == "cuda" else False,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", module="torch.optim.lr_scheduler")
        try:
            trainer.fit(scorer, batches, ckpt_path=keeper.newest(), weights_only=True)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise MemoryError(
                f"training needs more memory than {device} has ({error}); lower model.batch_size, "
                "model.embedding_size or model.num_negatives, or set trainer.accumulate"
            ) from error
    monitor = callbacks[1]
    assert isinstance(monitor, _Monitor)
    monitor.restore_best(scorer)
    return monitor.losses


def _strategy(options: TrainerOptions, device: torch.device) -> Any:
    if options.processes * options.num_nodes == 1:
        return "auto"
    return DDPStrategy(process_group_backend="nccl" if device.type == "cuda" else "gloo", find_unused_parameters=False)


class _Position(pl.Callback):
    """Tells the batches which process they are of and, also after a restart in mid-epoch, where to go on."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.batches.rank, self.batches.world_size = trainer.global_rank, trainer.world_size
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        self.batches.seek(trainer.current_epoch, done % len(self.batches))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.batches.seek(trainer.current_epoch)  # not called where training goes on in mid-epoch


class _Monitor(pl.Callback):
    """Losses, validation, early stopping, loggers and the bar."""

    def __init__(
        self,
        batches: Batches,
        options: TrainerOptions,
        validate: Callable[[], float] | None,
        epochs: int,
        name: str,
    ) -> None:
        self.batches, self.options, self.validate, self.epochs = batches, options, validate, epochs
        self.meter = Meter(name, epochs * len(batches))
        self.losses: list[float] = []
        self.figures: list[float] = []
        self.best: dict[str, Tensor] | None = None
        self._sum = torch.zeros((), dtype=torch.float64)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "figures": self.figures, "best": self.best, "sum": self._sum}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses, self.figures = state_dict["losses"], state_dict["figures"]
        self.best, self._sum = state_dict["best"], state_dict["sum"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.meter.start(trainer.global_step)
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Scorer)
        self._sum = self._sum + pl_module.newest_loss.double().cpu()
        done = trainer.current_epoch * len(self.batches) + batch_idx + 1
        if self.meter.shown:
            self.meter.advance(done, loss=float(pl_module.newest_loss), num_samples=self.batches.batch_size)
        if trainer.loggers and done % self.options.log_every == 0:
            seconds = time.perf_counter() - self._began
            self._began = time.perf_counter()
            rate = self.options.log_every * self.batches.batch_size / max(seconds, 1e-9)
            figures = {"loss": float(pl_module.newest_loss), "samples_per_second": rate}
            figures["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
            self._tell(trainer, figures)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Scorer)
        self.losses.append(float(trainer.strategy.reduce(self._sum, reduce_op="mean")) / len(self.batches))
        self._sum = torch.zeros((), dtype=torch.float64)
        figures = {"epoch_loss": self.losses[-1]}
        last = trainer.current_epoch + 1 == self.epochs
        if self.validate and ((trainer.current_epoch + 1) % self.options.validate_every == 0 or last):
            pl_module.eval()
            with torch.no_grad():
                figure = self.validate()
            pl_module.train()
            if figure > max(self.figures, default=-1.0):
                self.best = {
                    name: value.detach().cpu().clone() for name, value in pl_module.network.state_dict().items()
                }
            self.figures.append(figure)
            figures[self.options.metric] = figure
            since = len(self.figures) - 1 - self.figures.index(max(self.figures))
            trainer.should_stop = since >= (self.options.patience or 0)
        self._tell(trainer, figures)
        log.info(
            "epoch %d: %s", trainer.current_epoch, ", ".join(f"{key} {value:.5f}" for key, value in figures.items())
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.meter.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.meter.stop()

    def restore_best(self, scorer: Scorer) -> None:
        """Put the best weights back, where there was a validation."""
        if self.best is not None:
            scorer.network.load_state_dict(self.best)

    def _tell(self, trainer: pl.Trainer, figures: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)


class _Keeper(pl.Callback):
    """Checkpoints that appear whole or not at all; never pickles of classes."""

    def __init__(self, options: TrainerOptions, identity: dict[str, Any]) -> None:
        self.file = None if options.checkpoint is None else Path(options.checkpoint) / "newest.ckpt"
        self.every = options.checkpoint_every
        self.identity = identity | {
            "processes": options.processes * options.num_nodes,
            "accumulate": options.accumulate,
        }

    def newest(self) -> str | None:
        """Return the checkpoint to go on from, if there is one, after a check that it is of this training."""
        if self.file is None or not self.file.exists():
            return None
        try:
            found = torch.load(self.file, map_location="cpu", weights_only=True)["recsys_dl"]
        except Exception as error:
            raise ValueError(
                f"{self.file} must be a checkpoint of this package, but cannot be read ({error}); remove it to start anew"
            ) from error
        differ = [key for key in {**found, **self.identity} if found.get(key) != self.identity.get(key)]
        if differ:
            told = "; ".join(f"{key} was {found.get(key)!r}, is {self.identity.get(key)!r}" for key in sorted(differ))
            raise ValueError(
                f"{self.file} is a checkpoint of another training: {told}. Name another folder as trainer.checkpoint, or "
                "remove this one."
            )
        log.info("going on from %s", self.file)
        return str(self.file)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["recsys_dl"] = self.identity

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.file is not None and (batch_idx + 1) % self.every == 0:
            self._keep(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.file is not None:
            self._keep(trainer)

    def _keep(self, trainer: pl.Trainer) -> None:
        assert self.file is not None
        aside = self.file.with_suffix(".partial")
        if trainer.is_global_zero:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(aside)
        if trainer.is_global_zero:
            os.replace(aside, self.file)
