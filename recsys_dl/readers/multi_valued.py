"""Multi-valued text columns such as `Comedy|Drama`, declared or recognized."""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import re
from collections.abc import Mapping
from typing import Any

import polars as pl

from recsys_dl.data.messages import MISSING_FEATURES, shorten
from recsys_dl.names import counted

from .written_vectors import Found, vectors_in

log = logging.getLogger(__name__)

SEPARATORS = ("|", ";", ", ", ",")  # recognized, the first that fits
LEAST_SHARE = 0.05  # minimum share of the non-null rows that contain a separator
REPEATED = 2.0  # minimum mean number of uses of a part
LONGEST_PART = 40  # characters (90th percentile of parts); longer ones are prose
HELD_ELSEWHERE = 0.5  # share of the parts with another separator whose pieces all stand elsewhere by themselves
OFTEN, MANY = 5.0, 3.0  # mean uses per part and parts per row: above these, lists even if no part stands alone
NUMBER = r"^\s*[+-]?(\d+(,\d+)?|\d{1,3}(,\d{3})+)\s*$"  # comma as decimal or thousands separator


def check_lists(declared: Any, setting: str, table: str) -> None:
    """Validate the declared list columns.

    Raises:
        ValueError: not a mapping from names to separators.
    """
    right = isinstance(declared, Mapping) and all(
        isinstance(name, str) and isinstance(separator, str | None) for name, separator in declared.items()
    )
    if declared is not None and not right:
        raise ValueError(
            f'{setting} must map columns of {table} to the separators of their values, such as {{"genres": "|"}} '
            f"(data.{setting}={{genres: '|'}}), got {declared!r}"
        )


def with_lists(
    frame: pl.DataFrame, declared: Mapping[str, str | None] | None, where: str, setting: str
) -> pl.DataFrame:
    """Return a table with multi-valued text columns split into lists of text, and vectors written as text as lists of numbers.

    Parts are stripped, empty ones and missing values (`NULL`, `None`, …) dropped.

    Args:
        frame: a table.
        declared: column -> separator, None or "" to keep its text unchanged. Other columns are recognized: a separator in at least one
            row of twenty, with short parts used twice on average that, unless the separator is "|", vary in number from row to row
            and sometimes stand alone, or are very frequent at any position (so that `Berlin, Germany` stays text). Lists in
            Python or JSON notation, such as `['a', 'b']`, are parsed. Vectors (`written_vectors.vectors_in`) are not looked for
            in declared columns.
        where: the table, for messages.
        setting: the caller's name for `declared`.

    Raises:
        ValueError: a declared column does not exist or is not text.
    """
    declared = dict(declared or {})
    for name, separator in declared.items():
        if name not in frame.columns:
            raise ValueError(
                f"{setting} names {name!r}, which is not a column of {where}; they are {', '.join(frame.columns)}"
            )
        if separator and frame.schema[name] != pl.String and not isinstance(frame.schema[name], pl.List):
            raise ValueError(
                f"{setting} splits text columns, but {name!r} of {where} holds {frame.schema[name]}; remove it from {setting}"
            )
    split = []
    for column in frame:
        name = column.name
        if column.dtype != pl.String or (name in declared and not declared[name]):
            continue
        found = Found() if name in declared else vectors_in(column)
        if found.vectors is not None:
            split.append(found.vectors)
            length = int(found.vectors.list.len().max())  # type: ignore[arg-type]
            log.info(
                "%s: %s is read as vectors of %s; as lists of tags with %s={%s: ','}",
                *(where, name, counted(length, "number"), setting, name),
                extra={"always": True},
            )
            continue
        lists, how = _written(column), "parsed from Python or JSON notation"
        if lists is None and (mixed := _mixed(column)) is not None:
            lists, how = mixed
        elif lists is None and name in declared:
            lists = _declared(column, str(declared[name]), where, setting)
        elif lists is None and _bracketed(column):
            log.warning(
                "%s: %s holds bracketed texts that are not lists of texts or numbers, such as %r, and stays text; convert it to lists "
                "in a frame and pass that",
                *(where, name, shorten(column.drop_nulls()[0])),
            )
        elif lists is None and column.str.contains(NUMBER).all() and column.str.contains(",", literal=True).any():
            number = column.filter(column.str.contains(",", literal=True))[0]
            log.warning(
                "%s: %s holds numbers with a comma, such as %r, and stays text; if the comma is the decimal separator, set "
                'decimal="," (for a text file)',
                *(where, name, number),
            )
        elif lists is None and (separator := _separator(column)):
            lists, how = split_further(_split(column, separator), f"split at {separator!r}", separator)
        if found.doubt:
            log.warning(
                "%s: %s holds %s; it is read as %s. If these are vectors, correct it, or convert it to lists of numbers of one length "
                "in a frame and pass that; if they are tags, %s={%s: ','} says so",
                *(where, name, found.doubt, "text" if lists is None else "lists of tags", setting, name),
            )
        if lists is None:
            continue
        lists = _without_missing(lists)
        split.append(lists)
        if name not in declared:
            num_values = lists.explode().drop_nulls().n_unique()
            log.info(
                "%s: %s is read as lists, %s into %s; keep it as text with %s={%s: null}",
                *(where, name, how, counted(num_values, "value"), setting, name),
                extra={"always": True},
            )
    return frame.with_columns(split)


def _without_missing(lists: pl.Series) -> pl.Series:
    """Drop the parts that mean a missing value."""
    return lists.list.eval(pl.element().filter(~pl.element().is_in(MISSING_FEATURES)))


