"""Ids of two tables that ought to be the same: which do not match, and why that may be."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

SHOWN = 3  # ids of each side in a message
MATCHES = "of them match"  # how a comparison that found a reason ends
LONGEST = 40  # characters of an id in a message
WHOLE = pl.col("id").str.replace(r"^\s*([+-]?\d+)\.0+\s*$", "$1")
REASONS = {
    "without surrounding blanks": pl.col("id").str.strip_chars(),
    "in lower case": pl.col("id").str.to_lowercase(),
    "with 12.0 written 12": WHOLE,
    "without leading zeros": pl.col("id").str.replace(r"^0+(\d)", "$1"),
    "without quotes": pl.col("id").str.strip_chars("\"'"),
    "without what stands before the last : / or _": pl.col("id").str.extract(r"([^:/_]+)$"),
}


def compared(ids: pl.Series, where: str, known: pl.Series, known_where: str) -> str:
    """Return in words how ids that do not match look on each side, and what would make them match.

    Args:
        ids: text, those that are not among `known`.
        where: what has them.
        known: text.
        known_where: what has these.
    """
    told = f"{where} has ids such as {some(ids)}, {known_where} such as {some(known)}"
    reason, count = max(
        ((reason, _matched(ids, known, as_read)) for reason, as_read in REASONS.items()), key=lambda pair: pair[1]
    )
    return f"{told}; {reason}, {count:,} {MATCHES}" if count else told


def some(ids: Iterable[str]) -> str:
    """Return the first few ids, quoted, long ones cut."""
    first = [text if len(text) <= LONGEST else f"{text[:LONGEST]}…" for text, _ in zip(ids, range(SHOWN), strict=False)]
    return ", ".join(map(repr, first)) or "none"


def _matched(ids: pl.Series, known: pl.Series, as_read: pl.Expr) -> int:
    """Return how many ids are among the known ones once both are read so."""
    mine, theirs = (one.rename("id").to_frame().select(as_read).to_series().drop_nulls() for one in (ids, known))
    return int(mine.is_in(theirs.unique().implode()).sum())
