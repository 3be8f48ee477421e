"""External ids <-> rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl


class Vocabulary:
    """The ids of users or of items; the id at position r belongs to row r.

    Ids are kept as text: 196, "196" and 196.0 name the same user, "0196" another one.

    Args:
        ids: distinct ids, in the order of their rows.
        noun: "user" or "item", for messages.

    Raises:
        ValueError: an id is missing or comes twice.
    """

    def __init__(self, ids: Iterable[Any] | pl.Series, *, noun: str = "id") -> None:
        self.noun = noun
        self.ids = as_text(ids)
        if self.ids.null_count():
            raise ValueError(
                f"every {noun} must have an id, got a missing one at row {int(self.ids.is_null().arg_max() or 0)}"
            )
        if self.ids.n_unique() != len(self.ids):
            twice = self.ids.filter(self.ids.is_duplicated())[0]
            raise ValueError(f"{noun} ids must be distinct, got {twice!r} more than once")

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, value: object) -> bool:
        return bool(self.find([value])[0] >= 0)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self):,} {self.noun}s)"

    @cached_property
    def _rows_by_id(self) -> dict[str, int]:
        return {value: row for row, value in enumerate(self.ids.to_list())}

    def find(self, ids: Iterable[Any] | pl.Series) -> np.ndarray:
        """Return int32 rows, -1 for an id that is not known."""
        wanted = as_text(ids)
        if len(wanted) < 1000:
            return np.fromiter((self._rows_by_id.get(value, -1) for value in wanted), np.int32, len(wanted))
        table = pl.DataFrame({"id": self.ids, "row": np.arange(len(self), dtype=np.int32)})
        found = wanted.alias("id").to_frame().join(table, on="id", how="left", maintain_order="left")["row"]
        return found.fill_null(-1).to_numpy()

    def rows(self, ids: Iterable[Any] | pl.Series) -> np.ndarray:
        """Return int32 rows.

        Raises:
            KeyError: an id is not known; the message names the first.
        """
        wanted = as_text(ids)
        rows = self.find(wanted)
        if (rows < 0).any():
            missing = wanted.filter(pl.Series(rows < 0))
            raise KeyError(
                f"{self.noun} {missing[0]!r} is not among the {len(self):,} known {self.noun}s "
                f"({len(missing)} unknown in all). Use fold_in() with a history, or check the ids."
            )
        return rows

    def at(self, rows: np.ndarray) -> pl.Series:
        """Return the ids at `rows` (any shape is flattened); null where a row is -1."""
        flat = np.asarray(rows).ravel()
        return self.ids.gather(pl.Series(flat).cast(pl.Int64).replace(-1, None))

    def grow(self, ids: Iterable[Any] | pl.Series) -> Vocabulary:
        """Return a vocabulary with the unknown ids appended in their order; known ids keep their rows."""
        fresh = as_text(ids).unique(maintain_order=True)
        fresh = fresh.filter(pl.Series(self.find(fresh) < 0, dtype=pl.Boolean))
        return Vocabulary(pl.concat([self.ids, fresh]), noun=self.noun)

    @cached_property
    def content_hash(self) -> str:
        """Hexadecimal SHA-256 over the ids in order."""
        digest = hashlib.sha256()
        for value in self.ids:
            digest.update(f"{len(value)}:{value}".encode())
        return digest.hexdigest()

    def save(self, file: Path) -> None:
        """Write the ids to a Parquet file with the one column `id`."""
        self.ids.alias("id").to_frame().write_parquet(file)

    @classmethod
    def load(cls, file: Path, *, noun: str = "id") -> Vocabulary:
        """Read what `save` wrote."""
        return cls(pl.read_parquet(file)["id"], noun=noun)


def as_text(ids: Iterable[Any] | pl.Series) -> pl.Series:
    """Return ids as text: integers in decimal, whole floats as integers, text unchanged."""
    if isinstance(ids, str | bytes):
        raise ValueError(f"ids must come as a list, got the single value {ids!r}; write [{ids!r}]")
    series = ids if isinstance(ids, pl.Series) else pl.Series("id", _plain(ids), strict=False)
    if series.dtype == pl.Object or series.dtype.is_nested():
        raise ValueError(f"ids must be text or numbers, got a column of {series.dtype}")
    if series.dtype.is_float():
        if not (series.drop_nulls() == series.drop_nulls().round()).all():
            raise ValueError("ids that are numbers must be whole, got a fraction")
        series = series.cast(pl.Int64)
    return series.cast(pl.String).rename("id")


def _plain(ids: Iterable[Any]) -> Any:
    """Lists of mixed types become text one by one; arrays pass as they are."""
    if isinstance(ids, np.ndarray) and ids.dtype != object:
        return ids
    values = list(ids)
    if len({type(value) for value in values}) <= 1:
        return values
    return [str(int(v)) if isinstance(v, float) and v.is_integer() else None if v is None else str(v) for v in values]
