"""Columns of text whose values are several at once, such as `Comedy|Drama`: declared, or recognized."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import polars as pl

log = logging.getLogger(__name__)

SEPARATORS = ("|", ";", ", ", ",")  # recognized, the first that fits
LEAST_SHARE = 0.05  # of the filled rows that hold a separator
REPEATED = 2.0  # how often a part comes on average
LONGEST_PART = 40  # characters, of nine parts in ten; longer ones are prose


def with_lists(
    frame: pl.DataFrame, declared: Mapping[str, str | None] | None, where: str, setting: str
) -> pl.DataFrame:
    """Return a table whose multi-valued columns of text are lists of text; parts are stripped, blank ones left out.

    Args:
        frame: a table.
        declared: column -> separator, None or "" where its text is to stay as it is. Other columns are recognized: a separator in one
            row of twenty or more whose parts are short and come twice on average, and, unless it is "|", some of which stand alone in
            other rows and differ in number from row to row (so that `Berlin, Germany` stays what it is).
        where: the table, for messages.
        setting: what the caller calls `declared`.

    Raises:
        ValueError: a declared column that is not there, or not of text.
    """
    declared = dict(declared or {})
    for name, separator in declared.items():
        if name not in frame.columns:
            raise ValueError(
                f"{setting} names {name!r}, which is no column of {where}; they are {', '.join(frame.columns)}"
            )
        if separator and frame.schema[name] != pl.String and not isinstance(frame.schema[name], pl.List):
            raise ValueError(
                f"{setting} splits columns of text, but {name!r} of {where} holds {frame.schema[name]}; leave it out of {setting}"
            )
    split = []
    for column in frame:
        if column.dtype != pl.String:
            continue
        separator = declared[column.name] if column.name in declared else _separator(column)
        if separator:
            lists = _split(column, separator)
            split.append(lists)
            if column.name not in declared:
                log.info(
                    "%s: %s is read as lists, split at %r into %s values; leave it as it is by %s={%s: null}",
                    *(
                        where,
                        column.name,
                        separator,
                        f"{lists.explode().drop_nulls().n_unique():,}",
                        setting,
                        column.name,
                    ),
                )
    return frame.with_columns(split)


def _separator(column: pl.Series) -> str | None:
    """Return what splits the values of a column into a small vocabulary that is used again and again."""
    filled = column.drop_nulls()
    for separator in SEPARATORS:
        split_R = filled.str.contains(separator, literal=True)
        if not len(filled) or split_R.sum() < max(1, LEAST_SHARE * len(filled)):
            continue
        lists = _split(filled, separator)
        parts = lists.explode().drop_nulls()
        if not len(parts) or parts.str.len_chars().quantile(0.9) > LONGEST_PART:  # type: ignore[operator]
            continue
        if separator == "|":
            if parts.n_unique() < len(parts) or len(filled) < 3:
                return separator
            continue
        alone = filled.filter(~split_R).str.strip_chars()
        uneven = lists.list.len().filter(split_R).n_unique() > 1
        repeated = len(parts) >= REPEATED * parts.n_unique()
        if repeated and uneven and parts.unique().is_in(alone.unique().implode()).any():
            return separator
    return None


def _split(column: pl.Series, separator: str) -> pl.Series:
    parts = pl.col(column.name).str.split(separator).list.eval(pl.element().str.strip_chars())
    return column.to_frame().select(parts.list.eval(pl.element().filter(pl.element() != ""))).to_series()
