"""Matching new interactions with the rows of a fitted model."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_dl.data.dataset import Dataset, as_interactions
from recsys_dl.data.interactions import Interactions


def aligned(model: Any, new: Dataset | Interactions) -> Interactions:
    """Return new interactions in a model's rows, extended by new users and items; remember their ids.

    A Dataset is matched by ids: known ids keep their rows, new ones are appended, including those without interactions that have
    features. Interactions are taken as rows.
    """
    model._check_fitted()
    as_interactions(new)  # TypeError for anything else
    if isinstance(new, Interactions):
        num_users, num_items = max(model.num_users, new.num_users), max(model.num_items, new.num_items)
        if model.users is not None and (num_users, num_items) != (model.num_users, model.num_items):
            raise ValueError(
                "this model was fitted with user and item ids: pass new interactions as a Dataset, which has ids"
            )
        users_N, items_N = new.users_N, new.items_N
    else:
        if model.users is None or model.items is None:
            raise ValueError("this model was fitted on bare Interactions without ids: pass Interactions, not a Dataset")
        old = new.interactions
        described = new.item_features is not None or new.item_texts is not None
        model.users = model.users.grow(
            new.users.ids if new.user_features is not None else new.users.at(np.unique(old.users_N))
        )
        model.items = model.items.grow(new.items.ids if described else new.items.at(np.unique(old.items_N)))
        num_users, num_items = len(model.users), len(model.items)
        users_N = model.users.find(new.users.ids)[old.users_N]
        items_N = model.items.find(new.items.ids)[old.items_N]
        new = old
    return Interactions(users_N, items_N, new.weights_N, new.times_N, num_users=num_users, num_items=num_items)
