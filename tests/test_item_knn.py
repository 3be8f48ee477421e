"""ItemKNN: scores and ratings by hand, learning on, and real ratings."""

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_dl.compose import compose
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.models.item_knn import ItemKNN
from recsys_dl.models.popularity import Popularity

SETTINGS = [
    {"measure": "cosine"},
    {"measure": "jaccard", "shrinkage": 3},
    {"measure": "pearson", "min_common": 2},
    {"measure": "adjusted_cosine", "shrinkage": 3},
    {"measure": "pearson_baseline", "shrinkage": 10},
    {"measure": "cosine", "weighting": "tfidf"},
    {"measure": "cosine", "weighting": "bm25", "shrinkage": 3},
]


def ratings(num: int = 500, num_users: int = 60, num_items: int = 40, seed: int = 0) -> Interactions:
    rng = np.random.default_rng(seed)
    pairs = rng.choice(num_users * num_items, num, replace=False)
    return Interactions(pairs // num_items, pairs % num_items, rng.integers(0, 11, num) / 2)  # stars, some of them 0


def test_scores_by_hand(device):
    # Items 0 and 1 share users 0 and 1, items 1 and 2 share user 2; cosine 2 / sqrt(2 * 3) and 1 / sqrt(3 * 1).
    log = Interactions([0, 0, 1, 1, 2, 2, 3], [0, 1, 0, 1, 1, 2, 3], [1, 1, 1, 1, 1, 1, 4])
    model = ItemKNN(num_neighbors=1, device=device).fit(log)
    high, low = np.float32([2 / np.sqrt(6), 1 / np.sqrt(3)])
    lists = model.neighbors_RR.toarray()
    np.testing.assert_allclose(lists, [[0, high, 0, 0], [high, 0, 0, 0], [0, low, 0, 0], [0] * 4], rtol=1e-6)
    # A score adds up the neighbors of the item recommended: of item 0 it is 1, of 1 it is 0, of 2 it is 1.
    scores = model.score([0, 2, 3], np.tile(np.arange(4), (3, 1)))
    # Item 3 has no neighbors, so that nothing follows from it: user 3 gets the shares of the four users.
    popular = [0.5, 0.75, 0.25, 0.25]
    np.testing.assert_allclose(scores, [[high, high, low, 0], [high, 0, low, 0], popular], rtol=1e-6)
    folded = model.fold_in(Interactions([0, 0, 1], [1, 2, 0], [2, 1, 3], num_items=4))
    np.testing.assert_allclose(
        model.score(folded, np.tile(np.arange(4), (2, 1))), [[2 * high, 0, 2 * low, 0], [0, 3 * high, 0, 0]], rtol=1e-6
    )
    near = model.similar_items([2, 3], k=2)
    assert near.items_BK.tolist() == [[1, -1], [-1, -1]]


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_learning_on_is_learning_anew(options):
    log = ratings()
    old, more = log.select(np.arange(460)), log.select(np.arange(460, 500))
    model = ItemKNN(num_neighbors=6, device="cpu", **options).fit(old).fine_tune(more)
    assert_same(model, ItemKNN(num_neighbors=6, device="cpu", **options).fit(log), log)


@pytest.mark.parametrize("options", SETTINGS[:5], ids=str)
def test_one_new_interaction(options):
    log = ratings(num=300, num_users=200, num_items=150)
    old, more = log.select(np.arange(299)), log.select([299])
    model = ItemKNN(num_neighbors=4, device="cpu", **options).fit(old).fine_tune(more)
    assert_same(model, ItemKNN(num_neighbors=4, device="cpu", **options).fit(log), log)


def assert_same(model, wanted, log):
    for name in model.fitted:
        one, two = getattr(model, name), getattr(wanted, name)
        if sp.issparse(one):
            assert one.shape == two.shape
            for part in ("indptr", "indices", "data"):
                np.testing.assert_array_equal(getattr(one, part), getattr(two, part), err_msg=name)
        else:
            np.testing.assert_array_equal(one, two, err_msg=name)
    users = np.arange(log.num_users)
    np.testing.assert_array_equal(model.recommend(users, k=9).items_BK, wanted.recommend(users, k=9).items_BK)
    np.testing.assert_array_equal(model.predict(users, users % 9), wanted.predict(users, users % 9))


def named(log: Interactions, users: list, items: list) -> Dataset:
    return Dataset(log, Vocabulary(users, noun="user"), Vocabulary(items, noun="item"))


def test_new_users_and_items_come_by_id(tmp_path):
    first = named(Interactions([0, 0, 1, 1], [0, 1, 0, 1]), ["ann", "bob"], ["x", "y"])
    ItemKNN(num_neighbors=3, device="cpu").fit(first).save(tmp_path / "first")
    model = ItemKNN.load(tmp_path / "first")
    model.fine_tune(named(Interactions([0, 0, 1, 1], [0, 1, 1, 0]), ["cleo", "ann"], ["z", "y"]))
    assert model.users.ids.to_list() == ["ann", "bob", "cleo"]
    assert model.items.ids.to_list() == ["x", "y", "z"]
    wanted = ItemKNN(num_neighbors=3, device="cpu").fit(
        Interactions([0, 0, 1, 1, 2, 2, 0, 0], [0, 1, 0, 1, 2, 1, 1, 2])
    )
    assert (model.neighbors_RR != wanted.neighbors_RR).nnz == 0
    # y counts twice for ann: had before, and again
    assert model.interactions_UI.toarray().tolist() == [[1, 2, 1], [1, 1, 0], [0, 1, 1]]


def test_ratings_by_the_formula():
    log = ratings(num=700)
    model = ItemKNN(measure="pearson_baseline", shrinkage=5, min_common=2, num_raters=4, device="cpu").fit(log)
    matrix, had = log.by_user.toarray().astype(np.float64), np.zeros((60, 40), bool)
    had[log.users_N, log.items_N] = True
    mean = matrix[had].mean()
    bias_U, bias_I = np.zeros(60), np.zeros(40)
    for _ in range(10):
        bias_I = ((matrix - mean - bias_U[:, None]) * had).sum(axis=0) / (had.sum(axis=0) + 10)
        bias_U = ((matrix - mean - bias_I) * had).sum(axis=1) / (had.sum(axis=1) + 15)
    baseline = mean + bias_U[:, None] + bias_I
    left = (matrix - baseline) * had
    common = (had.T.astype(float) @ had).astype(float)
    squares = (left**2).T @ had
    similar = left.T @ left / np.sqrt(np.maximum(squares * squares.T, 1e-12)) * common / (common + 5)
    similar[common < 2] = 0  # over one user every correlation is 1, and rounding would choose
    np.fill_diagonal(similar, 0)
    users, items = (part.ravel() for part in np.indices((60, 40)))
    wanted = []
    for user, item in zip(users, items, strict=True):
        rated = [j for j in np.flatnonzero(had[user]) if similar[item, j] > 0]
        rated = sorted(rated, key=lambda j: -similar[item, j])[:4]
        weights = similar[item, rated]
        pull = weights @ left[user, rated] / weights.sum() if rated else 0
        wanted.append(np.clip(baseline[user, item] + pull, 0, 5))
    np.testing.assert_allclose(model.predict(users, items), wanted, atol=2e-5)  # float32 deviations
    np.testing.assert_allclose(
        model.predict([-1, 3, -1], [-1, -1, 2]), [mean, mean + bias_U[3], mean + bias_I[2]], rtol=1e-5
    )
    with pytest.raises(ValueError, match="user row 60 is outside the 60 users"):
        model.predict([60], [0])
    with pytest.raises(ValueError, match="two lists of the same length"):
        model.predict([0, 1], [0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_neighbors": 0}, "num_neighbors must be a whole number of at least 1, got 0"),
        ({"measure": "cosinus"}, "measure must be one of cosine, .*got 'cosinus'"),
        ({"weighting": "idf"}, "weighting must be one of tfidf, bm25, or null .None., got 'idf'"),
        ({"shrinkage": -1}, "shrinkage must be a finite number at least 0"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        ItemKNN(**options)


def test_real_taste_beats_popularity(shared_data):
    rows = np.loadtxt(shared_data / "ml-100k/u.data", dtype=np.int64)
    rows = rows[np.lexsort((rows[:, 1], rows[:, 3], rows[:, 0]))]
    last = np.append(rows[1:, 0] != rows[:-1, 0], True)
    train, test = (
        Interactions(*(part[:, :2].T - 1), num_users=943, num_items=1682) for part in (rows[~last], rows[last])
    )
    hits = []
    for model in (ItemKNN(device="cpu"), Popularity()):
        top = model.fit(train).recommend(np.arange(943), k=10, exclude=train).items_BK
        hits.append((top[test.users_N] == test.items_N[:, None]).any(axis=1).mean())
    assert hits[0] > 1.3 * hits[1]


def test_real_ratings_no_worse_than_scikit_surprise(shared_data):
    base, test = (np.loadtxt(shared_data / f"ml-100k/u1.{part}", dtype=np.int64) for part in ("base", "test"))
    train = Interactions(base[:, 0] - 1, base[:, 1] - 1, base[:, 2], num_users=943, num_items=1682)
    chosen = compose("train", ["experiment=ratings_item_knn"]).model
    options = {name: chosen[name] for name in ("measure", "shrinkage", "num_raters")}
    model = ItemKNN(**options, device="cpu").fit(train)
    error = np.sqrt(np.mean((model.predict(test[:, 0] - 1, test[:, 1] - 1) - test[:, 2]) ** 2))
    assert error < 0.9359  # KNNBaseline, pearson_baseline, items, k=40, shrinkage=100 (scikit-surprise 1.1)
