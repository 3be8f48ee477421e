"""Exploration: what is drawn, how often, and with which probability it is logged."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import chisquare

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.protocols import Ranking, UserState
from recsys_dl.rerankers.exploration import Exploration

NUM_USERS, NUM_ITEMS = 4000, 20


def shop() -> Dataset:
    """Items 10 to 19 are new; users had item 10 and the item of their row's last digit."""
    users = np.repeat(np.arange(NUM_USERS), 2)
    items = np.column_stack([np.full(NUM_USERS, 10), np.arange(NUM_USERS) % 10]).ravel()
    log = Interactions(users, items, num_users=NUM_USERS, num_items=NUM_ITEMS)
    features = pl.DataFrame({"new": [False] * 10 + [True] * 10})
    return Dataset(log, Vocabulary(range(NUM_USERS)), Vocabulary(range(NUM_ITEMS)), item_features=features)


def candidates(size: int, num_users: int = NUM_USERS) -> Ranking:
    items = np.tile(np.arange(size, dtype=np.int32), (num_users, 1))
    return Ranking(items, np.tile(-np.arange(size, dtype=np.float32), (num_users, 1)))


def test_draws_are_as_frequent_as_their_propensities_say():
    """Eight candidates, k = 4 with two exploring places: the two best are sure, six are drawn from at each of the two."""
    explorer = Exploration(places=[2, 4], seed=5).prepare(shop())
    answer = explorer.rerank(np.arange(NUM_USERS), candidates(8), 4)
    assert (answer.items_BK[:, [0, 2]] == [0, 1]).all()
    assert (answer.propensities_BK == [1, 1 / 6, 1, 1 / 6]).all()
    assert (answer.moved_BK == [0, 1, 0, 1]).all()
    for place in (1, 3):
        counts = np.bincount(answer.items_BK[:, place], minlength=8)
        assert counts[:2].tolist() == [0, 0]
        assert chisquare(counts[2:]).pvalue > 0.001  # the seed is fixed: this does not flicker
    assert (answer.items_BK[:, 1] != answer.items_BK[:, 3]).all()
    pairs = np.unique(answer.items_BK[:, [1, 3]], axis=0, return_counts=True)[1]
    assert len(pairs) == 30
    assert chisquare(pairs).pvalue > 0.001


def test_draws_of_one_user_over_requests_are_as_frequent():
    explorer = Exploration(places=[1]).prepare(shop())
    shown = [explorer.rerank([7], candidates(6, 1), 2, request=request).items_BK[0, 0] for request in range(600)]
    counts = np.bincount(shown, minlength=6)
    assert counts[0] == 0
    assert chisquare(counts[1:]).pvalue > 0.001


def test_a_pool_out_of_the_catalog():
    explorer = Exploration(places=[2], pool={"new": True}, seed=1).prepare(shop())
    given = candidates(5)
    given.items_BK[:, 4] = 11  # a new item that is a candidate, and so is in the pool too
    given.items_BK[:, 0] = 12  # one that is shown anyway, and so is not
    answer = explorer.rerank(np.arange(NUM_USERS), given, 3)
    drawn = answer.items_BK[:, 1]
    assert set(drawn.tolist()) == {11, 13, 14, 15, 16, 17, 18, 19}  # 10 was had
    assert (answer.propensities_BK == [1, 1 / 8, 1]).all()
    assert chisquare(np.bincount(drawn)[[11, *range(13, 20)]]).pvalue > 0.001
    assert (answer.places_BK[:, 1] == np.where(drawn == 11, 4, -1)).all()
    assert (answer.items_BK[:, [0, 2]] == [12, 1]).all()


def test_propensities_of_a_place_sum_to_one_over_the_pool():
    explorer = Exploration(places=[1, 3]).prepare(shop())
    answer = explorer.rerank(np.arange(NUM_USERS), candidates(9), 5)
    for place in (0, 2):
        chance = dict(zip(answer.items_BK[:, place].tolist(), answer.propensities_BK[:, place].tolist(), strict=True))
        assert sum(chance.values()) == pytest.approx(1, abs=1e-12)


