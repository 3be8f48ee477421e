"""Features from user and item side information.

U users, I items, R rows, V values, B users of a block, L candidates, C features of a column, T size of a content vector.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import polars as pl

from recsys_dl.data.features import FeatureEncoder
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.text_vectors import TextVectors

from .column import Block, Column, ItemColumn, Known

NONE = "none of these"  # stands for missing and rare values


class ItemFeatures(ItemColumn):
    """The item's side features: numbers, and one-hot encoded frequent values of the others; a list's values sum to 1.

    Args:
        columns: columns of `Dataset.item_features`; None takes all.
        num_values: number of the most frequent values of categories and lists to keep.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl import read_log
        >>> from recsys_dl.rankers import CandidateFeatures
        >>> from recsys_dl.rankers.side_columns import ItemFeatures
        >>> books = pl.DataFrame({"item": ["b1", "b2"], "price": [5.0, 9.0]})
        >>> log = read_log({"user": ["ann", "bob"], "item": ["b1", "b2"]}, item_features=books)
        >>> CandidateFeatures([ItemFeatures()]).fit(log).compute([0], [[0, 1]])
        array([[[-1.,  0.],
                [ 1.,  0.]]], dtype=float32)
    """

    def __init__(self, *, columns: Sequence[str] | None = None, num_values: int = 50) -> None:
        self.columns, self.num_values = None if columns is None else list(columns), num_values

    def fit(self, known: Known) -> None:
        """Encode them."""
        frame = side(known, "item", self.columns)
        encoder = FeatureEncoder(noun="item").fit(frame[: known.num_learned])
        self.values_IC, self.names = encoded(encoder, frame, self.num_values, "item", known.num_learned)

    def grow(self, known: Known) -> None:
        """Encode all as in `fit`."""
        self.fit(known)


class UserFeatures(Column):
    """The user's side features, as `ItemFeatures`; a new user has unknown features.

    Args:
        columns: columns of `Dataset.user_features`; None takes all.
        num_values: number of the most frequent values of categories and lists to keep.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl import read_log
        >>> from recsys_dl.rankers import CandidateFeatures
        >>> from recsys_dl.rankers.side_columns import UserFeatures
        >>> people = pl.DataFrame({"user": ["ann", "bob"], "income": [30.0, 50.0]})
        >>> log = read_log({"user": ["ann", "bob"], "item": ["b1", "b2"]}, user_features=people)
        >>> CandidateFeatures([UserFeatures()]).fit(log).compute([1], [[0, 1]])
        array([[[1., 0.],
                [1., 0.]]], dtype=float32)
    """

    fitted = ("values_UC",)
    values_UC: np.ndarray

    def __init__(self, *, columns: Sequence[str] | None = None, num_values: int = 50) -> None:
        self.columns, self.num_values = None if columns is None else list(columns), num_values

    def fit(self, known: Known) -> None:
        """Encode them, with a last row for unknown users."""
        frame = side(known, "user", self.columns)
        encoder = FeatureEncoder(noun="user").fit(frame)
        self.values_UC, self.names = encoded(encoder, pl.concat([frame, frame.clear(1)]), self.num_values, "user")

    def values(self, block: Block) -> np.ndarray:
        """Return the users' rows, the same for every candidate."""
        rows_B = np.full(len(block.items_BL), -1) if block.users_B is None else block.users_B
        return np.repeat(self.values_UC[rows_B][:, None], block.items_BL.shape[1], axis=1)


class ContentSimilarity(Column):
    """Cosine of the item's content with the user's profile: the weighted sum of the contents of their items.

    Content is the words of texts and of all text or list-of-text side features, as TF-IDF vectors projected on their first
    singular vectors (`TextVectors`). 0 where either is unknown.

    Args:
        size: T.
        seed: for the singular vectors.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl import read_log
        >>> from recsys_dl.rankers import CandidateFeatures
        >>> from recsys_dl.rankers.side_columns import ContentSimilarity
        >>> texts = ["murder mystery", "murder mystery", "rose garden", "rose garden"]
        >>> books = pl.DataFrame({"item": ["b1", "b2", "b3", "b4"], "text": texts})
        >>> log = read_log({"user": ["ann", "bob", "bob"], "item": ["b1", "b2", "b3"]}, item_features=books)
        >>> CandidateFeatures([ContentSimilarity()]).fit(log).compute([0], [[1, 2]]).round(2)
        array([[[ 1.],
                [-1.]]], dtype=float32)
    """

    fitted = ("unit_IT", "profiles_UT")
    unit_IT: np.ndarray
    profiles_UT: np.ndarray

    def __init__(self, *, size: int = 64, seed: int = 7) -> None:
        self.size, self.seed = size, seed

    def fit(self, known: Known) -> None:
        """Encode contents, and sum them per user."""
        self.names = ("content similarity",)
        texts = _contents(known)
        vectors_IT = TextVectors(size=self.size, seed=self.seed).fit(texts[: known.num_learned]).transform(texts)
        self.unit_IT = _unit(vectors_IT)
        self.profiles_UT = self._profiles(known.log)

    def grow(self, known: Known) -> None:
        """Encode all as in `fit`."""
        self.fit(known)

    def values(self, block: Block) -> np.ndarray:
        """Return cosines."""
        if block.histories is not None:
            profiles_BT = self._profiles(block.histories)
        else:
            profiles_BT = self.profiles_UT[block.users_B]
        # Summed along one axis, not by a matrix product, whose summation order depends on the number of users.
        cosines_BL = (self.unit_IT[block.items_BL] * profiles_BT[:, None]).sum(axis=2, dtype=np.float32)
        return cosines_BL[..., None]

    def _profiles(self, log: Interactions) -> np.ndarray:
        return _unit(np.asarray(log.by_user @ self.unit_IT, np.float32))


