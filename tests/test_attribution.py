"""attribute: figures of stages by hand, the last stage as evaluate sees the model, blocks, histories, stages passed over."""

import json

import numpy as np
import pytest

from recsys_dl import Dataset, Interactions, Vocabulary, evaluate
from recsys_dl.evaluation import Attribution, attribute
from recsys_dl.models import Popularity
from recsys_dl.pipeline import Pipeline
from recsys_dl.protocols import Ranking, Stage, Staged

D = 1 / np.log2(3)  # what the second place is worth
KINDS = {"near": "retriever", "far": "retriever", "merge": "merge", "ranker": "ranker", "rules": "reranker"}


class Given:
    """Lists of each stage handed over: known users by row, folded ones by how many items they bring."""

    def __init__(self, skips=(), **lists_UL):
        self.lists_UL, self.skips = {name: np.array(lists, np.int32) for name, lists in lists_UL.items()}, skips

    def fold_in(self, histories):
        return histories.user_counts_U

    def recommend(self, users, k, *, exclude=None, allow=None):
        rows = np.asarray(users)
        stages = [
            Stage(name, KINDS[name], ranked(lists[rows]), 0.25 * (at + 1))
            for at, (name, lists) in enumerate(self.lists_UL.items())
            if not (name in self.skips and 0 in rows)
        ]
        last = stages[-1].ranking
        return Staged(last.items_BK[:, :k], last.scores_BK[:, :k], tuple(stages), np.zeros((0, 2), np.int32), ())


def ranked(items_BL):
    return Ranking(items_BL, np.where(items_BL >= 0, -np.arange(items_BL.shape[1], dtype=np.float32), -np.inf))


TRAIN = Interactions([0, 1, 2, 3], [0, 0, 0, 0], num_users=4, num_items=6)
TEST = Interactions([0, 0, 1, 2, 3], [1, 2, 3, 5, 4], [1, 1, 1, 1, 0], num_users=4, num_items=6)  # user 3 is blank
LISTS = {name: [row] * 4 for name, row in (("near", [1, 4, 2]), ("far", [3, 1, -1]), ("merge", [1, 3, 4, 2]))}
LISTS["ranker"] = [[3, 1, 2, 4]] * 4


def test_values_by_hand():
    found = attribute(Given(**LISTS), TRAIN, TEST, 2, num_timed=3)
    assert [(stage.name, stage.kind) for stage in found.stages] == list(KINDS.items())[:4]
    near, far, merge, ranker = found.stages
    # user 0 wants 1 and 2, user 1 wants 3, user 2 wants 5, which nothing finds; user 3 has nothing relevant
    assert [stage.ceiling for stage in found.stages] == pytest.approx([1 / 3, 1.5 / 3, 2 / 3, 2 / 3])
    assert [stage.kept for stage in found.stages] == [3, 2, 4, 4]
    low, high = (1 / (1 + D) + D) / 3, (D / (1 + D) + 1) / 3
    ndcgs = [stage.evaluation.values["ndcg@2"] for stage in found.stages]
    assert ndcgs == pytest.approx([1 / (1 + D) / 3, high, low, high])
    assert near.change is None
    assert far.change is None
    assert merge.change.value == pytest.approx(low - high)  # against the better retriever, not the last
    assert ranker.change.value == pytest.approx(high - low)
    assert ranker.change.low <= ranker.change.value <= ranker.change.high
    assert [stage.ms for stage in found.stages] == [(250, 250), (500, 500), (750, 750), (1000, 1000)]
    assert merge.evaluation.values["coverage@2"] == 2 / 6
    text = str(found)
    assert "ranker" in text.splitlines()[5]
    assert "one user at a time, 3 users" in text
    stored = json.loads(json.dumps(found.to_dict()))
    assert stored["stages"][2]["change"]["value"] == merge.change.value
    assert stored["stages"][0]["change"] is None


def test_a_merge_is_compared_with_the_best_retriever_wherever_it_stands():
    swapped = {name: LISTS[name] for name in ("far", "near", "merge")}
    change = attribute(Given(**swapped), TRAIN, TEST, 2).stages[-1].change
    assert change.value == pytest.approx((1 / (1 + D) + D - D / (1 + D) - 1) / 3)


