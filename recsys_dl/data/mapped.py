"""Interactions whose columns are files: a log larger than memory, worked through in blocks.

A folder holds one raw file per column, named by its type: `users.int32`, `items.int32`, `weights.float32`, `times.int64`. What is
derived from a log (a part of a split, other weights) is written to a folder beside it, named by what it is, and found there by
the next process that derives the same.

N interactions, U users, I items, P distinct pairs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_dl.folders import new_folder

from .blocks import SIZE, blocks, count_rows, ranges
from .interactions import Interactions

FORMAT = 1
COLUMNS = {"users_N": "users.int32", "items_N": "items.int32", "weights_N": "weights.float32", "times_N": "times.int64"}
MOST_ROWS = np.iinfo(np.int32).max  # SciPy would copy a larger matrix's indices into memory


class MappedInteractions(Interactions):
    """A log in a folder, with memory-mapped columns: equal to the same `Interactions` in memory.

    Parts of at most `block` interactions are in memory; larger ones, and the matrices by user and by item, are written beside
    it and mapped. The system caches as much of the files as fits.

    Args:
        folder: written by `write_log`, or derived from such a log.
        block: interactions in memory at once.

    Raises:
        ValueError: the folder is damaged.
    """

    mapped = True

    def __init__(self, folder: Path, *, block: int = SIZE) -> None:
        self.folder, self.block = folder, block
        try:
            about = json.loads((folder / "log.json").read_text())
            if about["format"] != FORMAT:
                raise ValueError(f"its format is {about['format']}, this version reads {FORMAT}")
            columns = {name: mapped_array(folder / file) for name, file in COLUMNS.items() if (folder / file).exists()}
            if {len(column) for column in columns.values()} != {about["rows"]}:
                raise ValueError(f"its columns must have {about['rows']:,} entries")
            times_N = columns.pop("times_N") if about["timed"] else None
            self._take(**columns, times_N=times_N, num_users=about["num_users"], num_items=about["num_items"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(f"{folder} is damaged ({error}); remove {folder.parent} and run again") from error

    @property
    def key(self) -> str:
        """Identifies the log: what it was read from and derived by."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @cached_property
    def content_hash(self) -> str:
        """As of the same interactions in memory; kept in the folder."""
        file = self.folder / "sha256"
        if not file.exists():
            found = Interactions.content_hash.func(self)  # type: ignore[attr-defined]
            file.write_text(found)
        return file.read_text()

    def in_memory(self) -> Interactions:
        """Return the same interactions, read into memory."""
        return self._loaded([slice(None)])

    def by_user_ranges(self) -> Iterator[tuple[int, int, Any, Interactions]]:
        """Yield ranges of users of at most `block` interactions, see `Interactions.by_user_ranges`."""
        starts_U1 = np.concatenate([[0], np.cumsum(count_rows(self.users_N, self.num_users))])
        for first, last in ranges(starts_U1, self.block):
            found = []
            for part in blocks(len(self)):
                users = self.users_N[part]
                found.append(part.start + np.flatnonzero((users >= first) & (users < last)))
            positions = np.concatenate(found)
            yield first, last, positions, self._loaded([positions])

    @cached_property
    def by_user(self) -> sp.csr_matrix:
        """CSR [U, I] of float32 weights, columns sorted; repeated pairs are summed. Mapped."""

        def rows() -> Iterator[sp.csr_matrix]:
            for first, last, _, part in self.by_user_ranges():
                entries = (part.weights_N, (part.users_N - np.int32(first), part.items_N))
                matrix = sp.csr_matrix(entries, shape=(last - first, self.num_items), dtype=np.float32)
                matrix.sum_duplicates()
                yield matrix

        return self._matrix("by_user", rows, (self.num_users, self.num_items))

    @cached_property
    def by_item(self) -> sp.csr_matrix:
        """CSR [I, U]: `by_user` transposed. Mapped."""
        pairs = self.by_user

        def rows() -> Iterator[sp.csr_matrix]:
            starts_I1 = np.concatenate([[0], np.cumsum(count_rows(pairs.indices, self.num_items))])
            for first, last in ranges(starts_I1, self.block):
                found: list[tuple[np.ndarray, ...]] = []
                for start, stop in ranges(pairs.indptr):
                    part = slice(int(pairs.indptr[start]), int(pairs.indptr[stop]))
                    items = pairs.indices[part]
                    at = np.flatnonzero((items >= first) & (items < last))
                    users = start + np.searchsorted(pairs.indptr[start : stop + 1], part.start + at, side="right") - 1
                    found.append((pairs.data[part][at], items[at] - np.int32(first), users.astype(np.int32)))
                data, items, users = (np.concatenate(column) for column in zip(*found, strict=True))
                yield sp.csr_matrix((data, (items, users)), shape=(last - first, self.num_users), dtype=np.float32)

        return self._matrix("by_item", rows, (self.num_items, self.num_users))

    @cached_property
    def positions_by_user(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions sorted stably by user (mapped), and where each user's start."""
        return self._in_order("positions", lambda part: part.positions_by_user[0])

    @cached_property
    def sequences(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions sorted by user and then oldest first (mapped), and where each user's start."""
        return self._in_order("sequences", lambda part: part.sequences[0])

    def with_weights(self, weights_N: np.ndarray) -> Interactions:
        """Return the same interactions with other weights."""
        digest = hashlib.sha256(np.ascontiguousarray(weights_N).data).hexdigest()
        parts = (self._changed(part, weights_N[part]) for part in blocks(len(self)))
        return self._derived(f"weights {digest}", parts)

    def reweighted(self, change: Callable[..., np.ndarray], name: str) -> Interactions:
        """Return the same interactions with weights changed block by block, see `Interactions.reweighted`."""
        columns = (self.weights_N, self.times_N)
        parts = (
            self._changed(part, change(*(None if column is None else column[part] for column in columns)))
            for part in blocks(len(self))
        )
        return self._derived(f"reweighted {name}", parts)

    def over(self, num_users: int, num_items: int) -> Interactions:
        """Return the same interactions over more users and items."""
        if (num_users, num_items) == (self.num_users, self.num_items):
            return self
        parts = (self._loaded([part]).over(num_users, num_items) for part in blocks(len(self)))
        return self._derived(f"over {num_users} {num_items}", parts)

    def renumbered(self, stays_U: np.ndarray, stays_I: np.ndarray) -> Interactions:
        """Return the same interactions over the users and items that stay, see `Interactions.renumbered`."""
        digest = hashlib.sha256(np.concatenate([stays_U, stays_I]).data).hexdigest()
        parts = (self._loaded([part]).renumbered(stays_U, stays_I) for part in blocks(len(self)))
        return self._derived(f"renumbered {len(stays_U)} {digest}", parts)

    def joined(self, parts: Sequence[Interactions]) -> Interactions:
        """Return the interactions of several logs, one of which is this."""
        timed = all(part.times_N is not None for part in parts)
        users, items = (max(getattr(part, size) for part in parts) for size in ("num_users", "num_items"))
        names = [part.key if isinstance(part, MappedInteractions) else part.content_hash for part in parts]
        pieces = (
            Interactions(
                part.users_N[block],
                part.items_N[block],
                part.weights_N[block],
                part.times_N[block] if timed and part.times_N is not None else None,
                num_users=users,
                num_items=items,
            )
            for part in parts
            for block in blocks(len(part))
        )
        return self._derived(f"joined {' '.join(names)} {users} {items}", pieces)

    def _part(self, chosen: np.ndarray | slice) -> Interactions:
        if isinstance(chosen, slice):
            chosen = np.arange(*chosen.indices(len(self)))
        count = int(chosen.sum()) if chosen.dtype == bool else len(chosen)
        size = len(chosen) if chosen.dtype == bool else count
        steps: Iterator[Any] = blocks(size)
        if chosen.dtype == bool:
            steps = (part.start + np.flatnonzero(chosen[part]) for part in steps)
        else:
            steps = (chosen[part] for part in steps)
        if count <= self.block:
            return self._loaded(steps)
        digest = hashlib.sha256(chosen.data).hexdigest()
        return self._derived(f"part {digest}", (self._loaded([step]) for step in steps))

    def _loaded(self, steps: Iterable[Any]) -> Interactions:
        """Return the interactions at some positions, in memory."""
        found = list(steps)

        def taken(column_N: np.ndarray | None) -> Any:
            return None if column_N is None else np.concatenate([column_N[step] for step in found] or [column_N[:0]])

        part = Interactions.__new__(Interactions)
        users, items, weights, times = map(taken, (self.users_N, self.items_N, self.weights_N, self.times_N))
        part._take(users, items, weights, times, self.num_users, self.num_items)
        return part

    def _changed(self, part: slice, weights_N: np.ndarray) -> Interactions:
        return self._loaded([part]).with_weights(weights_N)

    def _derived(self, how: str, parts: Iterable[Interactions]) -> Interactions:
        name = hashlib.sha256(f"{self.key} {how}".encode()).hexdigest()[:20]
        target = self.folder.parent / name
        with locked(target.parent):
            if not target.exists():
                with new_folder(target) as aside:
                    write_log(aside, parts)
        return MappedInteractions(target, block=self.block)

    def _matrix(self, name: str, rows: Callable[[], Iterator[sp.csr_matrix]], shape: tuple[int, int]) -> sp.csr_matrix:
        """Return a CSR of blocks of rows, written once."""
        home = self.folder / name
        with locked(self.folder.parent):
            if not home.exists():
                with new_folder(home) as aside:
                    counts = []
                    with columns_in(aside, "indices.int32", "data.float32") as (indices, data):
                        for matrix in rows():
                            counts.append(np.diff(matrix.indptr))
                            indices(matrix.indices)
                            data(matrix.data)
                    starts = np.concatenate([[0], np.cumsum(np.concatenate(counts), dtype=np.int64)])
                    with columns_in(aside, "indptr.int32") as (indptr,):
                        indptr(starts.astype(np.int32))
        arrays = [mapped_array(home / file) for file in ("data.float32", "indices.int32", "indptr.int32")]
        matrix = sp.csr_matrix(tuple(arrays), shape=shape, copy=False)
        matrix.has_canonical_format = True  # else SciPy reads all of it to find out
        return matrix

    def _in_order(self, name: str, order: Callable[[Interactions], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return positions sorted by user, in an order within each user, written once; and where each user's start."""
        home = self.folder / name
        with locked(self.folder.parent):
            if not home.exists():
                with new_folder(home) as aside, columns_in(aside, "positions.int32") as (write,):
                    for _, _, positions, part in self.by_user_ranges():
                        write(positions[order(part)].astype(np.int32))
        counts_U = count_rows(self.users_N, self.num_users)
        return mapped_array(home / "positions.int32"), np.concatenate([[0], np.cumsum(counts_U)])


def write_log(folder: Path, parts: Iterable[Interactions]) -> None:
    """Write interactions, over the same users and items, one after another to an empty folder.

    Raises:
        ValueError: more than 2^31 - 1 of them.
    """
    rows, sizes, timed = 0, (0, 0), False
    with columns_in(folder, *COLUMNS.values()) as writers:
        for part in parts:
            for column, write in zip((part.users_N, part.items_N, part.weights_N, part.times_N), writers, strict=True):
                if column is not None:
                    write(column)
            rows, sizes, timed = rows + len(part), (part.num_users, part.num_items), part.times_N is not None
    close_log(folder, rows, *sizes, timed=timed)


def close_log(folder: Path, rows: int, num_users: int, num_items: int, *, timed: bool) -> None:
    """Write what a log's folder holds, after its columns."""
    if rows > MOST_ROWS:
        raise ValueError(f"a log holds at most {MOST_ROWS:,} interactions, got {rows:,}; leave some users out")
    if not timed:
        (folder / COLUMNS["times_N"]).unlink(missing_ok=True)
    about = {"format": FORMAT, "rows": rows, "num_users": num_users, "num_items": num_items, "timed": timed}
    (folder / "log.json").write_text(json.dumps(about) + "\n")


@contextmanager
def columns_in(folder: Path, *names: str) -> Iterator[list[Callable[[np.ndarray], Any]]]:
    """Yield functions that append arrays to the files of these names, each of the type in its name."""
    with ExitStack() as files:
        yield [_appender(files.enter_context((folder / name).open("ab")), name) for name in names]


def _appender(file: Any, name: str) -> Callable[[np.ndarray], Any]:
    dtype = np.dtype(name.rpartition(".")[2])
    return lambda array: file.write(np.ascontiguousarray(array, dtype).data)


def mapped_array(file: Path) -> np.ndarray:
    """Return a raw file as a read-only array of the type in its name."""
    dtype = np.dtype(file.suffix[1:])
    return np.asarray(np.memmap(file, dtype, "r")) if file.stat().st_size else np.empty(0, dtype)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time write in a folder; the others wait."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
