"""Item feature columns for re-rankers: categories, conditions, ages.

I items, C categories.
"""

from __future__ import annotations

import datetime
import difflib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.matching import compared, some
from recsys_dl.data.times import to_times

log = logging.getLogger(__name__)

MARKS = ("|", ";", ",", "/")  # separators of multiple values in one text
SHARE_WITHIN = 0.1  # ratio of items with a value inside a multi-valued text to those with it alone, above which a warning is logged
YEAR = 365.2425 * 86400  # seconds


def column(train: Dataset | Interactions, name: str, purpose: str) -> pl.Series:
    """Return a column of the item features; `item_id` and `title` are available without features.

    Raises:
        ValueError: an unknown column; the message says what it is needed for and suggests a similar one.
    """
    known: dict[str, pl.Series] = {}
    if isinstance(train, Dataset):
        known["item_id"] = train.items.ids
        if train.item_titles is not None:
            known["title"] = train.item_titles
        if train.item_features is not None:
            known |= {one.name: one for one in train.item_features}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        here = f"the data has {', '.join(known)}" if known else "bare Interactions have none; pass a Dataset"
        raise ValueError(
            f"{purpose} needs the item column {name!r}{f' (did you mean {close[0]!r}?)' if close else ''}; {here}"
        )
    return known[name]


def categories(values: pl.Series) -> tuple[sp.csr_matrix, list[str]]:
    """Return category membership, CSR [I, C] of ones, and the category names in order.

    A list column has one category per distinct element, any other column one per value; null has none.
    """
    frame = pl.DataFrame({"row": np.arange(len(values), dtype=np.int64), "name": values})
    if isinstance(values.dtype, pl.List | pl.Array):
        frame = frame.explode("name")
    frame = frame.select("row", pl.col("name").cast(pl.String)).drop_nulls().unique()
    names = frame["name"].unique().sort()
    codes = names.search_sorted(frame["name"]).to_numpy() if len(frame) else np.zeros(0, np.int64)
    ones = np.ones(len(frame), np.float32)
    matrix = sp.csr_matrix((ones, (frame["row"].to_numpy(), codes)), shape=(len(values), len(names)))
    matrix.sort_indices()
    return matrix, names.to_list()


def shares(member_IC: sp.csr_matrix) -> sp.csr_matrix:
    """Return CSR [I, C] of float64: each item's unit mass spread evenly over its categories (Steck 2018)."""
    counts_I = np.diff(member_IC.indptr)
    spread = np.repeat(1.0 / np.maximum(counts_I, 1), counts_I)
    return sp.csr_matrix((spread, member_IC.indices, member_IC.indptr), shape=member_IC.shape)


def tastes(histories_BI: sp.csr_matrix, shares_IC: sp.csr_matrix) -> sp.csr_matrix:
    """Return CSR [B, C] of float64: the shares of categories in each user's history, by weight.

    They sum to 1, or to 0 for a history without any category weight.
    """
    mass_BC = (histories_BI.astype(np.float64) @ shares_IC).tocsr()
    mass_BC.sort_indices()
    total_B = np.asarray(mass_BC.sum(axis=1)).ravel()
    scale_B = np.divide(1.0, total_B, out=np.zeros(len(total_B)), where=total_B > 0)
    mass_BC.data *= np.repeat(scale_B, np.diff(mass_BC.indptr))
    return mass_BC


def meets(train: Dataset | Interactions, condition: Mapping[str, Any], where: str) -> np.ndarray:
    """Return bool [I]: the items that meet a condition on every one of its columns.

    A column is compared with a value, a list of values (for list columns: any element), or a range
    {min: …, max: …}, ends included. An item without a value meets no condition.

    Raises:
        ValueError: an unknown column, or a condition that does not fit its type.
    """
    if not isinstance(condition, Mapping) or not condition:
        raise ValueError(f"{where} must be a condition such as {{genres: [Horror]}}, got {condition!r}")
    met = np.ones(train.num_items, bool)
    for name, wanted in condition.items():
        values = column(train, str(name), where)
        if isinstance(wanted, Mapping):
            met &= _within(values, wanted, f"{where}, {name}")
        else:
            given = list(wanted) if isinstance(wanted, Sequence) and not isinstance(wanted, str) else [wanted]
            met &= _among(values, given, f"{where}, {name}")
    return met


