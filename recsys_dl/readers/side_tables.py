"""User and item side tables, aligned with the rows of the log's vocabulary."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from recsys_dl.data.matching import MATCHES, compared
from recsys_dl.data.messages import MISSING, MISSING_FEATURES, shorten
from recsys_dl.data.vocabulary import Vocabulary, as_text
from recsys_dl.names import counted

from .columns import Column, position, recognize
from .multi_valued import with_lists
from .odd_values import as_numbers, warn_of_words_among_numbers, without_missing, without_objects
from .tables import open_table

log = logging.getLogger(__name__)

Cold = Literal["keep", "drop"]
MOST_MISSING = 0.5  # share of the log's ids without a row above which a warning is logged


@dataclass(frozen=True)
class Side:
    """A side table in row order; nulls where nothing is known.

    Attributes:
        vocabulary: the log's ids, followed, if kept, by those only in the table; None without a table.
        features: all columns except id, title and text; None if there are no others.
        titles: String.
        texts: String; multiple columns are joined by line breaks.
    """

    vocabulary: Vocabulary | None = None
    features: pl.DataFrame | None = None
    titles: pl.Series | None = None
    texts: pl.Series | None = None


def side_features(
    table: Any,
    vocabulary: Vocabulary,
    *,
    id_column: Column | None = None,
    own_id_column: Column | None = None,
    lists: Mapping[str, str | None] | None = None,
    cold: Cold = "keep",
    needed: bool = True,
    title: Column | None = None,
    text: Column | Sequence[Column] | None = None,
    separator: str | None = None,
    quote: str | None = None,
    encoding: str = "utf-8",
    decimal: str = ".",
    skip: bool = False,
    where: str | None = None,
) -> Side:
    """Return a table's rows in the order of `vocabulary`, followed, if kept, by those of ids that are not in it.

    The number of matching ids is logged, with a warning if most do not match, or would if spelled differently.

    Args:
        table: a path or a frame, as in `read_log`.
        vocabulary: users or items.
        id_column: the log's name for the id column; if the table has no such column, one is recognized by name. In a file
            without a header it is the first column.
        own_id_column: which column of the table holds the ids; None recognizes it.
        lists: column -> separator of multi-valued text columns; see `multi_valued.with_lists`.
        cold: "keep" or "drop" ids that are not in the log.
        needed: whether a table without any id of the log is an error; else it is ignored with a warning.
        title: column of display titles; None recognizes one (items only).
        text: column or columns of free text; likewise.
        separator: of the log, used if it splits this file too; else detected.
        quote: of a text file, as in `read_log`; likewise `encoding` and `decimal`.
        encoding: of a text file.
        decimal: decimal separator.
        skip: drop bad rows, and all but the first row with the same id.
        where: the table's name in messages of `add_items`, which skips nothing and splits only the columns in `lists`; None for `read_log`.

    Raises:
        ValueError: no id column, a repeated id, or no id of the log.
    """
    noun = vocabulary.noun
    setting, or_skip = ("lists", "") if where else (f"{noun}_lists", ', or skip such rows: on_bad_rows="skip"')
    where = where or (str(table) if isinstance(table, str | os.PathLike) else f"the frame of {noun} features")
    frame = read_table(table, prefer=separator, quote=quote, encoding=encoding, decimal=decimal, skip=skip)
    if isinstance(table, str | os.PathLike) and _is_header(frame, vocabulary):
        frame = read_table(
            table, header=True, prefer=separator, quote=quote, encoding=encoding, decimal=decimal, skip=skip
        )
    names = frame.columns
    if own_id_column is not None:
        at: int | None = position(names, own_id_column, f"{noun}_id_column", where)
    elif names[0] == "column_0":
        at = 0
    elif id_column in names:
        at = names.index(str(id_column))
    else:
        at = recognize(names, noun, where, needed=False)
        at = names.index("id") if at is None and "id" in names else at
    if at is None:
        held = _better(vocabulary, frame, 0)
        meant = "none of them holds ids of the log" if held is None else f"{held!r} holds ids of the log"
        raise ValueError(
            f"{where} must have a column of {noun} ids, named as in the log{f' ({id_column!r})' if id_column else ''} or "
            f"{noun}_id; its columns are {shorten(', '.join(names), 200)}, and {meant}. Set the right one: "
            f"{noun}_id_column={held or '…'}"
        )
    frame = without_objects(frame, where)
    copies = ~frame.hash_rows().is_first_distinct()
    if copies.any():
        log.info(
            "%s: %s of %s repeat an earlier one and are left out",
            where,
            f"{copies.sum():,}",
            counted(len(frame), "row"),
        )
        places, frame = (~copies).arg_true(), frame.filter(~copies)
    else:
        places = pl.arange(len(frame), eager=True)
    others = [name for i, name in enumerate(names) if i != at]
    titled = _named(names, others, "title", title, where) if noun == "item" else []
    texted = _named(names, others, "text", text, where) if noun == "item" else []

    ids = as_text(frame.to_series(at))
    missing = ids.is_null() | (ids == "")
    bad = missing | ~ids.is_first_distinct()
    grouping = _grouping(names[at], ids.filter(~missing), noun, bool(others))
    if bad.any() and not skip:
        row = int(bad.arg_max() or 0)
        found = f"has no {noun} id" if missing[row] else f"has the {noun} id {ids[row]!r}, which occurred before"
        if not missing[row]:
            found += _apart(frame, int((ids == ids[row]).arg_max() or 0), row)
        advice = grouping or f"Fix it{or_skip}"
        raise ValueError(
            f"{where}, row {places[row]} (from 0, without header): {found}; each {noun} must occur once. {advice}."
        )
    contradictions = int((~missing & ~ids.is_first_distinct()).sum())
    if contradictions and not grouping:
        log.warning(
            "%s: %s an earlier one of the same %s, which is kept, such as that of %r",
            where,
            "1 row contradicts" if contradictions == 1 else f"{contradictions:,} rows contradict",
            noun,
            ids[int((~missing & ~ids.is_first_distinct()).arg_max() or 0)],
        )
    if skip and grouping:
        log.warning("%s: only the first row of each %s is kept, the others are dropped. %s", where, noun, grouping)
    strange = ids.filter(~bad & pl.Series(vocabulary.find(ids) < 0, dtype=pl.Boolean))
    if not _fitting(where, vocabulary, ids.filter(~bad), strange, frame.select(others), needed=needed):
        return Side(vocabulary)
    parts = [f"features of {len(ids) - len(strange) - int(bad.sum()):,} of {counted(len(vocabulary), noun)}"]
    if len(strange):
        stay = f"{'is' if len(strange) == 1 else 'are'} {'kept as cold' if cold == 'keep' else 'dropped'}"
        parts += [f"{counted(len(strange), f'further {noun}')} without an interaction {stay}"]
    parts += [counted(int(bad.sum()), "bad row")] if bad.any() else []
    if or_skip:
        parts += [
            f"{kind} = {', '.join(map(str, columns))}"
            for kind, columns in (("titles", titled), ("texts", texted))
            if columns
        ]
        log.info("%s: %s", where, "; ".join(parts), extra={"always": True})
    if cold == "keep":
        vocabulary = vocabulary.grow(strange)
    rest = [name for name in others if name not in (*titled, *texted)]
    told = [name for name in rest if or_skip or name in (lists or {})]
    kept = [name for name, separator in (lists or {}).items() if not separator]
    if or_skip:
        way_out = f"; keep them as values with {setting}={{{'{name}'}: null}}"
        read = without_missing(frame.select(rest).drop(kept, strict=False), where, MISSING_FEATURES, way_out)
        warn_of_words_among_numbers(read, where, noun, ids, places)
        frame = frame.with_columns(*read)
    frame = frame.with_columns(*without_missing(frame.select(*titled, *texted), where, MISSING[1:], ""))
    frame = frame.with_columns(
        *with_lists(frame.select(told), lists, where, setting)
    )  # of all rows, before any are dropped
    rows = pl.Series("row", vocabulary.find(ids)).set(bad, -1)
    known = rows >= 0
    source = pl.Series([None] * len(vocabulary), dtype=pl.UInt32)
    source = source.scatter(rows.filter(known), known.arg_true())
    frame = frame.select(pl.all().gather(source))
    titles = _joined(frame, titled).alias("title") if titled else None
    texts = _joined(frame, texted).alias("text") if texted else None
    return Side(vocabulary, frame.select(rest) if rest else None, titles, texts)


def _is_header(frame: pl.DataFrame, vocabulary: Vocabulary) -> bool:
    """Return whether the first row of a table read without a header is one: its first value is no id, unlike most of those below."""
    if frame.columns[0] != "column_0" or len(frame) < 3:
        return False
    known = as_text(frame.to_series(0)).is_in(vocabulary.ids.implode()).fill_null(False)
    return not known[0] and 2 * int(known.sum()) > len(known)


def _apart(frame: pl.DataFrame, first: int, second: int) -> str:
    """Return in words which columns of two rows differ, and how."""
    one, two = frame.row(first, named=True), frame.row(second, named=True)
    parts = [
        f"{name} was {shorten(repr(one[name]), 40)}, now {shorten(repr(two[name]), 40)}"
        for name in one
        if one[name] != two[name]
    ]
    return f" with other values ({'; '.join(parts[:3])})" if parts else ""


def _grouping(name: str, ids: pl.Series, noun: str, has_others: bool) -> str:
    """Return advice for a long-format table, in which more than one row in ten repeats an id; else ""."""
    if not has_others or 10 * ids.n_unique() >= 9 * len(ids) or len(ids) < 3:
        return ""
    return (
        f"If each row has one of several values of {'an' if noun == 'item' else 'a'} {noun}, aggregate them into lists: "
        f"frame.group_by({name!r}, maintain_order=True).agg(polars.all())"
    )


def _better(vocabulary: Vocabulary, others: pl.DataFrame, matched: int) -> str | None:
    """Return the column that holds at least half of the log's ids, and twice as many as the one used."""
    for column in others:
        if column.dtype in (pl.String, pl.Categorical) or column.dtype.is_integer():
            ids = as_text(column.unique())
            if 2 * (found := int(vocabulary.ids.is_in(ids.implode()).sum())) >= len(vocabulary) and found > 2 * matched:
                return column.name
    return None


