"""Figures of segments of users and items, as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from .rendering import html_table, text_table


@dataclass(frozen=True, eq=False)
class SegmentRow:
    """Figures of one segment.

    Attributes:
        segment: its name, such as "cold items" or "age: 18 to 25".
        candidates: "all items", or "cold items" where lists are of those alone.
        users: number of users counted.
        left_out: users of the segment without a relevant item in it.
        items: relevant test items of the users counted, once for each user.
        answered_by: share of the users by what answers them, such as {"history": 0.9, "popularity": 0.1}; empty if the model does not say.
        scored_by: likewise of the relevant items, where they are cold: {"features": 0.7, "nothing": 0.3}.
        values: name of each figure -> its value.
        intervals: likewise, lower and upper end.
        rows: int32, the evaluated users, aligned with `per_user`; empty if read from JSON.
        per_user: values of each user, NaN where a user does not count; likewise.
    """

    segment: str
    candidates: str
    users: int
    left_out: int
    items: int
    answered_by: dict[str, float]
    scored_by: dict[str, float]
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    per_user: dict[str, np.ndarray] = field(default_factory=dict)

    def cell(self, name: str) -> str:
        """Return a figure as text, with its interval."""
        low, high = self.intervals[name]
        return f"{self.values[name]:.4f} [{low:.4f}, {high:.4f}]"

    @property
    def sources(self) -> str:
        """What answered, in words."""
        parts = [_shares(self.answered_by)] if self.answered_by else []
        return "; ".join([*parts, f"items: {_shares(self.scored_by)}"] if self.scored_by else parts)


@dataclass(frozen=True, eq=False)
class SegmentTable:
    """Figures of one model on segments of its test users and items. `print` shows a table.

    Attributes:
        rows: one per segment and set of candidates; the first is of everything.
        metrics: names of the figures.
        cold_items: number of items without an interaction in train.
        notes: caveats, such as that nothing is cold.
    """

    rows: tuple[SegmentRow, ...]
    metrics: tuple[str, ...]
    cold_items: int
    notes: tuple[str, ...] = ()

    def __getitem__(self, key: str | tuple[str, str]) -> SegmentRow:
        """Return the row of a segment, or of (segment, candidates)."""
        segment, candidates = (key, "all items") if isinstance(key, str) else key
        for row in self.rows:
            if (row.segment, row.candidates) == (segment, candidates):
                return row
        there = ", ".join(dict.fromkeys(row.segment for row in self.rows))
        raise KeyError(f"no figures of {segment!r} among {candidates}; there are {there}")

    def text(self, width: int | None = None) -> str:
        """Return the table with its legend, in stacked parts if it exceeds `width`."""
        header, rows = self._table()
        return "\n".join([text_table(header, rows, width=width), *_wrapped(self._below(), width)])

    def html(self) -> str:
        """Return HTML for notebooks."""
        return html_table(*self._table(), "\n".join(self._below()))

    def _table(self) -> tuple[list[str], list[list[str]]]:
        header = ["segment", "users", "left out", "test items", "answered by", *self.metrics]
        if not any(row.sources for row in self.rows):
            header.remove("answered by")
        cells = [
            {
                "segment": row.segment + (" *" if row.candidates != "all items" else ""),
                "users": f"{row.users:,}",
                "left out": f"{row.left_out:,}",
                "test items": f"{row.items:,}",
                "answered by": row.sources,
                **{name: row.cell(name) for name in self.metrics},
            }
            for row in self.rows
        ]
        return header, [[row[name] for name in header] for row in cells]

    def _below(self) -> list[str]:
        lines = [f"note: {note}" for note in self.notes]
        if any(row.candidates != "all items" for row in self.rows):
            lines.append(
                f"*: candidates are the {self.cold_items:,} items without an interaction in train; elsewhere, all items"
            )
        lines.append("left out: users without a relevant item in the segment | known: items of the user in train")
        return lines

    def to_frame(self) -> pl.DataFrame:
        """Return a row per segment, candidates and figure: segment, candidates, users, left_out, items, answered_by, metric, k, value, low, high."""
        rows = []
        for row in self.rows:
            for name, value in row.values.items():
                metric, _, k = name.partition("@")
                head = (row.segment, row.candidates, row.users, row.left_out, row.items, row.sources)
                rows.append((*head, metric, int(k), value, *row.intervals[name]))
        words = dict.fromkeys(("segment", "candidates"), pl.String)
        counts = dict.fromkeys(("users", "left_out", "items"), pl.Int64)
        figures = {"metric": pl.String, "k": pl.Int64, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64}
        return pl.DataFrame(rows, schema={**words, **counts, "answered_by": pl.String, **figures}, orient="row")

    def to_dict(self) -> dict[str, Any]:
        """Return everything except per-user values in JSON-compatible form."""
        aside = ("rows", "per_user", "intervals")
        return {
            "metrics": list(self.metrics),
            "cold_items": self.cold_items,
            "notes": list(self.notes),
            "rows": [
                {name: value for name, value in vars(row).items() if name not in aside}
                | {"intervals": {name: list(ends) for name, ends in row.intervals.items()}}
                for row in self.rows
            ],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> SegmentTable:
        """Build a table, without per-user values, from `to_dict`."""
        rows = [
            SegmentRow(**{**row, "intervals": {name: (low, high) for name, (low, high) in row["intervals"].items()}})
            for row in stored["rows"]
        ]
        return cls(tuple(rows), tuple(stored["metrics"]), int(stored["cold_items"]), tuple(stored["notes"]))


def _shares(shares: Mapping[str, float]) -> str:
    if len(shares) == 1:
        return next(iter(shares))
    return ", ".join(f"{name} {share:.0%}" for name, share in sorted(shares.items(), key=lambda one: -one[1]))


def _wrapped(lines: list[str], width: int | None) -> list[str]:
    return lines if width is None else [part for line in lines for part in textwrap.wrap(line, width)]
