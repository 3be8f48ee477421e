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

from recsys_dl.threads import keep_freed_memory

from .batches import Batches
from .callbacks import Keeper, Monitor, Position
from .options import TrainerOptions
from .scorer import Scorer


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
        ValueError: a checkpoint of another training, or options that do not go with optimizer or device.
        DivergedError: a loss or a weight that is no number.
        MemoryError: the device's memory does not suffice.
        OSError: a checkpoint could not be written.
        KeyboardInterrupt: as it came; the newest checkpoint is kept.
    """
    keep_freed_memory()
    num_gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    options.check(optimizer=scorer.optimizer_name, device=device.type, num_gpus=num_gpus)
    for noisy in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if options.patience is None:
        validate = None
    batches.accumulate = options.accumulate
    monitor, keeper = Monitor(batches, options, validate, epochs, name), Keeper(options, identity)
    ckpt_path = keeper.newest()
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
        callbacks=[Position(batches), monitor, keeper],
        deterministic="warn" if device.type == "cuda" else False,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings(), _interrupts():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", module="torch.optim.lr_scheduler")
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
    return monitor.losses


def _strategy(options: TrainerOptions, device: torch.device) -> Any:
    if options.world_size == 1:
        return "auto"
    return DDPStrategy(process_group_backend="nccl" if device.type == "cuda" else "gloo", find_unused_parameters=False)


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
