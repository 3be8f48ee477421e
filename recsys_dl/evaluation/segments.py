"""Which segments of users and items an evaluation reports: cold and warm ones, or those of a feature.

U test users, I items, X user rows or item rows of the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.messages import shorten
from recsys_dl.names import near, nearest

from .questions import Questions

COLD = "cold"
KNOWN = ((0, 0), (1, 2), (3, 5), (6, 10), (11, 20), (21, None))  # numbers of known interactions
VALUES = 20  # of a column, at most; the rest are "other"
DISTINCT_NUMBERS = 10  # of a column of numbers, beyond which it is cut into quarters

Segmentation = str | Sequence[str] | Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Segment:
    """A row of the table.

    Attributes:
        name: as printed.
        users_U: bool, the test users in it; None for all.
        items_I: bool, the items that count as relevant; None for all.
        alone: whether `items_I` are also the only candidates.
    """

    name: str
    users_U: np.ndarray | None = None
    items_I: np.ndarray | None = None
    alone: bool = False


def segments_of(
    asked: Segmentation, questions: Questions, train: Dataset | Interactions
) -> tuple[list[Segment], list[str]]:
    """Return the requested segments after one of everything, and notes on what there is none of.

    Args:
        asked: "cold"; "user:COLUMN" or "item:COLUMN" of train's features; a sequence of these; or a mapping of names such as "user:plan" to labels, one per
            user row or item row of the log.
        questions: of the evaluation.
        train: whose features are looked up.

    Raises:
        ValueError: an unknown name, a column that there is not, labels of another length.
    """
    if isinstance(asked, str):
        asked = [asked]
    if not isinstance(asked, Mapping | Sequence):
        raise ValueError(
            'segments must be "cold", a list of names such as ["cold", "user:age"], or a mapping of names to labels, one per row, such as '
            f'{{"user:plan": plans}}; got {type(asked).__name__}'
        )
    named = dict(asked) if isinstance(asked, Mapping) else dict.fromkeys(asked)
    if not named:
        raise ValueError('segments must name at least one, such as "cold" or "user:age", got none')
    columns = [str(name).partition(":")[2] for name in named]
    found, notes = [Segment("all")], []
    for name, labels in named.items():
        if name == COLD:
            cold, more = _cold(questions)
            found += cold
            notes += more
        else:
            twice = columns.count(str(name).partition(":")[2]) > 1  # of users and of items
            found += _labelled(name, labels, questions, train, whole_name=twice)
    return found, notes


def known_counts(questions: Questions) -> np.ndarray:
    """Return int64 [U]: distinct items of each test user that the model knows, of train and of `test.histories`."""
    counts_U = questions.known.user_counts_U[questions.users]
    return counts_U if questions.histories is None else counts_U + questions.histories.user_counts_U[questions.users]


def _cold(questions: Questions) -> tuple[list[Segment], list[str]]:
    known_U, warm_I = known_counts(questions), questions.known.item_counts_I > 0
    warm_U = known_U > 0
    asked_I = np.asarray((questions.relevant > 0).sum(axis=0)).ravel() > 0
    notes = []
    rows: list[Segment] = []
    users = {"warm users": warm_U, "cold users": ~warm_U}
    items = [Segment("warm items", None, warm_I), Segment("cold items", None, ~warm_I)]
    items.append(Segment("cold items", None, ~warm_I, alone=True))
    any_cold = {"users": not warm_U.all(), "items": not warm_I[asked_I].all()}
    if any_cold["users"]:
        rows += [Segment(name, mine_U) for name, mine_U in users.items()]
    if any_cold["items"]:
        rows += items
    if all(any_cold.values()):
        for name, mine_U in users.items():
            for one in items:
                both = "both cold" if (name, one.name) == ("cold users", "cold items") else f"{name}, {one.name}"
                rows.append(Segment(both, mine_U, one.items_I, one.alone))
    for noun, there in any_cold.items():
        if not there:
            size = f"{len(known_U):,} test users have" if noun == "users" else f"{asked_I.sum():,} relevant items have"
            notes.append(
                f"no {noun} are cold: all {size} interactions in train (split=cold holds out whole users and items)"
            )
    for low, high in KNOWN:
        name = f">{low - 1} known" if high is None else f"{low} known" if low == high else f"{low}-{high} known"
        rows.append(Segment(name, (known_U >= low) & (known_U <= (np.inf if high is None else high))))
    return rows, notes


def _labelled(
    name: Any, labels: Any, questions: Questions, train: Dataset | Interactions, *, whole_name: bool
) -> list[Segment]:
    """Return a segment for each value of a feature."""
    side, _, column = str(name).partition(":")
    if side not in ("user", "item") or not column:
        known = [COLD, *_columns(train)]
        by_column = {one.partition(":")[2] or one: one for one in known}
        meant = nearest(str(name), known) or by_column.get(nearest(str(name), by_column) or "")
        raise ValueError(
            f'segments must be "cold", "user:COLUMN" or "item:COLUMN", got {shorten(str(name))!r}'
            f"{f' (did you mean {meant!r}?)' if meant else ''}; there are {shorten(', '.join(known), 300)}"
        )
    log = questions.known
    size = log.num_users if side == "user" else log.num_items
    if labels is None:
        values = _feature(side, column, train)
    else:
        values = labels if isinstance(labels, pl.Series) else pl.Series(column, _plain(labels), strict=False)
        if len(values) != size:
            raise ValueError(
                f"the labels of {name!r} must be one for each of the {size:,} {side} rows of the log, got {len(values):,}"
            )
    segments = []
    for value, mine_X in _groups(values):
        mine = {"users_U": mine_X[questions.users]} if side == "user" else {"items_I": mine_X}
        segments.append(Segment(f"{name if whole_name else column}: {value}", **mine))
    return segments


def _plain(labels: Any) -> Any:
    """Return labels as a list, or an array of one dimension."""
    if isinstance(labels, pl.DataFrame):
        raise ValueError("labels must be one column, such as frame['plan'], got a frame")
    return (
        labels.to_numpy() if hasattr(labels, "to_numpy") else labels if isinstance(labels, np.ndarray) else list(labels)
    )


def _columns(train: Dataset | Interactions) -> list[str]:
    sides = ("user", "item") if isinstance(train, Dataset) else ()
    frames = {side: getattr(train, f"{side}_features") for side in sides}
    return [f"{side}:{name}" for side, frame in frames.items() if frame is not None for name in frame.columns]


def _feature(side: str, column: str, train: Dataset | Interactions) -> pl.Series:
    frame = getattr(train, f"{side}_features", None)
    free = side == "item" and any(getattr(train, name, None) is not None for name in ("item_texts", "item_titles"))
    if frame is None:
        held = "only titles and free texts, which differ between items and make no segments" if free else "none"
        raise ValueError(
            f"segments={side}:{shorten(column)} needs {side} features, and train has {held}; read the log with {side}_features=, or hand over "
            f'labels: segments={{"{side}:{shorten(column)}": labels}}, one for each {side} row'
        )
    if column not in frame.columns:
        raise ValueError(
            f"the {side} features have no column {shorten(column)!r}{near(column, frame.columns)}; there are "
            f"{shorten(', '.join(frame.columns), 300)}{'; titles and free texts, which differ between items, make no segments' if free else ''}"
        )
    return frame[column]


def _groups(values: pl.Series) -> list[tuple[str, np.ndarray]]:
    """Return each value with the rows that have it, bool [X]; of a list column rows may have several."""
    size = len(values)
    if values.dtype.is_float():
        values = values.fill_nan(None)
    if values.dtype.is_numeric() and values.n_unique() > DISTINCT_NUMBERS:
        return _quarters(values)
    frame = pl.DataFrame({"row": np.arange(size), "value": values})
    if isinstance(values.dtype, pl.List | pl.Array):
        frame = frame.explode("value")
    ordered = frame["value"].dtype.is_numeric() or frame["value"].dtype == pl.Boolean
    counts = frame.drop_nulls().unique().group_by("value").len().sort(["len", "value"], descending=[True, False])
    common = counts["value"][:VALUES]
    groups = []
    for value in common.sort() if ordered else common:
        rows = frame.filter(pl.col("value") == value)["row"]
        groups.append((shorten(str(value), 24), _mask(rows, size)))
    if len(counts) > VALUES:
        rest = frame.filter(pl.col("value").is_not_null() & ~pl.col("value").is_in(common.implode()))["row"]
        groups.append((f"other ({len(counts) - VALUES:,} values)", _mask(rest, size)))
    known_X = _mask(frame.drop_nulls()["row"], size)
    if not known_X.all():
        groups.append(("(missing)", ~known_X))
    return groups


def _quarters(values: pl.Series) -> list[tuple[str, np.ndarray]]:
    """Cut numbers at their quartiles, as far as these differ."""
    numbers_X = values.cast(pl.Float64).to_numpy()
    known_X = np.isfinite(numbers_X)
    edges = np.unique(np.quantile(numbers_X[known_X], [0, 0.25, 0.5, 0.75, 1]))
    part_X = np.clip(np.searchsorted(edges, numbers_X, side="right") - 1, 0, max(0, len(edges) - 2))
    groups = []
    for part in range(max(1, len(edges) - 1)):
        mine_X = known_X & (part_X == part)
        if mine_X.any():
            groups.append((f"{numbers_X[mine_X].min():g} to {numbers_X[mine_X].max():g}", mine_X))
    return [*groups, ("(missing)", ~known_X)] if not known_X.all() else groups


def _mask(rows: pl.Series, size: int) -> np.ndarray:
    mask_X = np.zeros(size, bool)
    mask_X[rows.to_numpy()] = True
    return mask_X
