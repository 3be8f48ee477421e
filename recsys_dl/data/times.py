"""Interpreting a time column: one reading that fits the whole log, or an error that asks for the format.

A log comes in batches, and no single row distinguishes March 4 from April 3 in 03/04. So all readings that fit so far are kept
in parallel: a row that one of them cannot parse rules it out, and if several different ones remain at the end, it is an error, not a
guess. Times become whole seconds since 1970 plus nanoseconds.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from .blocks import blocks
from .dates import FIGURES, FORMS, Reading, compact, figures_of, moments, native, printed
from .messages import MISSING, shorten
from .pieces import Pieces, Store

UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
NOUNS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
LATEST = 100_000_000_000  # seconds: the year 5138; a larger time must be in another unit
EARLIEST = 100_000_000  # seconds: the year 1973; if all times are smaller, they are sequence numbers, not seconds
LOOKED_AT = 1000  # values used to detect the text format
NANOS = 1_000_000_000


class Times:
    """The times of one log, batch by batch.

    Args:
        where: the source, for messages.
        unit: of numbers; None means seconds, and numbers such as 20240131 are dates.
        form: strptime format of texts; None detects it.
        decimal: decimal separator of numbers in text.
        store: where they are collected; None for memory.
    """

    def __init__(
        self,
        where: str,
        unit: str | None = None,
        form: str | None = None,
        decimal: str = ".",
        store: Store | None = None,
    ) -> None:
        self.store = store or Store()
        self.where, self.unit, self.form, self.decimal = where, unit, form, decimal
        if form is not None and "%" not in form:
            raise ValueError(f'time_format must be a format such as "%d/%m/%Y %H:%M", got {shorten(form)!r}')
        self.kind: str | None = None if form is None else "format"
        self.alive: list[str] = []
        self.parts: dict[str, tuple[Pieces, Pieces]] = {}  # seconds; nanoseconds, shorter where the rest are 0
        self.pending: dict[str, Reading] = {}
        self.against: dict[str, str] = {}  # reading -> the first value it cannot parse
        self.differ: dict[
            tuple[str, str], tuple[str, list[str]]
        ] = {}  # pair of readings -> the first value they parse differently, both days
        self.large: list[Any] = [
            0,
            0,
            0,
            0,
        ]  # count of numbers, of those too large for seconds, and the first and largest of these
        self.figures = 0  # digits of each number, if all may be dates such as 20240131

    def read(self, column: pl.Series, at: Callable[[int], str] = str) -> pl.Series:
        """Read a batch; return the mask of rows without a valid time. `at` describes a row's location."""
        if column.dtype == pl.Object:
            column = printed(column)
        text = column.str.strip_chars() if column.dtype == pl.String else column
        if text.dtype == pl.String:
            text = text.set(text.is_in(MISSING), None)
        found = self._readings(text)
        if not found:
            self.pending = {}
            return pl.repeat(True, len(text), dtype=pl.Boolean, eager=True)
        if self.alive and set(found) != set(
            self.alive
        ):  # datetime columns mixed with text across files read as one log
            found = {name: next(iter(found.values())) for name in self.alive}
        self.alive = self.alive or list(found)
        good = pl.DataFrame([seconds.is_not_null().alias(name) for name, (seconds, _) in found.items()])
        any_good = good.select(pl.any_horizontal(pl.all())).to_series()
        self._rule_out(text, at, good, any_good)
        for i, one in enumerate(self.alive):
            for other in self.alive[i + 1 :]:
                if (one, other) not in self.differ:
                    differs = (found[one][0] != found[other][0]).fill_null(False)
                    if differs.any():
                        row = int(differs.arg_max() or 0)
                        days = [f"{day(found[name][0][row])} ({name})" for name in (one, other)]
                        self.differ[one, other] = f"{shorten(str(text[row]))!r} ({at(row)})", days
        self.pending = {name: found[name] for name in self.alive}
        return ~any_good

    def keep(self, good: pl.Series | None) -> None:
        """Keep the marked rows of the last batch; None keeps all."""
        if not self.pending:
            return
        for name, (seconds, nanos) in self.pending.items():
            if good is not None:
                seconds, nanos = seconds.filter(good), None if nanos is None else nanos.filter(good)
            if name not in self.parts:
                self.parts[name] = self.store.pieces(np.int64), self.store.pieces(np.int32)
            whole, fine = self.parts[name]
            if nanos is not None:
                _fill(fine, len(whole))
                fine.append(nanos.to_numpy())
            whole.append(seconds.to_numpy())
        self.parts = {name: self.parts[name] for name in self.alive if name in self.parts}

    def finish(self) -> tuple[np.ndarray, np.ndarray | None, str]:
        """Return int64 seconds, int32 nanoseconds (None if all are 0), and a description of the format.

        Raises:
            ValueError: several different readings fit.
        """
        if self.kind == "number":
            self._choose_number()
        for (one, other), (shown, days) in self.differ.items():
            if one in self.alive and other in self.alive:
                formats = [FIGURES[name] for name in (one, other)]
                raise ValueError(
                    f"{self.where}: a time such as {shown} can be {days[0]} or {days[1]}, and no row is unambiguous. Set "
                    f'time_format="{formats[0]}" or time_format="{formats[1]}" (on the command line '
                    f"data.time_format={formats[0]} or data.time_format={formats[1]})."
                )
        if not self.alive or self.alive[0] not in self.parts:
            return (none := np.zeros(0, np.int64)), None, self._summary(none)
        whole, fine = self.parts[self.alive[0]]
        seconds, nanos = whole.joined(), None
        if len(fine):
            _fill(fine, len(whole))
            nanos = fine.joined()
            nanos = nanos if nanos.any() else None
        return seconds, nanos, self._summary(seconds)

    def _readings(self, text: pl.Series) -> dict[str, Reading]:
        """Return all possible readings of a batch; empty if no value can be parsed and no format is known."""
        if self.kind == "format" and not text.dtype.is_temporal():
            return {"format": self._by_format(text)}
        if not (text.dtype.is_numeric() or text.dtype == pl.String):
            self.kind = self.kind or "typed"
            return {"typed": _typed(text, self.where)}
        numbers = _numbers(text, self.decimal)
        if self.kind is None:
            self.kind = self._kind_of(text, numbers)
        if self.kind in (None, "typed"):
            return {}
        if self.kind == "number":
            return self._of_numbers(numbers)
        texts = text if text.dtype == pl.String else text.cast(pl.String)
        if self.kind == "figures":
            return figures_of(texts, self.alive or list(FIGURES))
        return {self.kind: native(texts) or moments(texts, self.kind)}

    def _kind_of(self, text: pl.Series, numbers: pl.Series) -> str | None:
        if text.dtype != pl.String:
            return "number"
        known = text.drop_nulls()
        sample = known.head(LOOKED_AT)
        reads = {"number": _numbers(sample, self.decimal).count()}
        if sample.len() == reads["number"] or native(sample):
            return ("number" if reads["number"] else "year first") if len(sample) else None
        for name in FORMS:
            reads[name] = moments(sample, name)[0].count()
        reads["figures"] = max(seconds.count() for seconds, _ in figures_of(sample, list(FIGURES)).values())
        best = max(reads, key=lambda name: reads[name])
        return best if reads[best] else None

    def _by_format(self, text: pl.Series) -> Reading:
        assert self.form is not None
        texts = text.cast(pl.Int64, strict=False).cast(pl.String) if text.dtype.is_numeric() else text
        order = {form: name for name, form in FIGURES.items()}.get(_plain(self.form))
        if order is not None:  # also parses a time of day after the date
            return figures_of(texts, [order])[order]
        form = self.form
        if not any(part in form for part in ("%d", "%e", "%D", "%F", "%j", "%c", "%s", "%x")):
            texts, form = texts + " 01", f"{form} %d"
            if not any(part in form for part in ("%m", "%b", "%B", "%h")):
                texts, form = texts + " 01", f"{form} %m"
        try:
            found = texts.str.to_datetime(form, time_unit="ns", time_zone="UTC", strict=False)
        except pl.exceptions.PolarsError as error:
            raise ValueError(
                f"time_format must be a strptime format, got {shorten(self.form)!r} ({shorten(str(error), 200)})"
            ) from error
        return _split(found.dt.epoch("ns"), NANOS)

    def _of_numbers(self, numbers: pl.Series) -> dict[str, Reading]:
        found: dict[str, Reading] = {}
        per_second = UNITS[self.unit or "s"]
        if numbers.dtype.is_float():
            whole = numbers.floor()
            if per_second == 1:
                fine = ((numbers - whole) * NANOS).round().clip(0, NANOS - 1).cast(pl.Int32, strict=False)
                found["epoch"] = (whole.cast(pl.Int64, strict=False), fine if (fine != 0).any() else None)
            else:
                found["epoch"] = _split(whole.cast(pl.Int64, strict=False), per_second)
        else:
            found["epoch"] = _split(numbers.cast(pl.Int64, strict=False), per_second)
        if self.unit is None and (not self.alive or "compact" in self.alive):
            dates = compact(numbers, self.figures)
            if dates is not None:
                self.figures, found["compact"] = dates
        seconds = found["epoch"][0]
        if self.unit is None:
            far = (seconds.abs() >= LATEST).fill_null(False)
            self.large[0] += seconds.count()
            if far.any():
                self.large[1] += int(far.sum())
                self.large[2] = self.large[2] or seconds[int(far.arg_max() or 0)]
                self.large[3] = max(self.large[3], int(seconds.abs().max()))  # type: ignore[arg-type]
            if "compact" not in found:
                self._check_unit()
        if self.unit != "s" and "compact" not in found:
            found["epoch"] = (seconds.set((seconds.abs() >= LATEST).fill_null(False), None), found["epoch"][1])
        if "compact" in self.alive and "compact" not in found:
            self.alive.remove("compact")
        return found

    def _check_unit(self) -> None:
        """Raise ValueError if most times are too large to be seconds."""
        count, large, first, largest = self.large
        if large * 2 > count:
            unit = next((name for name in ("ms", "us") if largest < LATEST * UNITS[name]), "ns")
            raise ValueError(
                f"times must be seconds since 1970, got {first} in {self.where}, which looks like {NOUNS[unit]}. "
                f'Set time_unit="{unit}" (or time_unit="s" if they really are seconds).'
            )

    def _choose_number(self) -> None:
        if "compact" not in self.alive:
            return
        if self.figures == 6:
            raise ValueError(
                f"{self.where}: all times have six digits and could be year and month, such as 202401, or numbers. Set "
                'time_format="%Y%m" (on the command line data.time_format=%Y%m), or time_unit="s" for numbers that only '
                "order the rows."
            )
        self.alive, self.differ = ["compact"], {}

    def _rule_out(self, text: pl.Series, at: Callable[[int], str], good: pl.DataFrame, any_good: pl.Series) -> None:
        """Drop readings that cannot parse a value another one can; raise ValueError if none remains."""
        if self.kind != "figures":
            return
        unread = text.filter(~any_good)
        dead = [name for name in self.against if name not in self.alive]
        if dead and unread.count():
            for name, (seconds, _) in figures_of(unread, dead).items():
                if seconds.count():
                    value = unread.filter(seconds.is_not_null())[0]
                    row = int((text == value).arg_max() or 0)
                    self._contradict(f"{shorten(str(value))!r} ({at(row)}) can only be {name}")
        for name in list(self.alive):
            misses = any_good & ~good[name]
            if misses.any():
                row = int(misses.arg_max() or 0)
                self.against[name] = f"{shorten(str(text[row]))!r} ({at(row)})"
                self.alive.remove(name)
                if not self.alive:
                    others = [other for other in good.columns if good[other][row]]
                    self._contradict(f"{self.against[name]} can only be {others[0]}")

    def _contradict(self, last: str) -> None:
        value, names = next((value, name) for name, value in self.against.items() if not last.startswith(value))
        raise ValueError(
            f"{self.where}: no single format fits all times: {value} cannot be {names}, {last}. Set the format of the "
            f'log, such as time_format="{FIGURES[names]}"; rows in another format are then bad rows.'
        )

    def _summary(self, seconds: np.ndarray) -> str:
        name = self.alive[0] if self.alive else "nothing"
        if name == "epoch":
            name = f"{NOUNS[self.unit or 's']} since 1970"
            if self.unit is None and len(seconds) and max(abs(int(seconds.min())), abs(int(seconds.max()))) < EARLIEST:
                return f"numbers from {seconds.min()} to {seconds.max()}, used as an order"
        name = {"compact": "digits of a date", "format": f"{self.form}", "typed": "dates"}.get(name, name)
        if not len(seconds):
            return name
        return f"{name}, {day(seconds.min())} to {day(seconds.max())}"


