"""Learning what items are about from their features and texts: words, categories, tags, periods and vectors, by name.

R rows, T terms, E entries of dense vectors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.names import near

from .column_types import as_learned, called, family_of, numbers_of, told_apart, values_of, vectors_of
from .ignored_columns import too_rare, warn_of_ignored
from .periods import memberships, periods
from .profile_columns import Column, is_prose, slices_of, table_of
from .profiles import Profiles
from .sentences import SIZE, sentence_vectors
from .stated_tastes import profile_of
from .words import learned_words, restored_words, word_matrix

KINDS = ("category", "bag", "number", "text", "sentence", "vector", "ignore")
FITTING = {
    "text": ("category", "text", "sentence"),
    "true or false": ("category",),
    "whole numbers": ("number", "category"),
    "numbers": ("number",),
    "dates": ("number",),
    "lists of text": ("bag", "vector"),
    "lists of whole numbers": ("bag", "vector"),
    "vectors": ("vector",),
}


class ProfileEncoder:
    """Learns the terms of a table of items and encodes its rows, and later ones, as vectors of unit length.

    Each column makes a block of its own length 1 times the square root of its weight, so that the product of two rows is the
    weighted mean of the columns' cosines, over the columns that both have. Kinds, inferred unless given in `kinds`:

    - bag (lists): a term for each value of at least `min_count` rows, weighted by ln((1 + R) / (1 + rows with it)) + 1.
    - category (text, booleans): likewise, one a row; the column's weight is multiplied by the chance that two rows differ, so that
      a column that is nearly always the same counts little.
    - text (`texts`, titles without a year in parentheses at the end, columns of prose): TF-IDF of scikit-learn's `TfidfVectorizer` with sublinear term frequency
      (Salton and Buckley 1988).
    - number: periods of about as many rows each, at most ten, decades for years. A number belongs to the two periods whose middles enclose it, the
      nearer the more, so that close numbers are similar.
    - sentence (text columns named so in `kinds`): a vector of what the text means, by `data.sentences.sentence_vectors`.
    - vector (arrays of floats, such as sentence embeddings): as it is, scaled to length 1.
    - ignore: columns named in `kinds`, and uninformative ones.

    Args:
        kinds: column -> kind, where inference from the type is not enough.
        column_weights: column -> its weight in a similarity; 1 unless given.
        min_count: rows that a value or word must occur in.
        max_share: of the rows; words in more are dropped.
        max_words: of one text column, the most frequent.
        ngrams: longest sequence of words that makes a term.
        stop_words: words to drop, or "english" for scikit-learn's list.
        noun: "item" or "user", for messages.

    Attributes:
        terms: the T names.
        owner_T: the name of the column of each term.
        num_dense: E.
        ignored: column -> why it is not encoded.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl.data.profile_encoder import ProfileEncoder
        >>> items = pl.DataFrame({"genres": [["Drama", "War"], ["War"], ["Comedy"]]})
        >>> encoder = ProfileEncoder(min_count=1)
        >>> profiles = encoder.fit(items).transform(items)
        >>> encoder.terms, (profiles.terms_RT @ profiles.terms_RT.T).toarray().round(2)
        (['Comedy', 'Drama', 'War'], array([[1.  , 0.61, 0.  ],
               [0.61, 1.  , 0.  ],
               [0.  , 0.  , 1.  ]], dtype=float32))
    """

    terms: list[str]
    owner_T: list[str]
    num_dense: int
    ignored: dict[str, str]

    def __init__(
        self,
        *,
        kinds: Mapping[str, str] | None = None,
        column_weights: Mapping[str, float] | None = None,
        min_count: int = 2,
        max_share: float = 0.5,
        max_words: int = 20_000,
        ngrams: int = 2,
        stop_words: Sequence[str] | str | None = None,
        noun: str = "item",
    ) -> None:
        for name, kind in (kinds or {}).items():
            if kind not in KINDS:
                raise ValueError(
                    f"the kind of a column must be one of {', '.join(KINDS)}, got {name}={kind!r}{near(kind, KINDS)}"
                )
        for name, weight in (column_weights or {}).items():
            if not 0 <= weight < np.inf:
                raise ValueError(
                    f"column_weights must be finite and at least 0, got {name}={weight}; 0 leaves a column out"
                )
        if isinstance(stop_words, str) and stop_words != "english":
            raise ValueError(
                f'stop_words must be a list of words, null for none, or "english", got {stop_words!r}; hand over a list for other '
                "languages"
            )
        self.kinds = dict(kinds or {})
        self.column_weights = dict(column_weights or {})
        self.min_count, self.max_share, self.max_words, self.ngrams = min_count, max_share, max_words, ngrams
        self.stop_words = stop_words if isinstance(stop_words, str) or stop_words is None else list(stop_words)
        self.noun = noun
        self._columns: list[Column] = []

    def fit(
        self,
        frame: pl.DataFrame | None,
        texts: pl.Series | None = None,
        titles: pl.Series | None = None,
        ids: pl.Series | None = None,
    ) -> Self:
        """Learn the terms.

        Args:
            frame: one row per item.
            texts: one per row, null where missing.
            titles: likewise.
            ids: of the rows, for messages.

        Raises:
            ValueError: no informative column, NaN or infinite numbers, vectors of unequal length, or `kinds` or
                `column_weights` of a missing column.
        """
        table = table_of(frame, texts, titles)
        for setting, named in (("kinds", self.kinds), ("column_weights", self.column_weights)):
            for name in named:
                if name not in table.columns:
                    raise ValueError(
                        f"{setting} names {name!r}, which is not a column of the {self.noun} features"
                        f"{near(name, table.columns)}; they are {told_apart(table.columns)}"
                    )
        self._columns, self.ignored = [], {}
        for column in table:
            learned = self._learn(column, ids)
            if isinstance(learned, str):
                self.ignored[column.name] = learned
            else:
                self._columns.append(learned)
        if not self._columns:
            why = "; ".join(f"{name} ({reason})" for name, reason in self.ignored.items())
            raise ValueError(
                f"{self.noun} features need a column whose values or words occur in several rows, got {why or 'none'}"
            )
        warn_of_ignored(self.noun, self.ignored)
        self._count()
        return self

    def transform(
        self,
        frame: pl.DataFrame | None,
        texts: pl.Series | None = None,
        titles: pl.Series | None = None,
        ids: pl.Series | None = None,
    ) -> Profiles:
        """Return encoded rows, of length 1 or 0, from the columns seen in `fit`; other columns are ignored.

        Raises:
            ValueError: a column seen in `fit` is missing or has a different type, numbers are NaN or infinite, or vectors are of another length.
        """
        table = table_of(frame, texts, titles)
        blocks, dense = [], [np.zeros((table.height, 0), np.float32)]
        for learned in self._columns:
            found = family_of(table.schema[learned.name]) if learned.name in table.columns else None
            how: dict[str, Any] = {"found": found, "numeric": True, "known": learned.terms, "ids": ids}
            column = as_learned(table, learned.name, learned.family, self.noun, **how)
            if learned.size:
                vectors_RE = (
                    sentence_vectors(column)
                    if learned.kind == "sentence"
                    else vectors_of(column, self.noun, learned.size, ids=ids)
                )
                dense.append(vectors_RE * np.float32(np.sqrt(learned.weight)))
            else:
                parts = zip(slices_of(column), slices_of(ids) if ids is not None else repeat(None), strict=False)
                blocks.append(sp.vstack([self._block(part, learned, own) for part, own in parts], format="csr"))
        terms_RT = sp.hstack(blocks, format="csr") if blocks else sp.csr_matrix((table.height, 0))
        return Profiles(terms_RT.astype(np.float32), np.concatenate(dense, axis=1)).unit()

    def tastes(self, words: Sequence[str] | Mapping[str, float]) -> sp.csr_matrix:
        """Return CSR [1, T]: the profile of stated tastes, see `stated_tastes.profile_of`."""
        return profile_of(words, self.terms, self.owner_T, self.noun)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what was learned as numeric arrays; no name contains a dot."""
        settings = {
            name: getattr(self, name)
            for name in ("max_share", "max_words", "ngrams", "stop_words", "min_count", "noun")
        }
        about = {"columns": [one.about() for one in self._columns], "ignored": self.ignored, "settings": settings}
        arrays = {"schema": np.frombuffer(json.dumps(about).encode(), np.uint8)}
        for at, one in enumerate(self._columns):
            arrays[f"terms_{at}"] = np.frombuffer(json.dumps(one.terms).encode(), np.uint8)
            arrays[f"idf_{at}"], arrays[f"knots_{at}"] = one.idf_T, one.knots_T
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Restore an encoder from `arrays`."""
        about = json.loads(arrays["schema"].tobytes().decode())
        encoder = cls(**about["settings"])
        encoder.ignored = about["ignored"]
        for at, one in enumerate(about["columns"]):
            terms = json.loads(arrays[f"terms_{at}"].tobytes().decode())
            column = Column(**one, terms=terms, idf_T=arrays[f"idf_{at}"], knots_T=arrays[f"knots_{at}"])
            if column.kind == "text":
                column.words = restored_words(terms, column.idf_T, **encoder._how)
            encoder._columns.append(column)
        encoder._count()
        return encoder

    # Internal

    def _count(self) -> None:
        self.terms = [term for one in self._columns for term in one.terms]
        self.owner_T = [one.name for one in self._columns for _ in one.terms]
        self.num_dense = sum(one.size for one in self._columns)

    @property
    def _how(self) -> dict[str, Any]:
        return {"ngram_range": (1, self.ngrams), "stop_words": self.stop_words, "dtype": np.float32}

    def _learn(self, column: pl.Series, ids: pl.Series | None) -> Column | str:
        """Return how to encode a column, or why it is uninformative."""
        kind = self.kinds.get(column.name)
        weight = self.column_weights.get(column.name, 1.0)
        if kind == "ignore" or weight == 0:
            return "as kinds says" if kind == "ignore" else "its weight is 0"
        family = family_of(column.dtype)
        if family == "nothing" or column.null_count() == len(column):
            return "no values"
        fitting = FITTING.get(family)
        if fitting is None:
            raise ValueError(
                f"{called(column.name)} of the {self.noun} features holds {column.dtype}, which cannot be encoded; use text, "
                f"numbers, dates, lists of text or arrays of floats, or leave it out: kinds={{{column.name!r}: 'ignore'}}"
            )
        if kind is not None and kind not in fitting:
            raise ValueError(
                f"{called(column.name)} of the {self.noun} features holds {family}, which can be {' or '.join(fitting)}, not {kind}"
            )
        kind = kind or ("text" if family == "text" and is_prose(column) else fitting[0])
        learned = Column(column.name, kind, family, weight, [])
        if kind == "vector":
            vectors_RE = vectors_of(column, self.noun, None, ids=ids)
            if not vectors_RE.any():
                return "all its vectors are 0"
            learned.size = vectors_RE.shape[1]
        elif kind == "sentence":
            learned.size = SIZE
        elif kind == "number":
            numbers_R = numbers_of(column, self.noun, ids=ids)
            learned.knots_T, learned.terms = periods(numbers_R[~np.isnan(numbers_R)], column.name)
        elif kind == "text":
            return self._learn_words(column, learned)
        else:
            return self._learn_values(column, learned)
        return learned if learned.size or len(learned.terms) > 1 else "a single value"

    def _learn_values(self, column: pl.Series, learned: Column) -> Column | str:
        parts = [values_of(part).unique(["row", "value"]).group_by("value").len("rows") for part in slices_of(column)]
        counts = pl.concat(parts).group_by("value").agg(pl.col("rows").sum()).sort("value")
        most = int(counts["rows"].max() or 0)  # type: ignore[arg-type]
        counts = counts.filter(pl.col("rows") >= self.min_count)
        rows_T = counts["rows"].to_numpy()
        if not len(counts):
            return too_rare(column, most, self.min_count, "text" in FITTING.get(learned.family, ()))
        if len(counts) == 1 and rows_T[0] == len(column):
            return "a single value"
        if learned.kind == "category":
            learned.weight *= float(1 - ((rows_T / len(column)) ** 2).sum())
        learned.terms = counts["value"].to_list()
        learned.idf_T = (np.log((1 + len(column)) / (1 + rows_T)) + 1).astype(np.float32)
        return learned

    def _learn_words(self, column: pl.Series, learned: Column) -> Column | str:
        limits = {"min_df": min(self.min_count, len(column) - column.null_count()), "max_df": self.max_share}
        learned.words = learned_words(column, max_features=self.max_words, **limits, **self._how)
        if learned.words is None:
            return (
                f"no word is in {self.min_count} rows, in at most {self.max_share:.0%} of them, and not a stop word; lower "
                f"min_count={self.min_count}, or raise max_share={self.max_share:g}"
            )
        learned.terms = learned.words.get_feature_names_out().tolist()
        learned.idf_T = learned.words.idf_.astype(np.float32)
        return learned

    def _block(self, column: pl.Series, learned: Column, ids: pl.Series | None) -> sp.csr_matrix:
        """Return CSR [R, terms of the column], rows of length sqrt(weight) or 0."""
        shape = (len(column), len(learned.terms))
        if learned.kind == "text":
            assert learned.words is not None
            block = word_matrix(learned.words, column)
        elif learned.kind == "number":
            block = memberships(numbers_of(column, self.noun, ids=ids), learned.knots_T)
        else:
            known = pl.DataFrame({"value": learned.terms, "at": np.arange(len(learned.terms))})
            found = values_of(column).unique(["row", "value"]).join(known, on="value", how="inner")
            at = found["at"].to_numpy()
            block = sp.csr_matrix((learned.idf_T[at], (found["row"].to_numpy(), at)), shape=shape)
        return Profiles(block.tocsr(), np.zeros((shape[0], 0), np.float32)).unit().terms_RT * np.sqrt(learned.weight)
