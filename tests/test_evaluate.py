"""evaluate: figures by hand and against plain loops, whatever the block; who is asked, and what is left out of the lists."""

import json

import numpy as np
import polars as pl
import pytest

from recsys_dl import Dataset, Interactions, Vocabulary, evaluate
from recsys_dl.evaluation import Evaluation
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.models import Popularity
from recsys_dl.protocols import Ranking


class Given(CatalogModel):
    """Scores handed over: known users by row, folded ones by how many items they bring."""

    def __init__(self, *, scores_UI):
        self.scores_UI = np.asarray(scores_UI, np.float32)

    def fit(self, train):
        self._begin(train)
        return self

    def _values(self, users_B):
        return users_B

    def _fold(self, histories):
        return histories.user_counts_U

    def _influential_items(self):
        return np.ones(self.num_items, bool)

    def _scores(self, values):
        return self.scores_UI[values].copy()

    def _item_scores(self, items_B):
        return self.scores_UI[items_B]


class Rater(Given):
    """And rates every pair 3."""

    def predict(self, users_P, items_P):
        return np.full(len(users_P), 3.0, np.float32)


# Counts in train: item 0 three, item 1 two, item 2 one, items 3 and 4 none. User 3 has nothing in train.
TRAIN = Interactions([0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 2], num_users=5, num_items=5)
TEST = Interactions([0, 2, 3, 3], [2, 3, 0, 4], [1, 2, 4, 0], num_users=5, num_items=5)


def test_values_by_hand():
    # lists of two: user 0 gets 2, 3; user 2 gets 1, 3; user 3 gets 0, 1. Items 3 and 4 are tied: each is second half of the time
    table = evaluate(Popularity().fit(TRAIN), TRAIN, TEST, k=[1, 2])
    np.testing.assert_array_equal(table.users, [0, 2, 3])
    np.testing.assert_array_equal(table.per_user["precision@2"], [1 / 2, 1 / 4, 1 / 2])
    np.testing.assert_array_equal(
        table.per_user["recall@1"], [1, 0, 1]
    )  # item 4 has weight 0: user 3 has one relevant item
    np.testing.assert_allclose(table.per_user["ndcg@2"], [1, 0.5 / np.log2(3), 1], rtol=1e-15)
    assert table.values["mrr@2"] == pytest.approx(2.25 / 3, rel=1e-15)
    assert table.values["coverage@1"] == 3 / 5
    assert table.values["coverage@2"] == 4 / 5
    assert table.values["gini@1"] == pytest.approx(0.4, rel=1e-14)  # shown 1 1 1 0 0
    # bits: item 0 of three users 0, item 1 log2(3/2), items 2 and 3 log2(3)
    l3, l15 = np.log2(3), np.log2(1.5)
    np.testing.assert_allclose(table.per_user["novelty@2"], [l3, (l15 + l3) / 2, l15 / 2], rtol=1e-14)
    # popularity 1, 2/3, 1/3, 0, 0: lists 1/6, 1/3, 5/6; what they had 5/6, 2/3, nothing
    lift = table.per_user["popularity_lift@2"]
    np.testing.assert_allclose(lift, [(1 / 6) / (5 / 6) - 1, (1 / 3) / (2 / 3) - 1, np.nan], rtol=1e-6)
    assert table.values["popularity_lift@2"] == pytest.approx((1 / 6 + 1 / 3) / (5 / 6 + 2 / 3) - 1, rel=1e-14)
    assert "diversity@2" not in table.values
    assert "rmse" not in table.values


def random_parts(seed, num_users=129, num_items=40):
    rng = np.random.default_rng(seed)
    cells = rng.choice(num_users * num_items, 900, replace=False)
    users, items = np.divmod(cells, num_items)
    weights = rng.integers(0, 6, len(cells))
    parts = np.array_split(np.arange(len(cells)), [500, 600])
    return [
        Interactions(users[p], items[p], weights[p], num_users=num_users, num_items=num_items) for p in parts
    ], rng.normal(size=(num_users, num_items)).astype(np.float32)


