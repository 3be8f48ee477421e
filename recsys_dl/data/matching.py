"""Diagnosing ids that do not match between two tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import polars as pl

SHOWN = 3  # ids per side in a message
MATCHES = "of them match"  # ending of a comparison that found a reason
LONGEST = 40  # characters of an id in a message
WHOLE = pl.col("id").str.replace(r"^\s*([+-]?\d+)\.0+\s*$", "$1")
REASONS = {
    "without surrounding blanks": pl.col("id").str.strip_chars(),
    "in lower case": pl.col("id").str.to_lowercase(),
    "with 12.0 written 12": WHOLE,
    "without leading zeros": pl.col("id").str.replace(r"^0+(\d)", "$1"),
    "without quotes": pl.col("id").str.strip_chars("\"'"),
    "without everything up to the last : / or _": pl.col("id").str.extract(r"([^:/_]+)$"),
}


SPELLINGS = tuple(list(REASONS)[:-1])  # ways to spell one id, not to name another


def compared(
    ids: pl.Series, where: str, known: pl.Series, known_where: str, *, reasons: Collection[str] = tuple(REASONS)
) -> str:
    """Describe how unmatched ids look on each side, and what would make them match.

    Args:
        ids: text, the ids that are not in `known`.
        where: name of their source.
        known: text.
        known_where: name of their source.
        reasons: that are considered, of `REASONS`.
    """
    message = f"{where} has ids such as {some(ids)}, {known_where} such as {some(known)}"
    if not len(ids):
        return f"all ids of {where} match, {known_where} has further ones such as {some(known)}"
    reason, count = max(
        ((reason, _matched(ids, known, as_read)) for reason, as_read in REASONS.items() if reason in reasons),
        key=lambda pair: pair[1],
    )
    return f"{message}; {reason}, {count:,} {MATCHES}" if count else message


def some(ids: Iterable[str]) -> str:
    """Return the first few ids, quoted and shortened."""
    first = [text if len(text) <= LONGEST else f"{text[:LONGEST]}…" for text, _ in zip(ids, range(SHOWN), strict=False)]
    return ", ".join(map(repr, first)) or "none"


def _matched(ids: pl.Series, known: pl.Series, as_read: pl.Expr) -> int:
    """Return how many ids match known ones after transforming both."""
    mine, theirs = (one.rename("id").to_frame().select(as_read).to_series().drop_nulls() for one in (ids, known))
    return int(mine.is_in(theirs.unique().implode()).sum())
