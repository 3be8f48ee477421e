"""Mapping between external ids and rows."""

from __future__ import annotations

import difflib
import hashlib
import weakref
from bisect import bisect_left
from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from .messages import shorten
from .saved_tables import read_saved_table

FEW = 100  # ids or rows that are looked up one by one, which is faster than Polars' engine, and a hundred times so on busy processors
NEAR_AMONG = 20_000  # ids compared with an unknown one to find similar ones

# For a vocabulary, those that begin with its ids, and the ids of both. Weak, so that nothing is held in memory; outside of the objects, so
# that nothing of it is copied or pickled; with the ids, so that a vocabulary that was given others is compared again.
_BEGINNINGS: weakref.WeakKeyDictionary[Vocabulary, weakref.WeakKeyDictionary[Vocabulary, tuple[Any, Any]]] = (
    weakref.WeakKeyDictionary()
)


class Vocabulary:
    """The ids of users or of items; the id at position r belongs to row r.

    Ids are kept as text: 196, "196" and 196.0 name the same user, "0196" another one.

    Args:
        ids: distinct ids, in row order.
        noun: "user" or "item", for messages.

    Raises:
        ValueError: an id is missing or repeated.

    Examples:
        >>> from recsys_dl import Vocabulary
        >>> items = Vocabulary(["b42", "b7", "b9"], noun="item")
        >>> items.rows(["b9", "b42"])
        array([2, 0], dtype=int32)
        >>> items.at([1, 1]).to_list()
        ['b7', 'b7']
    """

    def __init__(self, ids: Iterable[Any] | pl.Series, *, noun: str = "id") -> None:
        self.noun = noun
        self.ids = as_text(ids)
        if self.ids.null_count():
            raise ValueError(
                f"every {noun} must have an id, got a missing one at row {int(self.ids.is_null().arg_max() or 0)}"
            )
        if self.ids.n_unique() != len(self.ids):
            twice = self.ids.filter(self.ids.is_duplicated())[0]
            raise ValueError(f"{noun} ids must be distinct, got {shorten(twice)!r} more than once")

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, value: object) -> bool:
        return bool(self.find([value])[0] >= 0)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self):,} {self.noun}s)"

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, pl.Series]:
        """Rows in the order of their ids, and the ids in that order: 20 bytes per id, a tenth of a dict."""
        order = self.ids.arg_sort()
        return order.to_numpy().astype(np.int32), self.ids.gather(order)

    def find(self, ids: Iterable[Any] | pl.Series) -> np.ndarray:
        """Return int32 rows, -1 for unknown ids."""
        wanted = as_text(ids)
        if 100 * len(wanted) < len(self) or len(wanted) < 1000:
            return self._search(wanted)
        table = pl.DataFrame({"id": self.ids, "row": np.arange(len(self), dtype=np.int32)})
        found = wanted.alias("id").to_frame().join(table, on="id", how="left", maintain_order="left")["row"]
        return found.fill_null(-1).to_numpy()

    def _search(self, wanted: pl.Series) -> np.ndarray:
        if not len(self) or not len(wanted):
            return np.full(len(wanted), -1, np.int32)
        order, ids = self._sorted
        if len(wanted) <= FEW:
            return np.array([-1 if one is None else self._row(one) for one in wanted.to_list()], np.int32)
        places = np.minimum(ids.search_sorted(wanted).to_numpy(), len(self) - 1)
        hit = (ids.gather(places) == wanted).fill_null(False).to_numpy()
        return np.where(hit, order[places], np.int32(-1))

    def _row(self, name: str) -> int:
        """Return the row of an id, -1 for an unknown one."""
        order, ids = self._sorted
        place = bisect_left(ids, name)
        return int(order[place]) if place < len(ids) and ids[place] == name else -1

    def rows(self, ids: Iterable[Any] | pl.Series) -> np.ndarray:
        """Return int32 rows.

        Raises:
            ValueError: an id is unknown; the message names the first, similar ids, and some known ones.
        """
        wanted = as_text(ids)
        rows = self.find(wanted)
        if (rows < 0).any():
            missing = wanted.filter(pl.Series(rows < 0))
            known = ", ".join(map(repr, self.ids.head(3)))
            near = f"; similar: {', '.join(map(repr, close))}" if (close := self._near(missing[0])) else ""
            advice = (
                "For a new user, pass their history: recommend(history=[...]), or a model's fold_in()"
                if self.noun == "user"
                else "Items added after training are unknown to the model"
            )
            raise ValueError(
                f"{self.noun} {shorten(str(missing[0]))!r} is not among the {len(self):,} known {self.noun}s, such as {known}"
                f"{near} ({len(missing):,} unknown in total). {advice}."
            )
        return rows

    def _near(self, wanted: str | None) -> list[str]:
        """Return up to three ids similar to one: written differently, or misspelled."""
        if wanted is None:
            return []
        plain = wanted.strip().lower().removesuffix(".0").lstrip("0")
        same = self.ids.filter(self.ids.str.strip_chars().str.to_lowercase().str.strip_chars_start("0") == plain)
        among = self.ids.head(NEAR_AMONG).to_list()
        return list(dict.fromkeys([*same.head(3), *difflib.get_close_matches(wanted, among, n=3)]))[:3]

    def at(self, rows: np.ndarray) -> pl.Series:
        """Return the ids at `rows` (any shape is flattened); null where a row is -1."""
        flat = np.asarray(rows).ravel()
        if 0 < flat.size <= FEW and flat.min() >= -1 and flat.max() < len(self):
            return pl.Series("id", [None if row < 0 else self.ids[row] for row in flat.tolist()], dtype=pl.String)
        return self.ids.gather(pl.Series(flat).cast(pl.Int64).replace(-1, None))

    def grow(self, ids: Iterable[Any] | pl.Series) -> Vocabulary:
        """Return a vocabulary with unknown ids appended in order; known ids keep their rows."""
        fresh = as_text(ids).unique(maintain_order=True)
        fresh = fresh.filter(pl.Series(self.find(fresh) < 0, dtype=pl.Boolean))
        return Vocabulary(pl.concat([self.ids, fresh]), noun=self.noun)

    def begins(self, other: Vocabulary) -> bool:
        """Return whether each of these ids has the same row in `other`, which may have more.

        Two vocabularies are compared once: a server asks with every request.
        """
        if self is other:
            return True
        compared = _BEGINNINGS.setdefault(self, weakref.WeakKeyDictionary())
        mine, theirs = compared.get(other, (_nothing, _nothing))
        if mine() is self.ids and theirs() is other.ids:
            return True
        same = len(self) <= len(other) and self.ids.equals(other.ids.head(len(self)))
        if same:
            compared[other] = (weakref.ref(self.ids), weakref.ref(other.ids))
        return same

    @cached_property
    def content_hash(self) -> str:
        """Hexadecimal SHA-256 over the ids in order."""
        digest = hashlib.sha256()
        for start in range(0, len(self), 1 << 20):
            part = self.ids.slice(start, 1 << 20)
            digest.update(part.str.len_bytes().to_numpy().astype("<u4").tobytes())
            digest.update("".join(part.to_list()).encode())
        return digest.hexdigest()

    def save(self, file: Path) -> None:
        """Write the ids to a Parquet file with the one column `id`."""
        self.ids.alias("id").to_frame().write_parquet(file)

    @classmethod
    def load(cls, file: Path, *, noun: str = "id") -> Vocabulary:
        """Read what `save` wrote."""
        return cls(read_saved_table(file)["id"], noun=noun)


