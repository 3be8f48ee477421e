"""What a policy would have earned, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from recsys_dl.evaluation.rendering import html_table, page_width, text_table


@dataclass(frozen=True)
class Estimate:
    """The value of a policy by one estimator.

    Attributes:
        name: of the estimator.
        value: mean reward a round.
        low: lower end of the confidence interval; NaN where there is none, and `note` says why.
        high: upper end.
        difference: value minus the mean reward of the log.
        difference_low: lower end of its interval, paired.
        difference_high: upper end.
        setting: the clip, threshold or shrinkage; None if it has none.
        note: what its interval leaves out, or why there is none.
    """

    name: str
    value: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    setting: float | None = None
    note: str = ""


@dataclass(frozen=True)
class PolicyValue:
    """What a policy would have earned, by several estimators; prints as a table.

    Attributes:
        estimates: in order.
        logged: mean reward of the log, the value of the policy that logged it.
        rounds: number of rounds.
        effective: effective sample size of the weights.
        largest_weight: among the rounds.
        mean_weight: 1 if propensities are right and nothing is missing.
        mean_weight_error: its standard error.
        missing: share of the policy's probability at arms that the log lacks.
        warnings: what makes the figures doubtful.
        conventions: how they were computed.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> from recsys_dl.off_policy import PolicyValue, evaluate_policy
        >>> arms, clicks = np.tile([[0], [1]], (500, 1)), np.tile([[0.0], [1.0], [0.0], [0.0]], (250, 1))
        >>> log = BanditFeedback(arms, clicks, np.full((1000, 1), 0.5), num_arms=2)
        >>> found = evaluate_policy(log, [0.0, 1.0], estimators=["ips"])
        >>> isinstance(found, PolicyValue), found["ips"].value, found.effective, found.largest_weight
        (True, 0.5, 500.0, 2.0)
    """

    estimates: Sequence[Estimate]
    logged: Estimate
    rounds: int
    effective: float
    largest_weight: float
    mean_weight: float
    mean_weight_error: float
    missing: float
    warnings: Sequence[str] = ()
    conventions: Sequence[str] = field(default_factory=tuple)

    def __getitem__(self, name: str) -> Estimate:
        for one in (self.logged, *self.estimates):
            if one.name == name:
                return one
        raise KeyError(f"there is no estimate {name!r}; there are {', '.join(one.name for one in self.estimates)}")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python, for JSON."""
        plain = {key: value for key, value in vars(self).items() if key not in ("estimates", "logged")}
        plain |= {"warnings": list(self.warnings), "conventions": list(self.conventions)}
        return {"logged": vars(self.logged), "estimates": [vars(one) for one in self.estimates], **plain}

    def __str__(self) -> str:
        header, rows = self._table()
        return "\n".join([text_table(header, rows, width=page_width()), "", *self._below()])

    def _repr_html_(self) -> str:
        return html_table(*self._table(), below="\n".join(self._below()))

    def _table(self) -> tuple[list[str], list[list[str]]]:
        marks = {note: f" [{at}]" for at, note in enumerate(self._notes(), 1)}
        rows = [["logging policy", _between(self.logged.value, self.logged.low, self.logged.high), "", ""]]
        for one in self.estimates:
            value = _between(one.value, one.low, one.high)
            difference = _between(one.difference, one.difference_low, one.difference_high, sign="+")
            setting = "" if one.setting is None else f"{one.setting:.4g}"
            rows.append([f"{one.name}{marks.get(one.note, '')}", value, difference, setting])
        return ["estimator", "value", "minus the log's mean", "setting"], rows

    def _notes(self) -> list[str]:
        return list(dict.fromkeys(one.note for one in self.estimates if one.note))

    def _below(self) -> list[str]:
        lines = [f"[{at}] {note}" for at, note in enumerate(self._notes(), 1)]
        lines.append(
            f"rounds: {self.rounds:,} | effective sample size: {self.effective:,.0f} | largest weight: {self.largest_weight:.4g} | "
            f"mean weight: {self.mean_weight:.3f} +- {self.mean_weight_error:.3f} | missing support: {self.missing:.2%}"
        )
        return [*lines, *self.conventions, *(f"warning: {one}" for one in self.warnings)]


def _between(value: float, low: float, high: float, sign: str = "") -> str:
    if value != value:
        return ""
    return f"{value:{sign}.5f}" + ("" if low != low else f" [{low:{sign}.5f}, {high:{sign}.5f}]")
