"""Arrays that become one column: in memory, or in files."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from .blocks import SIZE, blocks
from .interactions import Interactions
from .mapped import mapped_array, write_log


class Pieces:
    """Arrays of one type that become one, in memory."""

    def __init__(self, dtype: Any) -> None:
        self.dtype, self.length = np.dtype(dtype), 0
        self.arrays: list[np.ndarray] = []

    def __len__(self) -> int:
        return self.length

    def append(self, array: np.ndarray) -> None:
        """Add an array, converted to the type."""
        self.length += len(array)
        self._add(array.astype(self.dtype, copy=False))

    def joined(self) -> np.ndarray:
        """Return all arrays as one."""
        return np.concatenate(self.arrays) if self.arrays else np.empty(0, self.dtype)

    def _add(self, array: np.ndarray) -> None:
        self.arrays.append(array)


class Store:
    """Where the columns of a log being read are collected: in memory."""

    size: int | None = None  # interactions in memory at once, None for all

    def pieces(self, dtype: Any) -> Pieces:
        """Return an empty column."""
        return Pieces(dtype)

    def taken(self, values: np.ndarray, at_N: np.ndarray) -> np.ndarray:
        """Return `values[at_N]`."""
        return values[at_N]

    def log(self, columns: dict[str, np.ndarray], num_users: int, num_items: int) -> Interactions:
        """Return the interactions of finished columns: user, item, and if given weight and time."""
        return Interactions(
            *(columns.get(role) for role in ("user", "item", "weight", "time")),  # type: ignore[arg-type]
            num_users=num_users,
            num_items=num_items,
        )


class _FilePieces(Pieces):
    def __init__(self, dtype: Any, file: Path) -> None:
        super().__init__(dtype)
        self.file = file
        file.touch()

    def _add(self, array: np.ndarray) -> None:
        with self.file.open("ab") as out:
            out.write(np.ascontiguousarray(array).data)

    def joined(self) -> np.ndarray:
        return mapped_array(self.file)


class FileStore(Store):
    """Collects columns in files, and writes the finished log to a folder; see `recsys_dl.data.mapped`.

    Args:
        scratch: an existing folder for files that are no longer needed afterwards.
        target: an existing, empty folder for the log.
        size: interactions in memory at once.
    """

    def __init__(self, scratch: Path, target: Path, size: int = SIZE) -> None:
        self.scratch, self.target, self.size = scratch, target, size
        self._numbers = itertools.count()

    def pieces(self, dtype: Any) -> Pieces:
        """Return an empty column."""
        return _FilePieces(dtype, self.scratch / f"{next(self._numbers)}.{np.dtype(dtype)}")

    def taken(self, values: np.ndarray, at_N: np.ndarray) -> np.ndarray:
        """Return `values[at_N]`."""
        column = self.pieces(values.dtype)
        for block in blocks(len(at_N)):
            column.append(values[at_N[block]])
        return column.joined()

    def log(self, columns: dict[str, np.ndarray], num_users: int, num_items: int) -> Interactions:
        """Write the log; return an empty one over its users and items, since it is opened once the folder is in place."""
        write_log(
            self.target,
            (
                Store().log({role: column[block] for role, column in columns.items()}, num_users, num_items)
                for block in blocks(len(columns["user"]))
            ),
        )
        return Interactions([], [], num_users=num_users, num_items=num_items)
