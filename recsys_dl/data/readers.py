"""A log from wherever it is: text, Parquet, Arrow, RecBole's atomic files, frames, sparse matrices.

A source is read batch by batch; ids become int32 rows at once, in the order in which they first appear. What stays is 20
bytes a row (12 without times) and each id once; what comes and goes is one batch.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
import scipy.sparse as sp

from recsys_dl.progress import track

from .columns import LATEST, UNITS, Column, Columns, bad_weights, check_unit, choose, text_type, to_times, to_weights
from .dataset import Dataset, ReadReport, WeightKind
from .interactions import Interactions
from .repeats import Repeats, kind_of, settled
from .side_tables import Cold, Side, side_features
from .tables import Table, atomic_file, open_table
from .text_files import Batch, shorten
from .vocabulary import Vocabulary, as_text

log = logging.getLogger(__name__)


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
    weight_kind: WeightKind | None = None,
    repeats: Repeats | None = None,
    user_features: Any = None,
    item_features: Any = None,
    user_id_column: Column | None = None,
    item_id_column: Column | None = None,
    user_lists: Mapping[str, str | None] | None = None,
    item_lists: Mapping[str, str | None] | None = None,
    cold: Cold = "keep",
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
        weight_kind: "ratings" or "counts"; None goes by the column's name, else by its values (`repeats.kind_of`).
        repeats: what becomes of rows that repeat a user and an item: "keep", "first", "last", "mean", "sum" (`repeats.fold`); None
            takes "last" of ratings with times, else "keep". Copies (same time and weight too) are one event in any case.
        user_features: a file or frame with a column of user ids and any others.
        item_features: likewise for items.
        user_id_column: which column of `user_features` holds the ids; None takes the log's name for them, else a known one.
        item_id_column: likewise.
        user_lists: column of `user_features` -> the separator of its values, such as {"genres": "|"}; None recognizes such columns, and
            {"genres": None} leaves one as it is (`multi_valued.with_lists`).
        item_lists: likewise.
        cold: "keep" users and items that only the feature tables have, after those of the log: the titles that nobody interacted
            with yet, which models of features can recommend; "drop" leaves them out.
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
    if weight_kind is not None and weight_kind not in get_args(WeightKind):
        raise ValueError(f"weight_kind must be null, ratings or counts, got {weight_kind!r}")
    if time_unit is not None and time_unit not in UNITS:
        raise ValueError(f"time_unit must be one of {', '.join(UNITS)}, got {time_unit!r}")
    if cold not in get_args(Cold):
        raise ValueError(f'cold must be "keep" or "drop", got {cold!r}')
    skip, guessed = on_bad_rows == "skip", [False, False]
    if sp.issparse(path):
        dataset, ids = _from_matrix(path), (user, item)
    else:
        atomic = atomic_file(Path(path)) if isinstance(path, str | os.PathLike) else None
        wanted = [column for column in (user, item, weight, time) if isinstance(column, str)]
        table = open_table(
            path if atomic is None else atomic,
            "a log",
            separator=separator,
            header=header,
            encoding=encoding,
            wanted=wanted,
        )
        chosen = choose(
            table.names,
            table.where,
            user=user,
            item=item,
            weight=weight,
            time=time,
            header=table.header,
            sample=table.sample,
        )
        dataset = _read(table, chosen, time_unit, skip=skip)
        ids = (table.names[chosen.user], table.names[chosen.item]) if table.header else (None, None)
        guessed = [features is None for features in (user_features, item_features)]
        user_features = _beside(atomic, ".user") if user_features is None else user_features
        item_features = _beside(atomic, ".item") if item_features is None else item_features
    for noun, features, settings in (
        ("user", user_features, {"user_id_column": user_id_column, "user_lists": user_lists}),
        (
            "item",
            item_features,
            {"title": title, "text": text, "item_id_column": item_id_column, "item_lists": item_lists},
        ),
    ):
        if features is None and (given := [name for name, value in settings.items() if value is not None]):
            raise ValueError(f"{given[0]} is about columns of {noun}_features: give those too")
    users = items = Side()
    own: dict[str, Any]
    how: dict[str, Any] = {"cold": cold, "encoding": encoding, "skip": skip}
    if user_features is not None:
        own = {"id_column": ids[0], "own_id_column": user_id_column, "lists": user_lists, "needed": not guessed[0]}
        users = side_features(user_features, dataset.users, **own, **how)
    if item_features is not None:
        own = {"id_column": ids[1], "own_id_column": item_id_column, "lists": item_lists, "needed": not guessed[1]}
        items = side_features(item_features, dataset.items, title=title, text=text, **own, **how)
    if name is None:
        name = Path(path).name.split(".")[0] if isinstance(path, str | os.PathLike) else "log"
    user_ids, item_ids = users.vocabulary or dataset.users, items.vocabulary or dataset.items
    data = Dataset(
        dataset.interactions.over(len(user_ids), len(item_ids)),
        user_ids,
        item_ids,
        user_features=users.features,
        item_features=items.features,
        item_titles=items.titles,
        item_texts=items.texts,
        weight_kind=weight_kind or dataset.weight_kind,
        name=name,
        report=dataset.report,
    )
    return settled(data, repeats)


def _beside(atomic: Path | None, suffix: str) -> Path | None:
    file = None if atomic is None else atomic.with_suffix(suffix)
    return file if file is not None and file.is_file() else None


def _from_matrix(matrix: Any) -> Dataset:
    interactions = Interactions.from_csr(matrix)
    if not len(interactions):
        raise ValueError("a log must hold at least one interaction, got a matrix without stored entries")
    users, items = (pl.arange(size, eager=True) for size in matrix.shape)
    kind = kind_of(None, interactions.weights_N)
    return Dataset(interactions, Vocabulary(users, noun="user"), Vocabulary(items, noun="item"), weight_kind=kind)


def _read(table: Table, chosen: Columns, unit: str | None, *, skip: bool) -> Dataset:
    places = {role: at for role, at in vars(chosen).items() if at is not None}
    dtypes = {at: text_type(table.sample, at, role) for role, at in places.items() if role in ("weight", "time")}
    users, items = _Encoder("user"), _Encoder("item")
    parts: dict[str, list[np.ndarray]] = {role: [] for role in places}
    tally = _Tally(table.where, skip)
    batches = table.batches(list(places.values()), dtypes)
    for batch in track(batches, f"reading {Path(table.where).name}"):
        raw = {role: batch.frame[str(at)] for role, at in places.items()}
        values = {role: _keys(raw[role], f"{table.where}, {role} column") for role in ("user", "item")}
        faults = [
            (f"without {role} id", _no_id(ids), f"{role} id must be text or a whole number, got {{{role}}}")
            for role, ids in values.items()
        ]
        if "weight" in raw:
            values["weight"] = to_weights(raw["weight"])
            found = "weight must be a number, finite and not negative, got {weight}"
            faults.append(("with a bad weight", bad_weights(values["weight"]), found))
        if "time" in raw:
            values["time"] = to_times(raw["time"], unit or "s")
            if unit is None:
                check_unit(values["time"], table.where)
            unread = values["time"].is_null()
            if unit != "s":
                unread |= values["time"].abs() >= LATEST
            found = "time must be seconds since 1970, or a date such as 2024-05-31T12:00:00Z, got {time}"
            faults.append(("with a bad time", unread, found))
        bad = tally.count(batch, raw, faults)
        for role, column in values.items():
            kept = column if bad is None else column.filter(~bad)
            if role in ("user", "item"):
                parts[role].append((users if role == "user" else items).encode(kept))
            else:
                parts[role].append(kept.to_numpy().astype(np.float32 if role == "weight" else np.int64))
    report = tally.report()
    if not sum(map(len, parts["user"])):
        told = f"all its {report.rows} rows are bad: {report}" if report.skipped else "it has none"
        raise ValueError(f"{table.where} must hold at least one interaction, but {told}")
    if report.skipped:
        log.warning("%s: %s", table.where, report)
    columns = {role: np.concatenate(parts.pop(role)) for role in places}
    interactions = Interactions(
        columns["user"],
        columns["item"],
        columns.get("weight"),
        columns.get("time"),
        num_users=len(users),
        num_items=len(items),
    )
    kind = None
    if chosen.weight is not None:
        kind = kind_of(table.names[chosen.weight] if table.header else None, interactions.weights_N)
    return Dataset(interactions, users.vocabulary(), items.vocabulary(), weight_kind=kind, report=report)


def _keys(column: pl.Series, where: str) -> pl.Series:
    """Return ids in a type that can be looked up; null where missing."""
    if column.dtype in (pl.Object, pl.Binary) or column.dtype.is_nested():
        try:
            column = as_text(column)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype.is_float():
        return column.fill_nan(None)
    return column.set(column == "", None) if column.dtype == pl.String else column


def _no_id(ids: pl.Series) -> pl.Series:
    """Return a mask of ids that are missing, or numbers that are not whole."""
    return ids.is_null() | (ids != ids.floor()).fill_null(True) if ids.dtype.is_float() else ids.is_null()


class _Tally:
    """Stops at a bad row, or counts it."""

    def __init__(self, where: str, skip: bool) -> None:
        self.where, self.skip = where, skip
        self.rows = 0
        self.skipped: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def count(
        self, batch: Batch, raw: dict[str, pl.Series], faults: Sequence[tuple[str, pl.Series, str]]
    ) -> pl.Series | None:
        """Return the mask of bad rows, None if all are good; a row counts for the first of its faults."""
        self.rows += len(batch.frame) + len(batch.refused)
        for place, found in batch.refused:
            self._refuse("not readable", place, found, 1)
        bad = None
        for reason, mask, found in faults:
            fresh = mask if bad is None else mask & ~bad
            if fresh.any():
                row = int(fresh.arg_max() or 0)
                shown = {role: _shown(column[row]) for role, column in raw.items()}
                self._refuse(reason, batch.where(row), found.format(**shown), int(fresh.sum()))
                bad = mask if bad is None else bad | mask
        return bad

    def _refuse(self, reason: str, place: str, found: str, count: int) -> None:
        if not self.skip:
            raise ValueError(
                f'{self.where}, {place}: {found}. Mend it, or leave such rows out: on_bad_rows="skip" '
                "(on the command line data.on_bad_rows=skip)."
            )
        self.skipped[reason] += count
        self.first.setdefault(reason, f"{place}: {found}")

    def report(self) -> ReadReport:
        return ReadReport(self.rows, dict(self.skipped), self.first)


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(shorten(value) if isinstance(value, str) else value)


class _Encoder:
    """Gives ids rows in the order in which they first appear."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self.known = pl.Series("id", [], dtype=pl.String)

    def __len__(self) -> int:
        return len(self.known)

    def encode(self, ids: pl.Series) -> np.ndarray:
        """Return the int32 row of each id; all calls must bring the same type."""
        ids = ids.alias("id")
        if not len(self.known):
            self.known = ids.clear()
        rows = _rows_of(ids, self.known, 0)
        missing = rows.is_null()
        if missing.any():
            unknown = ids.filter(missing)
            fresh = unknown.unique(maintain_order=True)
            rows = rows.scatter(missing.arg_true(), _rows_of(unknown, fresh, len(self.known)))
            self.known = pl.concat([self.known, fresh])
        return rows.to_numpy()

    def vocabulary(self) -> Vocabulary:
        """Return all ids met."""
        return Vocabulary(self.known, noun=self.noun)


def _rows_of(ids: pl.Series, known: pl.Series, first: int) -> pl.Series:
    """Return the row of each id, where `known` have the rows from `first` on; null for others."""
    table = pl.DataFrame({"id": known, "row": np.arange(first, first + len(known), dtype=np.int32)})
    return ids.to_frame().join(table, on="id", how="left", maintain_order="left")["row"]
