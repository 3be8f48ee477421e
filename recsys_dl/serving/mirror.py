"""Tables of feedback logs in a shared store, and their copies on this machine."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import polars as pl

from recsys_dl.data.durable import DurableTable

from .store import SharedStore


class MirroredTable(DurableTable):
    """A table whose rows are in a shared store. The folder is a copy, brought up to date before it is read; it may be deleted.

    Args:
        folder, schema: as of `DurableTable`.
        store: has the rows.
        name: of the table in it.

    Raises:
        ValueError: the copy has more than the store, which was put back to an earlier state.
        StoreError: from every method: the store cannot be read or written now.
    """

    def __init__(self, folder: Path, schema: dict[str, Any], *, store: SharedStore, name: str) -> None:
        super().__init__(folder, schema)
        self.store, self.name = store, name
        here, there = super().__len__(), store.count(name)
        if here > there:
            raise ValueError(
                f"{self.folder} must be a copy of a table of the store, but has {here:,} appends where the store has {there:,}: the store was put "
                "back to an earlier state; delete the folder, which is made again"
            )

    def __len__(self) -> int:
        """Return the number of appends."""
        self.pull()
        return super().__len__()

    def append(self, rows: pl.DataFrame) -> int:
        """Write rows into the store; return the append's number."""
        buffer = io.BytesIO()
        self.checked(rows).write_parquet(buffer)
        return self.store.append(self.name, buffer.getvalue())

    def read(self, after: int = 0) -> pl.DataFrame:
        """Return all rows, as `DurableTable.read`."""
        self.pull()
        return super().read(after)

    def find(self, column: str, values: pl.Series, *, through: int | None = None) -> pl.DataFrame:
        """Return chosen rows, as `DurableTable.find`."""
        self.pull()
        return super().find(column, values, through=through)

    def pull(self) -> None:
        """Fetch what is new."""
        while pieces := self.store.since(self.name, last := super().__len__()):
            self.copy([pl.read_parquet(io.BytesIO(piece)) for piece in pieces], last + 1)
