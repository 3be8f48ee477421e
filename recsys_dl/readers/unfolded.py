"""Text files in which a line is not one interaction: lists of items, Netflix blocks, MIND impressions.

Each is unfolded into rows of user, item and any other columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from recsys_dl.data.messages import shorten

from .columns import is_role
from .text_files import Batch, blocks, opened, split_rows

MOST_COLUMNS = 4  # in a log without a header: user, item, weight, time

_WHOLE = re.compile(r"-?\d+")
_PAIR = r"^([^\s:,;|]+)(?:(?:[\t;] *| *: *)(\d+(?:[, ]+\d+)*)|, *(\d+(?: +\d+)*))$"  # a user, then items with a different separator
_MIND = re.compile(r"\S+-[01](?: \S+-[01])*")


@dataclass(frozen=True)
class Unfolded:
    """A readable file whose lines are unfolded into interactions; created by `unfolded`.

    Attributes:
        names: of the resulting columns.
        unfolder: returns a function that turns successive frames of `line` (number) and `text` into `line` and these columns.
        notes: remarks on the layout.
        bad: an expression for bad lines (of `text`), and what must hold; None if every line is valid.
    """

    path: Path
    encoding: str
    names: list[str]
    unfolder: Callable[[], Callable[[pl.DataFrame], pl.DataFrame]]
    skip_lines: int
    notes: Sequence[str]
    bad: tuple[pl.Expr, str] | None = None
    header: bool = True
    types: Mapping[int, str] = field(default_factory=dict)
    sample: Sequence[Sequence[str]] = ()

    def batches(self, dtypes: Mapping[int, Any] | None = None) -> Iterator[Batch]:
        """Yield all interactions in order, as text."""
        line, rest, unfold = 1, b"", self.unfolder()
        with opened(self.path) as stream:
            for block in blocks(stream, self.path, self.encoding):
                rest += block
                cut = rest.rfind(b"\n") + 1
                if cut:
                    yield self._batch(rest[:cut], line, unfold)
                    line, rest = line + rest.count(b"\n", 0, cut), rest[cut:]
        if rest:
            yield self._batch(rest, line, unfold)

    def _batch(self, chunk: bytes, first: int, unfold: Callable[[pl.DataFrame], pl.DataFrame]) -> Batch:
        texts = pl.Series("text", chunk.decode(errors="replace").split("\n")).str.strip_chars()
        lines = texts.to_frame().with_row_index("line", offset=first).filter(pl.col("text") != "")
        lines, refused = lines.filter(pl.col("line") > self.skip_lines), []
        if self.bad is not None:
            is_bad, must = self.bad
            lines = lines.with_columns(is_bad.fill_null(True).alias("bad"))
            wrong = lines.filter("bad").select("line", "text").iter_rows()
            refused = [(f"line {number}", f"{must}, got {shorten(text)!r}") for number, text in wrong]
            lines = lines.filter(~pl.col("bad"))
        frame = unfold(lines)
        numbers = frame["line"]
        return Batch(frame.select(self.names), lambda row: f"line {numbers[row]}", refused)


def unfolded(path: Path, encoding: str, lines: list[str], skipped: int) -> Unfolded | None:
    """Return how to read a file in one of these layouts, None if its first lines match none."""
    if re.fullmatch(r"\d+:", lines[0].strip()):
        note = "Netflix layout: an item and a colon, then lines of user, rating and date"
        return Unfolded(path, encoding, ["user", "item", "rating", "date"], _Netflix, skipped, [note])
    rows = [line.split("\t") for line in lines]
    if all(len(row) == 5 and (not row[4] or _MIND.fullmatch(row[4].strip())) for row in rows) and rows[0][4]:
        note = "MIND impressions: the news articles that were clicked (-1), at the time they were shown"
        return Unfolded(path, encoding, ["user", "item", "time"], lambda: _mind, skipped, [note])
    for separator in (" ", "\t", ","):
        rows = [[cell.strip() for cell in row] for row in split_rows([line.strip() for line in lines], separator, None)]
        counted = _are_counted(rows)
        if not _are_lists(rows, counted):
            continue
        lists = partial(_lists, separator, skipped + 1 if counted else None)
        if not counted:
            note = "one list per line (user, item, item, …), in order"
            return Unfolded(path, encoding, ["user", "item"], lists, skipped, [note])
        note = "one list per line (the line number from 0 is the user, the first number counts the items), in order"
        parts = _split(separator).list
        bad = parts.first().cast(pl.Int64, strict=False) != parts.len().cast(pl.Int64) - 1
        must = "the first number of a line must be the number of items that follow"
        return Unfolded(path, encoding, ["user", "item"], lists, skipped, [note], (bad, must))
    return _paired(path, encoding, [line.strip() for line in lines], skipped)


def _paired(path: Path, encoding: str, lines: list[str], skipped: int) -> Unfolded | None:
    """Return how to read lines of a user and integers with a different separator; None if the first lines are not like this."""
    first = [name.strip() for name in re.split(r"[\t:,;]", lines[0])]
    headed = len(first) == 2 and is_role(first[0], "user") and is_role(first[1], "item")
    pairs = [re.fullmatch(_PAIR, line) for line in lines[int(headed) :]]
    found = [(pair[1], len(re.findall(r"\d+", pair[2] or pair[3]))) for pair in pairs if pair]
    if len(found) < max(2, len(pairs)) or 2 * sum(count > 1 for _, count in found) <= len(found):
        return None
    distinct, uneven = (len({pair[at] for pair in found}) for at in (0, 1))
    if distinct < len(found) and uneven < 2:
        return None
    note = "one list per line (user, then its items), in order"
    bad = ~pl.col("text").str.contains(_PAIR), "a line must be a user and integers"
    return Unfolded(path, encoding, ["user", "item"], lambda: _pairs, skipped + int(headed), [note], bad)


def _are_counted(rows: list[list[str]]) -> bool:
    """Whether the first number of most rows counts the rest: of three in four, if it might be a user because all are distinct."""
    right = sum(row[0] == str(len(row) - 1) for row in rows)
    distinct = len({row[0] for row in rows}) == len(rows)
    return 4 * right >= 3 * len(rows) if distinct else 2 * right > len(rows)


def _are_lists(rows: list[list[str]], counted: bool) -> bool:
    """Whether rows are integers of varying length, unlike a log's: too long, or each of a different user."""
    widths = Counter(map(len, rows))
    if len(rows) < 2 or len(widths) < 2 or not all(_WHOLE.fullmatch(cell) for row in rows for cell in row):
        return False
    distinct = len({row[0] for row in rows}) == len(rows)
    varied = 2 * max(widths.values()) <= len(rows) or max(widths) > MOST_COLUMNS
    return varied and (distinct or counted)


