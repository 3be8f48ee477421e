"""Tables from wherever they are, batch by batch: text, Parquet, Arrow, RecBole's atomic files, frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from .columns import is_known
from .text_files import Batch, open_text

BATCH_ROWS = 2_000_000
READABLE = "a text file (CSV, TSV, ...), Parquet, Arrow, or RecBole's atomic files"


@dataclass(frozen=True)
class Table:
    """Something with columns; `open_table` makes it.

    Attributes:
        where: the file, or what to call it in messages.
        names: of the columns, in order.
        batches: called with positions of columns, yields the rows in frames whose columns are named "0", "1", ... after
            their positions; text as it stands, unless its type is given by the second argument and a block allows it.
        header: false for a text file that names no columns.
        types: RecBole's, by position.
        sample: the first rows of a text file.
    """

    where: str
    names: list[str]
    batches: Callable[[Sequence[int], Mapping[int, Any]], Iterator[Batch]]
    header: bool = True
    types: Mapping[int, str] = field(default_factory=dict)
    sample: Sequence[Sequence[str]] = ()


def open_table(
    source: Any,
    what: str,
    *,
    separator: str | None = None,
    header: bool | None = None,
    encoding: str = "utf-8",
    wanted: Collection[str] = (),
) -> Table:
    """Find out what a source is and how to read it.

    Args:
        source: a path, a pandas or Polars frame, or a pyarrow Table.
        what: what it holds, for messages, such as "a log".
        separator: of a text file; None finds it.
        header: whether a text file's first row names the columns; None finds out.
        encoding: of a text file.
        wanted: names of columns given by the caller.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read.
        TypeError: it is none of these.
    """
    if isinstance(source, str | os.PathLike):
        return _file(Path(source), what, separator, header, encoding, wanted)
    if isinstance(source, pl.LazyFrame):
        source = source.collect()
    if isinstance(source, pl.DataFrame):
        return _frame("the frame", source.columns, source.to_series)
    module = type(source).__module__.partition(".")[0]
    if module == "pandas" and hasattr(source, "columns"):
        return _frame("the frame", [str(name) for name in source.columns], lambda at: _from_pandas(source.iloc[:, at]))
    if module == "pyarrow" and hasattr(source, "column_names"):
        return _frame("the table", list(source.column_names), lambda at: pl.Series(pl.from_arrow(source.column(at))))
    raise TypeError(
        f"{what} must be a path to {READABLE}, a pandas or Polars frame or a pyarrow Table, got {type(source).__name__}"
    )


def atomic_file(path: Path) -> Path | None:
    """Return RecBole's .inter file that a folder, a stem or a path means, None if it means no such file.

    Raises:
        ValueError: a folder holds several.
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


def _file(
    path: Path, what: str, separator: str | None, header: bool | None, encoding: str, wanted: Collection[str]
) -> Table:
    if not path.exists():
        raise FileNotFoundError(f"{path} must be {what}: {READABLE}; but there is no such file{_beside(path.parent)}")
    if path.is_dir():
        raise ValueError(f"{path} must be {what}, but it is a folder; name the file{_beside(path)}")
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
            f"{path} does not hold {path.suffix[1:]} data, it begins with {magic!r}; fetch or write it again"
        )
    file = open_text(
        path,
        separator=separator,
        header=header,
        encoding=encoding,
        known=is_known,
        wanted=wanted,
    )

    def batches(positions: Sequence[int], dtypes: Mapping[int, Any]) -> Iterator[Batch]:
        for batch in file.batches(dtypes):
            frame, where = batch.frame, batch.where
            if frame.to_series(positions[0]).null_count():
                blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
                frame, where = frame.filter(~blank), _at(where, (~blank).arg_true())
            yield Batch(_named(frame.to_series, positions), where, batch.refused)

    return Table(str(path), file.names, batches, file.header, file.types, file.sample)


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
        while (part := _guarded(path, lambda: next(stream, None))) is not None:
            frame = pl.DataFrame(pl.from_arrow(part))
            frame.columns = [str(at) for at in positions]
            yield from _slices(frame, start)
            start += len(frame)

    return Table(str(path), names, batches)


def _guarded(path: Path, read: Callable[[], Any]) -> Any:
    import pyarrow as pa

    try:
        return read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}); fetch or write it again") from error


def _frame(where: str, names: list[str], column: Callable[[int], pl.Series]) -> Table:
    return Table(where, names, lambda positions, dtypes: _slices(_named(column, positions)))


def _named(column: Callable[[int], pl.Series], positions: Sequence[int]) -> pl.DataFrame:
    return pl.DataFrame([column(at).alias(str(at)) for at in positions])


def _slices(frame: pl.DataFrame, start: int = 0) -> Iterator[Batch]:
    for begin in range(0, len(frame), BATCH_ROWS):
        yield Batch(frame.slice(begin, BATCH_ROWS), _counted(start + begin))


def _counted(start: int) -> Callable[[int], str]:
    return lambda row: f"row {start + row} (from 0)"


def _at(where: Callable[[int], str], kept: pl.Series) -> Callable[[int], str]:
    return lambda row: where(kept[row])


def _from_pandas(column: Any) -> pl.Series:
    """Return one column; Python values of mixed types as they are."""
    import pyarrow as pa

    try:
        return pl.Series(pl.from_pandas(column))
    except (pa.ArrowException, pl.exceptions.PolarsError, TypeError):
        values = [None if value is None or value != value else value for value in column]
        return pl.Series(values, dtype=pl.Object)
