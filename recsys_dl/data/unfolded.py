"""Text files in which a line is not one interaction: lists of items, Netflix's blocks, MIND's impressions.

Each is unfolded into rows of user, item and what else it has.
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

from .text_files import Batch, blocks, opened, split_rows

MOST_COLUMNS = 4  # of a log without header: user, item, weight, time

_WHOLE = re.compile(r"-?\d+")
_MIND = re.compile(r"\S+-[01](?: \S+-[01])*")


@dataclass(frozen=True)
class Unfolded:
    """A readable file whose lines are unfolded into interactions; `unfolded` makes it.

    Attributes:
        names: of the columns that come out.
        unfolder: makes what turns one frame of `line` (its number) and `text` after the other into `line` and these columns.
        notes: what to say of the layout.
    """

    path: Path
    encoding: str
    names: list[str]
    unfolder: Callable[[], Callable[[pl.DataFrame], pl.DataFrame]]
    skip_lines: int
    notes: Sequence[str]
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
        frame = unfold(lines.filter(pl.col("line") > self.skip_lines))
        numbers = frame["line"]
        return Batch(frame.select(self.names), lambda row: f"line {numbers[row]}")


def unfolded(path: Path, encoding: str, lines: list[str], skipped: int) -> Unfolded | None:
    """Return how to read a file in one of these layouts, None if its first lines are in none."""
    if re.fullmatch(r"\d+:", lines[0].strip()):
        note = "blocks of Netflix's layout: an item and a colon, then lines of user, rating and date"
        return Unfolded(path, encoding, ["user", "item", "rating", "date"], _Netflix, skipped, [note])
    rows = [line.split("\t") for line in lines]
    if all(len(row) == 5 and (not row[4] or _MIND.fullmatch(row[4].strip())) for row in rows) and rows[0][4]:
        note = "MIND's impressions: the news that were clicked on (-1), at the time they were shown"
        return Unfolded(path, encoding, ["user", "item", "time"], lambda: _mind, skipped, [note])
    for separator in (" ", "\t", ","):
        rows = split_rows([line.strip() for line in lines], separator, None)
        if _are_lists(rows):
            counted = all(int(row[0]) == len(row) - 1 for row in rows)
            who = (
                "its line is a user from 0, its first number how many items follow"
                if counted
                else "user, item, item, …"
            )
            note = f"a list a line ({who}), in their order"
            return Unfolded(path, encoding, ["user", "item"], partial(_Lists, separator, counted), skipped, [note])
    return None


def _are_lists(rows: list[list[str]]) -> bool:
    """Whether rows are of whole numbers, of varying length, and as no log's rows: too long, or each of another user."""
    widths = Counter(map(len, rows))
    if len(rows) < 2 or len(widths) < 2 or not all(_WHOLE.fullmatch(cell) for row in rows for cell in row):
        return False
    counted = all(int(row[0]) == len(row) - 1 for row in rows)
    distinct = len({row[0] for row in rows}) == len(rows)
    varied = 2 * max(widths.values()) <= len(rows) or max(widths) > MOST_COLUMNS
    return varied and (distinct or counted)


@dataclass
class _Lists:
    separator: str
    counted: bool
    users: int = 0

    def __call__(self, lines: pl.DataFrame) -> pl.DataFrame:
        text = pl.col("text").str.replace_all(r"\s+", " ") if self.separator == " " else pl.col("text")
        frame = lines.select("line", text.str.split(self.separator).alias("item"))
        user = pl.col("item").list.first()
        if self.counted:
            user = (pl.int_range(pl.len()) + self.users).cast(pl.String)
            self.users += len(frame)
        frame = frame.select("line", user.alias("user"), pl.col("item").list.slice(1))
        return frame.filter(pl.col("item").list.len() > 0).explode("item")


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