def _fitting(
    where: str, vocabulary: Vocabulary, ids: pl.Series, strange: pl.Series, others: pl.DataFrame, *, needed: bool
) -> bool:
    """Return whether a table has ids of the log; warn if it covers few of them, or could cover more.

    Raises:
        ValueError: it has none, and is needed.
    """
    noun = vocabulary.noun
    missing = vocabulary.ids.filter(~vocabulary.ids.is_in(ids.implode()))
    if not len(missing):
        return True
    how = compared(strange, where, missing, "the log")
    if len(missing) > MOST_MISSING * len(vocabulary):
        better = _better(vocabulary, others, len(vocabulary) - len(missing))
        how += f"; its column {better!r} has more of them: {noun}_id_column={better!r}" if better else ""
    if len(missing) == len(vocabulary):
        text = f"{where} must have {noun} ids of the log, but none of its {len(ids):,} is one of the log's {len(vocabulary):,}: {how}"
        if needed:
            raise ValueError(f"{text}. Make the ids match, or name the column that holds them: {noun}_id_column=…")
        log.warning("%s; it is ignored", text)
        return False
    if len(missing) > MOST_MISSING * len(vocabulary) or how.endswith(MATCHES):
        log.warning(
            "%s: %s of the log's %s %ss have no row in it: %s",
            where,
            f"{len(missing):,}",
            f"{len(vocabulary):,}",
            noun,
            how,
        )
    return True


