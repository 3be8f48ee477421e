"""Calls that are not quite right, each answered with what must hold and what to do."""

import numpy as np
import polars as pl
import pytest

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.split import leave_last_out
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.models.als import ALS
from recsys_dl.models.bpr import BPR
from recsys_dl.models.explicit_als import ExplicitALS
from recsys_dl.models.gmf import GMF
from recsys_dl.models.item_knn import ItemKNN
from recsys_dl.models.popularity import Popularity
from recsys_dl.models.two_tower import TwoTower
from recsys_dl.retrieval import Flat


def data(**more) -> Dataset:
    rng = np.random.default_rng(0)
    users, items = np.repeat(np.arange(10), 6), np.concatenate([rng.choice(12, 6, replace=False) for _ in range(10)])
    log = Interactions(users, items, rng.integers(1, 6, 60), num_users=10, num_items=12)
    return Dataset(log, Vocabulary(map(str, range(10))), Vocabulary(map(str, range(12))), **more)


GENRES = pl.DataFrame({"genres": [["a"], ["b"]] * 6, "year": [1990, 1991] * 6})
QUICK = {"epochs": 0, "embedding_size": 4}


@pytest.mark.parametrize(
    ("settings", "parts", "words"),
    [
        ({"item_kinds": {"genres": "bag"}}, {}, "item_kinds names 'genres', but the data has no item features: provide them"),
        ({"user_kinds": {"age": "number"}}, {}, "data.user_features=FILE"),
        ({"features": "items"}, {}, 'features="items" needs item features, but the data has none'),
        ({"features": "users"}, {"item_features": GENRES}, 'features="users" needs user features'),
        ({"min_count": 2}, {}, "min_count=2 would have no effect: it applies to features, and the data has none"),
        ({"features": "none", "feature_sizes": [4]}, {"item_features": GENRES}, "excludes them"),
        ({"features": "none", "item_kinds": {"year": "category"}}, {"item_features": GENRES}, "would have no effect"),
        ({"item_kinds": {"genre": "bag"}}, {"item_features": GENRES}, "item_kinds names 'genre', which is not a column of the "
         "item features (did you mean 'genres'?); they are 'genres', 'year'"),
    ],
)  # fmt: skip
def test_arguments_about_features_that_are_not_there_are_refused(settings, parts, words):
    with pytest.raises(ValueError) as caught:
        TwoTower(**QUICK, **settings).fit(data(**parts))
    assert words in str(caught.value)


def test_towers_go_on_without_features_and_with_them():
    assert TwoTower(**QUICK).fit(data()).item_encoder is None
    assert TwoTower(**QUICK).fit(data().interactions).item_encoder is None
    assert TwoTower(**QUICK, features="items", min_count=1).fit(data(item_features=GENRES)).item_encoder is not None


@pytest.mark.parametrize(
    "model", [ALS(epochs=1), BPR(epochs=1), ItemKNN(), GMF(**QUICK)], ids=lambda one: type(one).__name__
)
def test_learning_on_says_of_a_frame_what_fit_says(model):
    model.fit(data())
    for learn in (getattr(model, "fine_tune", None), getattr(model, "grow", None)):
        if learn is not None:
            with pytest.raises(TypeError, match="expected a Dataset or Interactions, got DataFrame. Use read_log"):
                learn(pl.DataFrame({"user": [1]}))


@pytest.mark.parametrize("model", [ExplicitALS(epochs=1), ItemKNN()], ids=lambda one: type(one).__name__)
def test_predict_takes_rows_alone(model):
    model.fit(data())
    with pytest.raises(ValueError, match="predict takes rows of training users .* use score"):
        model.predict(model.fold_in([[1, 2]]), [3])
    with pytest.raises(ValueError, match="user rows must be integers"):
        model.predict(["a"], [3])


@pytest.mark.parametrize("k", [3.0, "3", True])
def test_a_list_has_a_whole_length(k):
    model = Popularity().fit(data())
    index = Flat().build(np.eye(4))
    for ask in (
        lambda: model.recommend([0], k),
        lambda: model.similar_items([0], k),
        lambda: index.search(np.eye(4), k),
    ):
        with pytest.raises(ValueError, match="k must be a whole number, such as 10, got "):
            ask()


def test_score_shows_the_shape_it_takes():
    with pytest.raises(ValueError, match=r"one row for each of 1 users, such as \[\[1, 2\]\], got shape \(1,\)"):
        Popularity().fit(data()).score([0], [1])


def test_a_split_by_time_names_its_ways_out_of_both_worlds():
    with pytest.raises(ValueError, match=r"split=random, in Python recsys_dl.data.split.random_split"):
        leave_last_out(data(), order="time")
