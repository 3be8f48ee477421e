"""Parsing text dates and times into seconds since 1970.

A reading of a column is its whole seconds, null where a value cannot be parsed, plus the remaining nanoseconds or None.
"""

from __future__ import annotations

import re

import polars as pl

Reading = tuple[pl.Series, pl.Series | None]

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG = ("uary", "ruary", "ch", "il", "", "e", "y", "ust", "(?:t|tember)", "ober", "ember", "ember")
_MONTH = "(?P<n>" + "|".join(f"{m}(?:{rest})?" if rest else m for m, rest in zip(MONTHS, _LONG, strict=True)) + r")\.?"
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
_ZONE = r"(?:\s*(?P<z>z|utc|gmt|[+-]\d{2}(?::?\d{2})?))?(?:\s*\((?:utc|gmt|[a-z ]+)\))?"
_TIME = r"(?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,](?P<f>\d{1,9})\d*)?)?(?:\s*(?P<p>[ap])\.?m\.?)?"
_CLOCK = rf"(?:(?:t|,?\s+|:){_TIME}{_ZONE})?"

# Formats in which day, month and year are unambiguous.
FORMS = {
    "year first": rf"(?P<y>\d{{4}})[-/.](?P<m>\d{{1,2}})[-/.](?P<d>\d{{1,2}}){_CLOCK}",
    "digits of a date": r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})[t ](?P<H>\d{2}):?(?P<M>\d{2})(?::?(?P<S>\d{2})(?:\.(?P<f>\d{1,9}))?)?"
    + _ZONE,
    "day, name of the month, year": rf"{_WEEKDAY}(?P<d>\d{{1,2}})(?:st|nd|rd|th)?[-/ .]\s*{_MONTH}[-/ ,]\s*(?P<y>\d{{4}}|\d{{2}}){_CLOCK}",
    "name of the month, day, year": rf"{_WEEKDAY}{_MONTH}[ -]+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?[ -]+(?P<y>\d{{4}}){_CLOCK}",
    "month day, year": r"(?P<m>\d{1,2}) (?P<d>\d{1,2}), (?P<y>\d{4})",
    "weekday month day clock year": rf"{_WEEKDAY}{_MONTH}\s+(?P<d>\d{{1,2}})\s+{_TIME}{_ZONE}\s+(?P<y>\d{{4}})",
}
# Ambiguous formats, as strptime formats.
FIGURES = {"day/month/year": "%d/%m/%Y", "month/day/year": "%m/%d/%Y", "year/month/day": "%Y/%m/%d"}
_FIGURES = {
    "day/month/year": rf"(?P<d>\d{{1,2}})[-/. ](?P<m>\d{{1,2}})[-/. ](?P<y>\d{{4}}|\d{{2}}){_CLOCK}",
    "month/day/year": rf"(?P<m>\d{{1,2}})[-/. ](?P<d>\d{{1,2}})[-/. ](?P<y>\d{{4}}|\d{{2}}){_CLOCK}",
    "year/month/day": rf"(?P<y>\d{{4}}|\d{{2}})[-/.](?P<m>\d{{1,2}})[-/.](?P<d>\d{{1,2}}){_CLOCK}",
}
_COMPACT = {  # digits -> the field of each position
    4: ("y",),
    6: ("y", "m"),
    8: ("y", "m", "d"),
    10: ("y", "m", "d", "H"),
    12: ("y", "m", "d", "H", "M"),
    14: ("y", "m", "d", "H", "M", "S"),
}


def native(column: pl.Series) -> Reading | None:
    """Parse year-first dates with Polars, which is fast; None if it cannot parse all of them."""
    known = column.drop_nulls()
    if not len(known) or not re.match(r"\d{4}[-/]\d\d?[-/]\d\d?", known[0]):
        return None
    try:
        found = column.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    except pl.exceptions.PolarsError:
        return None
    if found.null_count() != column.null_count():
        return None
    ticks = found.dt.epoch("us")
    fine = ((ticks % 1_000_000) * 1000).cast(pl.Int32)
    return ticks // 1_000_000, fine if (fine != 0).any() else None


def moments(column: pl.Series, form: str) -> Reading:
    """Parse texts in one of FORMS."""
    return _extracted(column, FORMS[form])


def figures_of(column: pl.Series, names: list[str]) -> dict[str, Reading]:
    """Parse texts by each of the named FIGURES."""
    return {name: _extracted(column, _FIGURES[name]) for name in names}