def _split(separator: str) -> pl.Expr:
    around = r"\s+" if separator == " " else f" *{separator} *"
    return pl.col("text").str.replace_all(around, separator).str.split(separator)


def _lists(separator: str, first: int | None) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Unfold lists whose first element is the user; or, from line `first` on, whose line is the user and the element a count."""

    def unfold(lines: pl.DataFrame) -> pl.DataFrame:
        frame = lines.select("line", _split(separator).alias("item"))
        user = pl.col("item").list.first() if first is None else (pl.col("line").cast(pl.Int64) - first).cast(pl.String)
        frame = frame.select("line", user.alias("user"), pl.col("item").list.slice(1))
        return frame.filter(pl.col("item").list.len() > 0).explode("item")

    return unfold


def _pairs(lines: pl.DataFrame) -> pl.DataFrame:
    user, tabbed, plain = (pl.col("text").str.extract(_PAIR, group) for group in (1, 2, 3))
    items = pl.coalesce(tabbed, plain).str.extract_all(r"\d+")
    return lines.select("line", user.alias("user"), items.alias("item")).explode("item")


@dataclass
class _Netflix:
    item: str | None = None

    def __call__(self, lines: pl.DataFrame) -> pl.DataFrame:
        is_item = pl.col("text").str.ends_with(":")
        item = (
            pl.when(is_item)
            .then(pl.col("text").str.strip_suffix(":"))
            .forward_fill()
            .fill_null(pl.lit(self.item, pl.String))
        )
        frame = lines.with_columns(item.alias("item"), is_item.alias("head"))
        self.item = frame["item"][-1] if len(frame) else self.item
        parts = pl.col("text").str.split(",")
        named = [parts.list.get(at, null_on_oob=True).alias(name) for at, name in enumerate(("user", "rating", "date"))]
        return frame.filter(~pl.col("head")).select("line", "item", *named)


def _mind(lines: pl.DataFrame) -> pl.DataFrame:
    parts = pl.col("text").str.split("\t")
    named = [parts.list.get(at, null_on_oob=True).alias(name) for at, name in ((1, "user"), (2, "time"), (4, "item"))]
    shown = lines.select("line", *named).with_columns(pl.col("item").str.split(" ")).explode("item")
    return shown.filter(pl.col("item").str.ends_with("-1")).with_columns(pl.col("item").str.strip_suffix("-1"))
