"""`Pipeline.score` orders items as `Pipeline.recommend` does."""

import numpy as np
import pytest

from recsys_dl.data.interactions import Interactions
from recsys_dl.models.als import ALS
from recsys_dl.models.item_knn import ItemKNN
from recsys_dl.models.popularity import Popularity
from recsys_dl.pipeline import Pipeline
from recsys_dl.rankers.columns import RetrieverRanks, RetrieverScores
from recsys_dl.rankers.features import CandidateFeatures
from recsys_dl.rankers.lambdamart import LambdaMART
from recsys_dl.rerankers.mmr import MMR

USERS = np.arange(40)
MERGES = {
    "reciprocal_rank": {"weights": {"als": 3.0, "knn": 0.2, "popular": 0.0}, "offset": 5},
    "round_robin": {},
    "quota": {"quotas": {"als": 3, "knn": 9, "popular": 2}},
}


@pytest.fixture(scope="module")
def train() -> Interactions:
    rng = np.random.default_rng(3)
    items = np.concatenate([rng.choice(60, 10, replace=False) for _ in range(40)])
    return Interactions(np.repeat(USERS, 10), items, times_N=rng.permutation(400), num_users=40, num_items=60)


@pytest.mark.parametrize("reranked", [False, True], ids=["", "mmr"])
@pytest.mark.parametrize("ranked", [False, True], ids=["", "ranker"])
@pytest.mark.parametrize("merge", MERGES)
def test_score_orders_as_recommend_does(train, merge, ranked, reranked):
    stages = {}
    if ranked:
        stages = {
            "features": CandidateFeatures([RetrieverScores(), RetrieverRanks()]),
            "ranker": LambdaMART(num_trees=5, min_documents=5),
            "examples": {"last": 2},
        }
    pipeline = Pipeline(
        {"als": ALS(embedding_size=4, device="cpu"), "knn": ItemKNN(), "popular": Popularity()},
        num_retrieved=12,
        num_candidates=20,
        merge=merge,
        merge_arguments=MERGES[merge],
        rerankers={"mmr": MMR(weight=0.5)} if reranked else {},
        **stages,
    ).fit(train)
    rng = np.random.default_rng(1)
    for asked in ({}, {"exclude": train}, {"exclude": train, "allow": np.arange(0, 60, 2)}):
        answer = pipeline.recommend(USERS, 9, **asked)
        expected = pipeline.score(USERS, answer.items_BK, **asked)
        assert np.isfinite(expected).all()
        assert (np.diff(expected, axis=1) <= 0).all()
        if reranked:  # the order of places, whatever the scores were
            assert (np.diff(expected, axis=1) < 0).all()
        else:
            np.testing.assert_array_equal(expected, answer.scores_BK)
        places = rng.permuted(np.tile(np.arange(9), (40, 1)), axis=1)
        shuffled = pipeline.score(USERS, np.take_along_axis(answer.items_BK, places, axis=1), **asked)
        np.testing.assert_array_equal(shuffled, np.take_along_axis(expected, places, axis=1))


def test_what_recommend_leaves_out_has_no_score(train):
    pipeline = Pipeline({"als": ALS(embedding_size=4, device="cpu"), "popular": Popularity()}, num_retrieved=5).fit(
        train
    )
    everything = np.tile(np.arange(60), (2, 1))
    scores = pipeline.score([0, 1], everything, exclude=train)
    listed = pipeline.recommend([0, 1], 60, exclude=train).items_BK
    for b in range(2):
        assert set(np.flatnonzero(np.isfinite(scores[b]))) == set(listed[b][listed[b] >= 0])
    few = pipeline.score([0], np.array([[3, -1, 7]]))
    assert np.isneginf(few[0, 1])
    assert pipeline.score([0, 1], np.zeros((2, 0), int)).shape == (2, 0)
    with pytest.raises(ValueError, match="one row for each of 2 users"):
        pipeline.score([0, 1], np.array([[1]]))


def test_the_weight_of_a_merge_counts(train):
    retrievers = {"als": ALS(embedding_size=4, device="cpu"), "popular": Popularity()}
    only = Pipeline(retrievers, merge_arguments={"weights": {"als": 0.0}}).fit(train)
    items = only.recommend([0], 20).items_BK
    by_popularity = only.retrievers["popular"].score([0], items)[0]
    assert (np.diff(by_popularity) <= 0).all()
    assert (np.diff(only.score([0], items)[0]) <= 0).all()