def to_times(column: pl.Series, unit: str, where: str = "the column of times") -> pl.Series:
    """Return Int64 seconds since 1970, rounded down; null where a value is not a time.

    Numbers are in `unit`; dates and times (columns of them, or text) are UTC unless they include a time zone.

    Raises:
        ValueError: dates are ambiguous.
    """
    times = Times(where, unit)
    bad = times.read(column)
    found = pl.Series("time", [None] * len(column), dtype=pl.Int64)
    if bad.all():
        return found
    times.alive = times.alive[:1] if not times.differ else times.alive
    seconds, _ = times.pending[times.alive[0]]
    if times.differ:
        times.finish()
    return seconds.alias("time")


def _fill(fine: Pieces, length: int) -> None:
    """Append zeros up to a length."""
    for block in blocks(length - len(fine)):
        fine.append(np.zeros(block.stop - block.start, np.int32))


def day(seconds: Any) -> str:
    """Return the day of a time, if the calendar can represent it."""
    try:
        return (datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=int(seconds))).date().isoformat()
    except OverflowError:
        return str(seconds)


def _plain(form: str) -> str:
    """Return a day, month and year format with slashes."""
    return form.replace("-", "/").replace(".", "/").replace("%e", "%d").replace("%y", "%Y").strip()


def _split(ticks: pl.Series, per_second: int) -> Reading:
    """Return whole seconds and remaining nanoseconds."""
    if per_second == 1:
        return ticks, None
    fine = ((ticks % per_second) * (NANOS // per_second)).cast(pl.Int32)
    return ticks // per_second, fine if (fine != 0).any() else None


def _typed(column: pl.Series, where: str) -> Reading:
    if column.dtype == pl.Date:
        return column.cast(pl.Int32).cast(pl.Int64) * 86_400, None
    if isinstance(column.dtype, pl.Datetime):
        unit = column.dtype.time_unit
        return _split(column.dt.epoch(unit), UNITS[unit])
    if column.dtype == pl.Null:
        return column.cast(pl.Int64), None
    if column.dtype in (pl.Categorical, pl.Enum):
        return _typed(column.cast(pl.String).str.to_datetime(strict=False), where)
    raise ValueError(
        f"{where}: times must be points in time (dates, numbers of seconds, texts such as 2024-05-31T12:00:00Z), got a column of "
        f"{column.dtype}. Convert it to datetimes, or ignore it: time=False."
    )


def _numbers(column: pl.Series, decimal: str) -> pl.Series:
    """Return integers if all values are, else floats; null for non-numbers."""
    if column.dtype == pl.String:
        texts = column if decimal == "." else column.str.replace(decimal, ".", literal=True)
        whole = texts.cast(pl.Int64, strict=False)
        if whole.null_count() == column.null_count():
            return whole
        column = texts.cast(pl.Float64, strict=False)
    if column.dtype.is_float():
        column = column.cast(pl.Float64)
        column = column.set(~column.is_finite().fill_null(False), None)
        return column if (column != column.floor()).any() else column.cast(pl.Int64, strict=False)
    return column.cast(pl.Int64, strict=False)
