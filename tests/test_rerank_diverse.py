"""MMR and DPP against plain greedy loops: similarities and determinants written out, in float64."""

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.protocols import Ranking
from recsys_dl.rerankers.dpp import DPP
from recsys_dl.rerankers.mmr import MMR

NUM_ITEMS = 30
CLOSE = 1e-9  # both sides are float64 over the same vectors


@st.composite
def asked(draw):
    """Candidates with scores that fall, vectors (some alike, one of zeros), a weight and a length."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(1, 9))
    vectors = rng.normal(size=(NUM_ITEMS, draw(st.integers(1, 6)))).astype(np.float32)
    vectors[3] = vectors[5]
    vectors[7] = 0
    items = rng.permutation(10)[:size] if draw(st.booleans()) else rng.permutation(NUM_ITEMS)[:size]
    scores = np.sort(rng.normal(size=size).round(draw(st.sampled_from([1, 6]))))[::-1]
    order = np.lexsort((items, -scores))
    weight = draw(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]))
    return items[order], scores[order].astype(np.float32), vectors, weight, draw(st.integers(1, 10))


def min_max(scores: np.ndarray) -> np.ndarray:
    scores = scores.astype(np.float64)
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.ones(len(scores))


def cosines(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1)
    unit = vectors / np.where(norms > 0, norms, 1)[:, None]
    return unit @ unit.T


def answer(reranker, items, scores, vectors, k: int):
    log = Interactions([0], [0], num_users=1, num_items=NUM_ITEMS)
    candidates = Ranking(items[None].astype(np.int32), scores[None])
    return reranker.prepare(log, item_vectors_ID=vectors).rerank([0], candidates, k)


def check_greedy(picked: list[int], items, worth) -> None:
    """Each pick is worth most among those left, and of equals it is the lowest item.

    `worth(chosen, item)` is what an item is worth below others. Two worths within rounding of one another count as equal only
    if they are exactly so in both computations, so the lowest item is asked for only among those of the same vector and score.
    """
    for place, item in enumerate(picked):
        left = [other for other in items.tolist() if other not in picked[:place]]
        values = {other: worth(picked[:place], other) for other in left}
        assert values[item] >= max(values.values()) - CLOSE, (place, item, values)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(asked())
def test_mmr_is_the_greedy_choice(case):
    items, scores, vectors, weight, k = case
    relevance, similar = dict(zip(items.tolist(), min_max(scores), strict=True)), cosines(vectors)

    def worth(chosen, item):
        nearest = max(similar[item, other] for other in chosen) if chosen else 0.0
        return (1 - weight) * relevance[item] - weight * nearest

    got = answer(MMR(weight=weight, compare_by="vectors"), items, scores, vectors, k).items_BK[0]
    assert (got >= 0).sum() == min(k, len(items))
    check_greedy(got[got >= 0].tolist(), items, worth)
    if weight == 0:
        assert got[got >= 0].tolist() == items[:k].tolist()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(asked())
def test_dpp_is_the_greedy_choice_of_determinants(case):
    items, scores, vectors, weight, k = case
    assume(weight < 1)
    similar = cosines(vectors)
    np.fill_diagonal(similar, 1.0)
    quality = np.zeros(NUM_ITEMS)
    theta = 1 - weight
    if weight > 0:
        quality[items] = np.exp(theta / (2 * weight) * min_max(scores))  # alpha of Chen et al. 2018, section 5
        kernel = quality[:, None] * similar * quality[None]

    def worth(chosen, item):
        """What the item adds to log det of the kernel, which is (theta relevance + weight gain) / weight."""
        with_it, without = [*chosen, item], chosen
        gain = np.linalg.slogdet(kernel[np.ix_(with_it, with_it)])[1]
        return gain - (np.linalg.slogdet(kernel[np.ix_(without, without)])[1] if without else 0.0)

    found = answer(DPP(weight=weight, compare_by="vectors"), items, scores, vectors, k)
    got = found.items_BK[0][found.items_BK[0] >= 0].tolist()
    assert len(got) == min(k, len(items))
    if weight == 0:
        assert got == items[:k].tolist()
        return
    spanning = got[: int((found.moved_BK[0][: len(got)] != 2).sum())]
    check_greedy(spanning, items, worth)
    rank = np.linalg.matrix_rank(similar[np.ix_(items, items)], tol=1e-8)
    assert len(spanning) == min(k, rank)
    rest = [item for item in items.tolist() if item not in spanning]
    assert got[len(spanning) :] == rest[: len(got) - len(spanning)], "those that add nothing keep their order"


def test_mmr_by_hand():
    """Items 0 and 1 are alike, 2 is square to both, 3 is opposite to 0."""
    vectors = np.zeros((NUM_ITEMS, 2), np.float32)
    vectors[:4] = [[1, 0], [2, 0], [0, 3], [-1, 0]]
    items, scores = np.array([0, 1, 2, 3]), np.array([1.0, 0.9, 0.5, 0.0], np.float32)
    got = answer(MMR(weight=0.5, compare_by="vectors"), items, scores, vectors, 4)
    # after 0: item 1 is worth (0.9 - 1) / 2, item 2 0.5 / 2, item 3 (0 + 1) / 2
    assert got.items_BK.tolist() == [[0, 3, 2, 1]]
    assert got.places_BK.tolist() == [[0, 3, 2, 1]]
    assert got.moved_BK.tolist() == [[0, 1, 0, 1]]
    assert got.reasons == ("", "mmr")
    assert got.scores_BK.tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_dpp_by_hand():
    """Weight one half: relevance plus log of the squared distance from the span. Item 1 lies in the span of 0."""
    vectors = np.zeros((NUM_ITEMS, 2), np.float32)
    vectors[:4] = [[1, 0], [2, 0], [1, 1], [0, 1]]
    items, scores = np.array([0, 1, 2, 3]), np.array([1.0, 0.9, 0.8, 0.0], np.float32)
    got = answer(DPP(weight=0.5, compare_by="vectors"), items, scores, vectors, 4)
    # after 0: item 2 has 0.8 + log 1/2 = 0.107, item 3 has 0 + log 1; then the plane is spanned
    assert got.items_BK.tolist() == [[0, 2, 1, 3]]
    assert got.moved_BK.tolist() == [[0, 1, 2, 2]]


@pytest.mark.parametrize("kind", [MMR, DPP])
def test_equals_go_to_the_lower_item(kind):
    vectors = np.ones((NUM_ITEMS, 2), np.float32)
    items, scores = np.array([9, 4, 7, 2]), np.zeros(4, np.float32)
    got = answer(kind(weight=0.4, compare_by="vectors"), items, scores, vectors, 1)
    assert got.items_BK.tolist() == [[2]]


@pytest.mark.parametrize("kind", [MMR, DPP])
def test_scores_as_they_are(kind):
    vectors = np.eye(NUM_ITEMS, dtype=np.float32)
    vectors[1] = vectors[0]
    items, scores = np.array([0, 1, 2]), np.array([100.0, 99.0, 1.0], np.float32)
    scaled = answer(kind(weight=0.5, compare_by="vectors"), items, scores, vectors, 2)
    assert scaled.items_BK.tolist() == [[0, 2]]  # 1.0, 0.99, 0: to be alike costs 1, or all
    bare = answer(kind(weight=0.5, compare_by="vectors", relevance="scores"), items, scores, vectors, 2)
    assert bare.items_BK.tolist() == [[0, 1]] if kind is MMR else [[0, 2]]


def test_no_weight_overflows():
    """theta / (1 - theta) of a million: the kernel's entries would be exp of that."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(NUM_ITEMS, 8)).astype(np.float32)
    items, scores = np.arange(12), np.linspace(1, 0, 12).astype(np.float32)
    got = answer(DPP(weight=1e-6, compare_by="vectors"), items, scores, vectors, 8)
    assert got.items_BK.tolist() == [list(range(8))]