def plain(scores, train, more, test, k):
    """The same figures by loops over users, sets and lists."""
    rows = {name: [] for name in ("precision", "recall", "hit_rate", "map", "mrr", "ndcg", "diversity")}
    had = [set(train.items_N[train.users_N == u].tolist()) for u in range(train.num_users)]
    who = [set(train.users_N[train.items_N == i].tolist()) for i in range(train.num_items)]
    for user in np.unique(test.users_N):
        mine = test.users_N == user
        grades = dict(zip(test.items_N[mine].tolist(), test.weights_N[mine].tolist(), strict=True))
        grades = {item: grade for item, grade in grades.items() if grade > 0}
        out = had[user] | set(more.items_N[more.users_N == user].tolist())
        scored = scores[user] if had[user] else np.array([len(users) for users in who])  # the answer to the unknown
        ranked = [item for item in np.argsort(-scored, kind="stable").tolist() if item not in out][:k]
        alike = [
            len(who[i] & who[j]) / max(1, len(who[i]) * len(who[j])) ** 0.5
            for at, i in enumerate(ranked)
            for j in ranked[:at]
        ]
        rows["diversity"].append(1 - np.mean(alike) if alike else 0)
        if not grades:
            for name in rows.keys() - {"diversity"}:
                rows[name].append(np.nan)
            continue
        hits = [item in grades for item in ranked] + [False] * (k - len(ranked))
        gains = [2 ** grades.get(item, 0) - 1 for item in ranked]
        best = sorted((2**grade - 1 for grade in grades.values()), reverse=True)[:k]
        rows["precision"].append(sum(hits) / k)
        rows["recall"].append(sum(hits) / len(grades))
        rows["hit_rate"].append(any(hits))
        rows["map"].append(sum(sum(hits[: r + 1]) / (r + 1) for r in range(k) if hits[r]) / len(grades))
        rows["mrr"].append(next((1 / (r + 1) for r in range(k) if hits[r]), 0))
        rows["ndcg"].append(
            sum(g / np.log2(r + 2) for r, g in enumerate(gains)) / sum(g / np.log2(r + 2) for r, g in enumerate(best))
        )
    return {name: np.array(values, float) for name, values in rows.items()}


@pytest.mark.parametrize("memory", ["1GiB", 1, "20kB"])  # one block, one user a block, some users a block
def test_equal_to_plain_loops_whatever_the_block(memory):
    (train, more, test), scores = random_parts(seed=1)
    model = Given(scores_UI=scores).fit(train)
    expected = plain(scores, train, more, test, 7)
    table = evaluate(model, train, test, 7, metrics=list(expected), exclude=more, gains="exponential", memory=memory)
    for name, values in expected.items():
        np.testing.assert_allclose(table.per_user[f"{name}@7"], values, atol=1e-12, err_msg=name)
        assert table.values[f"{name}@7"] == pytest.approx(np.nanmean(values), rel=1e-12)


class Recorder(Given):
    """Notes what it is asked for."""

    def recommend(self, users, k, **kwargs):
        self.asked = [*getattr(self, "asked", []), (len(users), k)]
        return super().recommend(users, k, **kwargs)


def test_memory_sets_how_many_users_are_asked_for_and_the_longest_list_is_asked_for_once():
    (train, _, test), scores = random_parts(seed=6)
    model = Recorder(scores_UI=scores).fit(train)
    size = 8 * 40 + 200 * 10 + 24 * 10 * 10  # bytes a user: two scores an item, and what judging ten ranks takes
    evaluate(model, train, test, k=[2, 10, 5], memory=50 * size)
    users = len(np.unique(test.users_N))
    # one more than the longest list shows whether a tie goes on
    asked = [one for one in model.asked if one[1] == 11]
    assert asked == [(50, 11)] * (users // 50) + [(users % 50, 11)]
    assert all(length == 40 for _, length in model.asked if length != 11)  # and of few users, how far theirs goes on


class Decided(Popularity):
    """Its lists have no ties."""

    def recommend(self, users, k, **kwargs):
        items_BK = super().recommend(users, k, **kwargs).items_BK
        return Ranking(items_BK, np.where(items_BK >= 0, -np.arange(k, dtype=np.float32), -np.inf))


def test_equal_to_trec_eval_on_movielens(shared_data):
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="needs the package pytrec-eval-terrier")
    file = shared_data / "ml-latest-small" / "ratings.csv"
    if not file.is_file():
        pytest.skip(f"no {file}")
    log = pl.read_csv(file)
    users, items = (np.unique(log[name].to_numpy(), return_inverse=True)[1] for name in ("userId", "movieId"))
    halves = log["rating"].to_numpy() * 2  # trec_eval takes whole grades
    chosen = np.random.default_rng(0).random(len(log)) < 0.1
    train, test = (
        Interactions(users[at], items[at], halves[at], num_users=users.max() + 1, num_items=items.max() + 1)
        for at in (~chosen, chosen)
    )
    model = Decided().fit(train)  # trec_eval takes ties in the order of names
    table = evaluate(model, train, test, k=[5, 20], gains="linear")
    lists = model.recommend(table.users, 20, exclude=train).items_BK
    run = {str(u): {str(i): 20.0 - r for r, i in enumerate(row)} for u, row in zip(table.users, lists, strict=True)}
    qrel = {str(u): {} for u in table.users}
    for u, i, grade in zip(test.users_N, test.items_N, test.weights_N, strict=True):
        qrel[str(u)][str(i)] = int(grade)
    measures = {"P.5,20", "recall.5,20", "success.5,20", "map_cut.5,20", "ndcg_cut.5,20", "recip_rank"}
    theirs = pytrec_eval.RelevanceEvaluator(qrel, measures).evaluate(run)
    names = {"precision": "P", "recall": "recall", "hit_rate": "success", "map": "map_cut", "ndcg": "ndcg_cut"}
    pairs = {f"{ours}@{k}": f"{name}_{k}" for ours, name in names.items() for k in (5, 20)} | {"mrr@20": "recip_rank"}
    for ours, name in pairs.items():
        expected = [theirs[str(user)][name] for user in table.users]
        np.testing.assert_allclose(table.per_user[ours], expected, rtol=0, atol=1e-12, err_msg=ours)
        assert table.values[ours] == pytest.approx(np.mean(expected), rel=1e-12)


def test_users_who_are_folded_in_by_hand():
    """Strong generalization: users 3 and 4 are not in train; what they did first is given, the rest is asked for."""
    histories = Interactions([3, 3, 4], [0, 1, 4], num_users=5, num_items=5)
    test = Interactions([3, 4, 4], [2, 0, 1], num_users=5, num_items=5)
    names = [Vocabulary(range(5), noun=noun) for noun in ("user", "item")]
    asked = Dataset(test, *names, histories=histories)
    # a user who brings n items gets row n of the scores: user 3 (2 items) and user 4 (1 item)
    scores = np.array([[0, 0, 0, 0, 0], [3, 1, 2, 0, 9], [9, 8, 1, 2, 3], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    model = Given(scores_UI=scores).fit(TRAIN)
    for memory in ("1GiB", 1):
        table = evaluate(model, TRAIN, asked, k=[2, 3], memory=memory)
        np.testing.assert_array_equal(table.users, [3, 4])
        # user 3: 0 and 1 are known, so 4, 3, 2; user 4: 4 is known, so 0, 2, 1
        np.testing.assert_array_equal(table.per_user["recall@2"], [0, 1 / 2])
        np.testing.assert_array_equal(table.per_user["recall@3"], [1, 1])
        np.testing.assert_allclose(table.per_user["mrr@3"], [1 / 3, 1], rtol=1e-15)
        # what they had counts as their profile: popularity 1 and 2/3, and 0, which has no lift
        np.testing.assert_array_equal(np.isnan(table.per_user["popularity_lift@2"]), [False, True])
    more = Interactions([3], [4], num_users=5, num_items=5)
    table = evaluate(model, TRAIN, asked, k=2, exclude=more)
    np.testing.assert_array_equal(table.per_user["recall@2"], [1, 1 / 2])
    assert table.conventions["excluded"] == "train and histories and other given parts"
    with pytest.raises(ValueError, match="rmse compares predicted ratings with true ones, and test users are given by"):
        evaluate(Rater(scores_UI=scores).fit(TRAIN), TRAIN, asked, k=2, metrics=["rmse"])


def test_items_that_only_the_test_knows_can_be_found():
    scores = np.zeros((5, 5))
    scores[0, 4] = 1
    test = Interactions([0], [4], num_users=5, num_items=5)
    assert evaluate(Given(scores_UI=scores).fit(TRAIN), TRAIN, test, k=1).values["hit_rate@1"] == 1


def test_test_items_that_are_excluded_are_missed_and_counted():
    test = Interactions([0, 0], [0, 3], num_users=5, num_items=5)  # user 0 had item 0 in train
    table = evaluate(Popularity().fit(TRAIN), TRAIN, test, k=3)
    assert table.conventions["excluded_test_items"] == 1
    assert table.values["recall@3"] == 0.5


def test_blank_users():
    test = Interactions([0, 1], [2, 2], [1, 0], num_users=5, num_items=5)
    values = {
        rule: evaluate(Popularity().fit(TRAIN), TRAIN, test, k=1, blank_users=rule).values["ndcg@1"]
        for rule in ("left_out", "zero", "one")
    }
    assert values == {"left_out": 1, "zero": 0.5, "one": 1}
    table = evaluate(Popularity().fit(TRAIN), TRAIN, test, k=1)
    assert table.conventions["blank_users"] == "left out (1)"
    assert np.isnan(table.per_user["ndcg@1"][1])


def test_ratings_are_measured_where_the_model_predicts_them():
    model = Rater(scores_UI=np.zeros((5, 5))).fit(TRAIN)
    table = evaluate(model, TRAIN, TEST, k=1)  # ratings 1, 2, 4 and 0
    assert table.values["rmse"] == pytest.approx(np.sqrt((4 + 1 + 1 + 9) / 4), rel=1e-15)
    assert table.values["mae"] == pytest.approx((2 + 1 + 1 + 3) / 4, rel=1e-15)
    np.testing.assert_allclose(table.per_user["rmse"], [2, 1, np.sqrt(5)], rtol=1e-15)
    alone = evaluate(model, TRAIN, TEST, k=1, metrics=["rmse"])
    assert alone.values == {"rmse": table.values["rmse"]}
    low, high = table.intervals["rmse"]
    assert 1 <= low <= table.values["rmse"] <= high


def test_diversity_by_vectors_if_they_are_given():
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 1]])
    table = evaluate(Popularity().fit(TRAIN), TRAIN, TEST, k=2, item_vectors_ID=vectors)
    np.testing.assert_allclose(table.per_user["diversity@2"], [0, 1, 0], atol=1e-15)  # lists 2 3, 1 3, 0 1
    with pytest.raises(ValueError, match="one row for each of 5 items, got 2"):
        evaluate(Popularity().fit(TRAIN), TRAIN, TEST, k=2, item_vectors_ID=vectors[:2])


def test_it_prints_figures_intervals_and_conventions():
    (train, more, test), _ = random_parts(seed=2)
    table = evaluate(Popularity().fit(train), train, test, k=[5, 10], exclude=more)
    text = str(table)
    low, high = table.intervals["ndcg@10"]
    assert low < table.values["ndcg@10"] < high
    assert f"{table.values['ndcg@10']:.4f} [{low:.4f}, {high:.4f}]" in text
    for words in (
        "@5",
        "@10",
        "95% confidence",
        "all 40 items",
        "train and other given parts",
        "gains: binary",
        "mean over all orders",
    ):
        assert words in text
    assert max(map(len, text.splitlines())) <= 110
    assert "coverage@5" not in table.intervals  # no mean over users


def test_figures_of_an_earlier_version_are_in_todays_words():
    (train, more, test), _ = random_parts(seed=2)
    table = evaluate(Popularity().fit(train), train, test, k=[5], exclude=more)
    stored = table.to_dict()
    stored["conventions"]["excluded"] = "train and more"
    assert Evaluation.from_dict(stored).conventions == table.conventions
    assert table.conventions["excluded"] == "train and other given parts"


def test_the_same_seed_gives_the_same_and_the_log_may_be_in_any_order():
    (train, more, test), _ = random_parts(seed=3)
    order = np.random.default_rng(0).permutation(len(test))
    tables = [
        evaluate(Popularity().fit(train), train, part, exclude=more, seed=5) for part in (test, test.select(order))
    ]
    assert tables[0].to_dict() == tables[1].to_dict()


def test_saved_and_read_back(tmp_path):
    model = Rater(scores_UI=np.random.default_rng(0).random((5, 5))).fit(TRAIN)
    table = evaluate(model, TRAIN, TEST, k=[1, 2])
    table.save(tmp_path / "figures")
    again = Evaluation.load(tmp_path / "figures")
    assert again.to_dict() == table.to_dict()
    assert json.loads(json.dumps(table.to_dict())) == table.to_dict()
    assert str(again) == str(table)
    np.testing.assert_array_equal(again.users, table.users)
    for part in ("per_user", "weights"):
        assert getattr(again, part).keys() == getattr(table, part).keys()
        for name, values in getattr(table, part).items():
            np.testing.assert_array_equal(getattr(again, part)[name], values)
    assert str(Evaluation.from_dict(table.to_dict())) == str(table)
    with pytest.raises(FileExistsError):
        table.save(tmp_path / "figures")