def ages(values: pl.Series, unit: str, now: float) -> np.ndarray:
    """Return float64 [I] seconds since the times in a column, at least 0, NaN where missing.

    Args:
        values: dates, times or text in ISO 8601, or numbers in `unit`.
        unit: of numbers: s, ms, us, ns since 1970, or year (January 1).
        now: seconds since 1970.
    """
    if unit == "year":
        times = values.cast(pl.Float64, strict=False) * YEAR - 1970 * YEAR
    else:
        times = to_times(values, unit).cast(pl.Float64)
    return np.maximum(now - times.fill_null(np.nan).to_numpy(), 0.0)


def _within(values: pl.Series, wanted: Mapping[str, Any], where: str) -> np.ndarray:
    unknown = set(wanted) - {"min", "max"}
    if unknown or not wanted:
        raise ValueError(f"{where}: a range has min, max or both, got {dict(wanted)}")
    if not (values.dtype.is_numeric() or values.dtype.is_temporal()):
        raise ValueError(f"{where}: a range needs numbers or times, the column holds {values.dtype}")
    met = np.ones(len(values), bool)
    for end, bound in wanted.items():
        if isinstance(bound, bool) or not isinstance(bound, int | float | datetime.date):
            raise ValueError(f"{where}: {end} must be a number or a date, got {bound!r}")
        compared = values >= bound if end == "min" else values <= bound
        met &= compared.fill_null(False).to_numpy()
    if values.dtype.is_float():
        met &= values.is_not_nan().fill_null(False).to_numpy()
    return met


def _among(values: pl.Series, wanted: Sequence[Any], where: str) -> np.ndarray:
    if not wanted or any(isinstance(value, Mapping | list | tuple) or value is None for value in wanted):
        raise ValueError(f"{where} must name a value or a list of values, got {list(wanted)!r}")
    if values.dtype.is_float():
        if any(isinstance(value, str) for value in wanted):
            raise ValueError(f"{where}: the column holds numbers, got {list(wanted)!r}")
        return values.is_in([float(value) for value in wanted]).fill_null(False).to_numpy()
    member_IC, names = categories(values)
    texts = [str(value).lower() if isinstance(value, bool) else str(value) for value in wanted]
    known = set(names)
    missing = [text for text in texts if text not in known]
    if len(missing) == 1 and values.dtype != pl.Boolean:
        close = difflib.get_close_matches(missing[0], names, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        log.warning("%s: no item has the value %r%s", where, missing[0], hint)
    elif missing and values.dtype != pl.Boolean:
        how = compared(pl.Series(missing), "the rule", pl.Series(names, dtype=pl.String), "the items")
        log.warning("%s: %d of its %d values are no item's: %s", where, len(missing), len(texts), how)
    number = {name: at for at, name in enumerate(names)}
    codes = [number[text] for text in texts if text in known]
    met = np.asarray(member_IC[:, codes].sum(axis=1)).ravel() > 0
    if values.dtype == pl.String:
        for text in texts:
            _question(values, text, where)
    return met


def _question(values: pl.Series, text: str, where: str) -> None:
    """Warn if items contain a text as one of several values rather than as their value."""
    have = int((values == text).sum())
    name = values.name
    for mark in MARKS:
        several = values.filter(values.str.contains(mark, literal=True).fill_null(False))
        parts = several.str.split(mark).list.eval(pl.element().str.strip_chars())
        within = several.filter(parts.list.contains(text))
        if len(within) > SHARE_WITHIN * have:
            log.warning(
                "%s: %s has the value %r, but %s hold it, such as %s. If the column is multi-valued, read it with "
                'item_lists={%s: "%s"} (data.item_lists={%s: "%s"})',
                *(where, f"{have:,} item" if have == 1 else f"{have:,} items", text, f"{have + len(within):,}"),
                *(some([within[0]]), name, mark, name, mark),
            )
            return
