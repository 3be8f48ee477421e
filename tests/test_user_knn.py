"""UserKNN: scores by hand, people unseen, learning on, and real ratings."""

import numpy as np
import pytest
from test_item_knn import SETTINGS, assert_same, ratings

from recsys_dl.compose import compose
from recsys_dl.data.interactions import Interactions
from recsys_dl.models.user_knn import UserKNN


def test_scores_by_hand(device):
    # Users 0 and 1 share item 0, users 1 and 2 items 1 and 2: cosine 1 / sqrt(3) and 2 / sqrt(6).
    log = Interactions([0, 1, 1, 1, 2, 2, 3], [0, 0, 1, 2, 1, 2, 3], num_items=5)
    model = UserKNN(num_neighbors=1, device=device).fit(log)
    low, high = np.float32([1 / np.sqrt(3), 2 / np.sqrt(6)])
    assert model.neighbors_RR.indices.tolist() == [1, 2, 1]
    scores = model.score([0, 1, 2, 3], np.tile(np.arange(5), (4, 1)))
    popular = [0.5, 0.5, 0.5, 0.25, 0]  # what user 3 gets, who has no neighbors, and who brings an item that nobody has
    wanted = [[low, low, low, 0, 0], [0, high, high, 0, 0], [high, high, high, 0, 0], popular]
    np.testing.assert_allclose(scores, wanted, rtol=1e-6)
    folded = model.fold_in([[0], [3], [4]])
    wanted = [[1, 0, 0, 0, 0], [0, 0, 0, 1, 0], popular]  # user 0 is as near as can be, user 3 too
    np.testing.assert_allclose(model.score(folded, np.tile(np.arange(5), (3, 1))), wanted, rtol=1e-6)
    near = model.similar_items([1, 3], k=3)
    assert near.items_BK.tolist() == [[2, 0, -1], [-1, -1, -1]]
    np.testing.assert_allclose(near.scores_BK[0, :2], [1, 1 / 2], rtol=1e-6)


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_someone_unseen_is_compared_as_a_known_user_is(options):
    log = ratings()
    model = UserKNN(num_neighbors=60, device="cpu", **options).fit(log)
    folded = model.fold_in(log).values
    for user in range(60):
        known, unseen = model.neighbors_RR[user], folded[user]
        others = unseen.indices != user  # unseen, the user is one of those compared with
        np.testing.assert_array_equal(unseen.indices[others], known.indices)
        np.testing.assert_array_equal(unseen.data[others], known.data)


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_learning_on_is_learning_anew(options):
    log = ratings()
    old, more = log.select(np.arange(460)), log.select(np.arange(460, 500))
    model = UserKNN(num_neighbors=6, device="cpu", **options).fit(old).fine_tune(more)
    assert_same(model, UserKNN(num_neighbors=6, device="cpu", **options).fit(log), log)


def test_real_ratings_no_worse_than_scikit_surprise(shared_data):
    base, test = (np.loadtxt(shared_data / f"ml-100k/u1.{part}", dtype=np.int64) for part in ("base", "test"))
    train = Interactions(base[:, 0] - 1, base[:, 1] - 1, base[:, 2], num_users=943, num_items=1682)
    chosen = compose("train", ["experiment=ratings_user_knn"]).model
    options = {name: chosen[name] for name in ("measure", "shrinkage", "num_raters")}
    model = UserKNN(**options, device="cpu").fit(train)
    error = np.sqrt(np.mean((model.predict(test[:, 0] - 1, test[:, 1] - 1) - test[:, 2]) ** 2))
    assert error < 0.9335  # KNNBaseline, pearson_baseline, users, k=40, shrinkage=100 (scikit-surprise 1.1)
