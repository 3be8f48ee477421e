"""User or item features encoded as numbers for a network.

R rows, M values per row, F dense features, V rows of the value embedding table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from typing_extensions import Self

from .column_types import TEXTS, as_learned, called, family_of, listed, numbers_of, told_apart, values_of, vectors_of
from .ignored_columns import too_rare, warn_of_ignored
from .text_vectors import TextVectors

Kind = Literal["category", "bag", "number", "log_number", "text", "vector", "ignore"]
KINDS = ("category", "bag", "number", "log_number", "text", "vector", "ignore")
MOST_CATEGORIES = 50  # distinct integers still treated as categories
FARTHEST = 5.0  # standard deviations from the mean; numbers are clipped to this


@dataclass(frozen=True)
class Features:
    """Rows of features, encoded.

    A row's categories and list values index one embedding table, whose vectors a network sums with weights; everything
    else is dense.

    Attributes:
        codes_RM: int32 in [0, V); 0 is padding.
        weights_RM: float32: 1 for a category, 1 / n for each of a list's n values, 0 at padding.
        dense_RF: float32.
        known_R: bool, whether any encoded column says something of this row: a value, word or number, not only ones that training had
            too rarely or not at all.
    """

    codes_RM: np.ndarray
    weights_RM: np.ndarray
    dense_RF: np.ndarray
    known_R: np.ndarray

    def __len__(self) -> int:
        return len(self.codes_RM)


@dataclass(frozen=True)
class _Column:
    """How one column is encoded, as learned by `fit`, except for text vectors."""

    name: str
    kind: Kind
    family: str
    values: list[str] | None = (
        None  # of a category or bag; value j has the code first + 1 + j; unknown ones have the code first
    )
    first: int = 0
    mean: float = 0.0
    std: float = 1.0
    size: int = 0  # of a vector


class FeatureEncoder:
    """Learns the encoding of a table's columns from one frame; encodes that frame and later ones.

    Kinds of columns, inferred from the type unless given in `kinds`:

    - category (text, booleans, integers with at most 50 distinct values): a code. Values with fewer than `min_count`
      occurrences, unknown values and missing ones share a code.
    - bag (lists of text or integers): a code for each distinct value, weighted 1 / n; unknown values are dropped, and
      a list without a known value has its own code.
    - number (other numbers, dates): standardized and clipped to [-5, 5], plus an indicator that is 1 where it is missing (which
      counts as the mean). log_number, for heavy tails: ln(1 + x) first; never inferred.
    - text (`texts`; text columns if `kinds` says so): `TextVectors` of `text_size`, plus a missing indicator.
    - vector (lists of floats, such as embeddings; other lists of numbers if `kinds` says so): as it is, scaled so that the mean square of
      its entries is 1, plus a missing indicator.
    - ignore: columns named in `kinds`, or uninformative ones: no values, a single value, or none frequent enough.

    Args:
        kinds: column -> kind, where inference from the type is not enough.
        min_count: rows a value must occur in.
        text_size: dimensions of a text vector.
        seed: for the text vectors.
        noun: "user" or "item", for messages.

    Attributes:
        num_values: V, including padding.
        num_dense: F.
        ignored: column -> why it is not encoded.
    """

    num_values: int
    num_dense: int
    ignored: dict[str, str]

    def __init__(
        self,
        *,
        kinds: Mapping[str, Kind] | None = None,
        min_count: int = 3,
        text_size: int = 64,
        seed: int = 7,
        noun: str = "item",
    ) -> None:
        unknown = [f"{name}={kind!r}" for name, kind in (kinds or {}).items() if kind not in KINDS]
        if unknown:
            raise ValueError(f"the kind of a column must be one of {', '.join(KINDS)}, got {unknown[0]}")
        if min_count < 1 or text_size < 1:
            raise ValueError(f"min_count and text_size must be at least 1, got {min_count} and {text_size}")
        self.kinds = dict(kinds or {})
        self.min_count = min_count
        self.text_size = text_size
        self.seed = seed
        self.noun = noun
        self._columns: list[_Column] = []
        self._texts: dict[str, TextVectors] = {}

    def fit(self, frame: pl.DataFrame | None, texts: pl.Series | None = None, *, ids: pl.Series | None = None) -> Self:
        """Learn the encoding that `transform` applies.

        Args:
            frame: one row per user or item.
            texts: one per user or item, null where missing.
            ids: of the rows, for messages.

        Raises:
            ValueError: no informative column, a column type without a kind, NaN or infinite numbers, or `kinds` for a
                missing column.
        """
        table = self._table(frame, texts)
        if missing := [name for name in self.kinds if name not in table.columns]:
            raise ValueError(
                f"kinds names {missing[0]!r}, which is not a column of the {self.noun} features; they are {told_apart(table.columns)}"
            )
        self._columns, self._texts, self.ignored = [], {}, {}
        self.num_values, self.num_dense = 1, 0
        for column in table:
            learned = self._learn(column, ids)
            if isinstance(learned, str):
                self.ignored[column.name] = learned
            else:
                self._columns.append(learned)
                self._count(learned)
        if not self._columns:
            raise ValueError(
                f"{self.noun} features need a column whose values differ between rows, got {listed(table.columns) or 'none'}"
                f"{'; ' if self.ignored else ''}{'; '.join(f'{name}: {why}' for name, why in self.ignored.items())}"
            )
        warn_of_ignored(self.noun, self.ignored)
        return self

    def transform(
        self, frame: pl.DataFrame | None, texts: pl.Series | None = None, *, ids: pl.Series | None = None
    ) -> Features:
        """Return encoded rows from the columns seen in `fit`, in any order; other columns are ignored.

        Raises:
            ValueError: a column seen in `fit` is missing or has a different type, or numbers are NaN or infinite; says which.
        """
        table = self._table(frame, texts)
        coded: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        dense: list[np.ndarray] = []
        known_R = np.zeros(table.height, bool)
        for learned in self._columns:
            found = family_of(table.schema[learned.name]) if learned.name in table.columns else None
            numeric = learned.kind in ("number", "log_number")
            how: dict[str, Any] = {"found": found, "numeric": numeric, "known": learned.values or (), "ids": ids}
            column = as_learned(table, learned.name, learned.family, self.noun, **how)
            if learned.kind in ("category", "bag"):
                coded.append((_category_codes if learned.kind == "category" else _bag_codes)(column, learned))
                known_R[coded[-1][0][coded[-1][1] > learned.first]] = True
            elif learned.kind in ("text", "vector"):
                if learned.kind == "text":
                    vectors_RE = self._texts[learned.name].transform(column)
                else:
                    vectors_RE = vectors_of(column, self.noun, learned.size, ids=ids) * np.sqrt(learned.size)
                known_R |= vectors_RE.any(axis=1)
                dense += [vectors_RE, column.is_null().to_numpy()[:, None]]
            else:
                known_R |= column.is_not_null().to_numpy()
                numbers_R = numbers_of(column, self.noun, heavy_tail=learned.kind == "log_number", ids=ids)
                scaled_R = np.clip((numbers_R - learned.mean) / learned.std, -FARTHEST, FARTHEST)
                dense += [np.nan_to_num(scaled_R)[:, None], np.isnan(numbers_R)[:, None]]
        size = table.height
        codes_RM, weights_RM = _padded(coded, size)
        dense_RF = np.concatenate([np.empty((size, 0)), *dense], axis=1).astype(np.float32)
        return Features(codes_RM, weights_RM, dense_RF, known_R)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the learned encoding as numeric arrays; no name contains a dot."""
        learned = {"columns": [vars(column) for column in self._columns], "ignored": self.ignored, "noun": self.noun}
        arrays = {"schema": np.frombuffer(json.dumps(learned).encode(), np.uint8)}
        for at, column in enumerate(self._columns):
            if column.kind == "text":
                arrays |= {f"text_{at}_{name}": array for name, array in self._texts[column.name].arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Restore an encoder from `arrays`."""
        learned = json.loads(arrays["schema"].tobytes().decode())
        encoder = cls(noun=learned["noun"])
        encoder._columns = [_Column(**column) for column in learned["columns"]]
        encoder.ignored = learned["ignored"]
        encoder.num_values, encoder.num_dense = 1, 0
        for at, column in enumerate(encoder._columns):
            if column.kind == "text":
                prefix = f"text_{at}_"
                own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
                encoder._texts[column.name] = TextVectors.from_arrays(own)
            encoder._count(column)
        return encoder

    def _table(self, frame: pl.DataFrame | None, texts: pl.Series | None) -> pl.DataFrame:
        if texts is None:
            return pl.DataFrame() if frame is None else frame
        if frame is not None and TEXTS in frame.columns:
            raise ValueError(
                f"a column of the {self.noun} features may not be called {TEXTS!r} beside texts; rename it"
            )
        texts = texts.alias(TEXTS)
        return texts.to_frame() if frame is None else frame.with_columns(texts)

    def _count(self, column: _Column) -> None:
        """Add a learned column to the total sizes."""
        if column.kind in ("category", "bag"):
            self.num_values += 1 + len(column.values or ())
        else:
            size = self._texts[column.name].components_WT.shape[1] if column.kind == "text" else column.size or 1
            self.num_dense += size + 1

    def _learn(self, column: pl.Series, ids: pl.Series | None) -> _Column | str:
        """Return how to encode a column, or why it is uninformative."""
        kind = self.kinds.get(column.name)
        if kind == "ignore":
            return "as kinds says"
        family = family_of(column.dtype)
        if family == "nothing" or column.null_count() == len(column):
            return "no values"
        fitting = _kinds_of(family)
        if not fitting:
            raise ValueError(
                f"{called(column.name)} of the {self.noun} features holds {column.dtype}, which cannot be encoded; use text, "
                f"numbers, dates, lists of text or vectors of floats, or leave it out: kinds={{{column.name!r}: 'ignore'}}"
            )
        if kind is not None and kind not in fitting:
            raise ValueError(
                f"{called(column.name)} of the {self.noun} features holds {family}, which can be {' or '.join(fitting)}, not {kind}"
            )
        if kind is None:
            kind = "text" if column.name == TEXTS else fitting[0]
            if family == "whole numbers" and column.n_unique() <= MOST_CATEGORIES:
                kind = "category"
        if kind in ("category", "bag"):
            return self._learn_values(column, kind, family)
        if kind == "text":
            vectors = TextVectors(size=self.text_size, seed=self.seed).fit(column)
            if not len(vectors.words):
                return "texts share no words"
            self._texts[column.name] = vectors
            return _Column(column.name, kind, family)
        if kind == "vector":
            vectors_RE = vectors_of(column, self.noun, None, ids=ids)
            return (
                _Column(column.name, kind, family, size=vectors_RE.shape[1])
                if vectors_RE.any()
                else "all its vectors are 0"
            )
        numbers_R = numbers_of(column, self.noun, heavy_tail=kind == "log_number", ids=ids)
        mean, std = float(np.nanmean(numbers_R)), float(np.nanstd(numbers_R))
        if std <= 1e-9 * abs(mean):
            return "a single value"
        return _Column(column.name, kind, family, mean=mean, std=std)

    def _learn_values(self, column: pl.Series, kind: Kind, family: str) -> _Column | str:
        values = values_of(column)
        counts = values.unique(["row", "value"]).group_by("value").len("rows").sort("value")
        most = int(counts["rows"].max() or 0)  # type: ignore[arg-type]
        counts = counts.filter(pl.col("rows") >= self.min_count)
        if not len(counts):
            return too_rare(column, most, self.min_count, family == "text")
        if len(counts) == 1 and counts["rows"][0] == len(column):
            return "a single value"
        return _Column(column.name, kind, family, values=counts["value"].to_list(), first=self.num_values)


def _kinds_of(family: str) -> tuple[Kind, ...]:
    """Return the kinds a column may have, the inferred one first."""
    return {
        "lists of text": ("bag",),
        "lists of whole numbers": ("bag", "vector"),
        "vectors": ("vector",),
        "true or false": ("category",),
        "whole numbers": ("number", "log_number", "category"),
        "numbers": ("number", "log_number"),
        "dates": ("number",),
        "text": ("category", "text"),
    }.get(family, ())  # type: ignore[return-value]


def _codes(column: pl.Series, learned: _Column) -> pl.DataFrame:
    """Return rows and the codes of their known values, each once."""
    values = learned.values or []
    codes = np.arange(learned.first + 1, learned.first + 1 + len(values), dtype=np.int32)
    known = pl.DataFrame({"value": pl.Series(values, dtype=pl.String), "code": codes})
    joined = values_of(column).join(known, on="value", how="inner", maintain_order="left")
    return joined.unique(["row", "code"], maintain_order=True)


def _category_codes(column: pl.Series, learned: _Column) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, codes and weights, exactly one per row."""
    codes_R = np.full(len(column), learned.first, np.int32)
    found = _codes(column, learned)
    codes_R[found["row"].to_numpy()] = found["code"].to_numpy()
    return np.arange(len(column)), codes_R, np.ones(len(column), np.float32)


def _bag_codes(column: pl.Series, learned: _Column) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, codes and weights, at least one per row."""
    found = _codes(column, learned)
    rows = found["row"].to_numpy()
    counts_R = np.bincount(rows, minlength=len(column))
    blank = np.flatnonzero(counts_R == 0)
    codes = np.concatenate([found["code"].to_numpy(), np.full(len(blank), learned.first)])
    weights = np.concatenate([1 / counts_R[rows], np.ones(len(blank))])
    return np.concatenate([rows, blank]), codes, weights


def _padded(coded: list[tuple[np.ndarray, np.ndarray, np.ndarray]], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and weights as padded matrices [R, M], columns in order."""
    if not coded:
        return np.zeros((size, 0), np.int32), np.zeros((size, 0), np.float32)
    rows, codes, weights = (np.concatenate(parts) for parts in zip(*coded, strict=True))
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    counts_R = np.bincount(rows, minlength=size)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts_R) - counts_R, counts_R)
    codes_RM = np.zeros((size, int(counts_R.max(initial=0))), np.int32)
    weights_RM = np.zeros(codes_RM.shape, np.float32)
    codes_RM[rows, places] = codes[order]
    weights_RM[rows, places] = weights[order]
    return codes_RM, weights_RM