def random_parts(seed=0, num_users=60, num_items=30):
    rng = np.random.default_rng(seed)
    users, items = np.divmod(rng.choice(num_users * num_items, 500, replace=False), num_items)
    parts = [
        Interactions(users[part], items[part], num_users=num_users, num_items=num_items)
        for part in np.array_split(np.arange(500), 3)
    ]
    lists = {name: rng.permuted(np.tile(np.arange(num_items), (num_users, 1)), axis=1)[:, :12] for name in KINDS}
    return parts, Given(**lists)


@pytest.mark.parametrize("memory", ["1GiB", "60kB", 1])
def test_the_last_stage_is_the_model_whatever_the_block(memory):
    (train, test, more), model = random_parts()
    names = ["ndcg", "recall", "map", "coverage", "gini", "novelty", "diversity", "popularity_lift"]
    whole = evaluate(model, train, test, [5, 3], metrics=names, exclude=more)
    found = attribute(model, train, test, [5, 3], exclude=more, memory=memory, num_timed=5)
    last = found.stages[-1].evaluation
    assert found.k == 5
    assert last.conventions == whole.conventions
    assert {name: last.values[name] for name in whole.values} == whole.values
    assert {name: last.intervals[name] for name in whole.intervals} == whole.intervals
    assert len(found.stages) == len(KINDS)
    ceiling = np.mean([len(set(model.lists_UL["near"][u]) & items) / len(items) for u, items in wanted(test).items()])
    assert found.stages[0].ceiling == pytest.approx(ceiling)


def wanted(test):
    return {u: set(test.items_N[test.users_N == u].tolist()) for u in np.unique(test.users_N)}


def test_users_with_histories_are_folded_in():
    (train, test, histories), model = random_parts(1)
    names = (Vocabulary(list(range(60)), noun="user"), Vocabulary(list(range(30)), noun="item"))
    asked = Dataset(test, *names, histories=histories)
    whole = evaluate(model, Dataset(train, *names), asked, 5)
    found = attribute(model, Dataset(train, *names), asked, 5, memory="60kB", num_timed=5)
    assert found.stages[-1].evaluation.conventions == whole.conventions
    np.testing.assert_array_equal(found.stages[-1].evaluation.per_user["ndcg@5"], whole.per_user["ndcg@5"])


def test_a_stage_passed_over_for_some_users_is_left_out_and_named():
    found = attribute(Given(skips=["near"], **LISTS), TRAIN, TEST, 2, memory=1)
    assert [stage.name for stage in found.stages] == ["far", "merge", "ranker"]
    assert found.left_out == ("near",)
    assert "skipped for some users: near" in str(found)


def test_lists_longer_than_what_was_kept_end_early():
    found = attribute(Given(**LISTS), TRAIN, TEST, 6)
    assert found.stages[0].evaluation.values["recall@6"] == pytest.approx(found.stages[0].ceiling)


def test_a_pipeline_fitted_on_other_data_is_noted():
    rng = np.random.default_rng(0)
    whole = Interactions(rng.integers(0, 30, 400), rng.integers(0, 20, 400), num_users=30, num_items=20)
    rows = np.unique(np.column_stack([whole.users_N, whole.items_N]), axis=0)
    train = Interactions(*rows[::2].T, num_users=30, num_items=20)
    test = Interactions(*rows[1::2].T, num_users=30, num_items=20)
    found = attribute(Pipeline({"popular": Popularity()}).fit(whole), train, test, 3, num_timed=1)
    assert "Pipeline was fitted on 290 pairs of users and items, but train holds 145" in found.notes[0]
    assert found.notes[0][:40] in str(found)
    assert Attribution.from_dict(json.loads(json.dumps(found.to_dict()))).notes == found.notes
    assert attribute(Pipeline({"popular": Popularity()}).fit(train), train, test, 3, num_timed=1).notes == ()


def test_what_is_no_pipeline_is_refused():
    with pytest.raises(ValueError, match="attribution needs a pipeline.*Popularity"):
        attribute(Popularity().fit(TRAIN), TRAIN, TEST, 2)
    with pytest.raises(ValueError, match="num_timed must be at least 1, got 0"):
        attribute(Given(**LISTS), TRAIN, TEST, 2, num_timed=0)
