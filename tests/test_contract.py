"""What every recommender promises. Runs once for each YAML in conf/model, and for models served by an index; a new model needs no line here."""

import numpy as np
import polars as pl
import pytest
from hydra.utils import instantiate
from processes import program as run_program

from recsys_dl import evaluate
from recsys_dl.compose import compose, options
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.protocols import Ranking, Recommender
from recsys_dl.retrieval import Retriever
from recsys_dl.saving import load_saved

SERVED = ["als+hnsw", "funk_svd+ivf", "svd+flat", "bpr+exact"]  # a model and the index that serves it
ALIKE_FOR_ALL = ("popularity", "segment_popularity")  # without user features
NUM_USERS, NUM_ITEMS = 62, 41
NOTHING_USER, NOTHING_ITEM = 60, 40  # known to the vocabulary, never met in training
ALL_USER = 61  # had every item but NOTHING_ITEM


def planted() -> Interactions:
    """Two tastes: even users rate even items high, odd users odd ones; of the rest they had a few, rated low."""
    rng = np.random.default_rng(3)
    users, items, ratings = [], [], []
    for user in range(60):
        mine = np.arange(user % 2, 40, 2)
        others = np.arange(1 - user % 2, 40, 2)
        for item in rng.choice(mine, 14, replace=False):
            users.append(user), items.append(item), ratings.append(rng.choice([4.0, 4.5, 5.0]))
        for item in rng.choice(others, 3, replace=False):
            users.append(user), items.append(item), ratings.append(rng.choice([1.0, 1.5]))
    for item in range(40):
        users.append(ALL_USER), items.append(item), ratings.append(3.0)
    times = rng.permutation(len(users)) + 1_400_000_000
    return Interactions(users, items, ratings, times, num_users=NUM_USERS, num_items=NUM_ITEMS)


@pytest.fixture(scope="module", params=[*options("model"), *SERVED])
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def train(name) -> Dataset:
    return data_for(build(name), planted())


def data_for(model, log: Interactions) -> Dataset:
    """A log with ids; with the items' tastes for models that need content. Nothing is known of NOTHING_ITEM."""
    tastes = [np.eye(2)[row % 2].tolist() if row != NOTHING_ITEM else None for row in range(log.num_items)]
    return Dataset(
        log,
        Vocabulary([f"u{row}" for row in range(log.num_users)], noun="user"),
        Vocabulary([f"i{row}" for row in range(log.num_items)], noun="item"),
        item_features=pl.DataFrame({"taste": tastes}) if getattr(model, "needs_content", False) else None,
    )


def build(name: str, *, epochs: int | None = None):
    """A model as its YAML makes it; of few epochs where a test is not about what it has learned."""
    model, _, index = name.partition("+")
    config = compose("train", [f"model={model}", *([f"index={index}"] if index else []), "device=cpu"])
    if epochs is not None and "epochs" in config.model:
        config.model.epochs = epochs
    return Retriever(instantiate(config.model), instantiate(config.index)) if index else instantiate(config.model)


def load(folder):
    return load_saved(folder, Recommender, noun="model")


@pytest.fixture(scope="module")
def model(name, train):
    return build(name).fit(train)


def test_it_is_a_recommender_and_fit_returns_it(model, train):
    assert isinstance(model, Recommender)
    again = build(name_of(model), epochs=1)
    assert again.fit(train) is again


def test_it_says_what_it_is(model):
    assert repr(model).startswith(f"{type(model).__name__}(")
    assert repr(model).endswith("of 62 users and 41 items")
    assert repr(build(name_of(model))).endswith("not fitted")


def test_same_seed_same_model(model, train):
    first, second = (build(name_of(model), epochs=2).fit(train).arrays() for _ in range(2))
    assert first.keys() == second.keys() == model.arrays().keys()
    for name, one in first.items():
        two = second[name]
        assert (one != two).nnz == 0 if hasattr(one, "nnz") else np.array_equal(one, two), name


def name_of(model) -> str:
    parts = [model.model, model.index] if isinstance(model, Retriever) else [model]
    return "+".join(type(part).__module__.rpartition(".")[2] for part in parts)


def test_lists_are_sorted_distinct_and_of_the_right_types(model):
    ranking = model.recommend(np.arange(NUM_USERS), k=NUM_ITEMS)
    assert isinstance(ranking, Ranking)
    assert ranking.items_BK.dtype == np.int32
    assert ranking.scores_BK.dtype == np.float32
    assert ranking.items_BK.shape == ranking.scores_BK.shape == (NUM_USERS, NUM_ITEMS)
    assert not np.isnan(ranking.scores_BK).any()
    assert (ranking.scores_BK[:, :-1] >= ranking.scores_BK[:, 1:]).all()
    for items in ranking.items_BK:
        real = items[items >= 0]
        assert len(set(real)) == len(real)