def read_table(
    table: Any,
    *,
    separator: str | None = None,
    header: bool | None = None,
    quote: str | None = None,
    encoding: str = "utf-8",
    decimal: str = ".",
    columns: Sequence[str] | None = None,
    prefer: str | None = None,
    skip: bool = False,
    skippable: bool = True,
) -> pl.DataFrame:
    """Return a whole table; numeric text columns as numbers (unless a value has a leading zero), others as text.

    Args:
        table: a path or a frame, as in `read_log`.
        separator: of a text file; None detects it.
        header: whether a text file's first row is a header; None detects it.
        quote: of a text file, as in `read_log`; likewise `encoding` and `decimal`.
        encoding: of a text file.
        decimal: decimal separator.
        prefer: a separator to use if it splits a text file.
        columns: names to use instead of the table's own.
        skip: skip unreadable rows of a text file and log how many; else they are an error.
        skippable: whether the caller can set `skip`, for messages.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read.
    """
    opened = open_table(
        table, "a table", separator=separator, header=header, quote=quote, encoding=encoding, prefer=prefer
    )
    names = opened.names if columns is None else list(columns)
    if len(names) != len(opened.names) or len(set(names)) < len(names):
        raise ValueError(
            f"{opened.where} needs {len(opened.names)} distinct names for its columns {', '.join(opened.names)}, "
            f"got {', '.join(names)}"
        )
    frames: list[pl.DataFrame] = []
    refused: list[tuple[str, str]] = []
    for batch in opened.batches(range(len(names)), {}):
        refused += batch.refused
        frames.append(batch.frame)
    if refused and not skip:
        place, found = refused[0]
        advice = ', or skip such rows: on_bad_rows="skip"' if skippable else ""
        raise ValueError(f"{opened.where}, {place}: {found}. Fix it{advice}.")
    if refused:
        number = counted(len(refused), "unreadable row")
        log.warning("%s: %s skipped, such as %s: %s", opened.where, number, *refused[0])
    if not sum(map(len, frames)):
        raise ValueError(f"{opened.where} must hold rows, but it has none{', just a header' if opened.header else ''}")
    frame = pl.concat(frames)
    if opened.padded:
        texts, bare = pl.col(pl.String), pl.col(pl.String).str.strip_chars(" ")
        frame = frame.with_columns(pl.when((bare != "") | (texts == "")).then(bare))
    frame.columns = names
    if isinstance(table, str | os.PathLike):
        frame = _typed(frame, opened.types, opened.where, decimal)
    return frame