def compact(numbers: pl.Series, figures: int) -> tuple[int, Reading] | None:
    """Return the number of digits of integers and the dates they encode; None unless all encode a date.

    `figures` is the number of digits in earlier batches, 0 at first. Years are from 1900 to 2100.
    """
    known = numbers.drop_nulls()
    if numbers.dtype.is_float() or not len(known):
        return None
    count = figures or len(str(known[0]))
    parts = _COMPACT.get(count)
    if parts is None or not _spell(known.head(100), parts)[0].is_not_null().all():
        return None
    found = _spell(numbers, parts)
    return (count, found) if found[0].null_count() == numbers.null_count() else None


def printed(column: pl.Series) -> pl.Series:
    """Return Python objects as text."""
    return pl.Series(column.name, [None if v is None or v != v else str(v) for v in column], dtype=pl.String)


def _spell(numbers: pl.Series, parts: tuple[str, ...]) -> Reading:
    fields, rest = {}, numbers
    for name in reversed(parts[1:]):
        fields[name], rest = rest % 100, rest // 100
    fields["y"] = rest.set((rest < 1900) | (rest > 2100), None)
    return _composed(pl.DataFrame({"y": fields.pop("y"), **fields}))


def _extracted(column: pl.Series, pattern: str) -> Reading:
    fields = column.str.extract_groups(f"(?i)^(?:{pattern})$").struct.unnest()
    whole = [
        pl.col(name).cast(pl.Int64, strict=False) for name in ("y", "m", "d", "H", "M", "S") if name in fields.columns
    ]
    made = [*whole]
    if "n" in fields.columns:
        short = pl.col("n").str.to_lowercase().str.slice(0, 3)
        made.append(
            short.replace_strict(dict(zip(MONTHS, range(1, 13), strict=True)), default=None).cast(pl.Int64).alias("m")
        )
    if "f" in fields.columns:
        made.append(pl.col("f").str.pad_end(9, "0").cast(pl.Int32, strict=False))
    if "p" in fields.columns:
        made.append(pl.col("p").str.to_lowercase())
    if "z" in fields.columns:
        digits = pl.col("z").str.replace_all(r"[^0-9]", "").str.pad_end(4, "0")
        minutes = digits.str.slice(0, 2).cast(pl.Int64, strict=False) * 60 + digits.str.slice(2, 2).cast(
            pl.Int64, strict=False
        )
        east = pl.when(pl.col("z").str.starts_with("-")).then(-minutes).otherwise(minutes)
        made.append(pl.when(pl.col("z").str.contains(r"^[+-]")).then(east).otherwise(0).alias("z"))
    short_year = (
        pl.when(pl.col("y") >= 100)
        .then(pl.col("y"))
        .otherwise(pl.col("y") + pl.when(pl.col("y") < 69).then(2000).otherwise(1900))
    )
    return _composed(fields.select(made).with_columns(short_year.alias("y")))


def _composed(fields: pl.DataFrame) -> Reading:
    """Return the times given by integers y, m, d, H, M, S, nanoseconds f, p for am or pm, and z minutes east of UTC."""
    names = fields.columns

    def part(name: str, default: int) -> pl.Expr:
        return pl.col(name).fill_null(default) if name in names else pl.lit(default)

    month = pl.col("m") if "m" in names else pl.lit(1)
    date = pl.col("d") if "d" in names else pl.lit(1)
    hour, minute, second = part("H", 0), part("M", 0), part("S", 0)
    right = (hour < 24) & (minute < 60) & (second <= 60)
    if "p" in names:
        half = pl.col("p").is_not_null()
        right &= ~half | hour.is_between(1, 12)
        hour = pl.when(half).then(hour % 12 + 12 * (pl.col("p") == "p").cast(pl.Int64)).otherwise(hour)
    spelled = pl.concat_str(
        pl.col("y").cast(pl.String).str.zfill(4),
        month.cast(pl.String).str.zfill(2),
        date.cast(pl.String).str.zfill(2),
        separator="-",
    )
    days = spelled.str.to_date("%Y-%m-%d", strict=False).cast(pl.Int32).cast(pl.Int64)
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second - 60 * part("z", 0)
    found = fields.select(pl.when(right).then(seconds).otherwise(None).cast(pl.Int64).alias("time")).to_series()
    fine = fields["f"].fill_null(0) if "f" in names else None
    return found, fine if fine is not None and (fine != 0).any() else None
