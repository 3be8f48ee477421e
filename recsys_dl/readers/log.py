"""Reading a log from text, Parquet, Arrow, RecBole's atomic files, frames or sparse matrices.

A source is read batch by batch; ids become int32 rows immediately, in order of first appearance. Memory is 20
bytes per row (12 without times) plus each id once, plus one batch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl
import scipy.sparse as sp

from recsys_dl.data.dataset import Dataset, ReadReport, WeightKind
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.repeats import Repeats, kind_of, settled
from recsys_dl.data.times import UNITS
from recsys_dl.data.vocabulary import Vocabulary

from .columns import Column, choose, position
from .multi_valued import check_lists
from .rows import Form, read_rows
from .side_tables import Cold, Side, side_features
from .tables import open_tables

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
        dataset, titles = read_rows(table, chosen, shown_at, form, skip=skip)
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
