"""The features, texts and titles of a data set's items, for models that are about content."""

from __future__ import annotations

import numpy as np
import polars as pl

from .dataset import Dataset, as_interactions
from .interactions import Interactions
from .vocabulary import Vocabulary

Content = tuple[pl.DataFrame | None, pl.Series | None, pl.Series | None, pl.Series]  # features, texts, titles, ids


def content_of(data: Dataset | Interactions) -> Content:
    """Return item features, texts, titles and ids, as `ProfileEncoder` takes them.

    Raises:
        ValueError: there are neither features nor texts.
    """
    if not isinstance(data, Dataset) or (data.item_features is None and data.item_texts is None):
        raise ValueError(
            "item features or texts are needed, and the data has none: provide them with read_log(…, item_features=…), or "
            "data.item_features=FILE on the command line (of data=log; shards have none); als or item_knn need none"
        )
    return data.item_features, data.item_texts, data.item_titles, data.items.ids


def content_of_new(data: Dataset | Interactions, items: Vocabulary | None, known: int) -> Content | None:
    """Return the same of the items that follow the first `known` of a grown vocabulary; None if there are none.

    Raises:
        ValueError: there are neither features nor texts.
    """
    if items is None or len(items) == known:
        return None
    frame, texts, titles, _ = content_of(data)
    assert isinstance(data, Dataset)
    rows = data.items.rows(items.ids[known:])
    return (
        None if frame is None else frame[np.asarray(rows)],
        None if texts is None else texts[rows],
        None if titles is None else titles[rows],
        items.ids[known:],
    )


def only_items(new: Dataset | Interactions) -> Dataset:
    """Return what a model shall grow by: a Dataset of items with content, without interactions.

    Raises:
        ValueError: it has interactions, which would not be learned from, or no content.
    """
    if number := len(as_interactions(new)):
        raise ValueError(
            f"grow adds items by their content and learns from no interaction, got {number:,}: pass new.with_interactions(…) "
            "without any, and fit again to learn from them"
        )
    content_of(new)
    assert isinstance(new, Dataset)
    return new
