"""How a training runs, whatever the model: precision, processes, validation, checkpoints, loggers."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class TrainerOptions:
    """Settings of `NeuralModel.fit` that do not belong to the model.

    Attributes:
        precision: "32-true"; "bf16-mixed" or "16-mixed" (the latter on a GPU only).
        accumulate: batches whose gradients are added up before a step.
        clip_norm: gradients are scaled down to this norm; None leaves them.
        patience: validations in a row without a better figure after which training stops; the best weights are kept. None
            trains every epoch and does not validate.
        metric: what is validated, over the full catalogue: a metric of `metrics.ranking` and a length, such as "ndcg@10".
        validate_every: epochs between validations.
        checkpoint: folder that holds the newest state of the training; a training that finds one there goes on from it. None
            keeps none.
        checkpoint_every: steps between checkpoints, beside one at the end of every epoch.
        processes: on this machine, one GPU each where there are GPUs. A batch is shared out among them.
        num_nodes: machines, started by torchrun or Slurm.
        loggers: Lightning loggers (TensorBoard, CSV, MLflow, W&B) that are told loss, rates and validation figures.
        log_every: steps between what loggers are told.

    Raises:
        ValueError: an option out of range.
    """

    precision: str = "32-true"
    accumulate: int = 1
    clip_norm: float | None = None
    patience: int | None = None
    metric: str = "ndcg@10"
    validate_every: int = 1
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_every: int = 1000
    processes: int = 1
    num_nodes: int = 1
    loggers: tuple[Any, ...] = field(default=())
    log_every: int = 50

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        for name in ("accumulate", "validate_every", "checkpoint_every", "processes", "num_nodes", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be above 0, got {self.clip_norm}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1, got {self.patience}")
        name, _, k = self.metric.partition("@")
        from recsys_dl.metrics.ranking import METRICS

        if name not in METRICS or not k.isdigit() or int(k) < 1:
            raise ValueError(
                f"metric must be one of {', '.join(METRICS)} with a length, as ndcg@10; got {self.metric!r}"
            )
