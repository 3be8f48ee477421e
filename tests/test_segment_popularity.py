"""Popularity by segment: by hand, cold users by their features, wrong input."""

import numpy as np
import polars as pl
import pytest

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.models import Popularity, SegmentPopularity

PEOPLE = pl.DataFrame({"plan": ["free", "free", "paid", "paid", "paid", None], "age": [20, 30, 20, 40, 60, 50]})


def log_of(users, items, features=PEOPLE) -> Dataset:
    log = Interactions(users, items, num_users=6, num_items=4)
    return Dataset(log, Vocabulary(range(6), noun="user"), Vocabulary(range(4), noun="item"), user_features=features)


TRAIN = log_of([0, 0, 1, 2, 3, 3], [0, 1, 0, 2, 2, 1])


def test_shares_by_hand():
    model = SegmentPopularity(by="plan", prior=2).fit(TRAIN)
    among_all = np.array([2, 2, 2, 0]) / 4
    free = (np.array([2, 1, 0, 0]) + 2 * among_all) / (2 + 2)
    paid = (np.array([0, 1, 2, 0]) + 2 * among_all) / (2 + 2)
    everything = np.tile(np.arange(4), (6, 1))
    got = model.score(np.arange(6), everything)
    np.testing.assert_allclose(got, [free, free, paid, paid, paid, among_all], rtol=1e-6)
    assert model.user_sources([0, 4, 5]).tolist() == ["features", "features", "popularity"]


def test_new_users_by_their_features():
    model = SegmentPopularity(by=["plan"]).fit(TRAIN)
    new = Dataset(
        Interactions([], [], num_users=3, num_items=4),
        Vocabulary(["x", "y", "z"], noun="user"),
        TRAIN.items,
        user_features=pl.DataFrame({"plan": ["paid", "free", "unheard"]}),
    )
    scores = model.score(model.fold_in(new), np.tile(np.arange(4), (3, 1)))
    np.testing.assert_array_equal(scores[:2], model.score([4, 0], np.tile(np.arange(4), (2, 1))))
    bare = model.score(model.fold_in([[]]), np.arange(4)[None])
    np.testing.assert_allclose(scores[2], bare[0])
    np.testing.assert_allclose(bare[0], Popularity().fit(TRAIN).score([0], np.arange(4)[None])[0])


def test_many_numbers_are_cut_into_quarters():
    ages = pl.DataFrame({"age": np.arange(40)})
    log = Interactions(np.arange(40), np.arange(40) // 10, num_users=40)
    train = Dataset(log, Vocabulary(range(40), noun="user"), Vocabulary(range(4)), user_features=ages)
    model = SegmentPopularity(prior=0).fit(train)
    assert len(model.known) == 4
    assert model.recommend([0, 39], 1).items_BK.tolist() == [[0], [3]]


def test_the_same_after_loading(tmp_path):
    model = SegmentPopularity(prior=1).fit(TRAIN)
    model.save(tmp_path / "model")
    again = SegmentPopularity.load(tmp_path / "model")
    np.testing.assert_array_equal(
        again.recommend(np.arange(6), 4).scores_BK, model.recommend(np.arange(6), 4).scores_BK
    )
    assert again.known == model.known
    assert again.arguments() == model.arguments()


def test_wrong_words(caplog):
    with pytest.raises(ValueError, match=r"by names 'plam'.*did you mean 'plan'"):
        SegmentPopularity(by="plam").fit(TRAIN)
    with pytest.raises(ValueError, match="needs user features, but the data has none"):
        SegmentPopularity(by="plan").fit(TRAIN.interactions)
    with pytest.raises(ValueError, match="columns of single values, but 'tags'"):
        SegmentPopularity(by="tags").fit(log_of([0], [0], pl.DataFrame({"tags": [["a"]] * 6})))
    with pytest.raises(ValueError, match="prior"):
        SegmentPopularity(prior=-1)
    SegmentPopularity().fit(TRAIN.interactions)
    assert "everyone is in one segment" in caplog.text
    model = SegmentPopularity(by="plan").fit(TRAIN)
    with pytest.raises(ValueError, match="must have the column 'plan'"):
        model.fold_in(log_of([0], [0], PEOPLE.drop("plan")))
