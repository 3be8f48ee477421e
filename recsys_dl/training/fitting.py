"""Running one training: Lightning's Trainer with our options, validation, checkpoints and a progress bar."""

from __future__ import annotations

import contextlib
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy

from recsys_dl.networks.sharded import sharded_tables

from .batches import Batches
from .callbacks import Course, Keeper, Monitor, Position
from .options import WITHOUT_TABLES, TrainerOptions
from .scorer import Scorer
from .surroundings import enough_memory, with_own_settings

LOGGERS = ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric")


@with_own_settings
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
) -> Course:
    """Train; the network ends up with the best weights if validated, else the last.

    Args:
        scorer: what to train.
        batches: its batches; rank and world_size are set here.
        epochs: maximum number of epochs.
        options: how to run.
        device: where to run.
        identity: plain values that a checkpoint must match to be resumed.
        validate: returns the value of `options.metric`; called on every process, and must return the same on all.
        name: shown next to the progress bar.

    Returns:
        Mean losses, the best epoch and the last.

    Raises:
        ValueError: a checkpoint of another training, or options incompatible with the optimizer or device.
        DivergedError: a loss or weight is NaN or infinite.
        MemoryError: not enough memory on the device.
        OSError: a checkpoint could not be written.
        KeyboardInterrupt: re-raised; the newest checkpoint is kept.
    """
    num_gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    options.check(optimizer=scorer.optimizer_name, device=device.type, num_gpus=num_gpus)
    if options.shard_tables and not sharded_tables(scorer.network):
        raise ValueError(WITHOUT_TABLES)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message="The `srun` command is available")  # said wherever Slurm is installed
    warnings.filterwarnings("ignore", module="torch.optim.lr_scheduler")
    if options.patience is None:
        validate = None
    batches.accumulate = options.accumulate
    monitor, keeper = Monitor(batches, options, validate, epochs, name), Keeper(options, identity)
    ckpt_path = keeper.newest()
    scorer.kept_in = None if keeper.file is None else keeper.file.parent
    with _interrupts(), _quiet():
        trainer = _trainer(options, device, epochs, [Position(batches), monitor, keeper])
        with enough_memory(device):
            trainer.fit(scorer, batches, ckpt_path=ckpt_path, weights_only=True)
    if trainer.interrupted:  # older Lightning versions return normally
        raise KeyboardInterrupt
    monitor.restore_best(scorer)
    return monitor.course()


def _trainer(options: TrainerOptions, device: torch.device, epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
    return pl.Trainer(
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


def _strategy(options: TrainerOptions, device: torch.device) -> Any:
    if options.world_size == 1:
        return "auto"
    return DDPStrategy(process_group_backend="nccl" if device.type == "cuda" else "gloo", find_unused_parameters=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Lightning's hints, but not its warnings."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(max(logging.WARNING, logger.level))
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into KeyboardInterrupt: Lightning would exit the process, and ignore further signals."""
    try:
        before = signal.getsignal(signal.SIGINT)
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGINT, before)
            raise KeyboardInterrupt from error
        raise
