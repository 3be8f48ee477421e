"""Features of candidates: values by hand, training and serving to the bit, what a moment may know."""

import numpy as np
import polars as pl
import pytest
from hydra.utils import instantiate
from processes import program as run_program

from recsys_dl.compose import compose, options
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.groups import Groups
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.models.popularity import Popularity
from recsys_dl.rankers.columns import (
    ItemAge,
    ItemPopularity,
    PopularityTrend,
    RetrieverRanks,
    RetrieverScores,
    UserActivity,
)
from recsys_dl.rankers.features import CandidateFeatures
from recsys_dl.rankers.lambdamart import LambdaMART
from recsys_dl.rankers.recent_columns import LastItems
from recsys_dl.rankers.side_columns import ContentSimilarity, ItemFeatures, UserFeatures

DAY = 86_400
NOW = 100 * DAY
# user, item, day: user 2 has nothing, item 3 nobody; item 0 rises, item 1 falls
LOG = [(0, 0, 99), (1, 0, 98), (0, 1, 65), (1, 1, 66), (0, 2, 10), (1, 0, 100)]


def data(**changes) -> Dataset:
    users, items, days = zip(*LOG, strict=True)
    log = Interactions(users, items, None, np.array(days) * DAY, num_users=3, num_items=4)
    sides = {
        "item_features": pl.DataFrame(
            {"year": [1990.5, 2000.5, None, 2010.5], "genres": [["War", "Drama"], ["War"], ["Comedy"], None]}
        ),
        "user_features": pl.DataFrame({"sex": ["f", "m", "f"]}),
        "item_texts": pl.Series([None, "ships at sea", "a funny ship", "sea ships"]),
    }
    users, items = Vocabulary(list("uvw"), noun="user"), Vocabulary(list("abcd"), noun="item")
    return Dataset(log, users, items, **sides | changes)


def values(column, users=(0,), items=((0, 1, 2, 3),), scores=None):
    return (
        CandidateFeatures([column])
        .fit(data(), now=NOW, retrievers=list(scores or ()))
        .compute(np.array(users), np.array(items), scores)
    )


def test_popularity_trend_age_by_hand():
    np.testing.assert_allclose(values(ItemPopularity())[0, :, 0], np.log1p([2, 2, 1, 0]), rtol=1e-6)
    np.testing.assert_allclose(values(ItemPopularity(window_days=30))[0, :, 0], np.log1p([2, 0, 0, 0]), rtol=1e-6)
    trend = values(PopularityTrend(window_days=30))[0, :, 0]
    np.testing.assert_allclose(trend, [np.log(3), -np.log(3), 0, 0], rtol=1e-6)
    age = values(ItemAge())[0]
    np.testing.assert_allclose(age[:, 0], np.log1p([2, 35, 90, 0]), rtol=1e-6)
    np.testing.assert_allclose(age[:, 1], np.log1p([0, 34, 90, 90]), rtol=1e-6)


def test_activity_by_hand_and_of_someone_who_is_no_row():
    users = values(UserActivity(window_days=30), users=(0, 1, 2), items=((0,),) * 3)[:, 0]
    expected = np.log1p([[3, 1, 1], [2, 2, 0], [0, 0, 90]])
    np.testing.assert_allclose(users, expected, rtol=1e-6)
    features = CandidateFeatures([UserActivity(window_days=30)]).fit(data(), now=NOW)
    state = Popularity().fit(data()).fold_in(data().interactions)
    np.testing.assert_array_equal(features.compute(state, np.zeros((3, 1), int))[:, 0], users)
    bare = Popularity().fit(data()).fold_in([[0, 1], []])  # without times: had just now
    just_now = features.compute(bare, np.zeros((2, 1), int))[:, 0]
    np.testing.assert_allclose(just_now, np.log1p([[2, 2, 0], [0, 0, 90]]), rtol=1e-6)


def test_scores_and_ranks_by_hand():
    inf = np.inf
    scores = {"als": np.array([[0.5, -inf, 2.0, 0.5]]), "knn": np.array([[-inf, -inf, -inf, -inf]])}
    found = values(RetrieverScores(), scores=scores)[0]
    np.testing.assert_allclose(found, [[0.5, 1, 0, 0], [0.5, 0, 0, 0], [2, 1, 0, 0], [0.5, 1, 0, 0]])
    ranks = values(RetrieverRanks(), scores=scores)[0]
    np.testing.assert_allclose(ranks, [[1 / 2, 0], [0, 0], [1, 0], [1 / 3, 0]], rtol=1e-6)
    one = values(RetrieverRanks(retrievers=["als"]), scores=scores)
    np.testing.assert_array_equal(one[0, :, 0], ranks[:, 0])


