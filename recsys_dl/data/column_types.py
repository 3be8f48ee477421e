"""What a column of side features holds: its type, its values and its numbers. R rows."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np
import polars as pl

from .messages import MISSING_FEATURES, shorten

TEXTS, TITLES = "texts", "titles"  # the column names of free texts, and of display titles
LARGEST = 1e30  # of a number: beyond, differences of two are not finite in float32
LARGEST_ENTRY = 1e15  # of a vector, before it is scaled


def family_of(dtype: pl.DataType) -> str:
    """Describe a column's type independent of bit width; "" if it cannot be encoded."""
    if dtype == pl.Null:
        return "nothing"
    if dtype == pl.Boolean:
        return "true or false"
    if dtype.is_integer():
        return "whole numbers"
    if dtype.is_float() or dtype.is_decimal():
        return "numbers"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    if dtype in (pl.Date, pl.Datetime):
        return "dates"
    if isinstance(dtype, pl.List | pl.Array):
        inner = family_of(dtype.inner)  # type: ignore[arg-type]
        if inner in ("text", "whole numbers"):
            return f"lists of {inner}"
        if inner == "numbers":
            return "vectors"
        return "nothing" if inner == "nothing" else ""
    return ""


def values_of(column: pl.Series) -> pl.DataFrame:
    """Return rows and their values as text, lists exploded; missing values are dropped."""
    frame = column.alias("value").to_frame().with_row_index("row")
    if isinstance(column.dtype, pl.List | pl.Array):
        frame = frame.with_columns(pl.col("value").cast(pl.List(pl.String))).explode("value")
    return frame.with_columns(pl.col("value").cast(pl.String)).drop_nulls()


def numbers_of(column: pl.Series, noun: str, *, heavy_tail: bool = False, ids: pl.Series | None = None) -> np.ndarray:
    """Return float64 numbers, NaN where missing; of a heavy tail ln(1 + x). Dates are seconds.

    Raises:
        ValueError: NaN, infinite or huge numbers, or negative ones of a heavy tail; says in which row, or for which of the `ids`.
    """
    if column.dtype.is_temporal():
        column = column.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
    numbers = column.cast(pl.Float64)
    bad = (numbers.is_nan() | (numbers.abs() > LARGEST)).fill_null(False)
    if heavy_tail:
        bad |= (numbers < 0).fill_null(False)
    if bad.any():
        row = int(bad.arg_max() or 0)
        size = f" of at most {LARGEST:g}" if np.isfinite(numbers[row]) and abs(numbers[row]) > LARGEST else ""
        raise ValueError(
            f"{called(column.name)} of the {noun} features must hold finite numbers{size}"
            f"{' that are not negative' if heavy_tail else ''}, or null where one is missing, got "
            f"{numbers[row]} {place_of(row, noun, ids)}"
        )
    values_R = numbers.fill_null(float("nan")).to_numpy()
    return np.log1p(values_R) if heavy_tail else values_R


def vectors_of(column: pl.Series, noun: str, size: int | None, *, ids: pl.Series | None = None) -> np.ndarray:
    """Return float32 [R, E] of unit length, 0 where missing.

    Raises:
        ValueError: vectors of several lengths, or with NaN or infinite numbers; says in which row, or for which of the `ids`.
    """
    of_floats = isinstance(column.dtype, pl.List) and column.dtype.inner.is_float()
    lists = column if of_floats else column.cast(pl.List(pl.Float64), strict=False)
    lengths = lists.list.len()
    there = lengths.drop_nulls()
    wanted = int(there[0]) if size is None and len(there) else size or 0
    what = f"{called(column.name)} of the {noun} features must hold"
    if (wrong := (lengths != wanted).fill_null(False)).any():
        row = int(wrong.arg_max() or 0)
        raise ValueError(
            f"{what} vectors of one length, {wanted}{'' if size is None else ' as in training'}, got one of {lengths[row]} "
            f"{place_of(row, noun, ids)}"
        )
    there_R = column.is_not_null().to_numpy()
    numbers_NE = lists.drop_nulls().explode().to_numpy().reshape(-1, wanted)
    if not (finite_NE := np.isfinite(numbers_NE.astype(np.float64))).all():
        at = int(np.argmin(finite_NE.all(axis=1)))
        row = int(np.flatnonzero(there_R)[at])
        raise ValueError(
            f"{what} vectors of finite numbers, got {numbers_NE[at][~finite_NE[at]][0]} {place_of(row, noun, ids)}"
        )
    largest_N1 = np.abs(numbers_NE).max(axis=1, initial=0, keepdims=True)
    if largest_N1.max(initial=0) > LARGEST_ENTRY:  # whose squares would overflow
        numbers_NE = numbers_NE / np.where(largest_N1 > 0, largest_N1, 1)
    vectors_RE = np.zeros((len(column), wanted), np.float32)
    vectors_RE[there_R] = numbers_NE
    return vectors_RE / np.maximum(np.linalg.norm(vectors_RE, axis=1, keepdims=True), 1e-12)


