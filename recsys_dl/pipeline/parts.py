"""Validating the parts of a pipeline up front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MISSING = object()  # placeholder for a stage that could not be loaded


def named(what: str, given: Any, methods: Sequence[str]) -> dict[str, Any]:
    """Return stages by name, each with these methods; None for a `MISSING` one."""
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{what} must be a mapping from names to objects, such as {{'als': ALS()}}, got {given!r:.200}"
        )
    for name, stage in given.items():
        if not isinstance(name, str):
            raise ValueError(f"names of {what} must be text, got {name!r:.200}")
        if stage is not MISSING:
            check_stage(what, stage, methods, f" as {name!r}")
    return {name: None if stage is MISSING else stage for name, stage in given.items()}


def check_stage(what: str, stage: Any, methods: Sequence[str], where: str = "") -> None:
    """Raise ValueError for an object without these methods."""
    if isinstance(stage, type) or not all(callable(getattr(stage, method, None)) for method in methods):
        raise ValueError(f"{what} must be objects that can {', '.join(methods)}, got {stage!r:.200}{where}")


def check_ranker(ranker: Any, features: Any) -> None:
    """Validate a ranker and its features up front.

    Raises:
        ValueError: one without the other, unsuitable objects, or a ranker that corrects logged positions, which candidates do not have.
    """
    if (ranker is None) != (features is None):
        raise ValueError("a ranker needs features, and features a ranker; set both or neither")
    if ranker is None:
        return
    check_stage("rankers", ranker, ("fit", "score"))
    check_stage("features", features, ("fit", "compute"))
    for argument in ("propensities", "learn_position_bias"):
        if getattr(ranker, argument, None):
            raise ValueError(
                f"{argument} corrects clicks at logged positions, which the candidates of a pipeline do not have; leave it out"
            )


def plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """Convert nested mappings to dicts."""
    return {str(name): plain(value) if isinstance(value, Mapping) else value for name, value in given.items()}
