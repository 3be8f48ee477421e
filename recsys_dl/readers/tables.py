"""Reading tables batch by batch: text, Parquet, Arrow, RecBole's atomic files, frames."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from recsys_dl.data.messages import shorten

from .columns import is_known
from .frames import frame_of, from_arrow
from .json_lines import json_kind, open_json
from .text_files import Batch
from .text_layouts import open_text

BATCH_ROWS = 2_000_000
READABLE = "a text file (CSV, TSV, JSON lines, ...), Parquet, Arrow, or RecBole's atomic files"


@dataclass(frozen=True)
class Table:
    """A readable table; created by `open_table`.

    Attributes:
        where: the file, or its name in messages.
        names: of the columns, in order.
        batches: called with column positions, yields frames whose columns are named "0", "1", ... by
            position; text unparsed, unless the second argument gives a type that a whole block can be parsed as.
        header: false for a text file without a header.
        types: RecBole column types, by position.
        sample: the first rows of a text file.
        notes: remarks on its layout.
        atomic: RecBole's interaction file, if this is an atomic data set.
        padded: whether whitespace around values is insignificant, as in separated text.
    """

    where: str
    names: list[str]
    batches: Callable[[Sequence[int], Mapping[int, Any]], Iterator[Batch]]
    header: bool = True
    types: Mapping[int, str] = field(default_factory=dict)
    sample: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    atomic: Path | None = None
    padded: bool = False

    def beside(self, suffix: str) -> Path | None:
        """Return the sibling of RecBole's interaction file with this suffix, None if there is none."""
        file = None if self.atomic is None else self.atomic.with_suffix(suffix)
        return file if file is not None and file.is_file() else None


def open_table(
    source: Any,
    what: str,
    *,
    separator: str | None = None,
    header: bool | None = None,
    quote: str | None = None,
    encoding: str = "utf-8",
    wanted: Collection[str] = (),
    prefer: str | None = None,
    named: bool = True,
) -> Table:
    """Detect what a source is and how to read it.

    Args:
        source: a path, or an in-memory table that `frame_of` supports.
        what: its role in messages, such as "a log".
        separator: of a text file; None detects it.
        header: whether a text file's first row is a header; None detects it.
        quote: of a text file, as in `read_log`.
        encoding: of a text file.
        wanted: column names given by the caller.
        prefer: a separator to use if it splits a text file.
        named: whether the caller names the columns; else layouts other than one row per interaction are tried.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read.
        TypeError: an unsupported type.
    """
    if isinstance(source, str | os.PathLike):
        source = _local(source)
        layout: dict[str, Any] = {"separator": separator, "header": header, "quote": quote, "encoding": encoding}
        return _file(source, what, known=is_known, wanted=wanted, prefer=prefer, named=named, **layout)
    found = frame_of(source)
    if found is None:
        raise TypeError(
            f"{what} must be a path to {READABLE}, a pandas or Polars frame or a pyarrow Table, got "
            f"{type(source).__name__}. Pass a matrix of users x items as scipy.sparse.csr_matrix(matrix)."
        )
    names, column, has_names = found
    noun = "the table" if type(source).__module__.startswith("pyarrow") else "the frame"
    return _frame(noun, names, column, has_names)


def open_tables(source: Any, what: str, **layout: Any) -> Table:
    """Open a log: any source that `open_table` takes, RecBole's atomic files, or several files as one.

    Raises:
        FileNotFoundError: no such file, or no file matches a pattern.
        ValueError: one cannot be read, or files differ in their columns.
        TypeError: an unsupported type.
    """
    source = _local(source) if isinstance(source, str | os.PathLike) else source
    paths = _several(source)
    if paths is None:
        atomic = atomic_file(source) if isinstance(source, Path) else None
        table = open_table(source if atomic is None else atomic, what, **layout)
        return replace(table, atomic=atomic)
    tables = [open_table(path, what, **layout) for path in paths]
    first = tables[0]
    for i, table in enumerate(tables[1:], 1):
        if (
            first.header and not table.header and len(table.names) == len(first.names)
        ):  # the pieces of a file cut by `split`
            table = open_table(paths[i], what, **{**layout, "header": False})
            tables[i] = replace(table, names=first.names)
        elif sorted(table.names) != sorted(first.names):
            raise ValueError(
                f"files read as one log must have the same columns: {first.where} has {_short(first.names)}, {table.where} "
                f"has {_short(table.names)}"
            )

    def batches(positions: Sequence[int], dtypes: Mapping[int, Any]) -> Iterator[Batch]:
        for table in tables:
            own = [table.names.index(first.names[at]) for at in positions]
            types = {own[positions.index(at)]: dtype for at, dtype in dtypes.items()}
            for batch in table.batches(own, types):
                frame = batch.frame.select(
                    pl.col(str(mine)).alias(str(at)) for mine, at in zip(own, positions, strict=True)
                )
                refused = [(f"{table.where}, {place}", found) for place, found in batch.refused]
                yield Batch(frame, _within(table.where, batch.where), refused)

    where = f"{len(tables)} files from {first.where}" if len(tables) > 1 else first.where
    return replace(first, where=where, batches=batches)


def atomic_file(path: Path) -> Path | None:
    """Return the RecBole .inter file for a folder, a stem or a path, None if there is none.

    Raises:
        ValueError: a folder has several.
    """
    if path.is_dir():
        found = sorted(path.glob("*.inter"))
        if len(found) > 1:
            raise ValueError(f"{path} holds several logs: {', '.join(p.name for p in found)}; name one of them")
        return found[0] if found else None
    if path.suffix == ".inter":
        return path
    stem = path.parent / f"{path.name}.inter"
    return stem if not path.exists() and stem.is_file() else None


