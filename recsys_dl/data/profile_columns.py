"""What `ProfileEncoder` learns of a column, and the columns it learns from. R rows, T terms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from .column_types import TEXTS, TITLES

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

ROWS_AT_ONCE = 1 << 16  # encoded at a time
PROSE_WORDS, PROSE_VALUES = (
    4.0,
    0.5,
)  # text columns of as many words a row and as large a share of distinct values are prose


@dataclass
class Column:
    """How one column becomes terms, as learned by `fit`."""

    name: str
    kind: str
    family: str
    weight: float
    terms: list[str]
    idf_T: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # of bag and text
    knots_T: np.ndarray = field(
        default_factory=lambda: np.zeros(0, np.float32)
    )  # of a number: the middle of each period
    size: int = 0  # of a vector or sentence
    words: TfidfVectorizer | None = None

    def about(self) -> dict[str, Any]:
        """Return what is saved of it beside terms and arrays."""
        return {"name": self.name, "kind": self.kind, "family": self.family, "weight": self.weight, "size": self.size}


def table_of(frame: pl.DataFrame | None, texts: pl.Series | None, titles: pl.Series | None) -> pl.DataFrame:
    """Return features with texts and titles as columns of their own."""
    table = pl.DataFrame() if frame is None else frame
    if titles is not None:  # a year behind a title is no word of it
        titles = titles.cast(pl.String).str.replace(r"\s*\((1[89]|20)\d\d\)\s*$", "")
    for name, series in ((TEXTS, texts), (TITLES, titles)):
        if series is not None:
            if name in table.columns:
                raise ValueError(f"a column of the features may not be called {name!r} beside {name}; rename it")
            table = table.hstack([series.alias(name)]) if table.width else series.alias(name).to_frame()
    return table


def slices_of(column: pl.Series) -> list[pl.Series]:
    """Return a column in parts, so that what is made of each on the way fits into memory."""
    return [column.slice(start, ROWS_AT_ONCE) for start in range(0, max(1, len(column)), ROWS_AT_ONCE)]


def is_prose(column: pl.Series) -> bool:
    """Return whether text is sentences or titles, not names of categories."""
    if column.name in (TEXTS, TITLES):
        return True
    filled = column.cast(pl.String).drop_nulls()
    words = filled.str.count_matches(r"\w+").to_numpy().mean() if len(filled) else 0.0
    return float(words) >= PROSE_WORDS and filled.n_unique() >= PROSE_VALUES * len(filled)
