"""A Lightning logger that reports each epoch's validation metric to a trial, which may be stopped by it."""

# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from pytorch_lightning.loggers import Logger


class EpochReporter(Logger):
    """Reports one metric; epochs that a killed attempt reported are not reported again.

    Args:
        trial: of Optuna.
        metric: its name among what is logged.
    """

    def __init__(self, trial: optuna.Trial, metric: str) -> None:
        super().__init__()
        self.trial, self.metric = trial, metric
        self.reported = set(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    @property
    def name(self) -> str:
        return "tune"

    @property
    def version(self) -> int:
        return self.trial.number

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: a trial's settings are known."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Report the metric, if it is among these.

        Raises:
            optuna.TrialPruned: the trial is worse than others were after as many epochs.
        """
        if self.metric not in metrics:
            return
        epoch = int(metrics["epoch"]) + 1
        if epoch not in self.reported:
            self.trial.report(metrics[self.metric], epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f"{self.metric} {metrics[self.metric]:.4f} after epoch {epoch}")
