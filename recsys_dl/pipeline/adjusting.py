"""Settings of re-rankers that a single request may change."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from .stages import Stages

Adjusted = TypeVar("Adjusted", bound=Stages)


def settings_of(pipeline: Stages) -> dict[str, float]:
    """Return what a request may change, by name, and its value now: of the first re-ranker that has it.

    `diversity` and `freshness` are weights in [0, 1]; `exploration` is a number of positions.
    """
    found: dict[str, float] = {}
    for reranker in pipeline.rerankers.values():
        for name, argument in getattr(reranker, "adjustable", {}).items():
            value = getattr(reranker, argument)
            found.setdefault(name, len(value) if isinstance(value, list) else float(value))
    return found


def adjusted(pipeline: Adjusted, k: int, wanted: Mapping[str, float]) -> Adjusted:
    """Return the pipeline with other settings; it shares everything that was fitted, and the given one does not change.

    Args:
        pipeline: fitted.
        k: length of the lists. With another number of exploring positions than configured, they are the last ones of the list.
        wanted: by name, as in `settings_of`; 0 positions leave the stage out.

    Raises:
        ValueError: no re-ranker has the setting, or the value is out of range.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import Popularity
        >>> from recsys_dl.pipeline import Pipeline
        >>> from recsys_dl.rerankers import MMR
        >>> train = Interactions([0, 0, 1, 1, 2], [0, 1, 1, 2, 3])
        >>> pipeline = Pipeline({"popular": Popularity()}, rerankers={"mmr": MMR(weight=0.1)}).fit(train)
        >>> pipeline.settings(), pipeline.adjusted(2, {"diversity": 0.9}).settings()
        ({'diversity': 0.1}, {'diversity': 0.9})
    """
    now = settings_of(pipeline)
    for name, value in wanted.items():
        if name not in now:
            raise ValueError(
                f"{name} needs a pipeline with a re-ranker that has it, "
                + (f"and this one has {', '.join(now)}" if now else "and this one has none that a request may adjust")
            )
        most = k if name == "exploration" else 1
        if not 0 <= value <= most:
            raise ValueError(f"{name} must be between 0 and {most}, got {value}")
    other = copy.copy(pipeline)
    other.rerankers = {}
    for stage, reranker in pipeline.rerankers.items():
        changes: dict[str, Any] = {
            argument: wanted[name]
            for name, argument in getattr(reranker, "adjustable", {}).items()
            if name in wanted and wanted[name] != now[name]
        }
        if "places" in changes:
            changes["places"] = list(range(k - int(changes["places"]) + 1, k + 1))
        if changes.get("places") == []:
            continue
        other.rerankers[stage] = copy.copy(reranker)
        for argument, value in changes.items():
            setattr(other.rerankers[stage], argument, value)
    return other
