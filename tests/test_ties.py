"""Equal scores decide no order: no metric depends on how the file was sorted, and a model that says nothing gets what chance gives."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_dl.data.groups import Groups
from recsys_dl.data.interactions import Interactions
from recsys_dl.evaluation import attribute, evaluate
from recsys_dl.evaluation.ties import DEPTH
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.metrics.grouped import judge_groups, letor_ndcg
from recsys_dl.metrics.ranking import METRICS, judge, judge_scores, per_user
from recsys_dl.models.popularity import Popularity
from recsys_dl.pipeline import Pipeline
from recsys_dl.rankers.lambdamart import LambdaMART
from recsys_dl.rankers.mlp_ranker import MLPRanker
from recsys_dl.rerankers.rules import Rules

CASES = [
    (metric, gains)
    for metric in METRICS
    for gains in ("binary", "linear", "exponential")
    if metric == "ndcg" or gains == "binary"
]


@pytest.mark.parametrize(("metric", "gains"), CASES)
def test_each_metric_is_its_mean_over_all_orders_of_what_is_tied(metric, gains):
    rng = np.random.default_rng(0)
    for length in (1, 2, 4, 5):
        scores, labels = rng.integers(0, 3, (6, length)).astype(float), rng.integers(0, 3, (6, length))
        for k in (1, 2, 4, 6):
            name = f"{metric}@{k}"
            ours = per_user(judge_scores(scores, labels, k=k), [metric], [k], gains=gains, blank_users="zero")[name]
            every = []
            for order in map(np.array, itertools.permutations(range(length))):
                lists = np.full((6, max(length, k)), -1)
                lists[:, :length] = order[np.argsort(-scores[:, order], axis=1, kind="stable")]
                decided = judge(lists, sp.csr_matrix(labels.astype(float)))
                every.append(per_user(decided, [metric], [k], gains=gains, blank_users="zero")[name])
            np.testing.assert_allclose(ours, np.mean(every, axis=0), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("metric", METRICS)
def test_a_constant_ranker_is_worth_the_same_however_the_file_was_sorted(metric):
    best_first, worst_first = np.array([2, 1, 0, 0, 0, 0.0]), np.array([0, 0, 0, 0, 1, 2.0])
    starts, scores = np.array([0, 6]), np.full(6, 0.3)
    one, two = (
        per_user(judge_groups(scores, labels, starts, k=3), [metric], [3], gains="linear")[f"{metric}@3"][0]
        for labels in (best_first, worst_first)
    )
    assert one == two
    assert 0 < one < 1
    assert letor_ndcg(judge_groups(scores, best_first, starts, k=3), np.array([6]), 3) == pytest.approx(
        letor_ndcg(judge_groups(scores, worst_first, starts, k=3), np.array([6]), 3)
    )


class Given(CatalogModel):
    """Scores that it was given, one for each user and item."""

    fitted = ("scores_UI",)

    def __init__(self, *, scores_UI):
        self.scores_UI = scores_UI

    def fit(self, train):
        self._begin(train)
        return self

    def _values(self, users_B):
        return users_B

    def _fold(self, histories):
        return histories.user_counts_U

    def _scores(self, values):
        return self.scores_UI[values].copy()

    def _item_scores(self, items_B):
        return self.scores_UI[items_B]


def parts(num_users=60, num_items=50):
    """Tests whose relevant items are the first rows, as in a file that begins with what is popular."""
    users = np.arange(num_users)
    train = Interactions(users, np.full(num_users, num_items - 1), num_users=num_users, num_items=num_items)
    test = Interactions(np.repeat(users, 2), np.tile([0, 1], num_users), num_users=num_users, num_items=num_items)
    return train, test


@pytest.mark.parametrize("metric", METRICS)
def test_a_constant_model_gets_what_chance_gives(metric, caplog):
    train, test = parts()
    figure = evaluate(Given(scores_UI=np.ones((60, 50), np.float32)).fit(train), train, test, 10, metrics=[metric])
    assert "Given gives all items of a list the same score, for each of 60 users" in caplog.text
    rng = np.random.default_rng(0)
    lists = rng.permuted(np.tile(np.arange(49), (20_000, 1)), axis=1)[:, :10]
    relevant = sp.csr_matrix(np.tile(np.arange(50) < 2, (20_000, 1)).astype(float))
    chance = per_user(judge(lists, relevant), [metric], [10])[f"{metric}@10"]
    assert figure.values[f"{metric}@10"] == pytest.approx(chance.mean(), abs=4 * chance.std() / len(chance) ** 0.5)
    assert figure.conventions["ties"] == "mean over all orders of equal scores"


def test_full_catalog_figures_are_those_of_all_scores_together():
    """Ties within the list, at its end and beyond, for every user, in blocks of any size."""
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 5, (60, 50)).astype(np.float32)
    users, items = np.divmod(rng.choice(60 * 50, 400, replace=False), 50)
    train, test = (
        Interactions(users[at], items[at], num_users=60, num_items=50) for at in (slice(0, 150), slice(150, 400))
    )
    asked = np.unique(test.users_N)
    left = np.ones((60, 50), bool)
    left[train.users_N, train.items_N] = False
    known = train.user_counts_U > 0
    scores[~known] = train.item_counts_I  # what users unknown are answered
    expected = per_user(judge_scores(scores[asked], test.by_user[asked].toarray(), left[asked], k=7), METRICS, [3, 7])
    for memory in ("1GiB", 1, "20kB"):
        table = evaluate(Given(scores_UI=scores).fit(train), train, test, [3, 7], metrics=list(METRICS), memory=memory)
        for name, values in expected.items():
            np.testing.assert_allclose(table.per_user[name], values, rtol=1e-12, err_msg=name)


def test_a_tie_without_an_end_counts_as_missed(caplog):
    num_items = DEPTH + 300  # longer than what is looked through for one rank
    train, test = parts(num_items=num_items)
    scores = np.zeros((60, num_items), np.float32)
    table = evaluate(Given(scores_UI=scores).fit(train), train, test, 1, metrics=["hit_rate"])
    assert table.values["hit_rate@1"] == 0  # 2 / 399 is chance's
    scores[:, 40:] = -1  # 40 items are tied: their end is found
    table = evaluate(Given(scores_UI=scores).fit(train), train, test, 1, metrics=["hit_rate"])
    assert table.values["hit_rate@1"] == pytest.approx(2 / 40)


def test_lists_without_ties_are_judged_as_they_stand():
    train, test = parts()
    scores = np.random.default_rng(2).normal(size=(60, 50)).astype(np.float32)
    model = Given(scores_UI=scores).fit(train)
    table = evaluate(model, train, test, 10, metrics=list(METRICS))
    lists = model.recommend(np.arange(60), 10, exclude=train).items_BK
    for name, values in per_user(judge(lists, test.by_user), METRICS, [10]).items():
        np.testing.assert_array_equal(table.per_user[name], values)


def test_a_pipeline_is_judged_by_its_stages_ties():
    train, test = parts()
    flat = Given(scores_UI=np.ones((60, 50), np.float32))
    for rerankers in ({}, {"rules": Rules(rules=[{"name": "not had", "deny": "already_had"}])}):
        pipeline = Pipeline({"flat": flat}, num_retrieved=50, merge="round_robin", rerankers=rerankers).fit(train)
        found = attribute(pipeline, train, test, 10, num_timed=1)
        whole = evaluate(pipeline, train, test, 10, metrics=["ndcg"])
        assert found.stages[-1].evaluation.values["ndcg@10"] == whole.values["ndcg@10"]
        alone = evaluate(Given(scores_UI=np.ones((60, 50), np.float32)).fit(train), train, test, 10, metrics=["ndcg"])
        assert found.stages[0].evaluation.values["ndcg@10"] == pytest.approx(alone.values["ndcg@10"])  # the retriever
        assert found.stages[1].evaluation.values["ndcg@10"] == 1  # round robin gives places: the order is decided


def test_popularity_depends_no_more_on_the_order_of_items():
    rng = np.random.default_rng(3)
    users, items = np.divmod(rng.choice(80 * 40, 500, replace=False), 40)
    figures = []
    for names in (np.arange(40), rng.permutation(40)):
        train, test = (
            Interactions(users[at], names[items[at]], num_users=80, num_items=40)
            for at in (slice(0, 300), slice(300, 500))
        )
        figures.append(evaluate(Popularity().fit(train), train, test, 5, metrics=list(METRICS)).per_user)
    for name, values in figures[0].items():
        np.testing.assert_allclose(figures[1][name], values, rtol=1e-12, err_msg=name)


def constant_groups() -> Groups:
    rng = np.random.default_rng(4)
    return Groups(np.ones((60, 3)), rng.integers(0, 2, 60), np.full(6, 10))


@pytest.mark.parametrize(
    "ranker", [LambdaMART(num_trees=3), MLPRanker(epochs=2, device="cpu")], ids=["LambdaMART", "MLPRanker"]
)
def test_a_ranker_that_learned_one_constant_is_reported(ranker, caplog):
    ranker.fit(constant_groups())
    assert f"{type(ranker).__name__} gives all documents of a group the same score" in caplog.text
    caplog.clear()
    rng = np.random.default_rng(5)
    features = rng.normal(size=(600, 3))
    type(ranker)(**(ranker.arguments())).fit(Groups(features, features[:, 0] > 0, np.full(60, 10)))
    assert "same score" not in caplog.text
