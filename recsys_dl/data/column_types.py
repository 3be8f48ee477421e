"""What a column of side features holds: its type, its values and its numbers. R rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from .messages import shorten

TEXTS = "texts"  # the column name of free texts


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
        ValueError: NaN or infinite numbers, or negative ones of a heavy tail; says in which row, or for which of the `ids`.
    """
    if column.dtype.is_temporal():
        column = column.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
    numbers = column.cast(pl.Float64)
    bad = ~numbers.is_finite().fill_null(True)
    if heavy_tail:
        bad |= (numbers < 0).fill_null(False)
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise ValueError(
            f"{called(column.name)} of the {noun} features must hold finite numbers"
            f"{' that are not negative' if heavy_tail else ''}, or null where one is missing, got "
            f"{numbers[row]} {f'in row {row}' if ids is None else f'for {noun} {shorten(str(ids[row]))!r}'}"
        )
    values_R = numbers.fill_null(float("nan")).to_numpy()
    return np.log1p(values_R) if heavy_tail else values_R


def vectors_of(column: pl.Series, noun: str, size: int | None) -> np.ndarray:
    """Return float32 [R, E] of unit length, 0 where missing; all must be finite and of one size."""
    lists = column.cast(pl.List(pl.Float32)) if isinstance(column.dtype, pl.Array) else column
    lengths = lists.list.len().drop_nulls()
    wanted = int(lengths[0]) if size is None and len(lengths) else size or 0
    if (wrong := lengths.filter(lengths != wanted)).len():
        raise ValueError(
            f"{called(column.name)} of the {noun} features must hold vectors of one length, {wanted}"
            f"{'' if size is None else ' as in training'}, got one of {wrong[0]}"
        )
    vectors_RE = np.zeros((len(column), wanted), np.float32)
    there_R = column.is_not_null().to_numpy()
    vectors_RE[there_R] = lists.drop_nulls().explode().to_numpy().reshape(-1, wanted)
    if not np.isfinite(vectors_RE).all():
        row = int(np.argmin(np.isfinite(vectors_RE).all(axis=1)))
        raise ValueError(
            f"{called(column.name)} of the {noun} features must hold finite vectors, got another in row {row}"
        )
    return vectors_RE / np.maximum(np.linalg.norm(vectors_RE, axis=1, keepdims=True), 1e-12)


def as_learned(
    table: pl.DataFrame, name: str, family: str, noun: str, *, found: str | None, numeric: bool
) -> pl.Series:
    """Return a column that training had.

    Args:
        table: the features.
        name: of the column.
        family: what it held in training.
        noun: "item" or "user".
        found: what it holds now, None if it is not there.
        numeric: whether whole numbers and others may take each other's place.

    Raises:
        ValueError: it is missing, or holds something else.
    """
    if found is None:
        raise ValueError(
            f"the {noun} features must have {called(name)} ({family}) as in training, got {listed(table.columns) or 'no columns'}"
        )
    if found not in (family, "nothing") and not (numeric and {found, family} <= {"numbers", "whole numbers"}):
        raise ValueError(
            f"{called(name)} of the {noun} features held {family} in training, got {found or table.schema[name]}"
        )
    return table[name]


def called(name: str) -> str:
    """Return a column's name in messages."""
    return "texts" if name == TEXTS else f"the column {name!r}"


def listed(names: list[str] | Any) -> str:
    """Return quoted names, separated by commas."""
    return ", ".join(repr(name) for name in names)