def test_side_features_by_hand():
    features = CandidateFeatures([ItemFeatures(num_values=2), UserFeatures()])
    with pytest.raises(ValueError, match="no value in 3 rows"):  # the encoder takes no value that so few have
        features.fit(data())
    many = data(
        item_features=pl.DataFrame(
            {
                "year": [1990.5, 2000.5, None, 2010.5],
                "genres": [["War", "Drama"], ["War", "Drama"], ["War", "Drama"], None],
            }
        ),
        user_features=pl.DataFrame({"age": [20.5, 30.5, None]}),
    )
    features.fit(many)
    assert features.names == (
        "item year",
        "item year missing",
        "item genres=Drama",
        "item genres=War",
        "user age",
        "user age missing",
    )
    both = features.compute(np.array([0, 2]), np.array([[0, 2], [3, -1]]))
    scale = np.std([1990.5, 2000.5, 2010.5])
    np.testing.assert_allclose(both[0, 0], [-10 / scale, 0, 0.5, 0.5, -1, 0], rtol=1e-6)
    np.testing.assert_allclose(both[0, 1], [0, 1, 0.5, 0.5, -1, 0], rtol=1e-6)
    np.testing.assert_allclose(both[1, 0], [10 / scale, 0, 0, 0, 0, 1], rtol=1e-6)
    assert (both[1, 1] == 0).all()
    state = Popularity().fit(many).fold_in([[1]])
    np.testing.assert_array_equal(features.compute(state, np.array([[3]]))[0, 0], both[1, 0])


def test_content_is_near_what_the_user_had():
    texts = pl.Series(["sea ships sail", "ships sail sea", "jokes laughter", "laughter jokes", "sail ships", None])
    texts = texts.extend(pl.Series(["drama of kings", "kings of drama"]))
    log = Interactions([0, 1], [0, 2], num_users=3, num_items=8)
    both = Dataset(
        log, Vocabulary(list("uvw"), noun="user"), Vocabulary(list("abcdefgh"), noun="item"), item_texts=texts
    )
    features = CandidateFeatures([ContentSimilarity(size=3)]).fit(both)
    near = features.compute(np.arange(3), np.tile(np.arange(8), (3, 1)))[:, :, 0]
    assert near[0, 0] == pytest.approx(1, abs=1e-6)
    assert near[0, [1, 4]].min() > 0.9 > 0 > near[0, [2, 3]].max()
    assert near[1, [2, 3]].min() > 0.9
    assert (near[2] == 0).all()
    assert (near[:, 5] == 0).all()


def test_likeness_to_the_last_items_by_hand():
    year = [1990.5, 2000.5, None, 2010.5, 1980.5]
    genres = [["War", "Drama"], ["War"], ["War"], ["Drama"], None]
    sides = pl.DataFrame({"year": [*year, *year], "genres": [*genres, *genres]})
    log = Interactions([0, 0, 0, 1], [4, 0, 1, 2], None, [3, 1, 2, 9], num_users=3, num_items=10)
    ids = (Vocabulary(list("uvw"), noun="user"), Vocabulary(list("abcdefghij"), noun="item"))
    both = Dataset(log, *ids, item_features=sides)
    features = CandidateFeatures([LastItems(last=1), LastItems(last=2)]).fit(both)
    assert features.names[:2] == ("item year like the last", "item genres like the last")
    assert features.names[2:] == ("item year like the last 2", "item genres like the last 2")
    found = features.compute(np.arange(3), np.tile([0, 1, 2, 3], (3, 1)))
    scale = np.std([1990.5, 2000.5, 2010.5, 1980.5])
    # user 0 had item 4 last, of no genre, and item 1 before it; user 1 item 2, of no year; user 2 nothing
    np.testing.assert_allclose(found[0, :, 0], np.array([-10, -20, 0, -30]) / scale, rtol=1e-5)
    np.testing.assert_array_equal(found[0, :, 1], 0)
    np.testing.assert_allclose(found[0, :, 2], np.array([0, -10, 0, -20]) / scale, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[0, :, 3], [np.sqrt(0.5), 1, 1, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1, :, 1], [np.sqrt(0.5), 1, 1, 0], rtol=1e-5, atol=1e-6)
    assert (found[1, :, 0] == 0).all()
    assert (found[2] == 0).all()
    state = Popularity().fit(both).fold_in([[0, 1, 4], []])  # in order
    np.testing.assert_array_equal(features.compute(state, np.tile([0, 1, 2, 3], (2, 1))), found[[0, 2]])
    with pytest.raises(ValueError, match="last must be at least 1, got 0"):
        LastItems(last=0)


