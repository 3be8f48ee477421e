"""The item vectors of factor models: how similar they are, and for models that change or add some. B items asked for, I items, D columns."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_dl.kernels.norms import inverse_norms

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


def cosines(emb_ID: np.ndarray, items_B: np.ndarray, known_I: np.ndarray) -> np.ndarray:
    """Return float32 [B, I], the cosine of every item with each of `items_B`; -inf where either is not known.

    Lengths are computed anew, in a pass that costs less than the product: kept ones would be wrong after a write to the table.
    """
    inverse_I = inverse_norms(emb_ID)
    cosines_BI = (emb_ID[items_B] * inverse_I[items_B, None]) @ emb_ID.T
    cosines_BI *= inverse_I
    cosines_BI[:, ~known_I] = -np.inf
    cosines_BI[~known_I[items_B]] = -np.inf
    return cosines_BI
