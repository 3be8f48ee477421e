"""A ranker's labels are never known to the retrievers that found its candidates."""

from itertools import pairwise

import numpy as np
import pytest

from recsys_dl.data.checks import leakage
from recsys_dl.data.interactions import Interactions
from recsys_dl.models.als import ALS
from recsys_dl.models.popularity import Popularity
from recsys_dl.pipeline import Pipeline
from recsys_dl.pipeline.examples import RankerExamples, relevant
from recsys_dl.pipeline.ranker_training import gathered
from recsys_dl.rankers.columns import RetrieverScores
from recsys_dl.rankers.features import CandidateFeatures
from recsys_dl.rankers.lambdamart import LambdaMART


def noise(seed=0, num_users=150, num_items=80, each=12) -> Interactions:
    """A log without any structure: nothing can be learned from it but what was told."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(num_users), each)
    items = np.concatenate([rng.choice(num_items, each, replace=False) for _ in range(num_users)])
    times = rng.permutation(len(users)) * 60
    return Interactions(users, items, times_N=times, num_users=num_users, num_items=num_items)


CUTS = [
    RankerExamples(by="last", last=2),
    RankerExamples(by="last", last=1, rounds=3),
    RankerExamples(by="newest", share=0.2, rounds=2),
    RankerExamples(by="folds", rounds=4),
]


@pytest.mark.parametrize("examples", CUTS, ids=lambda one: f"{one.by} {one.rounds}")
def test_no_pair_is_seen_and_asked_for(examples):
    log = noise()
    rounds = list(examples.cut(log))
    assert len(rounds) == examples.rounds
    for seen, asked in rounds:
        assert leakage(seen, asked).count("seen") == 0
        if examples.by == "newest":
            assert seen.times_N.max() <= asked.times_N.min()
        if examples.by == "last":
            assert leakage(seen, asked).count("before own past") == 0
    if examples.by == "folds":
        assert sum(len(asked) for _, asked in rounds) == len(log)
    else:
        assert all(len(one[0]) > len(two[0]) for one, two in pairwise(rounds))


def test_a_pair_that_comes_again_is_not_asked_for():
    log = Interactions([0, 0, 0, 1, 1], [3, 4, 3, 5, 6], times_N=[1, 2, 3, 4, 5], num_users=2, num_items=8)
    ((seen, asked),) = RankerExamples(last=1).cut(log)
    assert (0, 3) in zip(seen.users_N.tolist(), seen.items_N.tolist(), strict=True)
    assert list(zip(asked.users_N.tolist(), asked.items_N.tolist(), strict=True)) == [(1, 6)]


class Spy(ALS):
    """Remembers what each copy was fitted on, and whom it was asked for."""

    told: list = []  # noqa: RUF012  of all copies together

    def fit(self, train):
        self.pairs = set(zip(train.users_N.tolist(), train.items_N.tolist(), strict=True))
        return super().fit(train)

    def score(self, users, items_BL):
        Spy.told.append((self.pairs, np.asarray(users).copy(), items_BL.copy()))
        return super().score(users, items_BL)


@pytest.mark.parametrize("examples", CUTS, ids=lambda one: f"{one.by} {one.rounds}")
def test_retrievers_of_candidates_saw_no_label(examples):
    Spy.told = []
    log = noise()
    pipeline = Pipeline(
        {"als": Spy(embedding_size=4, epochs=2, device="cpu")},
        features=CandidateFeatures([RetrieverScores()]),
        ranker=LambdaMART(),
        examples=examples,
        num_retrieved=80,
    )
    learned, held = gathered(pipeline, log, None)
    whole = set(zip(log.users_N.tolist(), log.items_N.tolist(), strict=True))
    labels = 0
    for pairs, users, items_BL in Spy.told:
        for user, items in zip(users.tolist(), items_BL.tolist(), strict=True):
            candidates = {(user, item) for item in items if item >= 0}
            assert not candidates & pairs  # so that no label can be among what the copy saw
            labels += len(candidates & whole)
    positives = int(learned.labels_N.sum() + held.labels_N.sum())
    assert 0 < positives <= labels
    users_of = [{int(name.split(":")[1]) for name in groups.group_ids} for groups in (learned, held)]
    assert not users_of[0] & users_of[1]


def test_from_noise_nothing_is_learned_and_from_a_leak_everything():
    log = noise()
    features = CandidateFeatures([RetrieverScores()])
    ranker = LambdaMART(num_trees=30, min_documents=5)
    honest = Pipeline(
        {"als": ALS(embedding_size=16, device="cpu"), "popular": Popularity()},
        features=features,
        ranker=ranker,
        examples={"last": 3},
        num_retrieved=80,
    ).fit(log)
    ((seen, asked),) = honest.examples.cut(log)
    users = np.arange(150)
    items_BL = np.array([np.setdiff1d(np.arange(80), seen.by_user[user].indices) for user in users])
    labels_BL = relevant(asked, users, items_BL)
    assert labels_BL.sum() == len(asked)
    leaky_BL = ALS(embedding_size=16, device="cpu").fit(log).score(users, items_BL)
    honest_BL = ALS(embedding_size=16, device="cpu").fit(seen).score(users, items_BL)

    def auc(scores_BL):
        return np.mean([(s[l > 0][:, None] > s[l == 0]).mean() for s, l in zip(scores_BL, labels_BL, strict=True)])

    assert auc(leaky_BL) > 0.9  # what a retriever that saw the labels would have taught
    assert abs(auc(honest_BL) - 0.5) < 0.06
    chance = np.mean([(1 / np.log2(np.arange(2, 12))).sum() * 3 / 71 / (1 / np.log2(np.arange(2, 5))).sum()])
    assert max(ranker.history) < chance + 0.15


def test_rounds_end_where_nothing_is_left(caplog):
    log = Interactions([0] * 5, range(5), times_N=range(5))
    assert len(list(RankerExamples(last=2, rounds=4).cut(log))) == 2
    assert "examples end after 2 of 4 rounds: no user has the 3 interactions" in caplog.text


def test_too_short_a_log():
    with pytest.raises(ValueError, match="no user has the 3 interactions"):
        list(RankerExamples(last=2).cut(Interactions([0, 0], [1, 2], times_N=[1, 2])))
    with pytest.raises(ValueError, match="needs interactions with times"):
        list(RankerExamples(by="newest").cut(Interactions([0, 0], [1, 2])))
