"""Values of a feature table that do not mean what they say: words for a missing value, one word among numbers, Python objects."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.data.messages import MISSING, MISSING_FEATURES, shorten
from recsys_dl.names import counted

from .frames import is_missing
from .multi_valued import split_further

log = logging.getLogger(__name__)

# Beside MISSING_FEATURES, what means a missing value among numbers, in lower case.
NO_NUMBER = ("na", "n.a.", "nil", "nan(ind)", "-nan", "unknown", "missing", "undefined", "tba", "tbd", "—", ".", "*")
COMMAS = r"^\s*[+-]?(\d+(,\d+)?|\d{1,3}(,\d{3})+(\.\d+)?)\s*$"
MONEY = r"^\s*(?:[$€£¥₹]\s*[+-]?[\d.,]+|[+-]?[\d.,]+\s*[$€£¥₹%])\s*$"
FEW_WORDS = 5  # distinct ones at most that are mistakes in a column of numbers; more are codes, such as 85123A


def as_numbers(column: pl.Series, decimal: str) -> tuple[pl.Series, str]:
    """Return a text column as integers, else floats, if it holds numbers and words for a missing one, else as it is.

    The second value says, for a message, which uncommon words were read so; "" if none.
    """
    if column.str.contains(r"^[+-]?0\d").any():
        return column, ""
    bare = column.str.strip_chars()
    words = bare.is_in((*MISSING_FEATURES, "")) | bare.str.to_lowercase().is_in(NO_NUMBER)
    texts = column.set(words.fill_null(False), None)
    if texts.null_count() == len(column) > column.null_count():
        return column, ""
    for dtype in (pl.Int64, pl.Float64):
        digits = texts.str.replace(decimal, ".", literal=True) if dtype == pl.Float64 else texts
        typed = digits.cast(dtype, strict=False)
        if typed.null_count() == texts.null_count():
            uncommon = bare.filter(words & ~bare.is_in(MISSING))
            return typed, "" if not len(uncommon) else f"{column.name} ({_words(uncommon)})"
    return column, ""


def without_missing(frame: pl.DataFrame, where: str, words: Collection[str], advice: str) -> pl.DataFrame:
    """Return a table with null where text says that a value is missing, and NaN in place of a number; say so.

    Args:
        frame: a table.
        where: the table, for messages.
        words: that mean a missing value.
        advice: how a column, {name}, is kept as it is; "" if it cannot be.
    """
    changed, said = [], []
    for column in frame:
        if column.dtype.is_float() and column.is_nan().any():
            changed.append(column.fill_nan(None))
        if column.dtype != pl.String:
            continue
        bare = column.str.strip_chars()
        missing = bare.is_in((*words, "")).fill_null(False)
        if not missing.any():
            continue
        changed.append(column.set(missing, None))
        if len(spelled := bare.filter(missing & (bare != ""))):
            said.append((column.name, f"{column.name} ({_words(spelled)})"))
    if said:
        log.warning(
            "%s: words that mean a missing value are read as such: %s%s",
            *(where, ", ".join(text for _, text in said), advice.replace("{name}", said[0][0])),
        )
    return frame.with_columns(changed)


def warn_of_words_among_numbers(frame: pl.DataFrame, where: str, noun: str, ids: pl.Series, rows: pl.Series) -> None:
    """Warn of text columns that hold numbers, except for some words or signs, and therefore are no numbers.

    Args:
        frame: a table.
        where: the table, for messages.
        noun: "item" or "user".
        ids: of its rows.
        rows: their places in the table as given.
    """
    for column in frame:
        if column.dtype != pl.String or not len(filled := column.drop_nulls()):
            continue
        number_R = column.str.strip_chars().cast(pl.Float64, strict=False).is_not_null()
        if number_R.sum() == len(filled):  # from a frame, whose types are the caller's
            if column.str.contains(r"^[+-]?\d*\.\d*[1-9]").any():
                log.warning(
                    "%s: %s holds numbers written as text, such as %r, and stays text, so that 9.5 and 9.6 have nothing in common; if it "
                    "is to be numbers, pass a frame with frame[%r] cast to float",
                    *(where, column.name, filled[0], column.name),
                )
            continue
        money_R = column.str.contains(MONEY).fill_null(False)
        like_R = (number_R | money_R | column.str.contains(COMMAS)).fill_null(False)
        odd_R = column.is_not_null() & ~like_R
        if 2 * int(like_R.sum()) < len(filled) or filled.n_unique() < 2:
            continue
        if not odd_R.any():
            if money_R.any():
                odd_R = money_R
            else:
                continue  # commas: `with_lists` has a word on them
        elif not (number_R.any() or money_R.any()) or column.filter(odd_R).n_unique() > FEW_WORDS:
            continue
        at = int(odd_R.arg_max() or 0)
        log.warning(
            "%s: %s holds numbers, but %r for %s %r (row %d from 0, without header; %d of %s), so it stays text, whose values are "
            "alike only where they are equal. If it is to be numbers, write there a number, or nothing where it is missing",
            *(where, column.name, shorten(column[at], 40), noun, shorten(str(ids[at]), 40), rows[at]),
            *(odd_R.sum(), counted(len(column), "row")),
        )


def without_objects(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """Return a table whose columns of Python objects are lists, where one holds a list, tuple, set or array, else text."""
    return frame.with_columns(_plain(column, where) for column in frame if column.dtype == pl.Object)


def _plain(column: pl.Series, where: str) -> pl.Series:
    values = [None if is_missing(value) else _held(value) for value in column]
    single = sum(not isinstance(value, list) and value is not None for value in values)
    if not any(isinstance(value, list) for value in values):
        return pl.Series(column.name, [None if value is None else _text(value) for value in values], dtype=pl.String)
    lists = [value if value is None or isinstance(value, list) else [value] for value in values]
    if not single:
        try:
            return pl.Series(column.name, lists)
        except (pl.exceptions.PolarsError, TypeError, OverflowError):
            pass
    texts = [None if one is None else [_text(part) for part in one if part is not None] for one in lists]
    found = pl.Series(column.name, texts, dtype=pl.List(pl.String))
    if not single:
        return found
    found, how = split_further(found, "", None)
    log.warning(
        "%s: %s holds lists and, in %s, single values; each is read as a list of one%s",
        *(where, column.name, counted(single, "row"), how.replace(", some also at", ", some are split at")),
    )
    return found


def _held(value: Any) -> Any:
    """Return a collection as a list; a set in order, so that a run can be repeated."""
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return list(value) if isinstance(value, tuple | np.ndarray | pl.Series) else value


def _text(value: Any) -> str:
    """Return an object as text; 2.0 as 2, since pandas makes 2.0 of 2 in a column with missing values."""
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)


def _words(found: pl.Series) -> str:
    words = found.unique(maintain_order=True)
    return f"{', '.join(map(repr, words.head(3)))} in {counted(len(found), 'row')}"
