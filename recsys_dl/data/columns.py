"""Which column is what, and what its values become: weights, times.

A column is known by its name, letter case and punctuation aside, or named by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

NAMES = {
    "user": "user userid useridx uid users customer customerid reviewerid visitorid memberid accountid profileid viewerid "
    "listenerid readerid playerid",
    "item": "item itemid itemidx iid items movie movieid book bookid product productid article articleid song songid track "
    "trackid artist artistid business businessid game gameid video videoid recipeid newsid storyid asin parentasin isbn "
    "sku gmapid",
    "weight": "rating ratings weight score stars overall preference plays playcount listencount",
    "time": "time times timestamp unixtimestamp unixreviewtime unixtime datetime date createdat ratedat ratingtime "
    "eventtime reviewtime",
    "title": "title name movietitle booktitle productname itemname itemtitle",
    "text": "text description plot overview synopsis summary",
}
ROLES = {name: role for role, names in NAMES.items() for name in names.split()}
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
LATEST = 100_000_000_000  # seconds: the year 5138; a larger time was meant in another unit

Column = str | int


@dataclass(frozen=True)
class Columns:
    """Positions of the columns of a log; None where there is none."""

    user: int
    item: int
    weight: int | None
    time: int | None


def is_known(name: str) -> bool:
    """Whether a name is surely that of a column of a log."""
    return ROLES.get(_plain(name)) in ("user", "item", "weight", "time")


def choose(
    names: Sequence[str],
    where: str,
    *,
    user: Column | None = None,
    item: Column | None = None,
    weight: Column | bool | None = None,
    time: Column | bool | None = None,
    header: bool = True,
    sample: Sequence[Sequence[str]] = (),
) -> Columns:
    """Return the positions of the four columns of a log.

    Args:
        names: of all columns.
        where: the source, for messages.
        user: name or position as given by the caller, None to recognise it; likewise `item`.
        weight: likewise; None also where there is none, False to leave it out; likewise `time`.
        header: false where the file names no columns: then the order is user, item, weight, time.
        sample: first rows, to tell a third column of times from one of weights.

    Raises:
        ValueError: a column is missing, or several could be meant.
    """
    given = {"user": user, "item": item, "weight": weight, "time": time}
    if not header and all(value is None for value in given.values()):
        return _by_order(names, where, sample)
    found: dict[str, int | None] = {}
    for role, value in given.items():
        if value is False:
            found[role] = None
        elif value is None or value is True:
            found[role] = recognise(names, role, where, needed=role in ("user", "item") or value is True)
        else:
            found[role] = position(names, value, role, where)
    chosen = [at for at in found.values() if at is not None]
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"each role needs a column of its own, got {_spell(found, names)} in {where}")
    return Columns(found["user"], found["item"], found["weight"], found["time"])  # type: ignore[arg-type]


def position(names: Sequence[str], column: Column, role: str, where: str) -> int:
    """Return the position of a column given by name or position."""
    if isinstance(column, int):
        if not -len(names) <= column < len(names):
            raise ValueError(f"{role}={column} must be a position among the {len(names)} columns of {where}")
        return column % len(names)
    hits = [i for i, name in enumerate(names) if name == column]
    if len(hits) == 1:
        return hits[0]
    problem = "comes more than once" if hits else "is not there"
    raise ValueError(f"{role}={column!r} {problem}: the columns of {where} are {_list(names)}")


def recognise(names: Sequence[str], role: str, where: str, *, needed: bool) -> int | None:
    """Return the position of the one column that is known by its name to play a role; None if there is none."""
    hits = [i for i, name in enumerate(names) if ROLES.get(_plain(name)) == role]
    if len(hits) == 1 or (not hits and not needed):
        return hits[0] if hits else None
    free = [name for name in names if _plain(name) not in ROLES]
    example = names[hits[0]] if hits else next(iter(free), "COLUMN")
    problem = f"{_list([names[i] for i in hits])} could all be the {role}" if hits else f"none is known as the {role}"
    leave = f", or leave it out: {role}=False" if role in ("weight", "time") else ""
    raise ValueError(f"the columns of {where} are {_list(names)}; {problem}. Name it: {role}={example!r}{leave}.")


def to_weights(column: pl.Series) -> pl.Series:
    """Return Float64 weights; null where a value is no number."""
    if column.dtype == pl.Object:
        column = _printed(column)
    if column.dtype == pl.String:
        return column.str.strip_chars().cast(pl.Float64, strict=False)
    return column.cast(pl.Float64, strict=False)


def bad_weights(weights: pl.Series) -> pl.Series:
    """Return a mask of weights that are missing, NaN, infinite or negative."""
    return ~(weights.is_finite() & (weights >= 0)).fill_null(False)


def text_type(sample: Sequence[Sequence[str]], at: int, role: str) -> Any:
    """Return the Polars type in which a column of text can be parsed at once, as far as the first rows tell."""
    if role == "weight":
        return pl.Float64
    whole = all(re.fullmatch(r"-?\d+", row[at]) for row in sample if len(row) > at)
    return pl.Int64 if whole else pl.String


def to_times(column: pl.Series, unit: str) -> pl.Series:
    """Return Int64 seconds since 1970, rounded down; null where a value is no time.

    Numbers are in `unit`; dates and times (columns of them, or text in ISO 8601) are UTC unless they say otherwise.
    """
    if column.dtype == pl.Object:
        column = _printed(column)
    if column.dtype == pl.String:
        column = _parsed(column.str.strip_chars())
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    if column.dtype == pl.Datetime:
        return column.dt.epoch("us") // UNITS["us"]
    if column.dtype.is_float():
        column = column.floor().set(~column.is_finite().fill_null(False), None)
    return column.cast(pl.Int64, strict=False) // UNITS[unit]


def check_unit(times: pl.Series, where: str) -> None:
    """Raise ValueError if most times are too large to be seconds."""
    large = times.filter(times.abs() >= LATEST)
    if len(large) * 2 > len(times):
        largest = int(large.abs().max())  # type: ignore[arg-type]
        unit = next((name for name in ("ms", "us") if largest < LATEST * UNITS[name]), "ns")
        noun = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[unit]
        raise ValueError(
            f"times must be seconds since 1970, got {large[0]} in {where}, which looks like {noun}. "
            f'Say so: time_unit="{unit}" (or time_unit="s" if they are seconds indeed).'
        )


def _printed(column: pl.Series) -> pl.Series:
    return pl.Series([None if value is None else str(value) for value in column], dtype=pl.String)


def _parsed(column: pl.Series) -> pl.Series:
    """Return numbers, or moments, whichever reads more of a column of text."""
    filled = column.len() - column.null_count()
    for numbers in (column.cast(pl.Int64, strict=False), column.cast(pl.Float64, strict=False)):
        if numbers.len() - numbers.null_count() == filled:
            return numbers
    try:
        moments = column.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    except pl.exceptions.PolarsError:
        return numbers
    return moments if moments.null_count() < numbers.null_count() else numbers


def _by_order(names: Sequence[str], where: str, sample: Sequence[Sequence[str]]) -> Columns:
    if not 2 <= len(names) <= 4:
        row = ", ".join(sample[0]) if sample else ""
        raise ValueError(
            f"{where} has no header and {len(names)} columns, its first row is: {row}. "
            "Without names they must be user, item and perhaps weight and time; else give positions, "
            "such as user=0, item=1, weight=3."
        )
    if len(names) == 3 and sample and all(_is_large(row[2]) for row in sample if len(row) > 2):
        return Columns(0, 1, None, 2)
    return Columns(0, 1, 2 if len(names) > 2 else None, 3 if len(names) > 3 else None)


def _is_large(text: str) -> bool:
    """Whether a value is a moment rather than a weight: a date, or seconds after 1973."""
    try:
        return float(text) >= 1e8
    except ValueError:
        return bool(re.match(r"\d{4}-\d\d-\d\d", text))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _list(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _spell(found: dict[str, int | None], names: Sequence[str]) -> str:
    return ", ".join(f"{role}={names[at]!r}" for role, at in found.items() if at is not None)
