"""Comparing models on the same users: differences, confidence intervals and significance."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.metrics.intervals import Difference, holm, paired_differences
from recsys_dl.names import counted

from .rendering import WIDEST, html_table, page_width, text_table
from .scorecard import Evaluation, conventions_text

LOWER_IS_BETTER = ("rmse", "mae")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models sorted by one metric, with differences to a baseline. `print` shows tables.

    Attributes:
        metric: for sorting and testing.
        baseline: the model the others are compared with.
        evaluations: best first.
        differences: model -> its figure minus the baseline's.
        p_values: model -> two-sided p-value of the difference, corrected by Holm's method for their number.

    Examples:
        >>> from recsys_dl import Interactions, compare, evaluate
        >>> from recsys_dl.models import Popularity
        >>> train, test = Interactions([0, 1, 1], [0, 0, 1]), Interactions([0, 1], [1, 1])
        >>> evaluation = evaluate(Popularity().fit(train), train, test, k=1)
        >>> list(compare({"all time": evaluation}, "recall@1").evaluations)
        ['all time']
    """

    metric: str
    baseline: str
    evaluations: dict[str, Evaluation]
    differences: dict[str, Difference]
    p_values: dict[str, float]

    def __str__(self) -> str:
        width = page_width()
        tables = [text_table(*table, width=width) for table in (self._verdicts(), self._others()) if len(table[0]) > 1]
        return "\n\n".join(tables) + f"\n{self._below(width)}"

    def _repr_html_(self) -> str:
        """Return HTML for notebooks."""
        return html_table(*self._verdicts()) + html_table(*self._others(), self._below())

    def _verdicts(self) -> tuple[list[str], list[list[str]]]:
        header = ["model", self.metric, f"minus {self.baseline}", "p (Holm)"]
        return header, [[name, *self._verdict(name)] for name in self.evaluations]

    def _others(self) -> tuple[list[str], list[list[str]]]:
        """The other figures at the same k."""
        _, _, k = self.metric.partition("@")
        names = [name for name in self._common() if name != self.metric and name.partition("@")[2] in (k, "")]
        return ["model", *names], [[model, *map(one.cell, names)] for model, one in self.evaluations.items()]

    def _below(self, width: int = WIDEST) -> str:
        first = next(iter(self.evaluations.values()))
        tests = f"p: paired bootstrap test over users, two-sided, Holm-corrected for {counted(len(self.differences), 'comparison')}"
        notes = [f"{name}: {note}" for name, one in self.evaluations.items() for note in one.notes]
        below = conventions_text(first.conventions, first.confidence, width, notes)
        return "\n".join([*textwrap.wrap(tests, width), below])

    def to_frame(self) -> pl.DataFrame:
        """Return a row for each model and figure: model, then as `Evaluation.to_frame`; and of `metric`, difference from the baseline and its p_value."""
        frames = []
        for name, evaluation in self.evaluations.items():
            frame = evaluation.to_frame()
            apart, is_metric = self.differences.get(name), pl.Series(list(evaluation.values)) == self.metric
            extra_columns = {"difference": apart and apart.value, "p_value": self.p_values.get(name)}
            more = [
                pl.when(is_metric).then(pl.lit(value, pl.Float64)).alias(column)
                for column, value in extra_columns.items()
            ]
            frames.append(frame.select(pl.lit(name).alias("model"), pl.all(), *more))
        return pl.concat(frames)

    def _common(self) -> list[str]:
        """Figures that every model has; rating errors only if over the same ratings."""
        first, *others = self.evaluations.values()
        same_ratings = all(other.conventions.get("ratings") == first.conventions.get("ratings") for other in others)
        return [
            name
            for name in first.values
            if all(name in other.values for other in others) and (same_ratings or name not in LOWER_IS_BETTER)
        ]

    def _verdict(self, name: str) -> tuple[str, str, str]:
        figure = self.evaluations[name].cell(self.metric)
        if name == self.baseline:
            return figure, "", ""
        apart = self.differences[name]
        return figure, f"{apart.value:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]", f"{self.p_values[name]:.4f}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything except per-user values in JSON-compatible form."""
        return {
            "metric": self.metric,
            "baseline": self.baseline,
            "models": {name: evaluation.to_dict() for name, evaluation in self.evaluations.items()},
            "differences": {
                name: {
                    "value": apart.value,
                    "interval": [apart.low, apart.high],
                    "p_value": apart.p_value,
                    "p_value_holm": self.p_values[name],
                }
                for name, apart in self.differences.items()
            },
        }


