"""The result of an evaluation: figures, confidence intervals, per-user values and conventions."""

from __future__ import annotations

import json
import os
import textwrap
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.folders import new_folder
from recsys_dl.metrics.intervals import Sample, intervals
from recsys_dl.saving import load_arrays, save_arrays

from .rendering import html_table, page_width, text_table
from .segment_table import SegmentTable

OTHER_PARTS = "other given parts"  # what `exclude` of an evaluation holds, in its conventions
_WEIGHT = " weight"  # suffix of user weights in the arrays of a saved evaluation


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures of one model on one test set. `print` shows a table with its conventions.

    Attributes:
        values: each figure, under names such as "ndcg@10".
        intervals: lower and upper end for each figure that is a mean over users, which excludes coverage and Gini.
        conventions: the protocol; evaluations with different conventions cannot be compared.
        notes: caveats, such as that this model cannot reach the relevant items.
        k: list lengths.
        confidence: of the intervals.
        users: int32, the evaluated rows; empty if read from JSON only.
        per_user: float64 aligned with `users`, NaN where a user does not count; empty if read from JSON only.
        weights: user weights of weighted figures (number of pairs for RMSE and MAE, profile popularity for
            popularity lift).
        segments: figures of segments of users and items, if these were asked for.

    Examples:
        >>> from recsys_dl import Interactions, evaluate
        >>> from recsys_dl.models import Popularity
        >>> train, test = Interactions([0, 1, 2], [0, 0, 1]), Interactions([0, 1, 2], [1, 1, 0])
        >>> evaluation = evaluate(Popularity().fit(train), train, test, k=1)
        >>> evaluation.values["recall@1"], evaluation.users, evaluation.per_user["recall@1"]
        (1.0, array([0, 1, 2], dtype=int32), array([1., 1., 1.]))
    """

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    conventions: dict[str, Any]
    k: tuple[int, ...]
    confidence: float
    users: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    per_user: dict[str, np.ndarray] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    segments: SegmentTable | None = None

    @classmethod
    def measured(
        cls,
        users: np.ndarray,
        per_user: Mapping[str, np.ndarray],
        *,
        weights: Mapping[str, np.ndarray],
        figures: Mapping[str, float],
        order: Sequence[str],
        conventions: Mapping[str, Any],
        notes: Sequence[str] = (),
        k: Sequence[int],
        confidence: float,
        num_resamples: int,
        seed: int,
        segments: SegmentTable | None = None,
    ) -> Evaluation:
        """Build an evaluation from per-user values, with intervals, and `figures` without intervals."""
        samples = [_sample(name, per_user, weights) for name in per_user]
        ends = intervals(samples, confidence=confidence, num_resamples=num_resamples, seed=seed)
        values = dict(figures) | {name: sample.value for name, sample in zip(per_user, samples, strict=True)}
        return cls(
            values={name: values[name] for name in order},
            intervals={name: (float(low), float(high)) for name, (low, high) in zip(per_user, ends, strict=True)},
            conventions=dict(conventions),
            k=tuple(k),
            confidence=confidence,
            users=users,
            per_user=dict(per_user),
            weights=dict(weights),
            notes=tuple(notes),
            segments=segments,
        )

    def sample(self, name: str) -> Sample:
        """Return a figure's per-user values, for your own intervals and tests."""
        if name not in self.per_user:
            raise ValueError(f"{name!r} has no per-user values here; there are {', '.join(self.per_user) or 'none'}")
        return _sample(name, self.per_user, self.weights)

    def __str__(self) -> str:
        width = page_width()
        tables = [text_table(*table, width=width) for table in self._tables()]
        parts = [] if self.segments is None else [self.segments.text(width)]
        whole = "\n\n".join(tables) + f"\n{conventions_text(self.conventions, self.confidence, width, self.notes)}"
        return "\n\n".join([whole, *parts])

    def _repr_html_(self) -> str:
        """Return HTML for notebooks."""
        *above, last = self._tables()
        below = conventions_text(self.conventions, self.confidence, notes=self.notes)
        parts = [] if self.segments is None else [self.segments.html()]
        return "".join([*(html_table(*table) for table in above), html_table(*last, below), *parts])

    def _tables(self) -> list[tuple[list[str], list[list[str]]]]:
        """One row per metric, one column per k; rating metrics, which have no k, in a separate table."""
        metrics = list(dict.fromkeys(name.partition("@")[0] for name in self.values))
        header = ["metric", *(f"@{k}" for k in self.k)]
        listed = [[name, *(self.cell(f"{name}@{k}") for k in self.k)] for name in metrics if name not in self.values]
        rated = [[name, self.cell(name)] for name in metrics if name in self.values]
        tables = [(header, listed), (["metric", "of predicted ratings"], rated)]
        return [table for table in tables if table[1]]

    def to_frame(self) -> pl.DataFrame:
        """Return a row per figure: metric, k (null for ratings), value, low and high end of the interval (null if none)."""
        rows = []
        for name, value in self.values.items():
            metric, _, k = name.partition("@")
            low, high = self.intervals.get(name, (None, None))
            rows.append((metric, int(k) if k else None, value, low, high))
        kinds = {"metric": pl.String, "k": pl.Int64, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64}
        return pl.DataFrame(rows, schema=kinds, orient="row")

    def cell(self, name: str) -> str:
        """Return a figure as text, with its interval if it has one."""
        value = f"{self.values[name]:.4f}"
        return (
            f"{value} [{self.intervals[name][0]:.4f}, {self.intervals[name][1]:.4f}]"
            if name in self.intervals
            else value
        )

    def to_dict(self) -> dict[str, Any]:
        """Return figures, intervals and conventions in JSON-compatible form."""
        return {
            "values": dict(self.values),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "confidence": self.confidence,
            "k": list(self.k),
            "conventions": dict(self.conventions),
            "notes": list(self.notes),
            **({} if self.segments is None else {"segments": self.segments.to_dict()}),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Return per-user values and weights for `saving.save_arrays`."""
        weights = {f"{name}{_WEIGHT}": array for name, array in self.weights.items()}
        return {"users": self.users, **self.per_user, **weights}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> Evaluation:
        """Build an evaluation from `to_dict` and, for per-user values, `arrays`.

        Raises:
            ValueError: a part is missing or invalid.
        """
        found = dict(arrays or {})
        try:
            return cls(
                values={str(name): float(value) for name, value in stored["values"].items()},
                intervals={str(name): (float(low), float(high)) for name, (low, high) in stored["intervals"].items()},
                conventions=_in_current_words(stored["conventions"]),
                notes=tuple(stored.get("notes", ())),
                k=tuple(int(k) for k in stored["k"]),
                confidence=float(stored["confidence"]),
                users=found.pop("users") if found else np.empty(0, np.int32),
                per_user={name: array for name, array in found.items() if not name.endswith(_WEIGHT)},
                segments=SegmentTable.from_dict(stored["segments"]) if "segments" in stored else None,
                weights={name.removesuffix(_WEIGHT): array for name, array in found.items() if name.endswith(_WEIGHT)},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"these are not the figures of an evaluation ({error!r}); rerun the evaluation") from error

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `metrics.json` and `per_user.npz` to a new folder, atomically.

        Raises:
            FileExistsError: the folder exists.
        """
        with new_folder(folder) as aside:
            save_arrays(aside / "per_user.npz", self.arrays())
            (aside / "metrics.json").write_text(json.dumps(self.to_dict(), indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: no saved evaluation there.
            ValueError: it is damaged.
        """
        path = Path(folder)
        for name in ("metrics.json", "per_user.npz"):
            if not (path / name).is_file():
                raise FileNotFoundError(f"{path} must hold a saved evaluation, but has no {name}")
        try:
            return cls.from_dict(json.loads((path / "metrics.json").read_text()), load_arrays(path / "per_user.npz"))
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"the evaluation in {path} is damaged ({error}); rerun the evaluation") from error


def _in_current_words(conventions: Mapping[str, Any]) -> dict[str, Any]:
    """Return conventions as this version writes them: earlier ones called the parts given as `exclude` "more"."""
    excluded = str(conventions.get("excluded", ""))
    if not excluded.endswith(" and more"):
        return dict(conventions)
    return {**conventions, "excluded": f"{excluded.removesuffix('more')}{OTHER_PARTS}"}


def conventions_text(
    conventions: Mapping[str, Any], confidence: float, width: int = 110, notes: Sequence[str] = ()
) -> str:
    """Return the conventions as lines below a table, after the notes."""
    pairs = [f"{name.replace('_', ' ')}: {value}" for name, value in conventions.items()]
    lines = [
        f"brackets: {confidence:.0%} confidence, bootstrap over {'queries' if 'queries' in conventions else 'users'}"
    ]
    if str(conventions.get("candidates", "")).startswith("sampled"):
        lines.insert(
            0, "SAMPLED metrics: not an estimate of full-catalog ones; only for reproducing papers that report them"
        )
    for pair in pairs:
        if len(lines[-1]) + len(pair) + 3 <= min(width, 110):
            lines[-1] += f" | {pair}"
        else:
            lines.append(pair)
    return "\n".join([*(line for note in notes for line in textwrap.wrap(f"note: {note}", width)), *lines])


def _sample(name: str, per_user: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]) -> Sample:
    return Sample(per_user[name], weights.get(name), power=2 if name == "rmse" else 1)