# What items are compared by


def shop() -> Dataset:
    genres = [["a"], ["a", "b"], ["c"], [], None]
    log = Interactions([0, 1, 2, 0, 1, 2, 3], [0, 0, 0, 1, 1, 2, 3], num_users=4, num_items=5)
    users, items = Vocabulary(range(4), noun="user"), Vocabulary(range(5), noun="item")
    return Dataset(log, users, items, item_features=pl.DataFrame({"genres": genres, "year": [1, 1, 2, 2, None]}))


@pytest.mark.parametrize(
    ("compare_by", "expected"),
    [
        # cosines with item 0: of users 2 / sqrt(3 * 2) = .82, 1 / sqrt(3) = .58, 0, 0
        ("users", [0, 3, 4, 2, 1]),
        # of genres 1 / sqrt(2), then 0 everywhere
        ("genres", [0, 2, 3, 4, 1]),
        # of years: the same one 1, others 0, none 0; 2 and 3 are the same as one another
        ("year", [0, 2, 4, 1, 3]),
    ],
)
def test_users_who_had_both_and_columns(compare_by, expected):
    candidates = Ranking(np.arange(5, dtype=np.int32)[None], np.array([[1.0, 0.0, 0.0, 0.0, 0.0]], np.float32))
    for kind in (MMR, DPP):
        got = kind(weight=0.9, compare_by=compare_by).prepare(shop()).rerank([0], candidates, 5).items_BK[0].tolist()
        assert got == expected, kind


