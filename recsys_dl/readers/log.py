"""Reading a log from text, Parquet, Arrow, RecBole's atomic files, frames or sparse matrices.

A source is read batch by batch; ids become int32 rows immediately, in order of first appearance. Memory is 20
bytes per row (12 without times) plus each id once, plus one batch.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
import scipy.sparse as sp

from recsys_dl.data.dataset import Dataset, ReadReport, WeightKind
from recsys_dl.data.encoder import Encoder
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.messages import MISSING
from recsys_dl.data.repeats import Repeats, kind_of, settled
from recsys_dl.data.times import UNITS, Times, order_within_seconds
from recsys_dl.data.vocabulary import Vocabulary, as_text
from recsys_dl.progress import track

from .columns import Column, Columns, bad_weights, choose, comma_advice, position, text_type, to_weights
from .multi_valued import check_lists
from .odd_ids import check_spellings
from .reading import check_ids, check_times, described, unreadable
from .scales import check_scale, scale_in_words
from .side_tables import Cold, Side, side_features
from .tables import Table, open_tables
from .tally import Fault, Tally

TYPED = ("weight", "time")  # roles whose text columns are parsed as numbers directly if possible
ODD_ID = r"^(?:\s*|" + "|".join(re.escape(word) for word in MISSING if word) + r")$|[\n\r\t]"

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Form:
    """How a log's values are formatted.

    Attributes:
        unit: unit of numeric times.
        time: strptime format of times.
        decimal: decimal separator.
        kind: of the weights, if declared.
    """

    unit: str | None = None
    time: str | None = None
    decimal: str = "."
    kind: WeightKind | None = None


def read_log(
    path: Any,
    *,
    user: Column | None = None,
    item: Column | None = None,
    weight: Column | bool | None = None,
    time: Column | bool | None = None,
    separator: str | None = None,
    header: bool | None = None,
    quote: str | None = None,
    encoding: str = "utf-8",
    decimal: Literal[".", ","] = ".",
    time_unit: Literal["s", "ms", "us", "ns"] | None = None,
    time_format: str | None = None,
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
    """Read a log into a Dataset: one interaction per row, user and item ids in order of first appearance.

    Times are stored in whole seconds; rows within a second are ordered by the source's finer times (such as milliseconds),
    so that sorting by time preserves it. Which columns were read as what is in
    `report.columns`, and is logged.

    Args:
        path: a file (separated text or JSON lines, optionally gzip- or zstd-compressed; Parquet; Arrow/Feather), several files
            read in sequence (a list, or a pattern such as "logs/*.csv"), a folder or stem of RecBole's atomic
            files, a pandas or Polars frame, a pyarrow Table, a dict of columns, a list of (user, item, ...), a NumPy
            structured array, or a SciPy sparse matrix (users x items).
        user: name of the column, or its position from 0; None recognizes names such as userId, user, uid. A file without
            a header is read as user, item, [weight], [time] (a third column of times is recognized as such).
        item: likewise: movieId, item_id, asin, ...
        weight: likewise: rating, score, quantity, ...; ones if there is none; False ignores such a column.
        time: likewise: timestamp, time, date, ...; False ignores it.
        separator: of a text file; None detects it. A space stands for any run of spaces.
        header: whether a text file's first row is a header; None detects it.
        quote: quote character around fields that contain separators, "" for none; None means double quotes, except in
            tab-separated files that do not show signs of quoting.
        encoding: of a text file.
        decimal: decimal separator of weights and times in a text file.
        time_unit: unit of numeric times; None means seconds, and values too large for seconds are an error. Numbers such as 20240131 are
            dates. Text dates and times need no unit; without an offset they are UTC.
        time_format: strptime format of text times, such as "%d/%m/%Y %H:%M"; None detects it, and raises if
            several different readings fit all rows. A date format also parses a time of day after the date.
        on_bad_rows: "error" raises at the first bad row with its location; "skip" drops such rows, logs how many, and records
            the counts in the Dataset's `report`; if very many cannot be parsed it is still an error, suggesting a wrong format.
        weight_kind: "ratings" or "counts"; None infers it from the column's name, else from its values (`repeats.kind_of`).
        repeats: how to handle rows that repeat a user and an item: "keep", "first", "last", "mean", "sum" (`repeats.fold`); None
            means "last" for ratings with times, else "keep". Exact copies (same time and weight too) always count once.
        user_features: a file or frame with a user id column and any others.
        item_features: likewise for items.
        user_id_column: which column of `user_features` holds the ids; None uses the log's name for it, else a recognized one.
        item_id_column: likewise.
        user_lists: column of `user_features` -> the separator of its values, such as {"genres": "|"}; None recognizes such columns, and
            {"genres": None} leaves one unchanged (`multi_valued.with_lists`).
        item_lists: likewise.
        cold: "keep" users and items that occur only in the feature tables, after those of the log: cold items, for example,
            which feature-based models can recommend; "drop" removes them.
        title: column of display titles in `item_features`, or without them in the log; None recognizes title or
            name in `item_features`.
        text: column(s) of `item_features` with free text; None recognizes text, description, plot, ...
        name: of the data set; None uses the file name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, columns are missing or ambiguous, or it has no rows or a bad one; the message says
            which line and what to do.

    Examples:
        >>> from recsys_dl import read_log
        >>> data = read_log({"user": ["ann", "ann", "bob"], "item": ["b42", "b7", "b7"], "rating": [5, 3, 4]})
        >>> data.items.at(data.interactions.items_N).to_list(), data.interactions.weights_N, data.weight_kind
        (['b42', 'b7', 'b7'], array([5., 3., 4.], dtype=float32), 'ratings')
    """
    if on_bad_rows not in ("error", "skip"):
        raise ValueError(f'on_bad_rows must be "error" or "skip", got {on_bad_rows!r}')
    if weight_kind is not None and weight_kind not in get_args(WeightKind):
        raise ValueError(f"weight_kind must be null, ratings or counts, got {weight_kind!r}")
    if time_unit is not None and time_unit not in UNITS:
        raise ValueError(f"time_unit must be one of {', '.join(UNITS)}, got {time_unit!r}")
    if cold not in get_args(Cold):
        raise ValueError(f'cold must be "keep" or "drop", got {cold!r}')
    if decimal not in (".", ","):
        raise ValueError(f'decimal must be "." or ",", got {decimal!r}')
    check_lists(user_lists, "user_lists", "user_features")
    check_lists(item_lists, "item_lists", "item_features")
    form = Form(time_unit, time_format, decimal, weight_kind)
    skip, guessed = on_bad_rows == "skip", [False, False]
    texts: dict[str, Any] = {"encoding": encoding, "separator": separator, "quote": quote}
    beside = {**texts, "decimal": decimal}
    titles = None
    if sp.issparse(path):
        dataset, ids = _from_matrix(path), (user, item)
    else:
        named_columns = (user, item, weight, time, title if item_features is None else None)
        wanted = [column for column in named_columns if isinstance(column, str)]
        table = open_tables(
            path,
            "a log",
            header=header,
            wanted=wanted,
            named=any(column is not None and not isinstance(column, bool) for column in named_columns),
            **texts,
        )
        guessed = [features is None for features in (user_features, item_features)]
        user_features = table.beside(".user") if user_features is None else user_features
        item_features = table.beside(".item") if item_features is None else item_features
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
        shown = title if item_features is None else None
        shown_at = None if shown is None else position(table.names, shown, "title", table.where)
        dataset, titles = _read(table, chosen, shown_at, form, skip=skip)
        ids = (table.names[chosen.user], table.names[chosen.item]) if table.header else (None, None)
    for noun, features, settings in (
        ("user", user_features, {"user_id_column": user_id_column, "user_lists": user_lists}),
        (
            "item",
            item_features,
            {"text": text, "item_id_column": item_id_column, "item_lists": item_lists},
        ),
    ):
        if features is None and (given := [name for name, value in settings.items() if value is not None]):
            raise ValueError(f"{given[0]} applies to {noun}_features, which is not given: set it too")
    if item_features is None and title is not None and titles is None:
        raise ValueError("title names a column of item_features, or of a log with columns: a matrix has none")
    users = items = Side()
    own: dict[str, Any]
    how: dict[str, Any] = {"cold": cold, "skip": skip, **beside}
    if user_features is not None:
        own = {"id_column": ids[0], "own_id_column": user_id_column, "lists": user_lists, "needed": not guessed[0]}
        users = side_features(user_features, dataset.users, **own, **how)
    if item_features is not None:
        own = {"id_column": ids[1], "own_id_column": item_id_column, "lists": item_lists, "needed": not guessed[1]}
        items = side_features(item_features, dataset.items, title=title, text=text, **own, **how)
        titles = items.titles
    if name is None:
        name = Path(path).name.split(".")[0] if isinstance(path, str | os.PathLike) else "log"
    user_ids, item_ids = users.vocabulary or dataset.users, items.vocabulary or dataset.items
    data = Dataset(
        dataset.interactions.over(len(user_ids), len(item_ids)),
        user_ids,
        item_ids,
        user_features=users.features,
        item_features=items.features,
        item_titles=titles,
        item_texts=items.texts,
        weight_kind=weight_kind or dataset.weight_kind,
        name=name,
        report=dataset.report,
    )
    return settled(data, repeats)


def _from_matrix(matrix: Any) -> Dataset:
    interactions = Interactions.from_csr(matrix)
    if not len(interactions):
        raise ValueError("a log must hold at least one interaction, got a matrix without stored entries")
    users, items = (pl.arange(size, eager=True) for size in matrix.shape)
    kind = kind_of(None, interactions.weights_N)
    line = f"the matrix: user = row, item = column, weight = stored values, no time; {len(interactions):,} entries"
    log.info("%s", line, extra={"always": True})
    report = ReadReport(len(interactions), columns=line)
    ids = Vocabulary(users, noun="user"), Vocabulary(items, noun="item")
    return Dataset(interactions, *ids, weight_kind=kind, report=report)


def _read(
    table: Table, chosen: Columns, title: int | None, form: Form, *, skip: bool
) -> tuple[Dataset, pl.Series | None]:
    """Return the log, and the title of each item row if a title column is given."""
    places = {role: at for role, at in vars(chosen).items() if at is not None}
    dtypes = {at: text_type(table.sample, at, role, form.decimal) for role, at in places.items() if role in TYPED}
    columns = sorted({*places.values(), *([] if title is None else [title])})
    encoders = {role: Encoder(role) for role in ("user", "item")}
    times = Times(table.where, form.unit, form.time, form.decimal)
    parts: dict[str, list[np.ndarray]] = {role: [] for role in places if role != "time"}
    titles: list[pl.DataFrame] = []
    tally = Tally(table.where, skip)
    padded: set[str] = set()
    batches = table.batches(columns, {} if form.time else dtypes)
    for batch in track(batches, f"reading {Path(table.where).name}"):
        raw = {role: batch.frame[str(at)] for role, at in places.items()}
        for role in encoders:
            if table.padded and raw[role].dtype == pl.String:
                bare = raw[role].str.strip_chars(" ")
                padded |= {role} if (bare != raw[role]).any() else set()
                raw[role] = bare
        values, faults = _values(raw, times, batch.where, table.where, form)
        bad = tally.count(batch, raw, faults)
        good = None if bad is None else ~bad
        for role, column in values.items():
            kept = column if good is None else column.filter(good)
            if role in encoders:
                parts[role].append(encoders[role].encode(kept))
            else:
                parts[role].append(kept.to_numpy().astype(np.float32))
        times.keep(good)
        if title is not None:
            shown = batch.frame[str(title)] if good is None else batch.frame[str(title)].filter(good)
            named = pl.DataFrame({"row": parts["item"][-1], "title": shown.cast(pl.String)}).drop_nulls()
            titles.append(named.unique("row", keep="first", maintain_order=True))
    report = tally.report()
    if not sum(map(len, parts["user"])):
        problem = f"all its {report.rows} rows are bad: {report}" if report.skipped else "it has none"
        raise ValueError(f"{table.where} must hold at least one interaction, but {problem}")
    found = {role: np.concatenate(parts.pop(role)) for role in list(parts)}
    told_times, notes = None, list(table.notes)
    if "time" in places:
        found["time"], nanos, told_times = times.finish()
        order = order_within_seconds(found["time"], nanos)
        if order is not None:
            found = {role: column[order] for role, column in found.items()}
    vocabularies = {}
    for role, encoder in encoders.items():
        before = found[role]
        vocabularies[role], found[role], note = encoder.finish(before)
        notes += [note] if note else []
        notes += [f"whitespace around {role} ids is stripped"] if role in padded else []
        if role == "item" and title is not None:
            row_of = np.zeros(len(encoder), np.int32)
            row_of[before] = found[role]
            titles = [part.with_columns(pl.Series("row", row_of[part["row"].to_numpy()])) for part in titles]
    check_ids(table, chosen, len(found["user"]), *(vocabularies[role].ids for role in ("user", "item")))
    kind, weights = None, None
    if chosen.weight is not None:
        name = table.names[chosen.weight] or f"column {chosen.weight}"
        kind = form.kind or kind_of(table.names[chosen.weight] if table.header else None, found["weight"])
        weights = scale_in_words(kind, found["weight"])
    for role in encoders:
        check_spellings(table.where, role, vocabularies[role].ids, found[role])
    if "time" in found:
        check_times(table.where, found["time"])
    line = described(table, chosen, title, weights, told_times, notes)
    report = dataclasses.replace(report, columns=line)
    log.info("%s", line, extra={"always": True})
    if weights is not None:
        check_scale(table.where, name, kind, found["weight"], declared=form.kind is not None)
    if report.skipped:
        log.warning("%s: %s", table.where, report)
    interactions = Interactions(
        found["user"],
        found["item"],
        found.get("weight"),
        found.get("time"),
        num_users=len(vocabularies["user"]),
        num_items=len(vocabularies["item"]),
    )
    dataset = Dataset(interactions, vocabularies["user"], vocabularies["item"], weight_kind=kind, report=report)
    return dataset, None if title is None else _titles(titles, len(vocabularies["item"]))


def _values(
    raw: dict[str, pl.Series], times: Times, at: Callable[[int], str], where: str, form: Form
) -> tuple[dict[str, pl.Series], list[Fault]]:
    """Return ids and weights of a batch, and the faults of its rows; times are collected in `times`."""
    values, faults = {}, []
    for role in ("user", "item"):
        values[role], broken = _keys(raw[role], f"{where}, {role} column")
        missing = f"{role} id must be text or a whole number, got {{{role}}}"
        if raw[role].dtype == pl.String and raw[role].is_in(MISSING[1:]).any():
            missing += f" ({', '.join(MISSING[1:5])} and similar values mean a missing id)"
        faults.append(Fault(f"without {role} id", _no_id(values[role]), missing))
        if broken is not None and broken.any():
            found = f"{role} id must not hold a line break or a tab, possibly from a stray quote, got {{{role}}}"
            faults.append(Fault(f"with a broken {role} id", broken, found + '; quote="" reads quotes literally'))
    if "weight" in raw:
        values["weight"] = to_weights(raw["weight"], where, form.decimal)
        found = "weight must be a number, finite and not negative, got {weight}"
        unread = unreadable(raw["weight"], values["weight"].is_null())
        if (values["weight"] == -1).any():
            found += "; if -1 means 'not rated', skip such rows"
        elif (values["weight"] < 0).any():
            found += "; if it is a return or a dislike, subtract it or skip such rows"
        if unread:
            found += comma_advice(raw["weight"])
        faults.append(
            Fault("with a bad weight", bad_weights(values["weight"]), found, unread, 'decimal="," or weight=')
        )
    if "time" in raw:
        bad = times.read(raw["time"], at)
        found = "time must be seconds since 1970, or a date such as 2024-05-31T12:00:00Z, got {time}"
        if form.time is not None:
            found = f"time must be in the format {form.time}, got {{time}}"
        elif raw["time"].dtype == pl.String:
            found += '; for another format set time_format="%d/%m/%Y %H:%M"'
        unread = unreadable(raw["time"], bad)
        faults.append(Fault("with a bad time", bad, found, unread, 'time_format="%d/%m/%Y %H:%M" or the like'))
    return values, faults


def _titles(parts: list[pl.DataFrame], num_items: int) -> pl.Series:
    """Return the first title in the log of each item row."""
    first = pl.concat(parts).unique("row", keep="first", maintain_order=True)
    empty = pl.Series("title", [None] * num_items, dtype=pl.String)
    return empty.scatter(first["row"], first["title"])


def _keys(column: pl.Series, where: str) -> tuple[pl.Series, pl.Series | None]:
    """Return ids in a type for lookup, null where missing, and a mask of those with line breaks or tabs."""
    if column.dtype in (pl.Object, pl.Binary) or column.dtype.is_nested():
        try:
            column = as_text(column)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    if column.dtype in (pl.Categorical, pl.Enum) or column.dtype.is_temporal():
        column = column.cast(pl.String)
    if column.dtype.is_float():
        return column.fill_nan(None), None
    if column.dtype != pl.String:
        return column, None
    odd = column.str.contains(ODD_ID).fill_null(False)
    if not odd.any():
        return column, None
    broken = column.str.contains(r"[\n\r\t]").fill_null(False)
    return column.set(odd & ~broken, None), broken


def _no_id(ids: pl.Series) -> pl.Series:
    """Return a mask of ids that are missing or fractional numbers."""
    return ids.is_null() | (ids != ids.floor()).fill_null(True) if ids.dtype.is_float() else ids.is_null()