def test_the_same_user_and_request_get_the_same_draw_whoever_asks_beside():
    explorer = Exploration(places=[1, 2], seed=3).prepare(shop())
    whole = explorer.rerank(np.arange(100), candidates(12, 100), 6, request=9)
    for user in (0, 17, 99):
        alone = explorer.rerank([user], candidates(12, 1), 6, request=9)
        assert np.array_equal(alone.items_BK[0], whole.items_BK[user])
    again = Exploration(places=[2, 1], seed=3).prepare(shop()).rerank(np.arange(100), candidates(12, 100), 6, request=9)
    assert np.array_equal(again.items_BK, whole.items_BK)
    for other in (
        explorer.rerank(np.arange(100), candidates(12, 100), 6, request=10),
        Exploration(places=[1, 2], seed=4).prepare(shop()).rerank(np.arange(100), candidates(12, 100), 6, request=9),
    ):
        assert (other.items_BK != whole.items_BK).any(axis=1).mean() > 0.9


def test_users_never_seen_are_known_by_their_history():
    explorer = Exploration(places=[1]).prepare(shop())
    state = UserState(None, Interactions.from_histories([[1, 2], [2, 1], [3], []], num_items=NUM_ITEMS))
    shown = np.array([explorer.rerank(state, candidates(15, 4), 3, request=r).items_BK[:, 0] for r in range(40)])
    assert (shown[:, 0] == shown[:, 1]).all()
    for one, two in ((0, 2), (0, 3), (2, 3)):
        assert (shown[:, one] != shown[:, two]).mean() > 0.8
    new = Exploration(places=[1], pool={"new": True}).prepare(shop())
    had = UserState(None, Interactions.from_histories([list(range(10, 19))], num_items=NUM_ITEMS))
    only = new.rerank(had, candidates(3, 1), 2)
    assert only.items_BK.tolist() == [[19, 0]]
    assert only.propensities_BK.tolist() == [[1, 1]]


def test_a_pool_that_is_too_small_is_shown_whole():
    explorer = Exploration(places=[1, 2, 4]).prepare(shop())
    short = explorer.rerank([3], candidates(2, 1), 4)  # one sure place: one candidate to draw
    assert sorted(short.items_BK[0].tolist()) == [-1, -1, 0, 1]
    assert short.propensities_BK.tolist() == [[1, 1, 0, 0]]
    nothing = explorer.rerank([3], Ranking(np.full((1, 3), -1), np.full((1, 3), -np.inf)), 4)
    assert nothing.items_BK.tolist() == [[-1] * 4]
    few = Exploration(places=[1, 2], pool={"item_id": ["15"]}).prepare(shop()).rerank([3], candidates(6, 1), 3)
    assert few.items_BK.tolist() == [[15, 0, 1]]
    assert few.propensities_BK.tolist() == [[1, 1, 1]]
    assert few.moved_BK.tolist() == [[1, 0, 0]]


def test_places_below_k_are_left_alone_and_what_is_kept_beyond_k_is_sure():
    explorer = Exploration(places=[2, 9]).prepare(shop())
    answer = explorer.rerank([3], candidates(6, 1), 3, keep=5)
    assert answer.items_BK.shape == (1, 5)
    assert len(set(answer.items_BK[0].tolist())) == 5
    assert answer.propensities_BK.tolist() == [[1, 1 / 4, 1, 1, 1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"places": []}, "places must be a list, each a whole number of at least 1, with at least 1, got"),
        ({"places": [0]}, "places must be a list, each a whole number of at least 1"),
        ({"places": [2, 2]}, "places must be distinct"),
        ({"places": [1], "pool": {"brand": "a"}}, "needs the item column 'brand'"),
        ({"places": [1], "pool": {"item_id": "99"}}, "must not be empty"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Exploration(**arguments).prepare(shop())