def save_vocabularies(folder: Path, users: Vocabulary | None, items: Vocabulary | None) -> None:
    """Write `users.parquet` and `items.parquet`, whichever are given."""
    for name, vocabulary in (("users", users), ("items", items)):
        if vocabulary is not None:
            vocabulary.save(folder / f"{name}.parquet")


def load_vocabularies(folder: Path, files: Collection[str]) -> tuple[Vocabulary | None, Vocabulary | None]:
    """Read what `save_vocabularies` wrote: users and items, None for one that is not among `files`."""
    return tuple(  # type: ignore[return-value]
        Vocabulary.load(folder / f"{noun}s.parquet", noun=noun) if f"{noun}s.parquet" in files else None
        for noun in ("user", "item")
    )


def as_text(ids: Iterable[Any] | pl.Series) -> pl.Series:
    """Return ids as text: integers in decimal, whole floats as integers, text unchanged; null where one is missing.

    Raises:
        ValueError: a single value instead of a list, a fractional number, bytes that are not UTF-8, or nested values.
    """
    if isinstance(ids, str | bytes | int | float):
        shown = shorten(repr(ids))
        raise ValueError(f"ids must be a list, got the single value {shown}; write [{shown}]")
    if hasattr(ids, "detach"):  # a tensor, whose elements would print as tensor(5)
        ids = array_of(ids)
    if isinstance(ids, pl.Series) and ids.dtype != pl.Object:
        series = ids
    elif isinstance(ids, np.ndarray) and ids.dtype != object:
        series = pl.Series(ids)
    else:
        return pl.Series("id", [_text(value) for value in ids], dtype=pl.String)
    if series.dtype.is_nested() or series.dtype == pl.Object:
        raise ValueError(f"ids must be text or numbers, got a column of {series.dtype}")
    if series.dtype.is_float():
        series = series.fill_nan(None)
        fraction = series.filter((series != series.round()) | (series.abs() >= 2**63))
        if len(fraction):
            raise ValueError(f"ids that are numbers must be whole, got {fraction[0]}; give them as text")
        series = series.cast(pl.Int64)
    try:
        return series.cast(pl.String).rename("id")
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"ids must be text or numbers, got {series.dtype} that is not UTF-8") from error


def array_of(tensor: Any) -> np.ndarray:
    """Return a PyTorch tensor on any device as an array; bfloat16, which NumPy lacks, as float64."""
    tensor = tensor.detach().cpu()
    return np.asarray((tensor.double() if tensor.is_floating_point() else tensor).numpy())


def _text(value: Any) -> str | None:
    """Return one id as text."""
    if isinstance(value, str):
        return str(value)
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "detach") and value.ndim == 0:
        value = value.item()
    if value != value:
        return None
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"ids must be text or numbers, got {shorten(repr(value))}, which is not UTF-8") from error
    if isinstance(value, float | np.floating):
        if not float(value).is_integer():
            raise ValueError(f"ids that are numbers must be whole, got {value}; give them as text")
        return str(int(value))
    if isinstance(value, list | tuple | dict | set | np.ndarray | pl.Series):
        raise ValueError(f"ids must be text or numbers, got {shorten(repr(value))}")
    return str(value).lower() if isinstance(value, bool | np.bool_) else str(value)


def _nothing() -> None:
    """Return None, as a reference to what is gone does."""
