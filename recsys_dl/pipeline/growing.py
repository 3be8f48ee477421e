"""New items in a fitted pipeline, by their features and texts. I items, D embedding size."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import polars as pl

from recsys_dl.data.column_types import as_learned, family_of, values_of
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.item_content import only_items
from recsys_dl.data.messages import shorten
from recsys_dl.wider import scores_new_items, with_new_items

from .stages import Stages

FEATURES, TITLE, TEXT = "features", "title", "text"

P = TypeVar("P", bound=Stages)


def described(data: Dataset | Interactions) -> pl.DataFrame | None:
    """Return the item features (as one struct), titles and texts of a log, one row an item; None if it has none."""
    if not isinstance(data, Dataset):
        return None
    features = data.item_features
    parts = [
        None if features is None else features.to_struct(FEATURES),
        None if data.item_titles is None else data.item_titles.alias(TITLE),
        None if data.item_texts is None else data.item_texts.alias(TEXT),
    ]
    given = [part for part in parts if part is not None]
    return pl.DataFrame(given) if given else None


def grown(pipeline: P, new: Dataset, seen: Interactions) -> P:
    """Return a pipeline whose stages know the items of `new` too; the given one stays as it is.

    Retrievers that score items by their content grow by them, the others never return them. The ranker sees their features,
    encoded as in training, and no interactions. Re-rankers are prepared again; what policies have learned stays.

    Args:
        pipeline: fitted.
        new: items with features, without interactions.
        seen: users' interactions over the items so far; weight 0 means not used for training.

    Raises:
        ValueError: interactions, no ids, no retriever that scores items by their content, features of other columns or types than in
            training, or a pipeline that an earlier version saved, or that was loaded without a stage.
    """
    new = only_items(new)
    if pipeline.broken:
        raise ValueError(
            f"this pipeline was loaded without {', '.join(pipeline.broken)}, which items cannot be added to"
        )
    if pipeline.users is None or pipeline.items is None:
        raise ValueError(
            "this pipeline was fitted on bare Interactions without ids: fit it on a Dataset, then add items"
        )
    if not scores_new_items(pipeline):
        raise ValueError(
            f"none of the retrievers {', '.join(pipeline.retrievers)} scores items by what they are about, so that new items would never "
            "be candidates: add content, bootstrap or two_tower"
        )
    if pipeline.num_learned is None or pipeline.described is None:
        raise ValueError(
            "this pipeline does not know the item features of its log, since it was saved by an earlier version: fit it again"
        )
    items = pipeline.items.grow(new.items.ids)
    fresh = items.ids[len(pipeline.items) :]
    rows = np.asarray(new.items.rows(fresh))
    wider = Interactions(seen.users_N, seen.items_N, seen.weights_N, num_users=seen.num_users, num_items=len(items))
    table = _joined(pipeline.described, described(new), rows)
    data = Dataset(
        wider.select(wider.weights_N > 0),
        pipeline.users,
        items,
        item_features=table[FEATURES].struct.unnest() if FEATURES in table.columns else None,
        item_titles=table[TITLE] if TITLE in table.columns else None,
        item_texts=table[TEXT] if TEXT in table.columns else None,
        seen_only=wider.select(wider.weights_N <= 0),
    )
    larger = copy.copy(pipeline)
    larger.retrievers = {name: with_new_items(one, new, len(items), items) for name, one in pipeline.retrievers.items()}
    if pipeline.features is not None:
        larger.features = copy.copy(pipeline.features).grow(data, num_learned=pipeline.num_learned)
    vectors_ID = item_vectors_of(larger.retrievers)
    larger.rerankers = {}
    for name, one in pipeline.rerankers.items():
        reranker: Any = copy.deepcopy(one)
        getattr(reranker, "grow", reranker.prepare)(data, item_vectors_ID=vectors_ID)
        larger.rerankers[name] = reranker
    larger.items, larger.num_items, larger.described = items, len(items), table
    return larger


def item_vectors_of(retrievers: Mapping[str, Any]) -> np.ndarray | None:
    """Return float32 [I, D], the item vectors of the first retriever that has any."""
    found = (one.item_vectors() for one in retrievers.values() if hasattr(one, "item_vectors"))
    return next((vectors_ID for vectors_ID in found if vectors_ID is not None), None)


def _joined(before: pl.DataFrame, new: pl.DataFrame | None, rows: np.ndarray) -> pl.DataFrame:
    """Return the table of all items; columns that training did not have are left out, types are those of training."""
    more = pl.DataFrame() if new is None else new[rows]
    columns = {}
    for name, dtype in before.schema.items():
        if name == FEATURES:
            given = more[FEATURES].struct.unnest() if FEATURES in more.columns else pl.DataFrame()
            missing = [field.name for field in dtype.fields if field.name not in given.columns]  # type: ignore[attr-defined]
            if missing:
                raise ValueError(
                    f"new items must have the item features of training, but {shorten(missing[0])!r} is missing; they have "
                    f"{shorten(', '.join(given.columns)) or 'none'}"
                )
            then = before[name].struct.unnest()
            values = pl.DataFrame([_as_before(given, then[field.name]) for field in dtype.fields]).to_struct(FEATURES)  # type: ignore[attr-defined]
        else:
            values = more[name] if name in more.columns else pl.Series(name, [None] * len(rows), dtype=dtype)
        try:
            columns[name] = values.cast(dtype)
        except pl.exceptions.PolarsError as error:
            raise ValueError(
                f"{name} of new items must be of the types of training, {dtype}, got {values.dtype}: {shorten(str(error), 200)}"
            ) from error
    return pl.concat([before, pl.DataFrame(columns)])


def _as_before(given: pl.DataFrame, then: pl.Series) -> pl.Series:
    """Return a column of new items, read as the one of training."""
    of_text = then.dtype in (pl.String, pl.List(pl.String))
    known = values_of(then)["value"].unique().to_list() if of_text else ()
    found = family_of(given.schema[then.name])
    return as_learned(given, then.name, family_of(then.dtype), "item", found=found, numeric=True, known=known)
