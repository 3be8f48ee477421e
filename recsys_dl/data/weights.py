"""Interaction weights from ratings, counts and age.

Each function takes the whole log, before the split, and returns it with new weights, so that all parts are weighted
consistently. Both `Dataset` and `Interactions` are accepted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from recsys_dl.arguments import NotNegative, Positive, checked

from .dataset import Dataset, WeightKind, as_interactions
from .interactions import Interactions

Log = TypeVar("Log", Dataset, Interactions)

DAY = 86_400  # seconds


def keep(data: Log) -> Log:
    """Return the log unchanged: keep the weights as read.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.data.weights import keep
        >>> keep(Interactions([0, 0], [0, 1], [5.0, 2.0])).weights_N
        array([5., 2.], dtype=float32)
    """
    return data


@checked
def binary(data: Log, *, threshold: float | None = None) -> Log:
    """Return the log with all weights 1; interactions below `threshold` are not used for training.

    A Dataset keeps them as `seen_only`, so that they are not recommended again; plain Interactions drop them.

    Args:
        data: the log. Users and items left without interactions keep their rows.
        threshold: minimum weight used for training, such as 4 of 5 stars; None takes every interaction.

    Raises:
        ValueError: no interaction reaches the threshold.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.data.weights import binary
        >>> liked = binary(Interactions([0, 0, 1], [0, 1, 1], [5.0, 2.0, 4.0]), threshold=4)
        >>> liked.items_N, liked.weights_N
        (array([0, 1], dtype=int32), array([1., 1.], dtype=float32))
    """
    log = as_interactions(data)
    if threshold is not None:
        chosen_N = log.weights_N >= threshold  # one bool each
        if len(log) and not chosen_N.any():
            raise ValueError(
                f"threshold={threshold} leaves no interaction: the largest weight is {log.weights_N.max():g}; lower it"
            )
        log = log.select(chosen_N)
        if isinstance(data, Dataset) and len(chosen_N):
            _check_whole(data)
            data = data.learn_from(chosen_N)  # type: ignore[assignment]
    return _with(data, log.reweighted(lambda weights_N, _: np.ones_like(weights_N), "binary"), kind=None)


@checked
def scaled(data: Log, *, lowest: NotNegative = 0.2, highest: NotNegative = 1.0) -> Log:
    """Return the log with weights rescaled linearly: the smallest becomes `lowest`, the largest `highest`.

    If all weights are equal they become `highest`. The default divides ratings from 1 to 5 by 5.

    Raises:
        ValueError: not 0 <= lowest <= highest.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.data.weights import scaled
        >>> scaled(Interactions([0, 0, 1], [0, 1, 1], [5.0, 1.0, 4.0])).weights_N
        array([1. , 0.2, 0.8], dtype=float32)
    """
    if lowest > highest:
        raise ValueError(f"lowest must be at most highest, got {lowest} and {highest}")
    log = as_interactions(data)
    if not len(log):
        return data
    least, most = np.float64(log.weights_N.min()), np.float64(log.weights_N.max())

    def change(weights_N: np.ndarray, _: np.ndarray | None) -> np.ndarray:
        share_N = (weights_N.astype(np.float64) - least) / (most - least) if most > least else np.ones(len(weights_N))
        return lowest + (highest - lowest) * share_N

    kind = data.weight_kind if isinstance(data, Dataset) else None
    return _with(data, log.reweighted(change, f"scaled {lowest} {highest}"), kind=kind)


@checked
def log_scaled(data: Log, *, unit: Positive = 1.0) -> Log:
    """Return the log with weights log(1 + weight / unit), so that the hundredth play counts less than the first.

    Hu, Koren, Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets", equation 6, where `unit` is epsilon.

    Args:
        data: the log.
        unit: in the unit of the weights; smaller values compress more.

    Raises:
        ValueError: a unit that is not positive.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.data.weights import log_scaled
        >>> log_scaled(Interactions([0, 0, 1], [0, 1, 1], [1.0, 10.0, 100.0])).weights_N.round(2)
        array([0.69, 2.4 , 4.62], dtype=float32)
    """
    log = as_interactions(data)

    def change(weights_N: np.ndarray, _: np.ndarray | None) -> np.ndarray:
        return np.log1p(weights_N.astype(np.float64) / unit)

    return _with(data, log.reweighted(change, f"log_scaled {unit}"), kind="counts")


@checked
def time_decay(data: Log, *, half_life_days: Positive) -> Log:
    """Return the log with each weight halved for every `half_life_days` between it and the newest interaction.

    Only the ratio of two weights matters to most models, and that does not depend on which interaction is the newest.

    Args:
        data: the log; it must have times.
        half_life_days: days.

    Raises:
        ValueError: no times, or a half-life that is not positive.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.data.weights import time_decay
        >>> log = Interactions([0, 0], [0, 1], times_N=[0, 30 * 86_400])
        >>> time_decay(log, half_life_days=30).weights_N
        array([0.5, 1. ], dtype=float32)
    """
    log = as_interactions(data)
    if log.times_N is None:
        raise ValueError(
            "time_decay needs interactions with times, got none; include a time column, or use other weights"
        )
    if not len(log):
        return data
    newest = log.times_N.max()

    def change(weights_N: np.ndarray, times_N: np.ndarray) -> np.ndarray:
        return weights_N * np.exp2(-((newest - times_N) / DAY) / half_life_days)

    return _with(data, log.reweighted(change, f"time_decay {half_life_days}"), kind=None)


def _with(data: Log, log: Interactions, *, kind: WeightKind | None) -> Log:
    if isinstance(data, Interactions):
        return log  # type: ignore[return-value]
    _check_whole(data)
    return replace(data, interactions=log, weight_kind=kind)


def _check_whole(data: Dataset) -> None:
    if data.histories is not None:
        raise ValueError("weights must be set before the split, got a part of one that has histories")
