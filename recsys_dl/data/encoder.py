"""Encoding a log's ids, batch by batch, as rows in order of first appearance."""

from __future__ import annotations

import numpy as np
import polars as pl

from .vocabulary import Vocabulary


class Encoder:
    """Assigns rows to ids in order of first appearance."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self.known = pl.Series("id", [], dtype=pl.String)

    def __len__(self) -> int:
        return len(self.known)

    def encode(self, ids: pl.Series) -> np.ndarray:
        """Return the int32 row of each id."""
        ids = ids.alias("id")
        if not len(self.known):
            self.known = ids.clear()
        if ids.dtype != self.known.dtype:  # files with different types read as one log
            self.known, ids = (_as_text(self.known), _as_text(ids))
        rows = _rows_of(ids, self.known, 0)
        missing = rows.is_null()
        if missing.any():
            unknown = ids.filter(missing)
            fresh = unknown.unique(maintain_order=True)
            rows = rows.scatter(missing.arg_true(), _rows_of(unknown, fresh, len(self.known)))
            self.known = pl.concat([self.known, fresh])
        return rows.to_numpy()

    def finish(self) -> tuple[Vocabulary, np.ndarray | None, str]:
        """Return the vocabulary, the row in it of each row assigned so far (None if unchanged), and a note on ids such as 12.0 ("" if there are none).

        If every id is a number, 12.0 is how pandas writes 12 in a column with missing values: both are read as 12.
        """
        if self.known.dtype != pl.String:
            return Vocabulary(self.known, noun=self.noun), None, ""
        decimal = self.known.str.contains(r"^-?\d+\.0$")
        if not decimal.any():
            return Vocabulary(self.known, noun=self.noun), None, ""
        example = self.known.filter(decimal)[0]
        plain = self.known.str.replace(r"^(-?\d+)\.0$", "$1")
        if not self.known.str.contains(r"^-?\d+(\.0)?$").all():
            if plain.n_unique() == len(plain):
                return Vocabulary(self.known, noun=self.noun), None, ""
            note = f"{self.noun} ids hold both {example} and {example[:-2]}, which are two {self.noun}s"
            return Vocabulary(self.known, noun=self.noun), None, note
        ids = plain.unique(maintain_order=True)
        return (
            Vocabulary(ids, noun=self.noun),
            _rows_of(plain, ids, 0).to_numpy(),
            f"{self.noun} ids such as {example} are read as {example[:-2]}",
        )


def _as_text(ids: pl.Series) -> pl.Series:
    return (ids.cast(pl.Int64) if ids.dtype.is_float() else ids).cast(pl.String)


def _rows_of(ids: pl.Series, known: pl.Series, first: int) -> pl.Series:
    """Return the row of each id, where `known` start at row `first`; null for unknown ids."""
    table = pl.DataFrame({"id": known, "row": np.arange(first, first + len(known), dtype=np.int32)})
    return ids.to_frame().join(table, on="id", how="left", maintain_order="left")["row"]