def test_planted_taste_is_recovered(model, train):
    if name_of(model) in ALIKE_FOR_ALL:
        pytest.skip("popularity knows no taste")
    users = np.arange(60)
    top = model.recommend(users, k=3, exclude=train).items_BK
    hits = (top % 2 == (users % 2)[:, None]).mean()
    assert hits > 0.95, f"{hits:.2f} of the top 3 unseen items are of the user's taste"


def test_exclude_and_allow(model, train):
    users = np.arange(NUM_USERS)
    seen = train.interactions.by_user
    top = model.recommend(users, k=NUM_ITEMS, exclude=train).items_BK
    for user, items in enumerate(top):
        assert not set(items[items >= 0]) & set(seen[user].indices)
    only = model.recommend(users, k=4, allow=[5, 6, 9]).items_BK
    assert set(np.unique(only)) <= {-1, 5, 6, 9}
    each = Interactions([0, 1, 1], [7, 8, 30], num_users=NUM_USERS, num_items=NUM_ITEMS)
    mine = model.recommend([1, 0], k=3, allow=each)
    assert set(mine.items_BK[0]) <= {8, 30, -1}
    assert list(mine.items_BK[1]) == [7, -1, -1]
    assert np.isneginf(mine.scores_BK[1, 1:]).all()
    both = model.recommend([ALL_USER], k=3, exclude=train, allow=[0, 1, NOTHING_ITEM]).items_BK
    assert set(both[0]) <= {NOTHING_ITEM, -1}


def test_one_user_is_answered_as_in_a_batch(model, train):
    users = np.array([0, 7, 33, NOTHING_USER, ALL_USER, 0])
    together = model.recommend(users, k=8, exclude=train)
    for position, user in enumerate(users):
        alone = model.recommend([user], k=8, exclude=train)
        # BLAS sums in another order for another batch size: float32 rounding, and so ties may change places.
        np.testing.assert_allclose(alone.scores_BK[0], together.scores_BK[position], rtol=1e-4, atol=1e-5)
        swapped = alone.items_BK[0] != together.items_BK[position]
        gaps = np.abs(np.diff(np.maximum(alone.scores_BK[0], -1e9), prepend=np.inf, append=-np.inf))
        near_tie = np.minimum(gaps[:-1], gaps[1:]) < 1e-4
        assert (near_tie | ~swapped).all()


def test_scores_are_those_of_the_ranking(model):
    users = np.array([0, 1, NOTHING_USER, ALL_USER])
    ranking = model.recommend(users, k=NUM_ITEMS)
    scores_BL = model.score(users, ranking.items_BK)
    np.testing.assert_allclose(scores_BL, ranking.scores_BK, rtol=1e-4, atol=1e-5)  # rounding of another product shape
    assert np.isneginf(model.score([0], np.array([[-1, 3]]))[0, 0])


def test_similar_items(model):
    near = model.similar_items([0, 1, NOTHING_ITEM], k=5)
    assert near.items_BK.shape == (3, 5)
    for item, items, scores in zip((0, 1, NOTHING_ITEM), near.items_BK, near.scores_BK, strict=True):
        assert item not in items
        assert (items[scores == -np.inf] == -1).all()
        assert (np.diff(scores[np.isfinite(scores)]) <= 0).all()
    if name_of(model) not in ALIKE_FOR_ALL:
        assert (near.items_BK[0][near.items_BK[0] >= 0] % 2 == 0).mean() > 0.7


def test_fold_in_serves_someone_unseen(model, train):
    odd, even = list(range(1, 21, 2)), list(range(0, 20, 2))
    ratings = np.full(20, 5.0, np.float32)
    histories = Interactions(np.repeat([0, 1], 10), odd + even, ratings, num_users=3, num_items=NUM_ITEMS)
    state = model.fold_in(histories)
    assert len(state) == 3
    top = model.recommend(state, k=5, exclude=histories)
    assert (top.items_BK[:2] >= 0).all()
    assert not set(top.items_BK[0]) & set(odd)
    if name_of(model) not in ALIKE_FOR_ALL:
        assert (top.items_BK[0] % 2 == 1).mean() > 0.7
        assert (top.items_BK[1] % 2 == 0).mean() > 0.7
    lists = model.fold_in([odd, even, []])
    assert model.recommend(lists, k=2).items_BK.shape == (3, 2)