def test_content_is_compared_as_content_models_do():
    """Items 0 and 1 share a word, 2 and 3 another: after the first comes one of the other pair."""
    log = Interactions([0, 0], [0, 1], num_items=4)
    texts = pl.Series(["robots", "robots", "roses", "roses"])
    data = Dataset(log, Vocabulary([0], noun="user"), Vocabulary(range(4), noun="item"), item_texts=texts)
    candidates = Ranking(np.arange(4, dtype=np.int32)[None], np.array([[1.0, 0.9, 0.2, 0.1]], np.float32))
    for kind in (MMR, DPP):
        got = kind(weight=0.9, compare_by="content").prepare(data).rerank([0], candidates, 2).items_BK[0].tolist()
        assert got == [0, 2], kind
        with pytest.raises(ValueError, match="item features or texts are needed"):
            kind(compare_by="content").prepare(log)


def test_sparse_and_dense_vectors_agree():
    rng = np.random.default_rng(1)
    had = rng.random((40, 25)) < 0.3
    users, items = np.nonzero(had)
    log = Interactions(users, items, num_users=40, num_items=25)
    rows = np.array([rng.permutation(25)[:20] for _ in range(6)], np.int32)
    candidates = Ranking(rows, -np.sort(rng.random((6, 20)), axis=1).astype(np.float32))
    for kind in (MMR, DPP):
        sparse = kind(weight=0.6).prepare(log).rerank(np.arange(6), candidates, 10)
        given = kind(weight=0.6, compare_by="vectors").prepare(log, item_vectors_ID=had.T.astype(np.float32))
        assert np.array_equal(sparse.items_BK, given.rerank(np.arange(6), candidates, 10).items_BK)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (None, "needs prepare"),
        (np.zeros((3, 4)), r"shape \[5, D\]"),
        (np.zeros((5, 0)), r"shape \[5, D\]"),
        (np.array([[1.0], [2.0], [np.nan], [1.0], [1.0]]), "that of item row 2 is not"),
    ],
)
def test_vectors_that_do_not_do(vectors, message):
    with pytest.raises(ValueError, match=message):
        MMR(compare_by="vectors").prepare(shop(), item_vectors_ID=vectors)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": 1.5}, "weight must be a finite number at least 0 and at most 1"),
        ({"weight": float("nan")}, "weight must be a finite number at least 0 and at most 1"),
        ({"relevance": "softmax"}, "one of min_max, scores"),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DPP(**arguments)


def test_a_missing_column():
    with pytest.raises(ValueError, match=r"compare_by=genre needs the item column 'genre' \(did you mean 'genres'\?\)"):
        MMR(compare_by="genre").prepare(shop())
    with pytest.raises(ValueError, match="bare Interactions have none"):
        MMR(compare_by="genre").prepare(shop().interactions)
