"""A search space: for each setting the values that trials may take."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys_dl.names import near

FIELDS = ("low", "high", "log", "step")
MOST_POINTS = 100_000


@dataclass(frozen=True)
class Choices:
    """One of several values, which may be lists or null.

    Attributes:
        values: at least two, all different.
    """

    values: tuple[Any, ...]

    @property
    def names(self) -> list[Any]:
        """The values as numbers or text: what a study stores."""
        return [
            one if isinstance(one, bool | int | float | str) else json.dumps(one, sort_keys=True) for one in self.values
        ]

    def value(self, name: Any) -> Any:
        """Return the value of a name."""
        return self.values[self.names.index(name)]

    def points(self) -> list[Any]:
        """Return all names."""
        return self.names

    def plain(self) -> Any:
        """Return it as in the YAML."""
        return list(self.values)


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: smallest value.
        high: largest value.
        log: whether each decade is as likely as any other.
        step: distance of neighboring values; None for all real numbers.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return isinstance(self.low, int)

    def value(self, name: Any) -> Any:
        """Return the value that is stored as `name`: itself."""
        return name

    def points(self) -> list[Any] | None:
        """Return all values; None if there are infinitely many."""
        if self.step is None or self.log:
            return None
        return [self.low + at * self.step for at in range(int((self.high - self.low) / self.step + 1e-9) + 1)]

    def plain(self) -> Any:
        """Return it as in the YAML."""
        found: dict[str, Any] = {"low": self.low, "high": self.high}
        return found | ({"log": True} if self.log else {}) | ({} if self.step in (None, 1) else {"step": self.step})


Space = Mapping[str, "Choices | Interval"]


def read_space(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Choices | Interval]:
    """Return the ranges of a space as written in YAML: a list of choices, or `{low: 0.001, high: 0.1, log: true}`.

    Args:
        given: by setting.
        defaults: the value of each setting outside of the space; where it is whole, an interval with whole ends is of
            whole numbers.

    Raises:
        ValueError: a range that is none; says which and why.

    Examples:
        >>> from recsys_dl.sweeps.space import read_space
        >>> read_space({"model.epochs": {"low": 4, "high": 8}}, {"model.epochs": 16})
        {'model.epochs': Interval(low=4, high=8, log=False, step=1)}
    """
    return {str(key): _range(str(key), value, defaults.get(str(key))) for key, value in given.items()}


def grid(space: Space) -> list[dict[str, Any]]:
    """Return every combination, the last setting changing fastest.

    Raises:
        ValueError: an interval without steps, or too many combinations.
    """
    axes: list[list[Any]] = []
    for key, one in space.items():
        points = one.points()
        if points is None:
            raise ValueError(
                f"sampler=grid needs choices, or a step: {key} is {_shown(one.plain())}. Write {key}=…,… with the values, or take sampler=tpe"
            )
        axes.append(points)
    if (size := math.prod(map(len, axes))) > MOST_POINTS:
        raise ValueError(f"sampler=grid would try {size:,} combinations; give fewer values, or take sampler=tpe")
    return [dict(zip(space, point, strict=True)) for point in itertools.product(*axes)]


def probes(space: Space) -> Iterator[dict[str, Any]]:
    """Yield few settings that together hold every choice, and both ends of every interval."""
    ends = {key: list(one.values) if isinstance(one, Choices) else [one.low, one.high] for key, one in space.items()}
    for at in range(max(map(len, ends.values()), default=0)):
        yield {key: values[min(at, len(values) - 1)] for key, values in ends.items()}


def _range(key: str, given: Any, default: Any) -> Choices | Interval:
    if isinstance(given, list):
        return _choices(key, given)
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{key} in the search space must be a list of choices or {{low: …, high: …}}, got {_shown(given)}; "
            "what is not searched is set outside of the space"
        )
    for name in map(str, given):
        if name not in FIELDS:
            raise ValueError(
                f"{key} in the search space: an interval has {', '.join(FIELDS)}, not {name!r}{near(name, FIELDS)}"
            )
    for name in ("low", "high"):
        if name not in given:
            raise ValueError(
                f"{key} in the search space: an interval needs low and high, but has no {name}: {_shown(given)}"
            )
    log = given.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"{key} in the search space: log must be true or false, got {_shown(log)}")
    numbers = {name: given[name] for name in ("low", "high", "step") if given.get(name) is not None}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{key} in the search space: {name} must be a number, got {_shown(value)}")
    whole = not isinstance(default, float) and all(float(value).is_integer() for value in numbers.values())
    low, high, step = (
        None if name not in numbers else int(numbers[name]) if whole else float(numbers[name])
        for name in ("low", "high", "step")
    )
    assert low is not None
    assert high is not None
    if low >= high:
        raise ValueError(f"{key} in the search space: low must be below high, got {low} and {high}")
    if log and low <= 0:
        raise ValueError(f"{key} in the search space: with log: true, low must be above 0, got {low}")
    if step is not None and not 0 < step <= high - low:
        raise ValueError(f"{key} in the search space: step must be above 0 and at most high - low, got {step}")
    if log and step is not None and not (whole and step == 1):
        raise ValueError(f"{key} in the search space: log and step exclude each other; list the values instead")
    return Interval(low, high, log, 1 if whole and step is None else step)


def _choices(key: str, given: Sequence[Any]) -> Choices:
    found = Choices(tuple(given))
    if len({(type(name), name) for name in found.names}) < max(len(found.names), 2):
        raise ValueError(
            f"{key} in the search space must have at least two choices, all different, got {_shown(list(given))}; "
            "what is not searched is set outside of the space"
        )
    return found


def _shown(value: Any) -> str:
    return json.dumps(dict(value) if isinstance(value, Mapping) else value, default=str)[:80].replace('"', "")