def test_nothing_known_of_a_user_or_an_item(model, train):
    row = model.recommend([NOTHING_USER], k=5)
    folded = model.recommend(model.fold_in([[]]), k=5)
    np.testing.assert_array_equal(row.items_BK, folded.items_BK)
    assert (row.items_BK >= 0).all()
    if model.popularity_fallback:
        most = np.sort(train.interactions.item_counts_I)[::-1][:5]
        np.testing.assert_array_equal(train.interactions.item_counts_I[row.items_BK[0]], most)
    scores = model.score([0, NOTHING_USER], np.array([[NOTHING_ITEM], [NOTHING_ITEM]]))
    assert np.isneginf(scores).all() if NOTHING_ITEM in model.never_listed() else np.isfinite(scores).all()


def test_a_history_of_unknown_items_is_answered_as_none_and_said(model, caplog):
    nobody = model.recommend(model.fold_in([[]]), k=5, allow=np.arange(40))
    with caplog.at_level("WARNING", "recsys_dl"):
        state = model.fold_in([[NOTHING_ITEM], [0, 2, 4], [NOTHING_ITEM]])
    found = model.recommend(state, k=5, allow=np.arange(40))
    known = model.recommend(model.fold_in([[0, 2, 4]]), k=5, allow=np.arange(40))
    np.testing.assert_array_equal(found.items_BK[1], known.items_BK[0])
    if model.popularity_fallback:
        np.testing.assert_array_equal(found.items_BK[[0, 2]], nobody.items_BK[[0, 0]])
        np.testing.assert_allclose(model.score(state, found.items_BK), found.scores_BK, rtol=1e-4, atol=1e-5)
    if name_of(model) in ALIKE_FOR_ALL:
        assert not caplog.text
    else:
        assert "2 of 3 histories (row 0, ...) hold only items that it learned nothing about" in caplog.text
        caplog.clear()
        model.fold_in([[0, 2, NOTHING_ITEM], []])
        assert not caplog.text


def test_a_new_user_is_answered_alone_as_beside_others(model):
    together = model.recommend(model.fold_in([[1, 3], [0, 2, 4], list(range(0, 20, 2))]), k=5)
    for row, history in enumerate([[1, 3], [0, 2, 4], list(range(0, 20, 2))]):
        alone = model.recommend(model.fold_in([history]), k=5)
        np.testing.assert_allclose(alone.scores_BK[0], together.scores_BK[row], rtol=1e-4, atol=1e-5)


def test_items_of_which_nothing_is_known_are_similar_to_none(model):
    near = model.similar_items([NOTHING_ITEM, 0], k=NUM_ITEMS)
    assert (near.items_BK[0] == -1).all()
    assert NOTHING_ITEM not in near.items_BK[1]


def test_saved_and_loaded_in_a_new_process(model, train, tmp_path):
    model.save(tmp_path / "saved")
    users = np.array([0, 1, NOTHING_USER, ALL_USER])
    before = model.recommend(users, k=6, exclude=train)
    program = (
        "import sys, numpy as np; from recsys_dl.saving import load_saved; from recsys_dl.protocols import Recommender;"
        "model = load_saved(sys.argv[1], Recommender, noun='model');"
        "r = model.recommend(np.array([0, 1, 60, 61]), k=6); f = model.recommend(model.fold_in([[0, 2, 4], []]), k=6);"
        "np.savez(sys.argv[2], a=r.items_BK, b=r.scores_BK, c=f.items_BK, ids=np.array(model.items.ids.to_list()))"
    )
    run_program(program, tmp_path / "saved", tmp_path / "answer.npz")
    answer = np.load(tmp_path / "answer.npz")
    after = model.recommend(users, k=6)
    np.testing.assert_array_equal(answer["a"], after.items_BK)
    np.testing.assert_array_equal(answer["b"], after.scores_BK)
    np.testing.assert_array_equal(answer["c"], model.recommend(model.fold_in([[0, 2, 4], []]), k=6).items_BK)
    assert list(answer["ids"]) == train.items.ids.to_list()
    again = load(tmp_path / "saved").recommend(users, k=6, exclude=train)
    np.testing.assert_array_equal(again.items_BK, before.items_BK)


def test_fitted_on_bare_interactions(model, train):
    if getattr(model, "needs_content", False):
        with pytest.raises(ValueError, match="item features"):
            build(name_of(model)).fit(train.interactions)
        return
    plain, named = (build(name_of(model), epochs=2).fit(log) for log in (train.interactions, train))
    np.testing.assert_array_equal(plain.recommend([0, 5], k=4).items_BK, named.recommend([0, 5], k=4).items_BK)
    assert plain.users is None


def test_the_smallest_logs(model):
    for log in (
        Interactions([0], [0]),
        Interactions([0, 0, 0], [0, 1, 2], [3, 4, 5], num_items=4),
        Interactions([0, 1, 2], [0, 0, 0], [3, 4, 5], num_users=4),
        Interactions([0, 0, 1, 1], [0, 1, 0, 1]),
    ):
        again = build(name_of(model), epochs=2)
        fitted = again.fit(data_for(again, log) if getattr(again, "needs_content", False) else log)
        ranking = fitted.recommend(np.arange(log.num_users), k=log.num_items)
        assert not np.isnan(ranking.scores_BK).any()
        assert ranking.items_BK.max() < log.num_items


