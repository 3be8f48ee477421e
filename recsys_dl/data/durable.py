"""A table on disk that loses no acknowledged row: Parquet pieces, appended atomically by any number of processes.

A piece is written beside its place, flushed, `fsync`ed and renamed, and its folder is `fsync`ed, before `append` returns. Its name
holds the numbers of the appends in it and a checksum: `000000065-000000128-9a0c21f3.parquet`. When 64 pieces of the same size have
accumulated they are merged into one; a merged piece that stands beside its parts, since its process was killed, replaces them.
"""

from __future__ import annotations

import io
import logging
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recsys_dl.folders import next_free, writing

log = logging.getLogger(__name__)

MERGED = 64  # pieces that become one
NAME = re.compile(r"(\d{9,})-(\d{9,})-([0-9a-f]{8})\.parquet")


@dataclass(frozen=True, order=True)
class _Piece:
    first: int
    last: int
    crc: str
    path: Path

    def data(self) -> bytes | None:
        """Return the bytes, or None if they are not those that were written."""
        data = self.path.read_bytes()
        return data if f"{zlib.crc32(data):08x}" == self.crc else None


class DurableTable:
    """Rows of one schema, in the order in which they were acknowledged.

    Args:
        folder: created if needed. What a killed process left unfinished is moved to its folder `aside`, with a warning; so is the
            last piece if it is torn, as in a copy that was made while it was written.
        schema: columns and their types.

    Raises:
        ValueError: from every method: a piece other than the last is damaged.
        OSError: the folder cannot be written, or the disk is full; nothing of the append was kept.

    Examples:
        >>> import tempfile
        >>> import polars as pl
        >>> from recsys_dl.data.durable import DurableTable
        >>> table = DurableTable(tempfile.mkdtemp(), {"item": pl.Int32})
        >>> table.append(pl.DataFrame({"item": [3, 5]}))
        1
        >>> table.read()["item"].to_list(), table.read()["append"].to_list()
        ([3, 5], [1, 1])
    """

    def __init__(self, folder: str | os.PathLike[str], schema: Mapping[str, Any]) -> None:
        self.folder = Path(folder).absolute()
        self.schema = pl.Schema(schema)
        self._verified: set[_Piece] = set()
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                self._tidy()

    def __len__(self) -> int:
        """Return the number of appends."""
        pieces = self._pieces()
        return pieces[-1].last if pieces else 0

    def append(self, rows: pl.DataFrame) -> int:
        """Write rows of the schema; when this returns they survive a killed process and a power failure. Return the append's number.

        Raises:
            ValueError: there is no row.
        """
        rows = self.checked(rows)
        with writing(self.folder), self._locked():
            pieces = self._pieces()
            number = pieces[-1].last + 1 if pieces else 1
            pieces.append(self._write(rows.with_columns(append=pl.lit(number, pl.Int64)), number, number))
            self._merge(pieces)
        return number

    def checked(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows as they are written.

        Raises:
            ValueError: there is no row.
        """
        if not len(rows):
            raise ValueError("an append needs at least one row, got none")
        return rows.select(self.schema.names()).cast(self.schema)

    def copy(self, appends: Sequence[pl.DataFrame], first: int) -> None:
        """Write appends of another table, of which this one is a copy, under their numbers; those that are here already are left out.

        Args:
            appends: rows of each.
            first: number of the first one, at most one more than the last one here.
        """
        with writing(self.folder), self._locked():
            pieces = self._pieces()
            last = pieces[-1].last if pieces else 0
            assert first <= last + 1, (first, last)
            rest = appends[last + 1 - first :]
            while rest:
                count = MERGED if len(rest) >= MERGED else 1  # in pieces of the sizes that merging makes
                numbered = [
                    rows.with_columns(append=pl.lit(last + 1 + n, pl.Int64)) for n, rows in enumerate(rest[:count])
                ]
                pieces.append(self._write(pl.concat(numbered), last + 1, last + count))
                self._merge(pieces)
                last, rest = last + count, rest[count:]

    def read(self, after: int = 0) -> pl.DataFrame:
        """Return all rows, with the number of their append in the column `append`, ascending; only pieces with appends above `after` are read."""
        return self._rows(lambda rows: rows.filter(pl.col("append") > after), lambda piece: piece.last > after)

    def find(self, column: str, values: pl.Series, *, through: int | None = None) -> pl.DataFrame:
        """Return the rows whose value in a column is among `values`, of appends up to `through`, as `read` does, without holding the others in memory."""
        wanted = pl.LazyFrame({column: values.unique()}, schema={column: self.schema[column]})
        early = pl.lit(True) if through is None else pl.col("append") <= through

        def chosen(rows: pl.LazyFrame) -> pl.LazyFrame:
            return rows.filter(early).join(wanted, on=column, how="semi", maintain_order="left")

        return self._rows(chosen, lambda piece: bool(len(values)) and (through is None or piece.first <= through))

    # Internal

    def _rows(self, chosen: Callable[[pl.LazyFrame], pl.LazyFrame], needed: Callable[[_Piece], bool]) -> pl.DataFrame:
        """Return the chosen rows of the pieces that are needed; the checksum of each piece is verified once."""
        while True:
            frames, pieces = [], self._pieces()
            try:
                for piece in filter(needed, pieces):
                    if piece in self._verified:
                        frames.append(chosen(pl.scan_parquet(piece.path)).collect())
                    elif (data := piece.data()) is not None:
                        self._verified.add(piece)
                        frames.append(chosen(pl.read_parquet(io.BytesIO(data)).lazy()).collect())
                    elif piece is pieces[-1]:
                        log.warning("%s is torn: it was left out, without loss of earlier rows", piece.path)
                    else:
                        raise _damaged(piece)
            except FileNotFoundError:  # merged by another process in the meantime
                continue
            return pl.concat(frames) if frames else pl.DataFrame(schema={**self.schema, "append": pl.Int64})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Be the only writer inside the block; a killed one is no obstacle."""
        import fcntl

        handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _pieces(self) -> list[_Piece]:
        """Return the pieces in order, without those that are part of a merged one."""
        found = []
        for path in self.folder.iterdir():
            if match := NAME.fullmatch(path.name):
                found.append(_Piece(int(match[1]), int(match[2]), match[3], path))
        kept: list[_Piece] = []
        for piece in sorted(found, key=lambda one: (one.first, -one.last)):
            if not kept or piece.last > kept[-1].last:
                kept.append(piece)
        return kept

    def _write(self, rows: pl.DataFrame, first: int, last: int) -> _Piece:
        buffer = io.BytesIO()
        rows.write_parquet(buffer)
        data = buffer.getvalue()
        crc = f"{zlib.crc32(data):08x}"
        target = self.folder / f"{first:09d}-{last:09d}-{crc}.parquet"
        partial = target.with_name(f".{target.name}.partial")
        try:
            with partial.open("wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            partial.rename(target)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        self._sync()
        return _Piece(first, last, crc, target)

    def _sync(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _merge(self, pieces: list[_Piece]) -> None:
        """Merge the newest pieces of equal size, as often as there are enough."""
        while len(pieces) >= MERGED:
            newest = pieces[-MERGED:]
            if len({one.last - one.first for one in newest}) > 1:
                return
            frames = []
            for one in newest:
                if (data := one.data()) is None:
                    raise _damaged(one)
                frames.append(pl.read_parquet(io.BytesIO(data)))
            pieces[-MERGED:] = [self._write(pl.concat(frames), newest[0].first, newest[-1].last)]
            for one in newest:
                one.path.unlink()

    def _tidy(self) -> None:
        """Set aside what killed processes left."""
        for partial in self.folder.glob(".*.partial"):
            log.warning(
                "%s was being written by a process that was killed, and was not acknowledged: it is in %s",
                partial.name,
                self._aside(partial),
            )
        pieces = self._pieces()
        if pieces and pieces[-1].data() is None:
            log.warning(
                "%s is torn: it is now in %s; the %d appends before it are whole",
                pieces[-1].path.name,
                self._aside(pieces[-1].path),
                pieces[-1].first - 1,
            )
            pieces = pieces[:-1]
        kept = {one.path for one in pieces}
        for path in list(self.folder.iterdir()):
            if NAME.fullmatch(path.name) and path not in kept:
                path.unlink()

    def _aside(self, path: Path) -> Path:
        target = next_free(self.folder / "aside" / path.name.removeprefix("."))
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        return target


def _damaged(piece: _Piece) -> ValueError:
    return ValueError(
        f"{piece.path} is damaged: its checksum is not the one in its name. Restore it from a copy; to go on without its "
        f"appends {piece.first} to {piece.last}, move it elsewhere"
    )