def compare(
    evaluations: Mapping[str, Evaluation],
    metric: str = "ndcg@10",
    *,
    baseline: str | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Return models sorted by a metric, each compared with the baseline over the same users.

    Args:
        evaluations: name -> evaluation, all under the same conventions over the same users.
        metric: one with per-user values, such as "ndcg@10".
        baseline: name of the model to compare with; None uses the best, whose figure is then slightly optimistic, since it is
            selected on the same data.
        num_resamples: of the bootstrap; the smallest possible p-value is 1 / (num_resamples + 1).
        seed: of the bootstrap.

    Raises:
        ValueError: fewer than one model, other conventions or users (the message names what differs), a metric without
            per-user values, an unknown baseline.

    Examples:
        >>> from recsys_dl import Interactions, compare, evaluate
        >>> from recsys_dl.models import ItemKNN, Popularity
        >>> train = Interactions([0, 0, 1, 1, 2, 3, 4, 5], [0, 1, 0, 1, 2, 2, 2, 0])
        >>> test = Interactions([5], [1], num_items=3)
        >>> models = {"knn": ItemKNN(device="cpu").fit(train), "popular": Popularity().fit(train)}
        >>> compared = compare({name: evaluate(model, train, test, k=1) for name, model in models.items()}, "recall@1")
        >>> compared.baseline, compared.differences["popular"].value
        ('knn', -1.0)
    """
    if not evaluations:
        raise ValueError("a comparison needs at least one evaluation, got none")
    if baseline is not None and baseline not in evaluations:
        raise ValueError(f"the baseline must be one of {', '.join(evaluations)}, got {baseline!r}")
    _check_alike(evaluations, metric)
    samples = {name: evaluation.sample(metric) for name, evaluation in evaluations.items()}
    sign = 1 if metric.partition("@")[0] in LOWER_IS_BETTER else -1
    order = sorted(samples, key=lambda name: sign * samples[name].value)
    against = baseline or order[0]
    others = [name for name in order if name != against]
    confidence = evaluations[against].confidence
    tested = paired_differences(
        [samples[name] for name in others],
        samples[against],
        confidence=confidence,
        num_resamples=num_resamples,
        seed=seed,
    )
    return Comparison(
        metric=metric,
        baseline=against,
        evaluations={name: evaluations[name] for name in order},
        differences=dict(zip(others, tested, strict=True)),
        p_values=dict(zip(others, holm([apart.p_value for apart in tested]), strict=True)),
    )


def _check_alike(evaluations: Mapping[str, Evaluation], metric: str) -> None:
    (first, one), *others = evaluations.items()
    for name, other in evaluations.items():
        if not other.per_user:
            raise ValueError(f"{name} has no per-user values; load it with them, or evaluate again")
    ignored = () if metric in LOWER_IS_BETTER else ("ratings",)
    for name, other in others:
        for key in dict.fromkeys([*one.conventions, *other.conventions]):
            mine, theirs = one.conventions.get(key), other.conventions.get(key)
            if mine != theirs and key not in ignored:
                raise ValueError(
                    f"figures under unlike conventions cannot be compared: {key} is {mine!r} for {first} and {theirs!r} for "
                    f"{name}; evaluate both in the same way"
                )
        if not np.array_equal(one.users, other.users):
            raise ValueError(f"figures of unlike users cannot be compared: {first} and {name} were asked for others")
        if one.confidence != other.confidence:
            raise ValueError(f"intervals differ: {one.confidence} for {first}, {other.confidence} for {name}")
