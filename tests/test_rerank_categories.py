"""xQuAD and calibration against the formulas in plain Python, and what users' tastes are made of."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.protocols import Ranking, UserState
from recsys_dl.rerankers.calibration import Calibration
from recsys_dl.rerankers.xquad import XQuAD

NUM_ITEMS, NUM_USERS = 14, 4
CLOSE = 1e-12  # both sides are float64 sums of a dozen terms


def library(seed: int = 0) -> Dataset:
    """Items with up to three of five genres, item 13 with none; user 3 has nothing, user 2 only item 13."""
    rng = np.random.default_rng(seed)
    genres = [sorted(rng.choice(list("abcde"), rng.integers(1, 4), replace=False)) for _ in range(NUM_ITEMS - 1)]
    users = rng.integers(0, 2, 12)
    log = Interactions(
        [*users, 2],
        [*rng.integers(0, NUM_ITEMS - 1, 12), 13],
        [*rng.integers(1, 6, 12), 1.0],
        num_users=NUM_USERS,
        num_items=NUM_ITEMS,
    )
    features = pl.DataFrame({"genres": [*genres, []]})
    vocabularies = (Vocabulary(range(size)) for size in (NUM_USERS, NUM_ITEMS))
    return Dataset(log, *vocabularies, item_features=features)


def shares(data: Dataset, item: int, *, nothing: bool) -> dict[str, float]:
    genres = data.item_features["genres"].to_list()[item]
    if not genres and nothing:
        genres = ["none"]
    return {genre: 1 / len(genres) for genre in genres}


def taste(data: Dataset, user: int, *, nothing: bool) -> dict[str, float]:
    """Shares of genres in a user's history, by weight; of everyone's where the user has none."""
    log = data.interactions
    for mine in (log.users_N == user, np.ones(len(log), bool)):
        mass: dict[str, float] = {}
        for item, weight in zip(log.items_N[mine], log.weights_N[mine], strict=True):
            for genre, share in shares(data, int(item), nothing=nothing).items():
                mass[genre] = mass.get(genre, 0.0) + share * float(weight)
        if mass:
            break
    total = sum(mass.values())
    return {genre: value / total for genre, value in mass.items()}


def divergence(data: Dataset, wanted: dict[str, float], items: list[int], smoothing: float = 0.01) -> float:
    """KL(p, q), Steck 2018, every place of the list alike."""
    q: dict[str, float] = {}
    for item in items:
        for genre, share in shares(data, item, nothing=True).items():
            q[genre] = q.get(genre, 0.0) + share / len(items)
    return sum(p * math.log(p / ((1 - smoothing) * q.get(genre, 0.0) + smoothing * p)) for genre, p in wanted.items())


@st.composite
def asked(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    items = rng.permutation(NUM_ITEMS)[: draw(st.integers(1, 9))]
    scores = np.sort(rng.normal(size=len(items)))[::-1].astype(np.float32)
    weight = draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
    return library(draw(st.integers(0, 20))), draw(st.integers(0, 3)), items, scores, weight, draw(st.integers(1, 10))


def scaled(items, scores) -> dict[int, float]:
    scores = scores.astype(np.float64)
    spread = scores.max() - scores.min()
    return dict(zip(items.tolist(), (scores - scores.min()) / spread if spread else np.ones(len(scores)), strict=True))


def check_greedy(got: np.ndarray, items, k: int, worth) -> None:
    picked = got[got >= 0].tolist()
    assert len(picked) == min(k, len(items))
    for place, item in enumerate(picked):
        values = {other: worth(picked[:place], other) for other in items.tolist() if other not in picked[:place]}
        assert values[item] >= max(values.values()) - CLOSE, (place, item, values)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(asked())
def test_xquad_is_the_greedy_choice(case):
    data, user, items, scores, weight, k = case
    relevance, wanted = scaled(items, scores), taste(data, user, nothing=False)

    def worth(chosen, item):
        covered = 0.0
        for genre, share in shares(data, item, nothing=False).items():
            still_open = math.prod(1 - shares(data, other, nothing=False).get(genre, 0.0) for other in chosen)
            covered += wanted.get(genre, 0.0) * share * still_open
        return (1 - weight) * relevance[item] + weight * covered

    candidates = Ranking(items[None].astype(np.int32), scores[None])
    got = XQuAD(categories="genres", weight=weight).prepare(data).rerank([user], candidates, k).items_BK[0]
    check_greedy(got, items, k, worth)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(asked(), st.sampled_from([0.01, 0.9]))
def test_calibration_is_the_greedy_choice(case, smoothing):
    data, user, items, scores, weight, k = case
    relevance, wanted = scaled(items, scores), taste(data, user, nothing=True)

    def worth(chosen, item):
        return (1 - weight) * relevance[item] - weight * divergence(data, wanted, [*chosen, item], smoothing)

    candidates = Ranking(items[None].astype(np.int32), scores[None])
    reranker = Calibration(categories="genres", weight=weight, smoothing=smoothing).prepare(data)
    got = reranker.rerank([user], candidates, k).items_BK[0]
    check_greedy(got, items, k, worth)
    if weight == 0:
        assert got[got >= 0].tolist() == items[:k].tolist()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10))
def test_at_full_weight_no_list_of_single_genres_is_less_calibrated_than_the_incoming_one(seed, k):
    """Of items with several genres this does not hold: the first may be all the user likes, and nothing fits beside it."""
    rng = np.random.default_rng(seed)
    genres = rng.choice(list("abc"), NUM_ITEMS)
    log = Interactions(np.zeros(8, int), rng.integers(0, NUM_ITEMS, 8), num_users=1, num_items=NUM_ITEMS)
    data = Dataset(
        log,
        Vocabulary([0]),
        Vocabulary(range(NUM_ITEMS)),
        item_features=pl.DataFrame({"genres": [[g] for g in genres]}),
    )
    items = rng.permutation(NUM_ITEMS)[:10]
    candidates = Ranking(items[None].astype(np.int32), -np.arange(10, dtype=np.float32)[None])
    got = Calibration(categories="genres", weight=1.0).prepare(data).rerank([0], candidates, k).items_BK[0]
    wanted = taste(data, 0, nothing=True)
    assert divergence(data, wanted, got.tolist()) <= divergence(data, wanted, items[:k].tolist()) + CLOSE


def test_calibration_by_hand():
    """A user who had two of a and one of b, and candidates that are all a at the top: of three places one goes to b."""
    features = pl.DataFrame({"kind": ["a", "a", "b", "a", "a", "a", "b"]})
    log = Interactions([0, 0, 0], [0, 1, 2], num_users=1, num_items=7)
    data = Dataset(log, Vocabulary([0]), Vocabulary(range(7)), item_features=features)
    candidates = Ranking(np.array([[3, 4, 5, 6]], np.int32), np.array([[1.0, 0.9, 0.8, 0.0]], np.float32))
    got = Calibration(categories="kind", weight=0.99).prepare(data).rerank([0], candidates, 3)
    assert got.items_BK.tolist() == [[3, 6, 4]]
    assert got.moved_BK.tolist() == [[0, 1, 1]]
    assert got.reasons == ("", "calibration")
    assert Calibration(categories="kind", weight=0.01).prepare(data).rerank([0], candidates, 3).items_BK.tolist() == [
        [3, 4, 5]
    ]


def test_xquad_by_hand():
    """Taste half a, half b. After item 0 (a) nothing of a is left to satisfy."""
    features = pl.DataFrame({"kind": [["a"], ["a"], ["b"], ["a", "b"]]})
    log = Interactions([0, 0], [0, 2], num_users=1, num_items=4)
    data = Dataset(log, Vocabulary([0]), Vocabulary(range(4)), item_features=features)
    candidates = Ranking(np.array([[0, 1, 3, 2]], np.int32), np.array([[1.0, 0.9, 0.3, 0.0]], np.float32))
    got = XQuAD(categories="kind", weight=0.8).prepare(data).rerank([0], candidates, 4)
    # .2 + .8 * .5 for 0; then 1: .18, 3: .06 + .8 * .5 * .5 = .26, 2: .4; then 1: .18, 3: .06
    assert got.items_BK.tolist() == [[0, 2, 1, 3]]


@pytest.mark.parametrize("kind", [XQuAD, Calibration])
def test_a_folded_in_user_is_answered_by_the_history_and_a_blank_one_like_everyone(kind):
    data = library(4)
    reranker = kind(categories="genres", weight=1.0).prepare(data)
    rows = np.tile(np.arange(13, dtype=np.int32), (3, 1))
    candidates = Ranking(rows, np.tile(-np.arange(13, dtype=np.float32), (3, 1)))
    log = data.interactions
    folded = UserState(None, log.of_users([0, 1, 3]))
    by_row = reranker.rerank([0, 1, 3], candidates, 8)
    assert np.array_equal(by_row.items_BK, reranker.rerank(folded, candidates, 8).items_BK)
    assert not np.array_equal(by_row.items_BK[0], by_row.items_BK[1])
    everyone = Interactions(np.zeros(len(log), int), log.items_N, log.weights_N, num_items=NUM_ITEMS)
    one = Ranking(candidates.items_BK[:1], candidates.scores_BK[:1])
    assert np.array_equal(by_row.items_BK[2:], reranker.rerank(UserState(None, everyone), one, 8).items_BK)


@pytest.mark.parametrize("kind", [XQuAD, Calibration])
def test_what_they_need(kind):
    with pytest.raises(ValueError, match="categories=genre needs the item column 'genre'"):
        kind(categories="genre").prepare(library())
    with pytest.raises(ValueError, match="weight must be a finite number at least 0 and at most 1"):
        kind(categories="genres", weight=-0.1)
    with pytest.raises(ValueError, match="user row 4 is outside the 4 users"):
        candidates = Ranking(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32))
        kind(categories="genres").prepare(library()).rerank([4], candidates, 1)
    with pytest.raises(ValueError, match="smoothing must be a finite number above 0 and below 1"):
        Calibration(categories="genres", smoothing=0)