def _local(path: str | os.PathLike[str]) -> Path:
    """Return a path with ~ expanded.

    Raises:
        ValueError: it is a URL.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise ValueError(
            f"{path} must be a file on this machine: URLs are not supported. Download it first and pass the file; a folder of Parquet "
            "files in an object store is read by data=shards, recsys_dl.readers.shards.read_shards."
        )
    return Path(path).expanduser()


def _several(source: Any) -> list[Path] | None:
    """Return the files of a list of paths or a pattern, None if a source is neither."""
    if isinstance(source, list | tuple) and source and all(isinstance(part, str | os.PathLike) for part in source):
        return [path for part in map(_local, source) for path in (_several(part) or [part])]
    if not isinstance(source, str | os.PathLike) or not glob.has_magic(str(source)) or Path(source).exists():
        return None
    found = sorted(Path(path) for path in glob.glob(str(source), recursive=True) if Path(path).is_file())
    if not found:
        raise FileNotFoundError(
            f"{source} must match at least one file, but matches none{_beside(Path(source).parent)}"
        )
    return found


def _within(file: str, where: Callable[[int], str]) -> Callable[[int], str]:
    return lambda row: f"{file}, {where(row)}"


def _short(names: Sequence[str]) -> str:
    return shorten(", ".join(names), 200)


def _file(path: Path, what: str, *, encoding: str, **layout: Any) -> Table:
    if not path.exists():
        raise FileNotFoundError(f"{path} must be {what}: {READABLE}; but it does not exist{_beside(path.parent)}")
    if path.is_dir():
        raise ValueError(f"{path} must be {what}, but it is a folder; name the file{_beside(path)}")
    if not path.is_file():
        raise ValueError(
            f"{path} is a pipe or device, which can be read only once, but a log is read several times (its layout first; "
            "again by later commands). Write it to a file first, or in Python: read_log(polars.read_csv(sys.stdin.buffer))."
        )
    try:
        with path.open("rb") as start:
            magic = start.read(6)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    if magic.startswith(b"PAR1"):
        return _parquet(path)
    if magic.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return _arrow(path, is_file=magic == b"ARROW1")
    if magic and path.suffix in (".parquet", ".feather", ".arrow", ".ipc"):
        raise ValueError(
            f"{path} does not hold {path.suffix[1:]} data, it starts with {magic!r}; download or write it again"
        )
    if json_kind(path, encoding):
        names, parts, note = open_json(path, encoding, lists=what == "a table")
        return Table(str(path), names, parts, notes=[note])
    file = open_text(path, encoding=encoding, **layout)

    def batches(positions: Sequence[int], dtypes: Mapping[int, Any]) -> Iterator[Batch]:
        for batch in file.batches(dtypes):
            frame, where = batch.frame, batch.where
            if frame.to_series(positions[0]).null_count():
                blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
                frame, where = frame.filter(~blank), _at(where, (~blank).arg_true())
            yield Batch(_named(frame.to_series, positions), where, batch.refused)

    return Table(str(path), file.names, batches, file.header, file.types, file.sample, file.notes, padded=True)


def _beside(folder: Path) -> str:
    files = sorted(file.name for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
    return f". {folder} holds {', '.join(files[:8])}{' and others' if len(files) > 8 else ''}" if files else ""


def _parquet(path: Path) -> Table:
    import pyarrow.parquet as pq

    file = _guarded(path, lambda: pq.ParquetFile(path))
    names = list(file.schema_arrow.names)
    return _streamed(path, names, lambda columns: file.iter_batches(BATCH_ROWS, columns=columns))


def _arrow(path: Path, *, is_file: bool) -> Table:
    import pyarrow as pa

    def opened() -> Any:
        stream = pa.memory_map(str(path))
        return pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream)

    def parts(columns: list[str]) -> Iterator[Any]:
        reader = opened()
        whole = map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader)
        return (part.select(columns) for part in whole)

    return _streamed(path, list(_guarded(path, opened).schema.names), parts)


def _streamed(path: Path, names: list[str], parts: Callable[[list[str]], Iterator[Any]]) -> Table:
    def batches(positions: Sequence[int], dtypes: Mapping[int, Any]) -> Iterator[Batch]:
        stream = _guarded(path, lambda: parts([names[at] for at in positions]))
        start = 0
        while (part := _guarded(path, lambda: _checked(next(stream, None)))) is not None:
            frame = pl.DataFrame([from_arrow(part.column(i)).alias(str(at)) for i, at in enumerate(positions)])
            yield from _slices(frame, start)
            start += len(frame)

    return Table(str(path), names, batches)


def _checked(part: Any) -> Any:
    """Return a batch whose offsets and texts are in order, which compiled code trusts."""
    if part is not None:
        part.validate(full=True)
    return part


def _guarded(path: Path, read: Callable[[], Any]) -> Any:
    import pyarrow as pa

    try:
        return read()
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged or truncated ({error}); download or write it again") from error


def _frame(where: str, names: list[str], column: Callable[[int], pl.Series], header: bool) -> Table:
    return Table(where, names, lambda positions, dtypes: _slices(_named(column, positions)), header)


def _named(column: Callable[[int], pl.Series], positions: Sequence[int]) -> pl.DataFrame:
    return pl.DataFrame([column(at).alias(str(at)) for at in positions])


def _slices(frame: pl.DataFrame, start: int = 0) -> Iterator[Batch]:
    for begin in range(0, len(frame), BATCH_ROWS):
        yield Batch(frame.slice(begin, BATCH_ROWS), _counted(start + begin))


def _counted(start: int) -> Callable[[int], str]:
    return lambda row: f"row {start + row} (from 0)"


def _at(where: Callable[[int], str], kept: pl.Series) -> Callable[[int], str]:
    return lambda row: where(kept[row])