def generated(seed=0) -> Dataset:
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, 300, 6000), rng.zipf(1.3, 6000) % 200
    log = Interactions(users, items, rng.integers(1, 6, 6000), rng.integers(0, NOW, 6000), num_users=300, num_items=200)
    genres = [[["War", "Drama", "Comedy"][i % 3], ["Old", "New"][i % 2]] for i in range(200)]
    side = pl.DataFrame({"year": rng.normal(2000, 9, 200), "genres": genres})
    people = pl.DataFrame({"age": rng.normal(40, 9, 300), "sex": rng.choice(["f", "m"], 300)})
    ids = (Vocabulary(range(300), noun="user"), Vocabulary(range(200), noun="item"))
    return Dataset(log, *ids, user_features=people, item_features=side)


EVERYTHING = [
    *(
        RetrieverScores(),
        RetrieverRanks(),
        ItemPopularity(),
        ItemPopularity(window_days=9),
        PopularityTrend(),
        ItemAge(),
    ),
    *(UserActivity(), ItemFeatures(), UserFeatures(), ContentSimilarity(size=6), LastItems(last=1), LastItems(last=4)),
]


def asked(num_users: int):
    rng = np.random.default_rng(5)
    users, items = rng.permutation(300)[:num_users], rng.integers(0, 200, (num_users, 30))
    items[rng.random(items.shape) < 0.1] = -1
    scores = {name: rng.normal(size=items.shape).astype(np.float32) for name in ("als", "knn")}
    scores["knn"][rng.random(items.shape) < 0.5] = -np.inf
    return users, items, scores


def test_training_and_serving_agree_to_the_bit(tmp_path, monkeypatch):
    """Thousands at once as for training; one by one; in small blocks; as folded-in users; from the folder, in a new process."""
    train = generated()
    features = CandidateFeatures(EVERYTHING).fit(train, retrievers=["als", "knn"])
    users, items, scores = asked(120)
    whole = features.compute(users, items, scores)
    assert whole.shape == (120, 30, len(features.names))
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    assert (whole[items < 0] == 0).all()
    for b in range(0, 120, 7):
        one = {name: array[b : b + 1] for name, array in scores.items()}
        np.testing.assert_array_equal(features.compute(users[b : b + 1], items[b : b + 1], one)[0], whole[b])
        length = int(np.flatnonzero(items[b] >= 0)[-1]) + 1
        cut = {name: array[b : b + 1, :length] for name, array in scores.items()}
        shorter = features.compute(users[b : b + 1], items[b : b + 1, :length], cut)
        np.testing.assert_array_equal(shorter[0], whole[b, :length])
    known = [at for at, name in enumerate(features.names) if not name.startswith("user ")]  # nobody's side features
    state = Popularity().fit(train).fold_in(train.interactions.of_users(users))
    monkeypatch.setattr("recsys_dl.rankers.features.BLOCK_BYTES", 100_000)
    np.testing.assert_array_equal(features.compute(users, items, scores), whole)
    np.testing.assert_array_equal(features.compute(state, items, scores)[..., known], whole[..., known])
    features.save(tmp_path / "features")
    np.savez(tmp_path / "asked.npz", users=users, items=items, **scores)
    program = f"""
import numpy as np
from recsys_dl.rankers.features import CandidateFeatures
features = CandidateFeatures.load({str(tmp_path / "features")!r})
asked = dict(np.load({str(tmp_path / "asked.npz")!r}))
users, items = asked.pop("users"), asked.pop("items")
np.save({str(tmp_path / "served.npy")!r}, features.compute(users, items, asked))
print("|".join(features.names))
"""
    out = run_program(program)
    assert out.strip() == "|".join(features.names)
    np.testing.assert_array_equal(np.load(tmp_path / "served.npy"), whole)


def test_features_feed_a_ranker():
    features = CandidateFeatures(EVERYTHING).fit(generated(), retrievers=["als", "knn"])
    users, items, scores = asked(200)
    table = features.compute(users, items, scores)
    clicked = (table[..., features.names.index("popularity")] > 4) & (items >= 0)
    groups = Groups.from_padded(table, clicked, items >= 0, names=features.names)
    ranker = LambdaMART(num_trees=10).fit(groups)
    shares = ranker.feature_importance()
    assert max(shares, key=shares.get) == "popularity"


@pytest.mark.parametrize("name", options("features"))
def test_what_is_declared_in_yaml(name, tmp_path):
    features = instantiate(compose("train", [f"+features={name}", "device=cpu"]).features)
    features.fit(generated(), retrievers=["als", "knn"])
    users, items, scores = asked(3)
    values = features.compute(users, items, scores)
    features.save(tmp_path / "f")
    again = CandidateFeatures.load(tmp_path / "f")
    assert again.arguments() == features.arguments()
    np.testing.assert_array_equal(again.compute(users, items, scores), values)


