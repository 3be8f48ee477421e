"""What is known of users or items beside the log, brought into the order of their rows."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from .columns import Column, is_known, position, recognise
from .text_files import open_text
from .vocabulary import Vocabulary, as_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Side:
    """A side table in the order of rows; nulls where nothing is known.

    Attributes:
        features: all columns but id, title and text; None where there are no others.
        titles: String.
        texts: String; several columns are joined by line breaks.
    """

    features: pl.DataFrame | None = None
    titles: pl.Series | None = None
    texts: pl.Series | None = None


def side_features(
    table: Any,
    vocabulary: Vocabulary,
    *,
    id_column: Column | None = None,
    title: Column | None = None,
    text: Column | Sequence[Column] | None = None,
    separator: str | None = None,
    encoding: str = "utf-8",
    skip: bool = False,
) -> Side:
    """Return the rows of a table in the order of `vocabulary`; ids that are not in it are left out.

    Args:
        table: a path or a frame, as in `read_log`.
        vocabulary: users or items.
        id_column: what the log calls the ids; where the table has no such column, one is recognised by its name.
        title: column to show a person; None recognises one (items only).
        text: column or columns of free text; likewise.
        separator: of a text file; None finds it.
        encoding: of a text file.
        skip: drop bad rows and all but the first of rows with the same id, and log how many.

    Raises:
        ValueError: no column of ids, or an id twice.
    """
    noun = vocabulary.noun
    where = str(table) if isinstance(table, str | os.PathLike) else f"the frame of {noun} features"
    frame = read_table(table, separator=separator, encoding=encoding, skip=skip)
    names = frame.columns
    if isinstance(id_column, str) and id_column in names:
        at = names.index(id_column)
    else:
        at = recognise(names, noun, where, needed=True)  # type: ignore[assignment]
    ids = as_text(frame.to_series(at))
    missing = ids.is_null() | (ids == "")
    twice = ~ids.is_first_distinct() & ~missing
    if (missing | twice).any() and not skip:
        row = int((missing | twice).arg_max() or 0)
        found = f"has no {noun} id" if missing[row] else f"has the {noun} id {ids[row]!r}, which came before"
        raise ValueError(
            f"{where}, row {row} (from 0, without header): {found}; each {noun} must come once. Mend it, or skip such "
            'rows: on_bad_rows="skip"'
        )
    rows = pl.Series("row", vocabulary.find(ids)).set(missing | twice, -1)
    strangers = int(((rows < 0) & ~(missing | twice)).sum())
    frame = frame.with_columns(rows.alias("\x00row")).filter(rows >= 0)
    log.info(
        "%s: features of %d of %d %ss; %d unknown to the log and %d bad rows left out",
        where,
        len(frame),
        len(vocabulary),
        noun,
        strangers,
        int((missing | twice).sum()),
    )
    order = pl.int_range(len(vocabulary), dtype=pl.Int32, eager=True).alias("\x00row").to_frame()
    frame = order.join(frame, on="\x00row", how="left", maintain_order="left").drop("\x00row", names[at])
    if noun != "item":
        return Side(frame if frame.width else None)
    titles = _column(frame, "title", title, where)
    texts = [text] if isinstance(text, str | int) else text
    if texts is None:
        found_text = recognise(frame.columns, "text", where, needed=False)
        texts = [] if found_text is None else [found_text]
    chosen = [frame.columns[position(frame.columns, column, "text", where)] for column in texts]
    free = frame.select(_as_sentence(pl.col(name), frame.schema[name]) for name in chosen)
    joined = free.select(pl.concat_str(pl.all(), separator="\n", ignore_nulls=True)).to_series() if chosen else None
    if joined is not None:
        joined = joined.set(joined == "", None)
    rest = frame.drop([*chosen, *([titles] if titles else [])])
    return Side(
        rest if rest.width else None,
        None if titles is None else frame[titles].cast(pl.String).alias("title"),
        None if joined is None else joined.alias("text"),
    )


def read_table(
    table: Any,
    *,
    separator: str | None = None,
    header: bool | None = None,
    encoding: str = "utf-8",
    columns: Sequence[str] | None = None,
    skip: bool = False,
) -> pl.DataFrame:
    """Return a whole table; columns of numbers as numbers, except those with leading zeros, and all others as text.

    Args:
        table: a path or a frame, as in `read_log`.
        separator: of a text file; None finds it.
        header: whether a text file's first row names the columns; None finds out.
        encoding: of a text file.
        columns: names to give instead of the file's own.
        skip: leave unreadable rows of a text file out, and log how many; else they are an error.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read.
    """
    if isinstance(table, str | os.PathLike):
        frame = _read_file(Path(table), separator, header, encoding, skip)
    elif isinstance(table, pl.DataFrame | pl.LazyFrame):
        frame = table.lazy().collect()
    elif type(table).__module__.startswith("pandas"):
        frame = pl.from_pandas(table)
    elif type(table).__module__.startswith("pyarrow"):
        frame = pl.DataFrame(pl.from_arrow(table))
    else:
        raise TypeError(
            f"a table must be a path, a pandas or Polars frame or a pyarrow Table, got {type(table).__name__}"
        )
    if columns is None:
        return frame
    if len(columns) != frame.width:
        raise ValueError(f"{len(columns)} names given for {frame.width} columns: {', '.join(frame.columns)}")
    return frame.rename(dict(zip(frame.columns, columns, strict=True)))


def _read_file(path: Path, separator: str | None, header: bool | None, encoding: str, skip: bool) -> pl.DataFrame:
    if not path.exists():
        raise FileNotFoundError(f"{path} must be a table, but there is no such file")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the file that holds the table")
    with path.open("rb") as start:
        magic = start.read(6)
    if magic.startswith((b"PAR1", b"ARROW1")):
        try:
            return pl.read_parquet(path) if magic.startswith(b"PAR1") else pl.read_ipc(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ValueError(f"{path} is damaged or cut short ({error}); fetch or write it again") from error
    atomic = path.suffix in (".user", ".item")
    file = open_text(
        path,
        separator="\t" if atomic and separator is None else separator,
        header=header,
        encoding=encoding,
        quoted=False if atomic else None,
        known=is_known,
    )
    frames: list[pl.DataFrame] = []
    refused: list[tuple[str, str]] = []
    for batch in file.batches():
        refused += batch.refused
        frames.append(batch.frame)
    if refused and not skip:
        place, found = refused[0]
        raise ValueError(f'{path}, {place}: {found}. Mend it, or leave such rows out: on_bad_rows="skip".')
    if refused:
        log.warning("%s: %d unreadable rows left out, such as %s: %s", path, len(refused), *refused[0])
    names = file.names
    if len(set(names)) < len(names):
        raise ValueError(f"the columns of {path} must have names of their own, got {', '.join(names)}")
    frame = pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    frame.columns = names
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    return frame.select(_typed(frame[name], file.types.get(i)) for i, name in enumerate(names))


def _typed(column: pl.Series, kind: str | None) -> pl.Series:
    """Return text as what it holds: as RecBole's header says, else integers, else floats, else text."""
    if kind == "float":
        return column.cast(pl.Float64, strict=False)
    if kind == "token_seq":
        return column.str.split(" ")
    if kind == "float_seq":
        return column.str.split(" ").cast(pl.List(pl.Float64), strict=False)
    if kind == "token" or column.str.contains(r"^[+-]?0\d").any():
        return column
    for dtype in (pl.Int64, pl.Float64):
        typed = column.cast(dtype, strict=False)
        if typed.null_count() == column.null_count():
            return typed
    return column


def _column(frame: pl.DataFrame, role: str, given: Column | None, where: str) -> str | None:
    if given is not None:
        return frame.columns[position(frame.columns, given, role, where)]
    at = recognise(frame.columns, role, where, needed=False)
    return None if at is None else frame.columns[at]


def _as_sentence(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return column.cast(pl.List(pl.String)).list.join(" ") if dtype == pl.List else column.cast(pl.String)
