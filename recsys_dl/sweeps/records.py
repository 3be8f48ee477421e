"""Trials of a sweep or a study, and which of them are best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LOWER_IS_BETTER = ("gini", "popularity_lift", "rmse", "mae")
STATES = ("finished", "running", "queued", "interrupted", "waiting", "pruned", "failed")


@dataclass(frozen=True)
class Record:
    """One trial.

    Attributes:
        number: from 0, in the order in which trials began.
        settings: what it varies, by key: `{"model.embedding_size": 64}`.
        state: one of `STATES`.
        values: metrics on validation; of a pruned trial those of its last epoch.
        seconds: how long it took, all attempts together; None if unknown.
        reason: why it failed or was pruned.
        command: repeats this trial alone.
        folder: of its run; empty if there is none.
        more: further columns, by name.

    Examples:
        >>> from recsys_dl.sweeps.records import Record, best_first
        >>> trials = [Record(n, {"model.epochs": n}, "finished", {"ndcg@10": n / 10}) for n in range(3)]
        >>> [trial.number for trial in best_first(trials, ["ndcg@10"])]
        [2, 1, 0]
    """

    number: int
    settings: Mapping[str, Any]
    state: str
    values: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    reason: str = ""
    command: str = ""
    folder: str = ""
    more: Mapping[str, str] = field(default_factory=dict)


def higher_is_better(metric: str) -> bool:
    """Return whether a larger value of a metric such as "ndcg@10" is better."""
    return metric.partition("@")[0] not in LOWER_IS_BETTER


def best_first(records: Sequence[Record], metrics: Sequence[str]) -> list[Record]:
    """Return finished trials, best first, then the others.

    With several metrics those come first that no other trial beats in all of them, by the first metric.
    """
    front = {one.number for one in pareto_front(records, metrics)}

    def place(one: Record) -> tuple[Any, ...]:
        value = one.values.get(metrics[0])
        signed = float("inf") if value is None else -value if higher_is_better(metrics[0]) else value
        return (STATES.index(one.state), one.number not in front, signed, one.number)

    return sorted(records, key=place)


def pareto_front(records: Sequence[Record], metrics: Sequence[str]) -> list[Record]:
    """Return the finished trials that no other trial beats: at least as good in all metrics, and better in one."""

    def signed(one: Record) -> list[float]:
        return [one.values[name] * (1 if higher_is_better(name) else -1) for name in metrics]

    able = [(one, signed(one)) for one in records if one.state == "finished" and set(metrics) <= set(one.values)]
    return [
        one
        for one, mine in able
        if not any(all(a >= b for a, b in zip(other, mine, strict=True)) and other != mine for _, other in able)
    ]


def winners(records: Sequence[Record], metrics: Sequence[str]) -> list[Record]:
    """Return the best trial; with several metrics those that no other trial beats in all of them; none if none finished."""
    able = [one for one in best_first(records, metrics) if one.state == "finished"]
    return pareto_front(able, metrics) if len(metrics) > 1 else able[:1]