def _typed(frame: pl.DataFrame, types: Mapping[int, str], where: str, decimal: str) -> pl.DataFrame:
    """Return text with its types inferred: from RecBole's header, else integers, else floats, else text."""
    columns, said = [], []
    for at, column in enumerate(frame):
        declared = _declared_type(column, types.get(at))
        inferred, words = as_numbers(column, decimal) if declared is None else (declared, "")
        columns.append(inferred)
        said += [words] if words else []
    if said:
        log.warning("%s: words among numbers are read as missing values: %s", where, ", ".join(said))
    return pl.DataFrame(columns)


def _declared_type(column: pl.Series, kind: str | None) -> pl.Series | None:
    """Return a column as RecBole's header types it, or as it is if it is no text; None if its type is to be inferred."""
    if column.dtype != pl.String or kind == "token":
        return column
    if kind == "float":
        return column.cast(pl.Float64, strict=False)
    if kind == "token_seq":
        return column.str.split(" ")
    if kind == "float_seq":
        return column.str.split(" ").cast(pl.List(pl.Float64), strict=False)
    return None


def _named(
    names: Sequence[str], others: Sequence[str], role: str, given: Column | Sequence[Column] | None, where: str
) -> list[str]:
    """Return the column names given by the caller for a role, else the one recognized by name."""
    if given is None:
        at = recognize(others, role, where, needed=False)
        return [] if at is None else [others[at]]
    several = [given] if isinstance(given, str | int) else given
    return [names[position(names, column, role, where)] for column in several]


def _joined(frame: pl.DataFrame, names: Sequence[str]) -> pl.Series:
    parts = [
        pl.col(name).cast(pl.List(pl.String)).list.join(" ")
        if isinstance(frame.schema[name], pl.List)
        else pl.col(name).cast(pl.String)
        for name in names
    ]
    texts = frame.select(pl.concat_str(parts, separator="\n", ignore_nulls=True)).to_series()
    return texts.set(texts == "", None)
