"""Bad rows of a log: raise at the first, or skip and count all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl

from recsys_dl.data.dataset import ReadReport
from recsys_dl.data.messages import shorten

from .text_files import Batch

FORMAT_SHARE, FORMAT_ROWS = (
    1 / 3,
    5,
)  # more unparsable values than both of these, or half of all, indicate a wrong format rather than bad rows


class Fault(NamedTuple):
    """One kind of fault in the rows of a batch.

    Attributes:
        reason: label in reports, such as "with a bad time".
        mask: of the faulty rows.
        found: what must hold and what was found, with placeholders {user}, {item}, {weight} and {time} for the row's values.
        unreadable: number of values that are present but cannot be parsed, as with a wrong format.
        advice: settings that would fix a wrong format.
    """

    reason: str
    mask: pl.Series
    found: str
    unreadable: int = 0
    advice: str = ""


class Tally:
    """Raises at a bad row, or counts it."""

    def __init__(self, where: str, skip: bool) -> None:
        self.where, self.skip = where, skip
        self.rows = 0
        self.skipped: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.unreadable: Counter[str] = Counter()
        self.advice: dict[str, str] = {}

    def count(self, batch: Batch, raw: dict[str, pl.Series], faults: Sequence[Fault]) -> pl.Series | None:
        """Return the mask of bad rows, None if all are good; a row counts toward its first fault."""
        self.rows += len(batch.frame) + len(batch.refused)
        for place, found in batch.refused:
            self._refuse("not readable", place, found, 1)
        self.unreadable["not readable"] += len(batch.refused)
        self.advice["not readable"] = "separator=, quote= or header="
        bad = None
        for fault in faults:
            fresh = fault.mask if bad is None else fault.mask & ~bad
            self.unreadable[fault.reason] += fault.unreadable
            self.advice[fault.reason] = fault.advice
            if fresh.any():
                row = int(fresh.arg_max() or 0)
                shown = {role: shown_value(column[row]) for role, column in raw.items()}
                self._refuse(fault.reason, batch.where(row), fault.found.format(**shown), int(fresh.sum()))
                bad = fault.mask if bad is None else bad | fault.mask
        return bad

    def _refuse(self, reason: str, place: str, found: str, count: int) -> None:
        if not self.skip:
            raise ValueError(
                f'{self.where}, {place}: {found}. Fix it, or skip such rows: on_bad_rows="skip" '
                "(on the command line data.on_bad_rows=skip)."
            )
        self.skipped[reason] += count
        self.first.setdefault(reason, f"{place}: {found}")

    def report(self) -> ReadReport:
        """Return the counts.

        Raises:
            ValueError: so many values cannot be parsed that the format must be wrong.
        """
        for reason, count in self.unreadable.items():
            large = count > FORMAT_SHARE * self.rows and count > FORMAT_ROWS
            if (large or 2 * count > self.rows) and count < self.rows:
                raise ValueError(
                    f"{self.where}: {count:,} of {self.rows:,} rows are {reason}, the first at {self.first[reason]}. So many "
                    f"indicate a wrong format rather than bad rows to skip; set it with {self.advice[reason]}."
                )
        return ReadReport(self.rows, dict(self.skipped), self.first)


def shown_value(value: Any) -> str:
    """Return a value for a message."""
    return "nothing" if value is None else shorten(repr(shorten(value) if isinstance(value, str) else value), 160)
