"""In-memory tables: frames, tables and tensors of other libraries, dicts of columns, lists of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.data.vocabulary import array_of

Columns = tuple[
    list[str], Callable[[int], pl.Series], bool
]  # names, the column at a position, whether the names are meaningful


def frame_of(source: Any) -> Columns | None:
    """Return the columns of an in-memory table; None if it is not a table.

    Raises:
        ValueError: multi-level column names, or columns of unequal length.
    """
    if isinstance(source, pl.LazyFrame):
        source = source.collect()
    if isinstance(source, np.ndarray) and source.dtype.names:
        source = {name: source[name] for name in source.dtype.names}
    module = type(source).__module__.partition(".")[0]
    if module == "pandas" and hasattr(source, "index"):
        return _pandas(source)
    if module == "pyarrow" and hasattr(source, "schema") and hasattr(source, "column"):
        return list(source.schema.names), lambda at: from_arrow(source.column(at)), True
    header = True
    if isinstance(source, Mapping) and source:
        source = _of_columns(source)
    elif isinstance(source, list) and source and all(isinstance(row, Mapping) for row in source):
        source = pl.DataFrame(source, infer_schema_length=None, strict=False)
    elif isinstance(source, list) and source and all(isinstance(row, tuple) for row in source):
        width = len(source[0])
        if any(len(row) != width for row in source):
            raise ValueError(
                "a log given as a list of rows needs the same number of values in each: user, item, [weight], [time]"
            )
        source, header = _of_columns({f"column_{i}": [row[i] for row in source] for i in range(width)}), False
    elif not isinstance(source, pl.DataFrame) and hasattr(source, "__arrow_c_stream__"):
        source = pl.DataFrame(source)
    if not isinstance(source, pl.DataFrame):
        return None
    return source.columns, source.to_series, header


def from_arrow(column: Any) -> pl.Series:
    """Return an Arrow column; UUIDs as text."""
    import pyarrow as pa

    kind = column.type
    if str(kind) == "extension<arrow.uuid>":
        return pl.Series([None if value is None else str(value) for value in column.to_pylist()], dtype=pl.String)
    if isinstance(kind, pa.BaseExtensionType):
        column = column.cast(kind.storage_type)
    return pl.Series(pl.from_arrow(column))


def _of_columns(columns: Mapping[Any, Any]) -> pl.DataFrame:
    found = {str(name): _column(values) for name, values in columns.items()}
    sizes = {name: len(column) for name, column in found.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"columns must have the same length, got {', '.join(f'{n}: {size}' for n, size in sizes.items())}"
        )
    return pl.DataFrame(found)


def _column(values: Any) -> pl.Series:
    if isinstance(values, pl.Series):
        return values
    if type(values).__module__.partition(".")[0] == "pandas":
        import pandas as pd  # type: ignore[import-untyped]

        return _from_pandas(pd.Series(values).reset_index(drop=True))
    if hasattr(values, "detach"):
        values = array_of(values)
    if not isinstance(values, np.ndarray):
        values = list(values)
        if any(type(value).__name__ == "UUID" for value in values[:1]):
            values = [None if value is None else str(value) for value in values]
    try:
        return pl.Series(values)
    except (pl.exceptions.PolarsError, TypeError, OverflowError):
        return pl.Series(list(values), dtype=pl.Object)


def _pandas(source: Any) -> Columns:
    """Return the columns of a frame or series, and of its index if that has names."""
    if not hasattr(source, "columns"):
        source = source.to_frame("rating" if source.name is None else source.name)
    if source.columns.nlevels > 1:
        raise ValueError(
            f"the columns of the frame must have one name each, got {source.columns.nlevels} levels (a MultiIndex). Join "
            'them first: frame.columns = ["_".join(map(str, name)) for name in frame.columns]'
        )
    levels = [name for name in source.index.names if name is not None and name not in source.columns]
    if levels and len(levels) == len(source.index.names):
        source = source.reset_index()
    return [str(name) for name in source.columns], lambda at: _from_pandas(source.iloc[:, at]), True


def _from_pandas(column: Any) -> pl.Series:
    """Return one column; periods as their start, mixed Python values unchanged."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    elif isinstance(column.dtype, pd.IntervalDtype):
        column = column.astype(str)
    elif column.dtype == object:
        first = next((value for value in column if value is not None), None)
        if not isinstance(first, str | bytes | int | float | list | np.ndarray) and not hasattr(first, "isoformat"):
            return pl.Series([None if is_missing(value) else value for value in column], dtype=pl.Object)
    try:
        return pl.Series(pl.from_pandas(column))
    except (pa.ArrowException, pl.exceptions.PolarsError, TypeError):
        return pl.Series([None if is_missing(value) else value for value in column], dtype=pl.Object)


def is_missing(value: Any) -> bool:
    """Return whether a Python object is a missing value of pandas or NumPy, or None."""
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )
