"""FeatureMF: the cold are served by features, new users by history and features; it learns on, is saved, exported, and refuses."""

import logging

import numpy as np
import polars as pl
import pytest
import torch
from test_towers_models import BLANK_ITEM, BLANK_USER, COLD_ITEMS, NEW_USERS, NUM_ITEMS, own_taste, planted, tastes

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.split import cold_items
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.evaluation import evaluate
from recsys_dl.models import FeatureMF, Popularity
from recsys_dl.readers.sources import movietweetings
from recsys_dl.retrieval import Exact, Retriever

SMALL = {"embedding_size": 16, "epochs": 30, "learning_rate": 0.1, "regularization": 0.1, "seed": 7, "device": "cpu"}
LOSSES = ("warp", "bpr", "logistic")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return planted()


@pytest.fixture(scope="module", params=LOSSES)
def fitted(request, data):
    penalty = {"regularization": 1.0} if request.param == "warp" else {}  # WARP's slopes are larger
    return FeatureMF(loss=request.param, **SMALL | penalty).fit(data)


def test_items_never_met_are_recommended_by_their_features(fitted, data):
    users = np.arange(NEW_USERS[0])
    assert own_taste(fitted.recommend(users, k=3, allow=COLD_ITEMS[:-1]).items_BK, users) > 0.9
    assert (np.isin(fitted.similar_items([50], k=5).items_BK % 3, [50 % 3])).mean() > 0.7
    met = np.arange(COLD_ITEMS[0])
    assert own_taste(fitted.recommend(users, k=3, allow=met, exclude=data).items_BK, users) > 0.9


def test_without_features_nothing_is_known_of_the_cold(fitted, data):
    blind = FeatureMF(**{**fitted.arguments(), "features": "none"}).fit(data)
    assert len(np.unique(blind.score([0], COLD_ITEMS[None]))) == 1
    assert (blind.similar_items([50], k=3).items_BK == -1).all()
    plain = FeatureMF(**fitted.arguments()).fit(data.interactions)
    np.testing.assert_array_equal(plain.item_emb_ID, blind.item_emb_ID)


def test_users_without_a_history_are_answered_by_their_features(fitted, data):
    known = NEW_USERS[:-1]
    assert own_taste(fitted.recommend(known, k=5).items_BK, known) > 0.9
    blank = fitted.recommend([BLANK_USER], k=5).items_BK[0]
    most = np.sort(data.interactions.item_counts_I)[::-1][:5]
    np.testing.assert_array_equal(data.interactions.item_counts_I[blank], most)
    assert fitted.queries([0, known[0], BLANK_USER])[1].tolist() == [False, False, True]


def people(data, log):
    segments = pl.DataFrame({"segment": [None, "s1", None, "s1"], "age": [1, 2, 3, 4]})
    return Dataset(log, Vocabulary(list("abcd"), noun="user"), data.items, user_features=segments)


def test_people_unseen_are_answered_by_history_and_features(fitted, data):
    """One without anything, one with features alone, one with a history alone, one with both; each of taste 1."""
    liked = np.flatnonzero(tastes(COLD_ITEMS[0]) == 1)[:6]
    log = Interactions(np.repeat([2, 3], 6), np.tile(liked, 2), num_users=4, num_items=NUM_ITEMS)
    state = fitted.fold_in(people(data, log))
    lists = fitted.recommend(state, k=3, exclude=log).items_BK
    assert own_taste(lists[1:], np.array([1, 1, 1])) > 0.9
    np.testing.assert_array_equal(lists[0], fitted.recommend([BLANK_USER], k=3).items_BK[0])
    plain = fitted.fold_in(log)
    np.testing.assert_array_equal(plain.values[0][3], plain.values[0][2])
    np.testing.assert_array_equal(state.values[0][2], plain.values[0][2])
    assert np.abs(state.values[0][3] - plain.values[0][3]).max() > 1e-4


def test_a_history_may_hold_cold_items(fitted):
    """They cannot be compared with others, and are left out of the steps."""
    state = fitted.fold_in([[1, 4, 7], [1, 4, 7, int(COLD_ITEMS[0])], [int(COLD_ITEMS[0])]])
    np.testing.assert_array_equal(state.values[0][0], state.values[0][1])
    assert np.isfinite(fitted.recommend(state, k=5).scores_BK).all()


def test_scores_are_sums_over_features(fitted, data):
    """The formula of the docstring, from the tables, for users and items of every kind."""
    vectors = []
    for noun, counts in (("user", fitted.user_counts_U), ("item", fitted.item_counts_I)):
        table, side = getattr(fitted, f"{noun}_table_VW").astype(np.float64), getattr(fitted, f"{noun}_side")
        num_values = getattr(fitted, f"{noun}_encoder").num_values
        rows = []
        for row in range(len(counts)):
            total = sum(np.sqrt(w) * table[c] for c, w in zip(side.codes_RM[row], side.weights_RM[row], strict=True))
            total += side.dense_RF[row] @ table[num_values : num_values + side.dense_RF.shape[1]]
            total = total * side.known_R[row]
            ids = table[num_values + side.dense_RF.shape[1] :]
            rows.append(total + (ids[row] if counts[row] else 0))
        vectors.append(np.array(rows))
    p, q = vectors
    size = fitted.embedding_size
    users, items = np.arange(NEW_USERS[-1]), np.arange(NUM_ITEMS - 1)
    assert (p[:, size + 1] == 0).all()
    assert (q[:, size] == 0).all()
    expected = p[users, :size] @ q[items, :size].T + p[users, size, None] + q[None, items, size + 1]
    found = fitted.score(users, np.tile(items, (len(users), 1)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)  # float32 sums of 16 products


def test_same_seed_same_bits_other_seed_others(data):
    one, two, three = (FeatureMF(**SMALL | {"epochs": 3, "seed": seed}).fit(data) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.item_table_VW, two.item_table_VW)
    np.testing.assert_array_equal(one.user_table_VW, two.user_table_VW)
    assert not np.array_equal(one.item_table_VW, three.item_table_VW)


def test_it_is_loaded_as_it_was_saved(fitted, data, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = FeatureMF.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.item_emb_ID, fitted.item_emb_ID)
    np.testing.assert_array_equal(loaded.user_emb_UD, fitted.user_emb_UD)
    liked = np.flatnonzero(tastes(COLD_ITEMS[0]) == 1)[:6]
    log = Interactions(np.repeat([2, 3], 6), np.tile(liked, 2), num_users=4, num_items=NUM_ITEMS)
    one, two = (model.fold_in(people(data, log)).values[0] for model in (fitted, loaded))
    np.testing.assert_array_equal(one, two)
    more = Interactions([3], [50], num_users=120, num_items=60)
    one, two = (FeatureMF.load(tmp_path / "model").fine_tune(more, epochs=2) for _ in range(2))
    np.testing.assert_array_equal(one.item_table_VW, two.item_table_VW)
    assert one.epochs_taken == SMALL["epochs"] + 2


def new_dataset(ids, genres, users=("n1",), log=None, **parts):
    texts = pl.Series(["moon rocket star"] * len(ids))
    log = log or Interactions([0], [0], num_users=len(users), num_items=len(ids))
    features = {"item_features": pl.DataFrame({"genres": genres}), "item_texts": texts} | parts
    segments = pl.DataFrame({"segment": ["s1"] * len(users)})
    return Dataset(
        log, Vocabulary(users, noun="user"), Vocabulary(ids, noun="item"), **{"user_features": segments} | features
    )


def test_a_catalog_grows_by_items_with_features(fitted, data):
    before = fitted.item_emb_ID.copy(), fitted.user_emb_UD.copy()
    model = FeatureMF(**fitted.arguments()).fit(data)
    model.grow(new_dataset(["n1", "i3"], [["g1", "any"], ["g0"]]))
    assert (model.num_users, model.num_items) == (121, 61)
    np.testing.assert_array_equal(model.item_emb_ID[:60], before[0])
    np.testing.assert_array_equal(model.user_emb_UD[:120], before[1])
    near = model.similar_items([60], k=5).items_BK
    assert (near % 3 == 1).mean() > 0.7
    assert own_taste(model.recommend([120], k=5, allow=np.arange(60)).items_BK, np.array([1])) > 0.9
    scores = model.score(np.arange(9), np.full((9, 1), 60)).ravel()
    assert scores[np.arange(9) % 3 == 1].min() > scores[np.arange(9) % 3 != 1].max()


def test_a_new_item_without_features_is_said_to_be_unknown(data, caplog):
    model = FeatureMF(**SMALL).fit(data)
    with caplog.at_level(logging.WARNING):
        model.grow(new_dataset(["n1", "n2"], [None, ["g1"]], item_texts=pl.Series([None, "star"], dtype=pl.String), log=Interactions([0, 0], [0, 1])))  # fmt: skip
    assert "1 new item without features, such as 'n1'" in caplog.text
    assert "fine_tune" in caplog.text
    assert model.never_listed().tolist() == [BLANK_ITEM, 60]


def test_it_learns_on_from_new_interactions_of_the_cold(fitted, data):
    """A cold item whose users are of another taste than its features say moves to them; old users keep their lists."""
    model = FeatureMF(**fitted.arguments()).fit(data)
    users = np.arange(NEW_USERS[0])
    others = users[users % 3 == 2]
    cold = 48  # of taste 0
    before = model.score(others, np.full((len(others), 1), cold)).mean()
    fresh = Interactions(others[:20], np.full(20, cold), num_users=120, num_items=60)
    assert model.fine_tune(fresh, epochs=20) is model
    assert model.score(others, np.full((len(others), 1), cold)).mean() > before
    assert model.train_UI.nnz == data.interactions.by_user.nnz + 20
    assert own_taste(model.recommend(users, k=3, allow=np.arange(48), exclude=data).items_BK, users) > 0.9
    model.fine_tune(new_dataset(["n1"], [["g1"]]), epochs=1)
    assert (model.num_users, model.num_items) == (121, 61)


def test_an_index_and_an_export_answer_as_the_model(fitted, data):
    users = np.arange(NEW_USERS[-1])
    ours = fitted.recommend(users, k=8, exclude=data)
    served = Retriever(fitted, Exact(device="cpu")).build().recommend(users, k=8, exclude=data)
    np.testing.assert_array_equal(served.items_BK, ours.items_BK)
    np.testing.assert_allclose(served.scores_BK, ours.scores_BK, rtol=1e-5, atol=1e-5)
    parts = fitted.served()
    assert parts.known_U[users].all()
    assert not parts.known_U[BLANK_USER]
    scores = parts.scorer(torch.from_numpy(parts.states)).numpy()[users]
    every = np.tile(np.flatnonzero(parts.listed_I), (len(users), 1))
    np.testing.assert_allclose(scores[:, parts.listed_I], fitted.score(users, every), rtol=1e-5, atol=1e-5)


def test_cold_items_of_movietweetings_beat_popularity(shared_data):
    train, _, test = cold_items(movietweetings(shared_data / "movietweetings-100k"), seed=7)
    cold = np.unique(test.interactions.items_N)

    class Among:
        def __init__(self, model):
            self.model = model

        def recommend(self, users, k, *, exclude=None, allow=None):
            return self.model.recommend(users, k, exclude=exclude, allow=cold)

    model = FeatureMF(embedding_size=16, epochs=10, device="cpu").fit(train)
    found = [evaluate(Among(one), train, test, k=10, metrics=["ndcg"]).values["ndcg@10"] for one in (model, Popularity().fit(train))]  # fmt: skip
    assert found[0] > 1.5 * found[1]


def test_the_log_says_that_there_are_no_features(data, caplog):
    with caplog.at_level(logging.INFO):
        FeatureMF(**SMALL | {"epochs": 0}).fit(data.interactions)
        assert "no features" in caplog.text
        caplog.clear()
        FeatureMF(**SMALL | {"epochs": 0}, features="none").fit(data.interactions)
        assert "no features" not in caplog.text
    with pytest.raises(ValueError, match='features="items" needs item features, but the data has none'):
        FeatureMF(features="items").fit(data.interactions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "wrap"}, "loss must be one of warp, bpr, logistic, got 'wrap' (did you mean 'warp'?)"),
        ({"embedding_size": 0}, "embedding_size must be a whole number of at least 1, got 0"),
        ({"epochs": -1}, "epochs must be a whole number of at least 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number above 0, got nan"),
        ({"regularization": -0.1}, "regularization must be"),
        ({"id_dropout": 1.0}, "id_dropout must be"),
        ({"max_sampled": 0}, "max_sampled must be a whole number of at least 1"),
        ({"popularity_exponent": 0.5}, 'popularity_exponent=0.5 would have no effect: loss="warp"'),
        ({"popularity_exponent": float("inf"), "loss": "bpr"}, "popularity_exponent must be a finite number"),
        ({"item_kinds": {"genres": "bags"}}, "the kind of a column must be one of"),
        ({"n_components": 8}, "did you mean 'embedding_size'?"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises((ValueError, TypeError)) as caught:
        FeatureMF(**arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused_with_column_and_item(data, number):
    years = np.arange(NUM_ITEMS, dtype=np.float64)
    years[7] = number
    bad = Dataset(data.interactions, data.users, data.items, item_features=pl.DataFrame({"year": years}))
    with pytest.raises(
        ValueError, match=rf"column 'year' of the item features must hold finite numbers.*got {number}.* item 'i7'"
    ):
        FeatureMF(**SMALL).fit(bad)


def test_features_of_another_shape(fitted, data, tmp_path):
    with pytest.raises(ValueError, match=r"the item features must have the column 'genres' .* as in training"):
        FeatureMF(**fitted.arguments()).fit(data).grow(
            new_dataset(["n1"], [["g1"]], item_features=pl.DataFrame({"year": [1]}))
        )
    log = Interactions([0], [1], num_users=1, num_items=NUM_ITEMS)
    ages = Dataset(log, Vocabulary(["a"]), data.items, user_features=pl.DataFrame({"segment": [3]}))
    with pytest.raises(ValueError, match="the column 'segment' of the user features held text in training, got whole"):
        fitted.fold_in(ages)
    arrays = fitted.arrays()
    arrays["item_table_VW"] = arrays["item_table_VW"][:-1]
    other = FeatureMF(**fitted.arguments())
    other.users, other.items = fitted.users, fitted.items
    with pytest.raises(ValueError, match="the item table must have a row for each of"):
        other.restore(arrays)


def test_steps_too_long_are_said_to_be_so(data):
    with pytest.raises(ValueError, match="learning_rate"):
        FeatureMF(**SMALL | {"learning_rate": 1e30, "regularization": 0.0}).fit(data)
