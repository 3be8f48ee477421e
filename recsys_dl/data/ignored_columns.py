"""Saying which columns of side features a model does not use, and why."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import polars as pl

log = logging.getLogger(__name__)

EXPECTED = ("as kinds says", "its weight is 0", "no values", "a single value")  # reasons that need no attention
WORDS = 1.5  # of a text on average, above which its words may tell more than itself


def warn_of_ignored(noun: str, ignored: Mapping[str, str]) -> None:
    """Warn of columns that a model does not use for another reason than that they hold nothing, or shall not be used.

    Args:
        noun: "item" or "user".
        ignored: column -> why.
    """
    for level, expected in ((logging.INFO, True), (logging.WARNING, False)):
        why = [f"{name} ({reason})" for name, reason in ignored.items() if (reason in EXPECTED) == expected]
        if why:
            log.log(level, "%s features not used: %s", noun, "; ".join(why))


def too_rare(column: pl.Series, most: int, min_count: int, may_be_text: bool) -> str:
    """Return in words why no value of a column is used, and what to do.

    Args:
        column: of categories or lists.
        most: rows of its most frequent value.
        min_count: rows that a value must occur in.
        may_be_text: whether its words may be used in place of its values.
    """
    words = column.drop_nulls().cast(pl.String).str.count_matches(r"\w+").mean() if may_be_text else 0
    advice = f"; its words are used with kinds={{{column.name}: text}}" if float(words or 0) >= WORDS else ""  # type: ignore[arg-type]
    if most < 2:
        return f"no value in {min_count} rows, each occurs once{advice}"
    return f"no value in {min_count} rows, at most in {most}: lower min_count={min_count}{advice}"