def test_a_moment_knows_nothing_later():
    features = CandidateFeatures([ItemPopularity()])
    with pytest.raises(
        ValueError, match=f"after now={99 * DAY}, but the log extends to {100 * DAY}; cut the log there"
    ):
        features.fit(data(), now=99 * DAY)
    before = data().with_interactions(data().interactions.select(data().interactions.times_N <= 70 * DAY))
    at = features.fit(before, now=70 * DAY).compute([0], [[0, 1, 2, 3]])
    np.testing.assert_allclose(at[0, :, 0], np.log1p([0, 2, 1, 0]), rtol=1e-6)
    timeless = Interactions([0], [0], num_users=1, num_items=1)
    with pytest.raises(ValueError, match="now requires a log with times"):
        features.fit(timeless, now=5)
    assert features.fit(timeless).compute([0], [[0]])[0, 0, 0] == np.float32(np.log(2))
    for column in (ItemPopularity(window_days=3), PopularityTrend(), ItemAge()):
        with pytest.raises(ValueError, match=f"{type(column).__name__} needs interactions with times"):
            CandidateFeatures([column]).fit(timeless)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([], "at least one column"),
        (
            [{"_target_": "recsys_dl.rankers.columns.Nothing"}],
            "holds recsys_dl.rankers.columns.Nothing, which is not a Column",
        ),
        ([{"_target_": "nowhere.Popularity"}], "names 'nowhere.Popularity', which may not be run from a folder"),
        ([{"_target_": "recsys_dl.data.groups.Groups"}], "holds recsys_dl.data.groups.Groups, which is not a Column"),
        ([{"window_days": 3}], "a column of features names ''"),
        ([ItemPopularity(), ItemPopularity()], "two are called 'popularity'"),
        ([RetrieverRanks()], "RetrieverRanks needs retrievers, got none"),
        ([ItemFeatures(columns=["price"])], "there is no item feature 'price'; there are year, genres"),
    ],
)
def test_columns_that_do_not_hold(columns, message):
    with pytest.raises(ValueError, match=message):
        CandidateFeatures(columns).fit(data())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.compute([3], [[0]], {"als": [[1.0]]}), r"user row 3 is outside the 3 users .* Use fold_in"),
        (lambda f: f.compute([0], [[4]], {"als": [[1.0]]}), "item row 4 is outside the 4 items"),
        (lambda f: f.compute([0], [[-1]], {"als": [[1.0]]}, [[True]]), "item row -1 is outside"),
        (lambda f: f.compute([0, 1], [[0]], {"als": [[1.0]]}), "a row for each of 2 users"),
        (lambda f: f.compute([0], [[0]], {"knn": [[1.0]]}), "need the scores of the retriever 'als', got those of knn"),
        (lambda f: f.compute([0], [[0]]), "need the scores of the retriever 'als', got those of none"),
        (lambda f: f.compute([0], [[0, 1]], {"als": [[1.0]]}), r"one per candidate, shape \(1, 2\), got \(1, 1\)"),
        (lambda f: f.compute([0], [[0]], {"als": [[np.nan]]}), "must be numbers, or -inf for"),
        (
            lambda f: f.compute(Popularity().fit(generated()).fold_in([[1]]), [[0]]),
            "over the 4 items of training, got 200",
        ),
    ],
)
def test_what_cannot_be_asked(call, message):
    features = CandidateFeatures([RetrieverScores(retrievers=["als"])]).fit(data())
    with pytest.raises(ValueError, match=message):
        call(features)


def test_side_features_that_are_not_there():
    bare = data().interactions
    for column, message in (
        (ItemFeatures(), "ItemFeatures needs a Dataset with item_features"),
        (UserFeatures(), "UserFeatures needs a Dataset with user_features"),
        (ContentSimilarity(), "ContentSimilarity needs a Dataset with item_texts"),
    ):
        with pytest.raises(ValueError, match=message):
            CandidateFeatures([column]).fit(bare)
    fresh = CandidateFeatures([ItemPopularity()])
    with pytest.raises(ValueError, match="have not been fitted"):
        fresh.compute([0], [[0]])
    with pytest.raises(ValueError, match="window_days must be above 0, got 0"):
        ItemPopularity(window_days=0)


def test_nobody_and_nothing():
    features = CandidateFeatures([ItemPopularity(), UserActivity(), RetrieverScores(), RetrieverRanks()])
    features.fit(data(), retrievers=["als"])
    for shape in ((0, 5), (2, 0)):
        scores = {"als": np.zeros(shape)}
        assert features.compute(np.arange(shape[0]), np.zeros(shape, int), scores).shape == (*shape, 7)
