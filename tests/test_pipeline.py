"""A pipeline answers as one recommender, and says what it went without."""

import shutil

import numpy as np
import polars as pl
import pytest
from processes import program as run_program

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.models.als import ALS
from recsys_dl.models.gmf import GMF
from recsys_dl.models.item_knn import ItemKNN
from recsys_dl.models.popularity import Popularity
from recsys_dl.pipeline import Pipeline
from recsys_dl.pipeline.explanation import explained, taken_out
from recsys_dl.protocols import Recommender
from recsys_dl.rankers.columns import ItemPopularity, RetrieverRanks, RetrieverScores, UserActivity
from recsys_dl.rankers.features import CandidateFeatures
from recsys_dl.rankers.lambdamart import LambdaMART
from recsys_dl.rankers.side_columns import ItemFeatures
from recsys_dl.rerankers.mmr import MMR
from recsys_dl.rerankers.rules import Rules
from recsys_dl.training import TrainerOptions

NUM_USERS, NUM_ITEMS = 122, 60
NOTHING_USER, ALL_USER = 120, 121


@pytest.fixture(scope="module")
def train() -> Dataset:
    """Two tastes, one user of whom nothing is known and one who had everything."""
    rng = np.random.default_rng(5)
    users, items = [], []
    for user in range(120):
        for item in rng.choice(np.arange(user % 2, NUM_ITEMS, 2), 14, replace=False):
            users.append(user), items.append(item)
    users += [ALL_USER] * NUM_ITEMS
    items += range(NUM_ITEMS)
    times = rng.permutation(len(users)) * 3600 + 1_400_000_000
    log = Interactions(users, items, times_N=times, num_users=NUM_USERS, num_items=NUM_ITEMS)
    return Dataset(
        log,
        Vocabulary([f"u{row}" for row in range(NUM_USERS)], noun="user"),
        Vocabulary([f"i{row}" for row in range(NUM_ITEMS)], noun="item"),
        item_features=pl.DataFrame({"kind": ["even", "odd"] * (NUM_ITEMS // 2)}),
    )


def build(**changes) -> Pipeline:
    settings = {
        "retrievers": {"als": ALS(embedding_size=8, device="cpu"), "knn": ItemKNN(), "popular": Popularity()},
        "num_retrieved": 25,
        "num_candidates": 40,
        "features": CandidateFeatures([RetrieverScores(), RetrieverRanks(), ItemPopularity(), UserActivity()]),
        "ranker": LambdaMART(num_trees=20, min_documents=5, num_leaves=4),
        "examples": {"last": 3, "seed": 1},
        "rerankers": {"mmr": MMR(weight=0.1), "rules": Rules(rules=[{"name": "no item 7", "deny": {"item_id": "i7"}}])},
        "on_failure": {"knn": "skip", "ranker": "skip", "mmr": "skip"},
    }
    return Pipeline(**settings | changes)


@pytest.fixture(scope="module")
def pipeline(train) -> Pipeline:
    return build().fit(train)


def test_it_is_a_recommender(pipeline):
    assert isinstance(pipeline, Recommender)
    assert repr(pipeline) == "Pipeline(als + knn + popular > LambdaMART > mmr > rules) of 122 users and 60 items"


def test_lists_are_distinct_sorted_allowed_and_of_the_users_taste(pipeline, train):
    users = np.arange(120)
    answer = pipeline.recommend(users, 8, exclude=train)
    assert answer.items_BK.dtype == np.int32
    assert answer.scores_BK.dtype == np.float32
    assert (np.diff(answer.scores_BK, axis=1) <= 0).all()
    assert (answer.items_BK % 2 == (users % 2)[:, None]).mean() > 0.9
    assert 7 not in answer.items_BK
    for user, items in enumerate(answer.items_BK):
        assert len(set(items)) == 8
        assert not set(items) & set(train.interactions.by_user[user].indices)
    only = pipeline.recommend(users, 4, allow=[5, 7, 9, 11]).items_BK
    assert set(np.unique(only)) <= {-1, 5, 9, 11}


def test_stages_are_told(pipeline, train):
    answer = pipeline.recommend([0, 1], 5, exclude=train)
    assert [stage.name for stage in answer.stages] == ["als", "knn", "popular", "merge", "ranker", "mmr", "rules"]
    merged, ranked = answer.stages[3].ranking, answer.stages[4].ranking
    for b in range(2):
        found = set().union(*(stage.ranking.items_BK[b].tolist() for stage in answer.stages[:3])) - {-1}
        assert set(merged.items_BK[b].tolist()) - {-1} <= found
        assert set(merged.items_BK[b]) == set(ranked.items_BK[b])
    np.testing.assert_array_equal(answer.items_BK, answer.stages[-1].ranking.items_BK[:, :5])


def test_one_user_is_answered_as_in_a_batch(pipeline, train):
    users = np.array([3, 50, NOTHING_USER, ALL_USER, 3])
    together = pipeline.recommend(users, 6, exclude=train)
    for at, user in enumerate(users):
        alone = pipeline.recommend([user], 6, exclude=train)
        np.testing.assert_array_equal(alone.items_BK[0], together.items_BK[at])
        np.testing.assert_allclose(alone.scores_BK[0], together.scores_BK[at], rtol=1e-5)


def test_someone_unseen_is_folded_in(pipeline):
    odd, even = list(range(1, 21, 2)), list(range(0, 20, 2))
    times = np.arange(20) + 1_400_000_000
    histories = Interactions([0] * 10 + [1] * 10, odd + even, times_N=times, num_users=2, num_items=NUM_ITEMS)
    answer = pipeline.recommend(pipeline.fold_in(histories), 5, exclude=histories)
    assert (answer.items_BK % 2 == [[1], [0]]).mean() > 0.7
    assert not set(answer.items_BK[0]) & set(odd)
    bare = pipeline.fold_in([odd, [], even])  # without times: had just now
    assert pipeline.recommend(bare, 5).stages[-3].name == "ranker"
    assert all("ranker" not in note for b in range(3) for note in pipeline.recommend(bare, 5).notes(b))


# What bad days get: line 5 of what a pipeline promises


def test_an_unknown_user_gets_what_is_popular_and_a_note(pipeline, train):
    answer = pipeline.recommend([0, NOTHING_USER], 5, exclude=train)
    assert (answer.items_BK >= 0).all()
    assert answer.notes(0) == []
    assert answer.notes(1) == ["this user has no interactions: retrievers gave their fallback"]
    with pytest.raises(ValueError, match=r"user row 122 is outside the 122 users.*fold_in"):
        pipeline.recommend([122], 5)


def test_a_user_who_has_seen_everything_gets_an_empty_list_and_a_note(pipeline, train):
    answer = pipeline.recommend([ALL_USER, 0], 5, exclude=train)
    assert (answer.items_BK[0] == -1).all()
    assert np.isneginf(answer.scores_BK[0]).all()
    assert answer.notes(0) == ["only 0 of 5 positions could be filled"]
    assert (answer.items_BK[1] >= 0).all()


def test_no_candidate_at_all(pipeline):
    answer = pipeline.recommend([0, 1], 3, allow=[])
    assert (answer.items_BK == -1).all()
    assert answer.notes(1) == ["only 0 of 3 positions could be filled"]
    assert pipeline.recommend(np.array([], np.int64), 3).items_BK.shape == (0, 3)


def test_rules_that_leave_nothing(train):
    had = train.interactions.by_user[0].indices
    only = Rules(rules=[{"name": "what user 0 had", "allow": {"item_id": [f"i{item}" for item in had]}}])
    answer = build(rerankers={"rules": only}, on_failure={}).fit(train).recommend([0, 1], 3, exclude=train)
    assert (answer.items_BK[0] == -1).all()
    assert "only 0 of 3 positions could be filled" in answer.notes(0)
    assert {row["reason"] for row in taken_out(answer, 0)} == {"what user 0 had"}
    with pytest.raises(ValueError, match="neither"):  # for nobody: told when it is prepared
        nothing = Rules(rules=[{"name": "neither", "deny": {"kind": ["even", "odd"]}}])
        build(rerankers={"rules": nothing}, on_failure={}).fit(train)


# Stages that fail


class Broken(ItemKNN):
    """A retriever that fitted, and fails when asked."""

    def recommend(self, *_, **__):
        raise OSError("the index is on fire")


def test_a_stage_that_may_fail_is_passed_over_and_told(train):
    whole = build(retrievers={"als": ALS(embedding_size=8, device="cpu"), "knn": ItemKNN()}).fit(train)
    broken = Broken()
    broken.__dict__.update(whole.retrievers["knn"].__dict__)
    whole.retrievers["knn"] = broken
    answer = whole.recommend([0, 1], 5, exclude=train)
    assert (answer.items_BK >= 0).all()
    told = "knn failed (OSError: the index is on fire) and was skipped"
    assert answer.notes(0) == answer.notes(1) == [told]
    assert "knn" not in [stage.name for stage in answer.stages]
    whole.on_failure = {}
    with pytest.raises(OSError, match="on fire"):
        whole.recommend([0], 5)
    whole.on_failure = {"als": "skip", "knn": "skip"}
    whole.retrievers = {"knn": broken}
    with pytest.raises(RuntimeError, match=r"no retriever answered: knn failed"):
        whole.recommend([0], 5)


def test_a_callers_mistake_is_never_passed_over(pipeline):
    with pytest.raises(ValueError, match="k must be between 1"):
        pipeline.recommend([0], 0)
    with pytest.raises(ValueError, match="exclude must cover"):
        pipeline.recommend([5], 1, exclude=Interactions([0], [0], num_items=NUM_ITEMS))


def test_saved_and_loaded_in_a_new_process(pipeline, train, tmp_path):
    pipeline.save(tmp_path / "saved")
    program = (
        "import sys, numpy as np; from recsys_dl.pipeline import Pipeline; p = Pipeline.load(sys.argv[1]);"
        "a = p.recommend(np.array([0, 5, 120, 121]), 6);"
        "np.savez(sys.argv[2], items=a.items_BK, scores=a.scores_BK, ids=np.array(p.items.ids.to_list()))"
    )
    run_program(program, tmp_path / "saved", tmp_path / "answer.npz")
    there, here = np.load(tmp_path / "answer.npz"), pipeline.recommend(np.array([0, 5, 120, 121]), 6)
    np.testing.assert_array_equal(there["items"], here.items_BK)
    np.testing.assert_array_equal(there["scores"], here.scores_BK)
    assert list(there["ids"]) == train.items.ids.to_list()
    with pytest.raises(FileExistsError):
        pipeline.save(tmp_path / "saved")


@pytest.mark.parametrize("stage", ["ranker", "retrievers/knn", "rerankers/mmr"])
def test_a_stage_lost_on_disk_is_passed_over_if_it_may_be(pipeline, train, tmp_path, stage):
    pipeline.save(tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved" / stage)
    name = stage.rpartition("/")[2]
    loaded = Pipeline.load(tmp_path / "saved")
    answer = loaded.recommend([0], 5, exclude=train)
    assert (answer.items_BK >= 0).all()
    assert name not in [one.name for one in answer.stages]
    assert answer.notes(0)[0].startswith(f"{name} is missing")
    with pytest.raises(ValueError, match=f"loaded without {name}"):
        loaded.save(tmp_path / "again")


def test_a_stage_lost_on_disk_is_an_error_if_it_may_not_be(pipeline, tmp_path):
    pipeline.save(tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved" / "rerankers" / "rules")
    with pytest.raises(FileNotFoundError, match="must hold a saved reranker"):
        Pipeline.load(tmp_path / "saved")


def test_a_stage_of_another_kind_is_refused(pipeline, tmp_path):
    pipeline.save(tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved" / "retrievers" / "als")
    shutil.copytree(tmp_path / "saved" / "rerankers" / "rules", tmp_path / "saved" / "retrievers" / "als")
    with pytest.raises(ValueError, match=r"rules\.Rules, which is not a Recommender"):
        Pipeline.load(tmp_path / "saved")


def test_what_is_explained(pipeline, train):
    answer = pipeline.recommend([1], 6, exclude=train)
    rows = explained(answer, 0)
    assert [row["item"] for row in rows] == answer.items_BK[0].tolist()
    for rank, row in enumerate(rows, start=1):
        assert row["rules"] == rank
        assert row["found_by"]
        for found in row["found_by"].split(", "):
            name, place = found.split(" ")
            stage = next(stage for stage in answer.stages if stage.name == name)
            assert stage.ranking.items_BK[0, int(place) - 1] == row["item"]
        moved = row["mmr"] != row["ranker"]
        assert ("mmr" in row["moved_by"]) == moved


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retrievers": {}}, "at least one retriever"),
        ({"retrievers": {"ranker": Popularity()}}, "two are called 'ranker'"),
        ({"retrievers": {"a/b": Popularity()}}, "letters, digits"),
        (
            {"retrievers": {"als": ALS}},
            "retrievers must be objects that can fit, recommend, score, got .*ALS'> as 'als'",
        ),
        ({"retrievers": [Popularity()]}, "retrievers must be a mapping from names to objects"),
        (
            {"rerankers": {"rules": "rules.yaml"}},
            "rerankers must be objects that can prepare, rerank, got 'rules.yaml'",
        ),
        ({"features": None}, "a ranker needs features"),
        ({"num_retrieved": 0}, "num_retrieved must be an integer of at least 1"),
        ({"on_failure": {"fish": "skip"}}, "on_failure must be raise or skip for one of als"),
        ({"examples": {"by": "luck"}}, "examples must be by one of"),
        ({"examples": {"laast": 1}}, "examples must be a mapping of by, last, .*got 'laast'"),
        ({"examples": 3}, "examples must be a mapping of"),
        ({"examples": {"last": "1"}}, "last must be an integer of at least 1, got '1'"),
        ({"examples": {"share": float("nan"), "by": "newest"}}, "share must be between 0 and 1, got nan"),
        ({"examples": {"order": "tme"}}, "order must be one of time, log, got 'tme'"),
        ({"examples": {"seed": -1}}, "seed must be an integer of at least 0"),
        ({"retrievers": {"x": None}}, "got None as 'x'"),
        ({"rerankers": {"x": None}}, "got None as 'x'"),
        ({"retrievers": {3: Popularity()}}, "names of retrievers must be text, got 3"),
        ({"ranker": "lambdamart"}, "rankers must be objects that can fit, score, got 'lambdamart'"),
        ({"features": "log"}, "features must be objects that can fit, compute, got 'log'"),
        ({"ranker": LambdaMART(propensities=[1, 0.5])}, "propensities corrects clicks at logged positions"),
        ({"merge": "quota", "merge_arguments": {"quotas": {"als": 2.5, "knn": 1, "popular": 1}}}, "got 2.5 for als"),
        ({"merge_arguments": {"weights": {"als": "2"}}}, "weights must be numbers that are not negative"),
        ({"merge_arguments": {"weights": {"als": float("inf")}}}, "weights must be numbers that are not negative"),
        ({"merge_arguments": {"weights": {"als": 0, "knn": 0, "popular": 0}}}, "got 0 for all"),
        ({"merge_arguments": {"offset": float("nan")}}, "offset must be a number that is not negative, got nan"),
        ({"merge_arguments": {"weights": [1, 2]}}, "weights must be a mapping from retrievers to numbers"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_each_fit_of_a_neural_retriever_has_checkpoints_of_its_own(train, tmp_path):
    gmf = GMF(embedding_size=4, epochs=1, device="cpu")
    options = TrainerOptions(checkpoint=str(tmp_path / "kept"))
    pipeline = build(retrievers={"gmf": gmf, "knn": ItemKNN()}, num_retrieved=60).fit(train, trainer=options)
    assert sorted(folder.name for folder in (tmp_path / "kept" / "gmf").iterdir()) == ["all", "lesson-1"]
    assert pipeline.retrievers["gmf"] is gmf
    assert pipeline.recommend([0], 5, exclude=train).stages[0].name == "gmf"


class Never(Popularity):
    """A retriever that must not be fitted."""

    def fit(self, train):
        raise AssertionError("fitted before the other stages were tried out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rerankers": {"rules": Rules(rules=[{"name": "dear", "deny": {"prise": 3}}])}}, "prise"),
        ({"features": CandidateFeatures([ItemFeatures(columns=["prise"])])}, "there is no item feature 'prise'"),
        (
            {"features": CandidateFeatures([ItemPopularity()]), "ranker": LambdaMART(monotone={"prise": 1})},
            "monotone must name features of training .popularity., got 'prise'",
        ),
        ({"features": CandidateFeatures([RetrieverScores(retrievers=["als"])])}, "must name retrievers among never"),
    ],
)
def test_what_the_log_lacks_is_told_before_anything_is_fitted(train, changes, message):
    with pytest.raises(ValueError, match=message):
        build(retrievers={"never": Never()}, on_failure={}, **changes).fit(train)


def test_nothing_to_fit_or_to_teach(train):
    with pytest.raises(ValueError, match="at least one interaction"):
        build().fit(Interactions([], [], num_users=3, num_items=3))
    with pytest.raises(ValueError, match="has not been fitted"):
        build().recommend([0], 1)
    with pytest.raises(ValueError, match="a pipeline trains in one process, got a trainer of 2"):
        build().fit(train, trainer=TrainerOptions(processes=2))
    lonely = train.interactions.select(np.arange(len(train)) < 5)
    with pytest.raises(ValueError):
        build().fit(lonely)
