"""The rows of an opened table become a log: ids, weights and times, batch by batch."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from recsys_dl.data.dataset import Dataset, WeightKind
from recsys_dl.data.encoder import Encoder
from recsys_dl.data.messages import MISSING
from recsys_dl.data.pieces import Store
from recsys_dl.data.repeats import kind_of
from recsys_dl.data.time_order import order_within_seconds
from recsys_dl.data.times import Times
from recsys_dl.data.vocabulary import as_text
from recsys_dl.progress import track

from .columns import Columns, bad_weights, comma_advice, text_type, to_weights
from .odd_ids import check_spellings
from .reading import check_ids, check_times, described, unreadable
from .scales import check_scale, scale_in_words
from .tables import Table
from .tally import Fault, Tally

TYPED = ("weight", "time")  # roles whose text columns are parsed as numbers directly if possible
ODD_ID = r"^(?:\s*|" + "|".join(re.escape(word) for word in MISSING if word) + r")$|[\n\r\t]"

log = logging.getLogger("recsys_dl.readers.log")


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


def read_rows(
    table: Table, chosen: Columns, title: int | None, form: Form, *, skip: bool, store: Store | None = None
) -> tuple[Dataset, pl.Series | None]:
    """Return the log, and the title of each item row if a title column is given.

    `store`: where the columns are collected; None for memory.

    Raises:
        ValueError: bad rows, unless they are skipped; no rows.
    """
    store = store or Store()
    places = {role: at for role, at in vars(chosen).items() if at is not None}
    dtypes = {at: text_type(table.sample, at, role, form.decimal) for role, at in places.items() if role in TYPED}
    columns = sorted({*places.values(), *([] if title is None else [title])})
    encoders = {role: Encoder(role) for role in ("user", "item")}
    times = Times(table.where, form.unit, form.time, form.decimal, store)
    types = {"user": np.int32, "item": np.int32, "weight": np.float32}
    parts = {role: store.pieces(types[role]) for role in places if role in types}
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
            rows = encoders[role].encode(kept) if role in encoders else kept.to_numpy().astype(np.float32)
            parts[role].append(rows)
            if role == "item":
                item_rows = rows
        times.keep(good)
        if title is not None:
            shown = batch.frame[str(title)] if good is None else batch.frame[str(title)].filter(good)
            named = pl.DataFrame({"row": item_rows, "title": shown.cast(pl.String)}).drop_nulls()
            titles.append(named.unique("row", keep="first", maintain_order=True))
    report = tally.report()
    if not len(parts["user"]):
        problem = f"all its {report.rows} rows are bad: {report}" if report.skipped else "it has none"
        raise ValueError(f"{table.where} must hold at least one interaction, but {problem}")
    found = {role: parts.pop(role).joined() for role in list(parts)}
    told_times, notes = None, list(table.notes)
    if "time" in places:
        found["time"], nanos, told_times = times.finish()
        order = order_within_seconds(found["time"], nanos, store.size)
        if order is not None:
            found = {role: store.taken(column, order) for role, column in found.items()}
    vocabularies = {}
    for role, encoder in encoders.items():
        vocabularies[role], row_of, note = encoder.finish()
        if row_of is not None:
            found[role] = store.taken(row_of, found[role])
        notes += [note] if note else []
        notes += [f"whitespace around {role} ids is stripped"] if role in padded else []
        if role == "item" and title is not None and row_of is not None:
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
    interactions = store.log(found, len(vocabularies["user"]), len(vocabularies["item"]))
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
