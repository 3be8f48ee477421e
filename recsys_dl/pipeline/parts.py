"""The parts of a pipeline, checked before anything is fitted."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_dl.data.dataset import Dataset, as_interactions
from recsys_dl.data.interactions import Interactions

if TYPE_CHECKING:
    from .pipeline import Pipeline


def named(what: str, given: Any, methods: Sequence[str]) -> dict[str, Any]:
    """Return stages by name, each an object that can do what is asked of it; None is one that could not be loaded."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{what} must be a mapping from names to objects, such as {{'als': ALS()}}, got {given!r}")
    for name, stage in given.items():
        if isinstance(stage, type) or (stage is not None and not all(hasattr(stage, method) for method in methods)):
            raise ValueError(f"{what} must be objects that can {', '.join(methods)}, got {stage!r} as {name!r}")
    return dict(given)


def try_out(pipeline: Pipeline, train: Dataset | Interactions) -> None:
    """Let copies of what is cheap to fit meet the log, so that a column it lacks is told before hours of training, not after."""
    nothing_I1 = np.zeros((as_interactions(train).num_items, 1), np.float32)
    for reranker in pipeline.rerankers.values():
        copy.deepcopy(reranker).prepare(train, item_vectors_ID=nothing_I1)
    if pipeline.features is not None:
        copy.deepcopy(pipeline.features).fit(train, retrievers=list(pipeline.retrievers))


def plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings as dicts."""
    return {str(name): plain(value) if isinstance(value, Mapping) else value for name, value in given.items()}