def _declared(column: pl.Series, separator: str, where: str, setting: str) -> pl.Series:
    """Return a column split as declared; warn if that splits nothing."""
    if len(column.drop_nulls()) and not column.str.contains(separator, literal=True).any():
        better = _separator(column)
        log.warning(
            "%s: %r splits no value of %s, such as %r, so each becomes a list of one%s",
            *(where, separator, column.name, shorten(column.drop_nulls()[0])),
            f"; {better!r} would split it: {setting}={{{column.name}: {better!r}}}" if better else "",
        )
    return _split(column, separator)


def _bracketed(column: pl.Series) -> bool:
    filled = column.str.strip_chars().drop_nulls()
    return bool(len(filled)) and bool((filled.str.starts_with("[") & filled.str.ends_with("]")).all())


def _written(column: pl.Series) -> pl.Series | None:
    """Parse lists in Python or JSON notation, as text without empty parts; None if the column holds anything else."""
    if not _bracketed(column):
        return None
    lists = [None if text is None else _list_in(text) for text in column]
    if sum(one is None for one in lists) > column.null_count():
        return None
    return pl.Series(column.name, lists, dtype=pl.List(pl.String))


def _mixed(column: pl.Series) -> tuple[pl.Series, str] | None:
    """Parse a column in which some lists are in Python or JSON notation and others are not; return it and how, or None."""
    texts = column.str.strip_chars()
    bracketed = (texts.str.starts_with("[") & texts.str.ends_with("]")).fill_null(False)
    num_filled = len(column) - column.null_count()
    if not LEAST_SHARE * num_filled <= bracketed.sum() < num_filled or not bracketed.any():
        return None
    written = _written(column.filter(bracketed))
    rest = column.filter(~bracketed)
    separator = _separator(rest)
    if written is None or (separator is None and bracketed.sum() < num_filled / 2):
        return None
    others = pl.Series(rest.name, [None if one is None else [one.strip()] for one in rest], dtype=pl.List(pl.String))
    if separator:
        others = _split(rest, separator)
    order = pl.concat([bracketed.arg_true(), (~bracketed).arg_true()]).arg_sort()
    lists = pl.concat([written, others]).gather(order)
    how = f"parsed from Python or JSON notation in {counted(int(bracketed.sum()), 'row')}, "
    how += f"in others split at {separator!r}" if separator else "taken as single values in others,"
    return split_further(lists, how, separator)


def split_further(lists: pl.Series, how: str, separator: str | None) -> tuple[pl.Series, str]:
    """Split parts at another separator where all that they hold stands elsewhere by itself; return the lists and how."""
    parts = lists.explode().drop_nulls().unique()
    for other in SEPARATORS:
        holding = parts.filter(parts.str.contains(other, literal=True))
        if other == separator or not len(holding):
            continue
        plain = parts.filter(~parts.str.contains(other, literal=True))
        pieces = _split(holding, other)
        known = pieces.list.eval(pl.element().is_in(plain.implode())).list.all()
        if known.sum() < max(1, HELD_ELSEWHERE * len(holding)):
            continue
        apart = dict(zip(holding.filter(known), pieces.filter(known).to_list(), strict=True))
        found = [None if one is None else [piece for part in one for piece in apart.get(part, [part])] for one in lists]
        return pl.Series(lists.name, found, dtype=pl.List(pl.String)), f"{how}, some also at {other!r}"
    return lists, how


def _list_in(text: str) -> list[str] | None:
    parts: Any = None
    for read in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):  # the last two: very deep
            parts = read(text.strip())
            break
    if not isinstance(parts, list) or not all(isinstance(part, str | int | float | None) for part in parts):
        return None
    kept = [str(part).strip() for part in parts if part is not None and str(part).strip()]
    if len(kept) == len(parts) and re.search(r"(['\"])\s+\1", text):
        return None  # ['a' 'b'], as printed by NumPy, is one string in Python
    return kept


def _separator(column: pl.Series) -> str | None:
    """Return the separator that splits a column's values into a small, frequently reused vocabulary."""
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
        counts = lists.list.len().filter(split_R)
        uses = len(parts) / parts.n_unique()
        if uses < REPEATED or counts.n_unique() < 2:
            continue
        alone = filled.filter(~split_R).str.strip_chars()
        often = uses >= OFTEN and float(counts.mean() or 0) >= MANY  # type: ignore[arg-type]
        if parts.unique().is_in(alone.unique().implode()).any() or (often and _moves(lists)):
            return separator
    return None


def _split(column: pl.Series, separator: str) -> pl.Series:
    parts = pl.col(column.name).str.split(separator).list.eval(pl.element().str.strip_chars())
    return column.to_frame().select(parts.list.eval(pl.element().filter(pl.element() != ""))).to_series()


def _moves(lists: pl.Series) -> bool:
    """Whether most parts occur at varying positions, from the left and from the right; a country is always the last part of an address."""
    part = pl.col("part")
    left = pl.int_range(pl.len()).over("row")
    places = lists.rename("part").to_frame().with_row_index("row").explode("part").drop_nulls()
    places = places.with_columns(left.alias("left"), (pl.len().over("row") - left).alias("right"))
    moving = places.select(pl.col("left", "right").n_unique().over(part) > 1).select(pl.all_horizontal(pl.all()))
    return float(moving.to_series().mean() or 0) > 0.5  # type: ignore[arg-type]
