"""The item vectors of factor models, for models that change or add some. I items, D columns."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import scipy.sparse as sp

OF_ITEMS, OF_USERS = ("_I", "_ID"), ("_U", "_UD")  # endings of the names of arrays with a row an item or user


def item_parameters(model: Any) -> np.ndarray:
    """Return float64 [I, D]: each item's vector and biases side by side."""
    return np.column_stack([getattr(model, name).astype(np.float64) for name in model.item_parameters])


def with_item_parameters(model: Any, rows: np.ndarray, values_RD: np.ndarray) -> Any:
    """Return a copy of a fitted model in which some items have other vectors and biases."""
    changed, at = copy.copy(model), 0
    for name in model.item_parameters:
        array = getattr(model, name).copy()
        width = 1 if array.ndim == 1 else array.shape[1]
        array[rows] = values_RD[:, at : at + width].reshape(len(rows), *array.shape[1:])
        setattr(changed, name, array)
        at += width
    return changed


def grown(model: Any, num_users: int, num_items: int) -> Any:
    """Return a copy of a fitted model with rows of zeros for new users and items."""
    larger = copy.copy(model)
    for name in ("user_counts_U", "item_counts_I", *model.fitted):
        array = getattr(model, name)
        if sp.issparse(array):
            array = array.copy()
            array.resize((num_users, num_items))
        elif name.endswith((*OF_ITEMS, *OF_USERS)):
            size = num_items if name.endswith(OF_ITEMS) else num_users
            array = np.concatenate([array, np.zeros((size - len(array), *array.shape[1:]), array.dtype)])
        setattr(larger, name, array)
    larger.num_users, larger.num_items = num_users, num_items
    return larger
