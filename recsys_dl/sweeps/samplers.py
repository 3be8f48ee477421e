"""Optuna's samplers and pruners, by the names of the command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna

from .space import Space

SAMPLERS = ("tpe", "random", "grid", "cmaes")
PRUNERS = ("median", "asha", "hyperband")


class GridPoints(optuna.samplers.BaseSampler):
    """Trial n takes the nth point: in order, so that any number of workers and restarts tries each exactly once."""

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        self.points = points

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        """Return nothing: every setting is looked up alone."""
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        """Return the trial's value of one setting."""
        return self.points[trial.number][param_name]


def sampler_for(
    name: str, space: Space, points: Sequence[Mapping[str, Any]], *, seed: int, number: int
) -> optuna.samplers.BaseSampler:
    """Return the sampler of one trial, seeded by its number: a resumed study proposes what an uninterrupted one would.

    Args:
        name: of `SAMPLERS`.
        space: the search space.
        points: of a grid.
        seed: of the study.
        number: of the trial.
    """
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if name == "grid":
        return GridPoints(points)
    if name == "random":
        return optuna.samplers.RandomSampler(seed=own)
    if name == "cmaes":
        return optuna.samplers.CmaEsSampler(
            seed=own,
            independent_sampler=optuna.samplers.RandomSampler(seed=own + 1),
            warn_independent_sampling=False,
        )
    return optuna.samplers.TPESampler(seed=own, constant_liar=True)


def pruner_for(name: str | None, num_epochs: int) -> optuna.pruners.BasePruner:
    """Return a pruner; `num_epochs` is the largest number of epochs of any trial."""
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=min(2, num_epochs // 4))
    if name == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, num_epochs // 16), reduction_factor=4)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=max(1, num_epochs // 16), max_resource=num_epochs, reduction_factor=4
        )
    return optuna.pruners.NopPruner()
