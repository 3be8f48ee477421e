"""How training runs, for any model: precision, processes, validation, checkpoints, loggers."""

from __future__ import annotations

import numbers
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recsys_dl.arguments import named

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
ALIASES = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}  # Lightning's names
SMOOTHING = 5
WITHOUT_TABLES = (
    "trainer.shard_tables=true divides the embedding tables of gmf, mlp and neumf, and those of two_tower, youtube_dnn and sasrec with "
    "model.softmax=sampled or in_batch, while they are fitted; this training has no tables that can be divided. Leave it false"
)
WHOLE = (
    "accumulate",
    "smoothing",
    "min_epochs",
    "validate_every",
    "checkpoint_every",
    "processes",
    "num_nodes",
    "log_every",
)


@named
@dataclass(frozen=True)
class TrainerOptions:
    """Settings of `NeuralModel.fit` that are not part of the model.

    Attributes:
        precision: "32-true"; "bf16-mixed" or "16-mixed" (the latter on a GPU only).
        accumulate: batches whose gradients are accumulated per step.
        clip_norm: maximum gradient norm; None does not clip.
        patience: training stops after this many consecutive validations without improvement of the mean of the last `smoothing`
            ones; the weights of the best validation are kept. None trains all epochs without validation.
        smoothing: number of validations in that moving average, to reduce noise; training does not stop before
            `smoothing` + `patience` validations.
        min_delta: minimum improvement of that mean.
        min_epochs: minimum number of epochs.
        metric: validation metric over the full catalog: one of `metrics.ranking` with a list length, such as "ndcg@10".
        validate_every: epochs between validations.
        checkpoint: folder with the latest state of the training; training resumes from it if there is one. None
            writes none.
        checkpoint_every: steps between checkpoints, in addition to the end of every epoch.
        processes: on this machine, one GPU each if there are GPUs. A batch is split among them. Lightning starts the
            script, or the command, again for each; or torchrun has started this many.
        num_nodes: machines, started by torchrun or Slurm.
        shard_tables: whether each process holds only its part of the embedding tables of GMF, MLP, NeuMF and towers, and of the
            optimizer's state for them; see docs/processes.md.
        loggers: Lightning loggers (TensorBoard, CSV, MLflow, W&B) that receive loss, learning rate and validation metrics.
        log_every: steps between logged values.

    Raises:
        ValueError: an option out of range.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import GMF
        >>> from recsys_dl.training import TrainerOptions
        >>> train = Interactions([0, 0, 1, 1], [0, 1, 1, 2])
        >>> GMF(embedding_size=4, epochs=1, device="cpu").fit(train, trainer=TrainerOptions(clip_norm=1.0)).num_items
        3
    """

    precision: str = "32-true"
    accumulate: int = 1
    clip_norm: float | None = None
    patience: int | None = None
    smoothing: int = SMOOTHING
    min_delta: float = 0.0
    min_epochs: int = 1
    metric: str = "ndcg@10"
    validate_every: int = 1
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_every: int = 1000
    processes: int = 1
    num_nodes: int = 1
    shard_tables: bool = False
    loggers: tuple[Any, ...] = field(default=())
    log_every: int = 50

    def __post_init__(self) -> None:
        word = str(self.precision)
        if word not in PRECISIONS and word not in ALIASES:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        self._set("precision", ALIASES.get(word, word))
        for name in WHOLE:
            self._check_whole(name)
        if self.patience is not None:
            self._check_whole("patience")
        if not isinstance(self.shard_tables, bool):
            raise ValueError(f"shard_tables must be true or false, got {self.shard_tables!r}")
        if self.clip_norm is not None and not _number(self.clip_norm) > 0:
            raise ValueError(f"clip_norm must be a number above 0, got {self.clip_norm!r}")
        if not 0 <= _number(self.min_delta) < float("inf"):
            raise ValueError(f"min_delta must be a number of at least 0, got {self.min_delta!r}")
        check_metric(self.metric)
        if self.checkpoint is not None:
            if not isinstance(self.checkpoint, str | os.PathLike) or not os.fspath(self.checkpoint):
                raise ValueError(f"checkpoint must be the path of a folder, or None, got {self.checkpoint!r}")
            if Path(self.checkpoint).is_file():
                raise ValueError(f"checkpoint must be the path of a folder, but {self.checkpoint} is a file")
        self._set("loggers", _loggers(self.loggers))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check_whole(self, name: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        self._set(name, int(value))

    @property
    def world_size(self) -> int:
        """Total number of processes on all machines."""
        return self.processes * self.num_nodes

    def check(self, *, optimizer: str, device: str, num_gpus: int) -> None:
        """Check that these options work on this device ("cpu", "cuda").

        Raises:
            ValueError: incompatible options, more processes than GPUs, or a launcher that started a different number.
        """
        if self.precision == "16-mixed" and device == "cpu":
            raise ValueError('precision="16-mixed" needs a GPU; on the CPU use "bf16-mixed" or "32-true"')
        if optimizer == "row_adam" and self.clip_norm is not None:
            raise ValueError(
                'optimizer="row_adam" uses sparse gradients, whose norm cannot be clipped; use clip_norm=None, or "adam"'
            )
        if optimizer == "row_adam" and device == "cuda" and self.precision == "16-mixed":
            raise ValueError(
                'optimizer="row_adam" uses sparse gradients, which "16-mixed" cannot scale; use precision="bf16-mixed"'
            )
        if optimizer == "row_adam" and device == "cuda" and self.world_size > 1:
            raise ValueError(
                'optimizer="row_adam" uses sparse gradients, which NCCL cannot add up over GPUs; use processes=1, or "adam"'
            )
        if device == "cuda" and self.processes > num_gpus:
            raise ValueError(f"processes must be at most the {num_gpus} GPUs of this machine, got {self.processes}")
        if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) != self.world_size:
            raise ValueError(
                f"torchrun started {os.environ['WORLD_SIZE']} processes, but processes={self.processes} on "
                f"num_nodes={self.num_nodes} makes {self.world_size}; set trainer.processes to the number on each machine"
            )


def checked(trainer: Any) -> TrainerOptions:
    """Return the given options, or the defaults.

    Raises:
        ValueError: any other type.
    """
    if trainer is None:
        return TrainerOptions()
    if not isinstance(trainer, TrainerOptions):
        raise ValueError(
            f"trainer must be TrainerOptions(…) or None, got {type(trainer).__name__}; with your own Trainer use "
            "model.lightning_module(train), see docs/training.md"
        )
    return trainer


def check_metric(metric: Any) -> None:
    """Check that this is a metric of `metrics.ranking` with a list length.

    Raises:
        ValueError: it is not.
    """
    from recsys_dl.metrics.ranking import METRICS

    name, _, k = metric.partition("@") if isinstance(metric, str) else ("", "", "")
    if name not in METRICS or not k.isdigit() or int(k) < 1:
        raise ValueError(
            f"metric must be one of {', '.join(METRICS)} with a list length, such as ndcg@10; got {metric!r}"
        )


def _number(value: Any) -> float:
    """Return a real number, NaN for anything else."""
    return float("nan") if isinstance(value, bool) or not isinstance(value, numbers.Real) else float(value)


def _loggers(given: Any) -> tuple[Any, ...]:
    """Return zero or more loggers as a tuple."""
    if given is None or given is False:
        return ()
    several = tuple(given) if isinstance(given, list | tuple) else (given,)
    for one in several:
        if not hasattr(one, "log_metrics"):
            raise ValueError(
                f"loggers must be Lightning loggers, such as pytorch_lightning.loggers.CSVLogger('logs'), got {one!r}"
            )
    return several
