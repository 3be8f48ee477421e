"""One training from start to end: Lightning's trainer under our options, with validation, checkpoints and a bar."""

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

from .batches import Batches
from .callbacks import Course, Keeper, Monitor, Position
from .options import TrainerOptions
from .scorer import Scorer
from .surroundings import with_own_settings

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
        Mean losses, and which epoch was best and which the last.

    Raises:
        ValueError: a checkpoint of another training, or options that do not go with optimizer or device.
        DivergedError: a loss or a weight that is no number.
        MemoryError: the device's memory does not suffice.
        OSError: a checkpoint could not be written.
        KeyboardInterrupt: as it came; the newest checkpoint is kept.
    """
    num_gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    options.check(optimizer=scorer.optimizer_name, device=device.type, num_gpus=num_gpus)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="torch.optim.lr_scheduler")
    if options.patience is None:
        validate = None
    batches.accumulate = options.accumulate
    monitor, keeper = Monitor(batches, options, validate, epochs, name), Keeper(options, identity)
    ckpt_path = keeper.newest()
    with _interrupts(), _quiet():
        trainer = _trainer(options, device, epochs, [Position(batches), monitor, keeper])
        try:
            trainer.fit(scorer, batches, ckpt_path=ckpt_path, weights_only=True)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise MemoryError(
                f"training needs more memory than {device} has ({error}); lower model.batch_size, "
                "model.embedding_size or model.num_negatives, or set trainer.accumulate"
            ) from error
    if trainer.interrupted:  # earlier versions of Lightning return as if all were well
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
    """Keep Lightning's hints, though not its warnings, from the terminal."""
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
    """Let Ctrl-C and SIGTERM come out as KeyboardInterrupt: Lightning makes an exit of the process of it, and ignores the next."""
    try:
        before = signal.getsignal(signal.SIGINT)
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            with contextlib.suppress(ValueError):  # of another thread than the main one
                signal.signal(signal.SIGINT, before)
            raise KeyboardInterrupt from error
        raise
