"""Hybrids that are made or put together wrongly are refused before any work."""

import numpy as np
import pytest
from test_contract import NUM_ITEMS, NUM_USERS, data_for, planted
from test_hybrid import two

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.models import Hybrid, ItemKNN


@pytest.fixture(scope="module")
def train() -> Dataset:
    return data_for(None, planted())


BAD = [
    ({}, "parts must name at least one model"),
    ([ItemKNN()], "parts must be a mapping from names to models"),
    ({"knn": ItemKNN}, "parts must be models, with fit"),
    ({"knn": "item_knn"}, "parts must be models, with fit"),
    ({"a b": ItemKNN()}, "names of parts must be letters"),
    ({"../x": ItemKNN()}, "names of parts must be letters"),
]


@pytest.mark.parametrize(("parts", "message"), BAD)
def test_wrong_parts(parts, message):
    with pytest.raises(ValueError, match=message):
        Hybrid(parts)


def test_one_object_twice():
    one = ItemKNN()
    with pytest.raises(ValueError, match="a and b are the same one"):
        Hybrid({"a": one, "b": one})


WRONG = [
    ({"weights": {"als": 0, "knn": 0}}, "above 0 for at least one part, got 0 for all"),
    ({"weights": {"als": -1, "knn": 2}}, "not negative, got -1 for als"),
    ({"weights": {"als": np.nan, "knn": 2}}, "finite numbers that are not negative, got nan for als"),
    ({"weights": {"als": "much", "knn": 2}}, "got 'much' for als"),
    ({"weights": {"asl": 1, "knn": 2}}, r"must name parts \(als, knn\), got 'asl' \(did you mean 'als'\?\)"),
    ({"weights": {"als": 1}}, "a number for every part .*got none for knn"),
    ({"weights": [1, 2]}, "weights must be a mapping from parts to numbers"),
    ({"weights": {"als": 1, "knn": 2}, "how": "mixed"}, "weights are for how=weighted, not how=mixed"),
    ({"how": "blend"}, "how must be one of weighted, switching, mixed, cascade, got 'blend'"),
    ({"segments": [50, 10]}, r"segments must ascend, such as \[10, 50\]"),
    ({"segments": [5], "weights": {"als": 1, "knn": 2}}, "segments are for how=weighted with weights that are tuned"),
    ({"min_user_interactions": {"als": 5}}, "min_user_interactions are for how=switching, not how=weighted"),
    ({"how": "switching", "min_user_interactions": {"bpr": 5}}, "must name parts"),
    ({"how": "switching", "min_item_interactions": {"als": -1}}, "whole numbers of at least 0, got -1 for als"),
    ({"how": "cascade", "num_candidates": [50, 10]}, "one number, or one for each part after the first"),
    ({"holdout": 1.0}, "holdout must be"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        Hybrid(two(), **settings)
    assert len(str(caught.value)) < 400


def test_parts_that_do_not_belong_together(train):
    fitted = {name: model.fit(train) for name, model in two().items()}
    with pytest.raises(ValueError, match="the part knn has not been fitted"):
        Hybrid({**fitted, "knn": ItemKNN()}).combine(train, train)
    small = ItemKNN(device="cpu").fit(Interactions([0, 1], [0, 1]))
    with pytest.raises(ValueError, match="the part knn was fitted on 2 and 2"):
        Hybrid({**fitted, "knn": small}).combine(train, train)
    other = Dataset(train.interactions, train.users, Vocabulary(train.items.ids.reverse(), noun="item"))
    with pytest.raises(ValueError, match="the part knn was fitted on another log: .*numbers its items differently"):
        Hybrid({**fitted, "knn": ItemKNN(device="cpu").fit(other)}).combine(train, train)
    with pytest.raises(ValueError, match=r"combine\(train, validation\)"):
        Hybrid(fitted).combine(train)
    with pytest.raises(ValueError, match="validation must be over the rows of train"):
        Hybrid(fitted).combine(train.interactions, Interactions([0], [0]))
    nobody = Interactions([60], [3], num_users=NUM_USERS, num_items=NUM_ITEMS)
    with pytest.raises(ValueError, match="users with interactions in train and in validation, and there are none"):
        Hybrid(fitted).combine(train.interactions, nobody)
    assert not hasattr(Hybrid(fitted), "num_items")