def test_an_item_of_which_nothing_is_known_does_not_displace_known_ones(model, train):
    top = model.recommend(np.arange(60), k=3, exclude=train).items_BK
    assert (top == NOTHING_ITEM).any(axis=1).mean() < 0.05


def test_predicted_ratings_stay_in_their_range(model):
    if not hasattr(model, "predict"):
        pytest.skip("does not predict ratings")
    users, items = np.divmod(np.arange(NUM_USERS * NUM_ITEMS), NUM_ITEMS)
    ratings = model.predict(users, items)
    assert ratings.dtype == np.float32
    assert ratings.min() >= 1
    assert ratings.max() <= 5
    liked = ratings.reshape(NUM_USERS, NUM_ITEMS)[:60, :40]
    own = liked[np.arange(60)[:, None] % 2 == np.arange(40) % 2]
    other = liked[np.arange(60)[:, None] % 2 != np.arange(40) % 2]
    assert own.mean() > other.mean() + 1


@pytest.mark.parametrize("k", [0, -1, NUM_ITEMS + 1])
def test_wrong_k(model, k):
    with pytest.raises(ValueError, match=r"k must be between 1 and the 41 known items"):
        model.recommend([0], k=k)


@pytest.mark.parametrize("k", [2.5, True, "3"])
def test_k_that_is_no_number_of_items(model, k):
    with pytest.raises(ValueError, match=r"k must be a whole number, such as 10, got"):
        model.recommend([0], k=k)


def test_wrong_rows(model, train):
    with pytest.raises(ValueError, match=r"user row 62 is outside the 62 users.*fold_in"):
        model.recommend([62], k=1)
    with pytest.raises(ValueError, match="user row -1"):
        model.recommend([-1], k=1)
    with pytest.raises(ValueError, match="users must be rows"):
        model.recommend(["u1"], k=1)
    with pytest.raises(ValueError, match="item row 41"):
        model.similar_items([41], k=1)
    with pytest.raises(ValueError, match="item row 41"):
        model.score([0], np.array([[41]]))
    with pytest.raises(ValueError, match="item rows must be in"):
        model.fold_in([[41]])
    with pytest.raises(ValueError, match="exclude must cover"):
        model.recommend([5], k=1, exclude=Interactions([0], [0], num_items=NUM_ITEMS))


def test_rows_that_mean_others(model, train):
    order = np.argsort([f"u{row}" for row in range(NUM_USERS)][::-1], kind="stable")
    other = Dataset(train.interactions, Vocabulary(train.users.ids[order.tolist()], noun="user"), train.items)
    with pytest.raises(ValueError, match="numbers its users differently"):
        model.recommend([0], k=1, exclude=other)
    other = Dataset(train.interactions, train.users, Vocabulary(train.items.ids.reverse(), noun="item"))
    with pytest.raises(ValueError, match="numbers its items differently"):
        model.fold_in(other)
    with pytest.raises(ValueError, match="numbers its items differently"):
        evaluate(model, other, other, k=1)
    with pytest.raises(ValueError, match=r"Interactions\.from_histories"):
        model.recommend([0, 1], k=1, exclude=[[3], [4]])
    with pytest.raises(ValueError, match=r"for a single user write \[\[3, 5, 8\]\]"):
        model.fold_in([1, 2, 3])


def test_not_fitted_or_nothing_to_fit(model):
    fresh = build(name_of(model))
    with pytest.raises(ValueError, match="has not been fitted"):
        fresh.recommend([0], k=1)
    with pytest.raises(ValueError, match="at least one interaction"):
        fresh.fit(Interactions([], [], num_users=3, num_items=3))
    with pytest.raises(TypeError, match="expected a Dataset or Interactions, got ndarray"):
        fresh.fit(np.ones((3, 3)))


def test_a_damaged_or_foreign_folder(model, tmp_path):
    folder = tmp_path / "saved"
    model.save(folder)
    with pytest.raises(FileExistsError, match="exists already"):
        model.save(folder)
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("format: 1", "format: 99"))
    with pytest.raises(ValueError, match=r"has format 99, this version reads format 1"):
        load(folder)
    (folder / "config.yaml").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        load(folder)
    (folder / "config.yaml").write_text(config)
    arrays = next(folder.rglob("arrays.npz"))
    data = arrays.read_bytes()
    arrays.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"arrays\.npz is missing or damaged"):
        load(folder)
    with pytest.raises(FileNotFoundError, match="has no config"):
        load(tmp_path)