def encoded(
    encoder: FeatureEncoder, frame: pl.DataFrame, num_values: int, noun: str, num_learned: int | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return float32 [R, C] and names such as "item year" and "item genres=Comedy".

    Args:
        encoder: fitted; without free text columns.
        frame: what to encode.
        num_values: number of the most frequent values of categories and lists with a column; the rest are all 0.
        noun: "item" or "user".
        num_learned: the first rows, among which values are frequent; None: all.
    """
    features = encoder.transform(frame)
    dense_names: list[str] = []
    value_names = ["padding"]
    for column in json.loads(encoder.arrays()["schema"].tobytes())["columns"]:
        name = column["name"]
        if column["kind"] in ("category", "bag"):
            value_names += [f"{name}={value}" for value in (NONE, *column["values"])]
        else:
            entries = [f"{name} {at}" for at in range(column["size"])]  # of a vector
            dense_names += [*(entries or [name]), f"{name} missing"]
    codes = features.codes_RM.ravel()
    learned = slice(num_learned)
    totals_V = np.bincount(
        features.codes_RM[learned].ravel(),
        weights=features.weights_RM[learned].ravel(),
        minlength=len(value_names),
    )
    kept = np.sort(np.argsort(-totals_V[1:], kind="stable")[:num_values]) + 1
    places_V = np.full(len(value_names), -1)
    places_V[kept] = np.arange(len(kept))
    rows = np.repeat(np.arange(len(features)), features.codes_RM.shape[1])
    known = places_V[codes] >= 0
    shares_RV = np.zeros((len(features), len(kept)), np.float32)
    np.add.at(shares_RV, (rows[known], places_V[codes][known]), features.weights_RM.ravel()[known])
    values_RC = np.concatenate([features.dense_RF, shares_RV], axis=1)
    return values_RC, tuple(f"{noun} {name}" for name in [*dense_names, *(value_names[at] for at in kept)])


def side(known: Known, noun: str, columns: Sequence[str] | None) -> pl.DataFrame:
    """Return the side features of users or items.

    Raises:
        ValueError: there are none, or a column does not exist.
    """
    frame = None if known.data is None else getattr(known.data, f"{noun}_features")
    if frame is None:
        raise ValueError(f"{noun.capitalize()}Features needs a Dataset with {noun}_features, got none")
    if missing := [name for name in columns or () if name not in frame.columns]:
        raise ValueError(f"there is no {noun} feature {missing[0]!r}; there are {', '.join(frame.columns)}")
    return frame if columns is None else frame.select(columns)


def _contents(known: Known) -> pl.Series:
    """Return one text per item, null where unknown."""
    data = known.data
    parts = [] if data is None or data.item_texts is None else [data.item_texts.cast(pl.String).alias("texts")]
    for column in () if data is None or data.item_features is None else data.item_features:
        if column.dtype == pl.String:
            parts.append(column)
        elif isinstance(column.dtype, pl.List) and column.dtype.inner == pl.String:
            parts.append(column.list.join(" ", ignore_nulls=True))
    if not parts:
        raise ValueError(
            "ContentSimilarity needs a Dataset with item_texts, or item_features of text or lists of text, got none"
        )
    frame = pl.DataFrame([part.alias(str(at)) for at, part in enumerate(parts)])
    texts = frame.select(pl.concat_str(pl.all(), separator=" ", ignore_nulls=True)).to_series()
    return texts.set(texts == "", None)


def _unit(vectors_RT: np.ndarray) -> np.ndarray:
    lengths_R = np.sqrt(np.square(vectors_RT).sum(axis=1, dtype=np.float32))
    return vectors_RT / np.maximum(lengths_R, np.float32(1e-12))[:, None]
