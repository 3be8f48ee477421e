"""Training callbacks: batch position, monitoring and checkpoints.

The hooks are Lightning's, and documented there.
"""

# ruff: noqa: D102

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from recsys_dl.folders import writing
from recsys_dl.progress import Meter

from .batches import Batches
from .options import TrainerOptions
from .scorer import Scorer
from .table_parts import remove_others

log = logging.getLogger(__name__)


class Position(pl.Callback):
    """Sets the batches' process rank and, after a restart in mid-epoch, their position."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def state_dict(self) -> dict[str, Any]:
        kept = getattr(
            self.batches.examples, "kept", None
        )  # for examples that depend on the weights at the start of the epoch
        return {} if kept is None else {"examples": kept()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "examples" in state_dict:
            self.batches.examples.keep(state_dict["examples"])  # type: ignore[attr-defined]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.batches.rank, self.batches.world_size = trainer.global_rank, trainer.world_size
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        self.batches.seek(trainer.current_epoch, done % len(self.batches))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.batches.seek(trainer.current_epoch)  # not called when training resumes in mid-epoch


class Monitor(pl.Callback):
    """Losses, validation, early stopping, loggers and the progress bar."""

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
        self._logged: int | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "figures": self.figures, "best": self.best, "sum": self._sum}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses, self.figures = state_dict["losses"], state_dict["figures"]
        self.best, self._sum = state_dict["best"], state_dict["sum"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = self._has_enough()  # training that was killed after its last validation is finished
        if trainer.is_global_zero:
            done = trainer.fit_loop.epoch_loop.batch_progress.current.ready % len(self.batches)
            self.meter.start(trainer.current_epoch * len(self.batches) + done)
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
            figures = {"loss": float(pl_module.newest_loss)}
            now = time.perf_counter()
            if self._logged is not None:  # earlier batches are startup time and do not count toward the speed
                figures["samples_per_second"] = (done - self._logged) * self.batches.batch_size / (now - self._began)
            self._began, self._logged = now, done
            figures["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
            self._tell(trainer, figures)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Scorer)
        pl_module.check_weights(f"the end of epoch {trainer.current_epoch}")
        self.losses.append(float(self._sum) / len(self.batches))
        self._sum = torch.zeros((), dtype=torch.float64)
        figures = {"epoch_loss": self.losses[-1]}
        last = trainer.current_epoch + 1 == self.epochs
        if self.validate and ((trainer.current_epoch + 1) % self.options.validate_every == 0 or last):
            pl_module.eval()
            with torch.no_grad():
                figure = self.validate()
            pl_module.train()
            if figure > max(self.figures, default=-1.0):
                weights = pl_module.network.state_dict()
                self.best = {name: value.detach().cpu().clone() for name, value in weights.items()}
            self.figures.append(figure)
            figures[self.options.metric] = figure
            trainer.should_stop = self._has_enough()
        self._tell(trainer, figures | {"epoch": trainer.current_epoch})  # from 0, as Lightning logs it
        summary = ", ".join(f"{key} {value:.5f}" for key, value in figures.items())
        log.info("epoch %d: %s", trainer.current_epoch, summary)
        if trainer.is_global_zero:
            self.meter.tell(f"epoch {trainer.current_epoch + 1} of {self.epochs}, {summary}", last=last)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.meter.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.meter.stop()

    def restore_best(self, scorer: Scorer) -> None:
        """Restore the best weights, if there was a validation."""
        if self.best is not None:
            scorer.network.load_state_dict(self.best)

    def course(self) -> Course:
        """Return a summary of the training."""
        stopped, best = len(self.losses), None
        if self.figures:
            best = min((1 + self.figures.index(max(self.figures))) * self.options.validate_every, stopped)
        return Course(self.losses, best, stopped)

    def _has_enough(self) -> bool:
        """Return whether the smoothed metric has not improved for `patience` consecutive validations."""
        options = self.options
        if options.patience is None or len(self.losses) < options.min_epochs:
            return False
        return since_best(self.figures, options.smoothing, options.min_delta) >= options.patience

    def _tell(self, trainer: pl.Trainer, figures: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)


class Course(NamedTuple):
    """Summary of a training.

    Attributes:
        losses: mean loss of each epoch.
        best_epoch: epoch, from 1, whose weights are kept; None if not validated.
        stopped_epoch: the last epoch trained, from 1.
    """

    losses: list[float]
    best_epoch: int | None
    stopped_epoch: int


def since_best(figures: Sequence[float], smoothing: int, min_delta: float) -> int:
    """Return the number of moving averages over `smoothing` figures since the last that improved by more than `min_delta`."""
    best, since = -math.inf, 0
    for last in range(smoothing, len(figures) + 1):
        mean = sum(figures[last - smoothing : last]) / smoothing
        best, since = (mean, 0) if mean > best + min_delta else (best, since + 1)
    return since


class Keeper(pl.Callback):
    """Checkpoints, written atomically; never pickled classes."""

    def __init__(self, options: TrainerOptions, identity: dict[str, Any]) -> None:
        self.file = None if options.checkpoint is None else Path(options.checkpoint).absolute() / "newest.ckpt"
        self.every = options.checkpoint_every
        self.identity = identity | {
            "processes": options.world_size,
            "accumulate": options.accumulate,
            "clip_norm": options.clip_norm,
            "precision": options.precision,
            "patience": options.patience,
            "metric": options.metric,
            "validate_every": options.validate_every,
        }
        if options.patience is not None:
            self.identity |= {name: getattr(options, name) for name in ("smoothing", "min_delta", "min_epochs")}
        if options.shard_tables:
            self.identity["shard_tables"] = True

    def newest(self) -> str | None:
        """Return the checkpoint to resume from, if there is one, after checking that it belongs to this training."""
        if self.file is None or not self.file.exists():
            return None
        try:
            found = torch.load(self.file, map_location="cpu", weights_only=True)["recsys_dl"]
        except Exception as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"{self.file} must be a checkpoint of this package, but cannot be read ({first}); remove it to start from scratch"
            ) from error
        mine = self.identity
        differ = [key for key in {**found, **mine} if found.get(key) != mine.get(key) and key != "processes"]
        if differ:
            summary = "; ".join(f"{key} was {found.get(key)!r}, is {mine.get(key)!r}" for key in sorted(differ))
            raise ValueError(
                f"{self.file} is a checkpoint of a different training: {summary}. Set another folder as trainer.checkpoint, or "
                "remove this one."
            )
        other = "" if found["processes"] == mine["processes"] else f", of {found['processes']} processes"
        log.info("resuming from %s%s", self.file, other)
        return str(self.file)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["recsys_dl"] = self.identity

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Scorer)
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0  # accumulated gradients are not in checkpoints
        last = (
            batch_idx + 1 == trainer.num_training_batches
        )  # the end of the epoch writes its own, including validation
        if self.file is not None and stepped and not last and trainer.global_step % self.every == 0:
            pl_module.check_weights(batch.names)
            self._keep(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Scorer)
        if self.file is not None:
            self._keep(trainer, pl_module)

    def _keep(self, trainer: pl.Trainer, pl_module: Scorer) -> None:
        assert self.file is not None
        aside = self.file.with_suffix(".partial")
        try:
            with writing(self.file):
                if trainer.is_global_zero:
                    self.file.parent.mkdir(parents=True, exist_ok=True)
                trainer.save_checkpoint(aside)
                if trainer.is_global_zero:
                    os.replace(aside, self.file)
                    if pl_module.newest_parts is not None:
                        remove_others(self.file.parent, pl_module.newest_parts)
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"no checkpoint could be written to {self.file.parent} ({error}). The previous one is kept; when run again, "
                "training resumes from it"
            ) from error
        finally:
            if trainer.is_global_zero:
                aside.unlink(missing_ok=True)  # exists only if writing was interrupted
