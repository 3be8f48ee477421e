"""Names that earlier versions wrote into saved folders, mapped to current ones. A name that moves is added here, so that saved runs stay readable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODULES = {
    "recsys_dl.data.readers": "recsys_dl.readers.log",
    "recsys_dl.data.sources": "recsys_dl.readers.sources",
}
CLASSES = {"recsys_dl.rankers.columns.Popularity": "recsys_dl.rankers.columns.ItemPopularity"}
ARGUMENTS = {"lessons": "examples"}  # of a pipeline


ARRAYS = {"neighbours_RR": "neighbors_RR", "neighbours_II": "neighbors_II"}  # of a model


def in_current_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's config with current import paths in every `_target_`, and current argument names."""
    current = {name: _moved(value) for name, value in config.items()}
    if isinstance(pipeline := current.get("pipeline"), dict):
        current["pipeline"] = pipeline_arguments(pipeline)
    return current


def pipeline_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pipeline's arguments by their current names."""
    return {ARGUMENTS.get(name, name): value for name, value in arguments.items()}


def model_arrays(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's arrays by their current names."""
    return {ARRAYS.get(name, name): array for name, array in arrays.items()}


def current_path(target: Any) -> Any:
    """Return the current import path of a class or function."""
    module, _, name = str(target).rpartition(".")
    return CLASSES.get(str(target), f"{MODULES[module]}.{name}" if module in MODULES else target)


def _moved(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {name: current_path(value) if name == "_target_" else _moved(value) for name, value in node.items()}
    return [_moved(value) for value in node] if isinstance(node, list) else node
