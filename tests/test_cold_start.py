"""New users: lists after their first clicks, and which items an interview shows."""

import numpy as np
import pytest

from recsys_dl import Interactions, evaluate
from recsys_dl.cold_start import after_clicks, answers, first_clicks, interview_items, judge_interview
from recsys_dl.data.generated import generated
from recsys_dl.data.split import leave_last_out, user_split
from recsys_dl.models import ALS, ItemKNN, Popularity


@pytest.fixture(scope="module")
def parts():
    return user_split(generated(num_users=400, num_items=200, num_interactions=8000, seed=5), test=0.25, seed=5)


@pytest.fixture(scope="module")
def als(parts):
    return ALS(embedding_size=8, epochs=5, device="cpu").fit(parts.train)


def test_first_clicks_are_the_oldest():
    log = Interactions([1, 0, 1, 0, 0], [5, 6, 7, 8, 9], times_N=[30, 10, 20, 20, 10], num_users=3, num_items=10)
    found = {num: first_clicks(log, num).items_N.tolist() for num in (0, 1, 2, 9)}
    assert found == {0: [], 1: [6, 7], 2: [5, 6, 7, 9], 9: [5, 6, 7, 8, 9]}  # equal times in log order
    assert first_clicks(log, 1).num_users == 3


def test_first_clicks_without_times_are_random_and_nested():
    rng = np.random.default_rng(0)
    log = Interactions(rng.integers(0, 20, 300), np.arange(300))
    one, two, other = first_clicks(log, 1, seed=1), first_clicks(log, 2, seed=1), first_clicks(log, 1, seed=2)
    assert set(one.items_N) < set(two.items_N)
    assert set(one.items_N) != set(other.items_N)
    np.testing.assert_array_equal(two.user_counts_U, np.minimum(log.user_counts_U, 2))


def test_users_relevant_items_and_candidates_are_the_same_for_every_number(parts, als):
    train, _, test = parts
    curve = after_clicks(als, train, test, clicks=[0, 3, 1000], k=10)
    whole = evaluate(als, train, test, k=10)
    assert curve[1000].values["ndcg@10"] == whole.values["ndcg@10"]  # all there is: as evaluate folds them in
    nothing = evaluate(Popularity().fit(train), train, test, k=10)  # its lists do not depend on clicks
    assert curve[0].values["ndcg@10"] == pytest.approx(nothing.values["ndcg@10"])
    popular = after_clicks(Popularity().fit(train), train, test, clicks=[0, 3, 1000], k=10)
    assert len({one.values["ndcg@10"] for one in popular.values()}) == 1
    assert curve[0].values["ndcg@10"] < curve[1000].values["ndcg@10"]


def test_interview_by_hand():
    # item 0: four users who agree; item 1: three who do not; item 2: two who do not; item 3: one
    users, items = [0, 1, 2, 3, 0, 1, 2, 0, 1, 3], [0, 0, 0, 0, 1, 1, 1, 2, 2, 3]
    log = Interactions(users, items, [5, 5, 5, 5, 1, 3, 5, 1, 5, 3], num_items=6)
    assert interview_items(log, 4, by="popularity").tolist() == [0, 1, 2, 3]
    # log2(3) * log2(3) and log2(2) * 1; agreement gives 0, of which the better known comes first
    assert interview_items(log, 4, by="popularity_entropy").tolist() == [1, 2, 0, 3]
    # of log2(3) / log2(4) and 1: 0.884; of 1/2 and 1 / log2(3): 0.558
    assert interview_items(log, 2, by="helf").tolist() == [1, 2]
    assert sorted(interview_items(log, 4, by="random").tolist()) == [0, 1, 2, 3]  # 4 and 5 nobody knows


def test_information_asks_about_each_taste_once():
    # three tastes of three items, each shared by many users regardless of the others: popularity asks three times for the same
    rng = np.random.default_rng(0)
    tastes_UT = rng.random((500, 3)) < [0.6, 0.5, 0.4]
    users, items = np.nonzero(np.repeat(tastes_UT, 3, axis=1))
    log = Interactions(users, items)
    model = ALS(embedding_size=4, epochs=10, device="cpu").fit(log)
    assert set(interview_items(log, 3, by="popularity")) == {0, 1, 2}
    asked = interview_items(log, 3, by="information", model=model)
    assert {int(item) // 3 for item in asked} == {0, 1, 2}


def test_an_interview_beats_random_questions_and_own_clicks_are_answers(parts, als):
    train, _, test = parts
    figures = {}
    for by in ("information", "popularity", "random"):
        items = interview_items(train, 10, by=by, model=als)
        figures[by] = judge_interview(als, train, test, items, k=10).values["recall@10"]
    assert figures["information"] > figures["random"]
    known = answers(test.histories, interview_items(train, 10, by="popularity"))
    assert 0 < len(known) < len(test.histories)
    everything = judge_interview(als, train, test, np.arange(train.num_items), k=10)
    assert everything.values["recall@10"] == evaluate(als, train, test, k=10).values["recall@10"]


def test_what_is_refused(parts, als):
    train = parts.train
    binary = train.interactions.with_weights(np.ones(len(train), np.float32))
    for call, message in (
        (lambda: interview_items(binary, 3, by="helf"), "by='helf' needs ratings"),
        (lambda: interview_items(train, 3, by="information"), r"needs a fitted model whose scores are products of vectors.*got model=None"),
        (lambda: interview_items(train, 3, model=ItemKNN(device="cpu").fit(train)), "got ItemKNN"),
        (lambda: interview_items(train, 3, by="entropy"), "by must be one of information, helf"),
        (lambda: interview_items(train, 1000, by="popularity"), "k must be at most the .* items with an interaction in train, got 1000"),
        (lambda: after_clicks(als, train, leave_last_out(train).test, k=10), "split=user"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()