def place_of(row: int, noun: str, ids: pl.Series | None) -> str:
    """Return where a row is, for a message: by its id, if that is known."""
    return f"in row {row}" if ids is None else f"for {noun} {shorten(str(ids[row]))!r}"


def as_learned(
    table: pl.DataFrame,
    name: str,
    family: str,
    noun: str,
    *,
    found: str | None,
    numeric: bool,
    known: Collection[str] = (),
    ids: pl.Series | None = None,
) -> pl.Series:
    """Return a column that training had, of the type that it had there.

    Text is read as training's column was: as a list, split where its parts are known; as a number; as a vector in JSON notation.

    Args:
        table: the features.
        name: of the column.
        family: what it held in training.
        noun: "item" or "user".
        found: what it holds now, None if it is not there.
        numeric: whether whole numbers and others may take each other's place.
        known: the values that training had, of text and lists.
        ids: of the rows, for messages.

    Raises:
        ValueError: it is missing, or holds something else; says what to do.
    """
    if found is None:
        raise ValueError(
            f"the {noun} features must have {called(name)} ({family}) as in training, got {listed(table.columns) or 'no columns'}"
        )
    column = table[name]
    if column.null_count() == len(column):  # of any type, such as that of an empty column of a text file
        return pl.Series(name, [None] * len(column))
    if found == family == "text" and known:
        words = column.cast(pl.String)
        return (
            column
            if column.dtype != pl.String
            else words.set(words.is_in(MISSING_FEATURES) & ~words.is_in(known), None)
        )
    if found in (family, "nothing") or (numeric and {found, family} <= {"numbers", "whole numbers"}):
        return column
    if family == "vectors" and found == "lists of whole numbers":
        return column.cast(pl.List(pl.Float64))
    if family == "lists of text" and found in ("lists of whole numbers", "vectors"):
        return column.cast(pl.List(pl.String))
    if found in ("whole numbers", "numbers") and family in ("text", "lists of text"):
        texts = column.cast(pl.String)
        if texts.is_in(known).any():  # such as 12, where training had 12 and 12a
            return texts if family == "text" else texts.cast(pl.List(pl.String))
    missing = column.cast(pl.String).is_in(MISSING_FEATURES) if found == "text" else None
    if missing is not None and not family.startswith("dates"):
        texts = column.cast(pl.String).set(missing.fill_null(False), None)
        read = _reread(texts, family, known)
        bad = read.is_null() & texts.is_not_null() & (texts != "")
        if read.dtype != pl.String and not bad.any():
            return read
        if bad.any():
            row = int(bad.arg_max() or 0)
            raise ValueError(
                f"{called(name)} of the {noun} features held {family} in training, got text, such as {shorten(texts[row])!r} "
                f"{place_of(row, noun, ids)}; write it as there, or nothing where it is missing"
            )
    raise ValueError(
        f"{called(name)} of the {noun} features held {family} in training, got {found or table.schema[name]}; convert it"
    )


def _reread(texts: pl.Series, family: str, known: Collection[str]) -> pl.Series:
    """Return texts as a type that training had, null where one is none; as they are if no text can be of that type."""
    if family in ("numbers", "whole numbers"):
        return texts.str.strip_chars().cast(pl.Float64, strict=False)
    if family == "true or false":
        words = texts.str.to_lowercase().str.strip_chars()
        return words.replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
    if family == "vectors":
        numbers = [None if text is None else _numbers_in(text) for text in texts]
        return pl.Series(texts.name, numbers, dtype=pl.List(pl.Float64))
    if family == "lists of text":
        parts = [None if text is None else _parts_in(text, set(known)) for text in texts]
        return pl.Series(texts.name, parts, dtype=pl.List(pl.String))
    return texts


def _numbers_in(text: str) -> list[float] | None:
    try:
        return [float(part) for part in re.split(r"[\s,;|]+", text.strip().strip("[](){}").strip())]
    except ValueError:
        return None


def _parts_in(text: str, known: set[str]) -> list[str]:
    """Return the parts of a list written as one text: split at what leaves the most known ones, as training's were."""
    if text.strip() in known:
        return [text.strip()]
    bare = text.strip()
    if bare.startswith("[") and bare.endswith("]"):
        bare = re.sub("[\"']", "", bare[1:-1])
    ways = [[part.strip() for part in bare.split(mark) if part.strip()] for mark in ("|", ";", ",", "/")]
    return max([[bare], *ways], key=lambda parts: sum(part in known for part in parts))


def told_apart(names: Sequence[str]) -> str:
    """Return quoted names of columns, and what those hold that are no columns of the table that was read."""
    roles = {TEXTS: "its columns of free text, such as description or plot", TITLES: "its column of titles"}
    held = "; ".join(f"{name} holds {roles[name]}" for name in names if name in roles)
    return f"{listed(names) or 'none'}{f' ({held})' if held else ''}"


def called(name: str) -> str:
    """Return a column's name in messages."""
    return "texts" if name == TEXTS else f"the column {name!r}"


def listed(names: Sequence[str]) -> str:
    """Return quoted names, separated by commas."""
    return ", ".join(repr(name) for name in names)
