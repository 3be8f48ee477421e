"""A log from wherever it is: text, Parquet, Arrow, RecBole's atomic files, frames, sparse matrices.

A source is read batch by batch; ids become int32 rows at once, in the order in which they first appear. What stays is 20
bytes a row (16 without times) and each id once; what comes and goes is one batch.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import scipy.sparse as sp

from recsys_dl.progress import track

from .columns import LATEST, UNITS, Column, Columns, bad_weights, check_unit, choose, is_known, to_times, to_weights
from .dataset import Dataset, ReadReport
from .interactions import Interactions
from .side_tables import Side, side_features
from .text_files import Batch, open_text, shorten
from .vocabulary import Vocabulary, as_text

log = logging.getLogger(__name__)

BATCH_ROWS = 2_000_000
READABLE = "a text file (CSV, TSV, ...), Parquet, Arrow, or RecBole's atomic files"


@dataclass(frozen=True)
class _Source:
    """Something with columns, before it is known which are meant.

    `batches` yields frames of the columns user, item and, where there are such, weight and time.
    """

    where: str
    names: list[str]
    batches: Callable[[Columns], Iterator[Batch]]
    header: bool = True
    sample: Sequence[Sequence[str]] = ()
    users_file: Path | None = None
    items_file: Path | None = None


def read_log(
    path: Any,
    *,
    user: Column | None = None,
    item: Column | None = None,
    weight: Column | bool | None = None,
    time: Column | bool | None = None,
    separator: str | None = None,
    header: bool | None = None,
    encoding: str = "utf-8",
    time_unit: Literal["s", "ms", "us", "ns"] | None = None,
    on_bad_rows: Literal["error", "skip"] = "error",
    user_features: Any = None,
    item_features: Any = None,
    title: Column | None = None,
    text: Column | Sequence[Column] | None = None,
    name: str | None = None,
) -> Dataset:
    """Return the Dataset of a log: one interaction a row, ids of users and items in the order of first appearance.

    Args:
        path: a file (separated text, also compressed by gzip or zstd; Parquet; Arrow/Feather), a folder or stem of RecBole's
            atomic files, a pandas or Polars frame, a pyarrow Table, or a SciPy sparse matrix (users x items).
        user: name of the column, or its position from 0; None recognises names such as userId, user, uid. A file without
            header is taken as user, item, [weight], [time] (a third column of moments is a time).
        item: likewise: movieId, item_id, asin, ...
        weight: likewise: rating, weight, score, ...; ones where there is none; False ignores such a column.
        time: likewise: timestamp, time, date, ...; False ignores it.
        separator: of a text file; None finds it. A blank stands for any run of blanks.
        header: whether a text file's first row names the columns; None finds out.
        encoding: of a text file.
        time_unit: of times that are numbers; None means seconds, and refuses what cannot be. Dates and ISO 8601 texts
            need none; without an offset they are UTC.
        on_bad_rows: "error" stops at a bad row and says where it is; "skip" drops such rows, logs how many, and leaves
            the counts in the Dataset's `report`.
        user_features: a file or frame with a column of user ids and any others.
        item_features: likewise for items.
        title: column of `item_features` that a person is shown; None recognises title or name.
        text: column(s) of `item_features` with free text; None recognises text, description, plot, ...
        name: of the data set; None takes the file's.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, columns are missing or ambiguous, it has no rows or a bad one; the message says
            which line and what to do.
    """
    if on_bad_rows not in ("error", "skip"):
        raise ValueError(f'on_bad_rows must be "error" or "skip", got {on_bad_rows!r}')
    if time_unit is not None and time_unit not in UNITS:
        raise ValueError(f"time_unit must be one of {', '.join(UNITS)}, got {time_unit!r}")
    if sp.issparse(path):
        source, dataset = None, _from_matrix(path)
    else:
        wanted = [column for column in (user, item, weight, time) if isinstance(column, str)]
        source = _source(path, separator, header, encoding, wanted)
        chosen = choose(
            source.names,
            source.where,
            user=user,
            item=item,
            weight=weight,
            time=time,
            header=source.header,
            sample=source.sample,
        )
        dataset = _read(source, chosen, time_unit, skip=on_bad_rows == "skip")
        user_features = source.users_file if user_features is None else user_features
        item_features = source.items_file if item_features is None else item_features
        user, item = source.names[chosen.user], source.names[chosen.item]
    how: dict[str, Any] = {"separator": separator, "encoding": encoding, "skip": on_bad_rows == "skip"}
    users = items = Side()
    if user_features is not None:
        users = side_features(user_features, dataset.users, id_column=user, **how)
    if item_features is not None:
        items = side_features(item_features, dataset.items, id_column=item, title=title, text=text, **how)
    elif title is not None or text is not None:
        raise ValueError("title and text name columns of item_features: give those too")
    if name is None:
        name = Path(path).name.split(".")[0] if isinstance(path, str | os.PathLike) else "log"
    return Dataset(
        dataset.interactions,
        dataset.users,
        dataset.items,
        user_features=users.features,
        item_features=items.features,
        item_titles=items.titles,
        item_texts=items.texts,
        name=name,
        report=dataset.report,
    )


def _source(path: Any, separator: str | None, header: bool | None, encoding: str, wanted: list[str]) -> _Source:
    if isinstance(path, str | os.PathLike):
        return _file(Path(path), separator, header, encoding, wanted)
    if isinstance(path, pl.LazyFrame):
        path = path.collect()
    if isinstance(path, pl.DataFrame):
        frame = path
        return _Source("the frame", frame.columns, lambda chosen: _slices(_roles(frame.to_series, chosen)))
    module = type(path).__module__.partition(".")[0]
    if module == "pandas" and hasattr(path, "columns"):
        pandas = path
        names = [str(column) for column in pandas.columns]
        return _Source("the frame", names, lambda chosen: _slices(_roles(lambda i: _from_pandas(pandas, i), chosen)))
    if module == "pyarrow" and hasattr(path, "column_names"):
        table = path
        return _Source(
            "the table",
            list(table.column_names),
            lambda chosen: _slices(_roles(lambda i: pl.Series(pl.from_arrow(table.column(i))), chosen)),
        )
    raise TypeError(
        f"a log must be a path to {READABLE}, a pandas or Polars frame, a pyarrow Table or a SciPy sparse matrix, "
        f"got {type(path).__name__}"
    )


def _file(path: Path, separator: str | None, header: bool | None, encoding: str, wanted: list[str]) -> _Source:
    atomic = _atomic(path)
    if atomic is not None:
        path, separator, header = atomic, separator or "\t", True
    if not path.exists():
        near = sorted(p.name for p in path.parent.glob("*") if p.is_file())[:8] if path.parent.is_dir() else []
        raise FileNotFoundError(
            f"{path} must be {READABLE}, but there is no such file"
            + (f"; {path.parent} holds {', '.join(near)}" if near else "")
        )
    if path.is_dir():
        raise ValueError(f"{path} is a folder without .inter files; name the file that holds the log")
    try:
        with path.open("rb") as start:
            magic = start.read(6)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    if magic.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
        return _binary(path, magic)
    if path.suffix in (".parquet", ".feather", ".arrow", ".ipc") and magic:
        raise ValueError(
            f"{path} does not hold {path.suffix[1:]} data (it begins with {magic!r}); fetch or write it again"
        )
    file = open_text(
        path,
        separator=separator,
        header=header,
        encoding=encoding,
        quoted=False if atomic else None,
        known=is_known,
        wanted=wanted,
    )

    def batches(chosen: Columns) -> Iterator[Batch]:
        dtypes = {at: dtype for at, dtype in ((chosen.weight, pl.Float64), (chosen.time, pl.Int64)) if at is not None}
        for batch in file.batches(dtypes):
            frame, where = batch.frame, batch.where
            kept = None
            if frame.to_series(chosen.user).null_count():
                blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
                kept = (~blank).arg_true()
                frame, where = frame.filter(~blank), _shifted(where, kept)
            yield Batch(_roles(frame.to_series, chosen), where, batch.refused)

    sides = {
        f"{noun}s_file": path.with_suffix(f".{noun}")
        for noun in ("user", "item")
        if atomic and path.with_suffix(f".{noun}").is_file()
    }
    return _Source(str(path), file.names, batches, file.header, file.sample, **sides)


def _shifted(where: Callable[[int], str], kept: pl.Series) -> Callable[[int], str]:
    return lambda row: where(kept[row])


def _atomic(path: Path) -> Path | None:
    """Return the .inter file that a folder, a stem or a path means, None if it means no such file."""
    if path.is_dir():
        found = sorted(path.glob("*.inter"))
        if len(found) > 1:
            raise ValueError(f"{path} holds several logs: {', '.join(p.name for p in found)}; name one of them")
        return found[0] if found else None
    if path.suffix == ".inter":
        return path
    stem = path.parent / f"{path.name}.inter"
    return stem if not path.exists() and stem.is_file() else None


def _binary(path: Path, magic: bytes) -> _Source:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def guarded(open_: Callable[[], Any]) -> Any:
        try:
            return open_()
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} is damaged or cut short ({error}); fetch or write it again") from error

    if magic.startswith(b"PAR1"):
        parquet = guarded(lambda: pq.ParquetFile(path))
        names = parquet.schema_arrow.names

        def parts(columns: list[str]) -> Iterator[Any]:
            return parquet.iter_batches(BATCH_ROWS, columns=columns)
    else:
        stream = pa.memory_map(str(path))
        is_file = magic == b"ARROW1"
        reader = guarded(lambda: pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream))
        names = reader.schema.names

        def parts(columns: list[str]) -> Iterator[Any]:
            whole = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else iter(reader)
            return (part.select(columns) for part in whole)

    def batches(chosen: Columns) -> Iterator[Batch]:
        columns = sorted({at for at in vars(chosen).values() if at is not None})
        stream = parts([names[at] for at in columns])
        start = 0
        while (part := guarded(lambda: next(stream, None))) is not None:
            frame = pl.DataFrame(pl.from_arrow(part))
            frame.columns = [str(at) for at in columns]
            yield from _slices(_roles(lambda at, part=frame: part[str(at)], chosen), start)  # type: ignore[misc]
            start += len(frame)

    return _Source(str(path), list(names), batches)


def _roles(column: Callable[[int], pl.Series], chosen: Columns) -> pl.DataFrame:
    """Return a frame of the chosen columns under the names of their roles."""
    return pl.DataFrame([column(at).alias(role) for role, at in vars(chosen).items() if at is not None])


def _slices(frame: pl.DataFrame, start: int = 0) -> Iterator[Batch]:
    for begin in range(0, len(frame), BATCH_ROWS):
        first = start + begin
        yield Batch(frame.slice(begin, BATCH_ROWS), lambda row, first=first: f"row {first + row} (from 0)")  # type: ignore[misc]


def _from_pandas(frame: Any, at: int) -> pl.Series:
    """Return one column; mixed Python values as text."""
    column = frame.iloc[:, at]
    if column.dtype == object:
        return pl.Series([None if value is None or value != value else value for value in column], dtype=pl.Object)
    return pl.Series(pl.from_pandas(column))


def _from_matrix(matrix: Any) -> Dataset:
    interactions = Interactions.from_csr(matrix)
    if not len(interactions):
        raise ValueError("a log must hold at least one interaction, got a matrix without stored entries")
    users, items = (pl.arange(size, eager=True) for size in matrix.shape)
    return Dataset(interactions, Vocabulary(users, noun="user"), Vocabulary(items, noun="item"))


def _read(source: _Source, chosen: Columns, unit: str | None, *, skip: bool) -> Dataset:
    ids = {"user": _Encoder("user"), "item": _Encoder("item")}
    parts: dict[str, list[np.ndarray]] = {role: [] for role, at in vars(chosen).items() if at is not None}
    skipped: Counter[str] = Counter()
    first: dict[str, str] = {}
    rows = 0

    def refuse(reason: str, place: str, found: str, count: int) -> None:
        if not skip:
            raise ValueError(
                f'{source.where}, {place}: {found}. Mend it, or leave such rows out: on_bad_rows="skip" '
                "(on the command line data.on_bad_rows=skip)."
            )
        skipped[reason] += count
        first.setdefault(reason, f"{place}: {found}")

    for batch in track(source.batches(chosen), f"reading {Path(source.where).name}"):
        for place, found in batch.refused:
            refuse("not readable", place, found, 1)
        frame = batch.frame
        rows += len(frame) + len(batch.refused)
        values = {role: _keys(frame[role]) for role in ("user", "item")}
        bad = np.zeros(len(frame), bool)
        faults = [(f"without {role} id", values[role].is_null().to_numpy(), f"has no {role} id") for role in values]
        if chosen.weight is not None:
            values["weight"] = to_weights(frame["weight"])
            faults.append(
                ("bad weight", bad_weights(values["weight"]), "weight must be finite and not negative, got {weight}")
            )
        if chosen.time is not None:
            values["time"] = to_times(frame["time"], unit or "s")
            if unit is None and frame["time"].dtype.is_temporal() is False:
                check_unit(values["time"], source.where)
            late = (values["time"].is_null() | (values["time"].abs() >= LATEST)).to_numpy()
            faults.append(
                ("bad time", late, "time must be seconds since 1970 or a date such as 2024-05-31T12:00:00Z, got {time}")
            )
        for reason, mask, found in faults:
            mask = mask & ~bad
            if mask.any():
                row = int(np.argmax(mask))
                shown = {role: repr(_shown(frame[role][row])) for role in frame.columns}
                refuse(reason, batch.where(row), found.format(**shown), int(mask.sum()))
                bad |= mask
        if bad.any():
            keep = pl.Series(~bad)
            values = {role: column.filter(keep) for role, column in values.items()}
        for role, column in values.items():
            dtype = {"weight": np.float32, "time": np.int64}.get(role)
            parts[role].append(ids[role].encode(column) if dtype is None else column.to_numpy().astype(dtype))
    if not parts["user"] or not sum(map(len, parts["user"])):
        told = f"all its {rows} rows are bad, such as {next(iter(first.values()))}" if first else "it has none"
        raise ValueError(f"{source.where} must hold at least one interaction, but {told}")
    report = ReadReport(rows, dict(skipped), first)
    if skipped:
        log.warning("%s: %s", source.where, report)
    columns = {role: np.concatenate(parts.pop(role)) for role in list(parts)}
    users, items = (ids[role].vocabulary() for role in ("user", "item"))
    interactions = Interactions(
        columns["user"],
        columns["item"],
        columns.get("weight"),
        columns.get("time"),
        num_users=len(users),
        num_items=len(items),
    )
    return Dataset(interactions, users, items, report=report)


def _keys(column: pl.Series) -> pl.Series:
    """Return ids in a type that can be looked up; null where missing."""
    if column.dtype in (pl.Object, pl.Binary) or column.dtype.is_nested():
        return as_text(column)
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype.is_float():
        return column.fill_nan(None)
    return column.set(column == "", None) if column.dtype == pl.String else column


def _shown(value: Any) -> Any:
    return shorten(value) if isinstance(value, str) else value


class _Encoder:
    """Gives ids rows in the order in which they first appear."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self.known: pl.Series | None = None

    def encode(self, ids: pl.Series) -> np.ndarray:
        """Return the int32 row of each id."""
        ids = ids.alias("id")
        if self.known is None:
            self.known = ids.clear()
        rows = self._look_up(ids)
        if rows.null_count():
            fresh = ids.filter(rows.is_null()).unique(maintain_order=True)
            self.known = pl.concat([self.known, fresh])
            rows = self._look_up(ids)
        return rows.to_numpy()

    def _look_up(self, ids: pl.Series) -> pl.Series:
        assert self.known is not None
        table = pl.DataFrame({"id": self.known, "row": np.arange(len(self.known), dtype=np.int32)})
        return ids.to_frame().join(table, on="id", how="left", maintain_order="left")["row"]

    def vocabulary(self) -> Vocabulary:
        """Return all ids met."""
        assert self.known is not None
        return Vocabulary(self.known, noun=self.noun)
