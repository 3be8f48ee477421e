"""Metrics among sampled items: by hand, with ties against every order written out, and marked as sampled."""

from itertools import permutations

import numpy as np
import pytest

from recsys_dl import Interactions, compare
from recsys_dl.evaluation import evaluate_sampled
from recsys_dl.metrics.sampled import sampled_ranking_metrics
from recsys_dl.models import Popularity


def test_values_by_hand_without_ties():
    scores = np.array([[3, 1, 2, 0], [1, 3, 2, 0], [0, 1, 2, 3.0]])  # ranks 1, 3, 4
    values = sampled_ranking_metrics(scores, [1, 3])
    np.testing.assert_array_equal(values["sampled_hit_rate@1"], [1, 0, 0])
    np.testing.assert_array_equal(values["sampled_hit_rate@3"], [1, 1, 0])
    np.testing.assert_allclose(values["sampled_ndcg@3"], [1, 0.5, 0], rtol=1e-15)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_ties_count_as_the_mean_over_every_order(seed, k):
    rng = np.random.default_rng(seed)
    scores, valid = rng.integers(0, 3, 6), rng.random(6) < 0.8
    valid[0] = True
    hits, gains = [], []
    for order in permutations(range(6)):
        ranked = [c for c in sorted(order, key=lambda c: -scores[c]) if valid[c]]  # stable: `order` breaks the ties
        rank = ranked.index(0) + 1
        hits.append(rank <= k)
        gains.append((rank <= k) / np.log2(rank + 1))
    values = sampled_ranking_metrics(scores[None], [k], valid_BL=valid[None])
    # 720 terms in another order
    np.testing.assert_allclose(values[f"sampled_hit_rate@{k}"][0], np.mean(hits), atol=1e-13)
    np.testing.assert_allclose(values[f"sampled_ndcg@{k}"][0], np.mean(gains), atol=1e-13)


def test_a_model_that_knows_nothing_gets_what_chance_gives():
    values = sampled_ranking_metrics(np.zeros((1, 100)), [10])
    assert values["sampled_hit_rate@10"][0] == pytest.approx(0.1, rel=1e-14)


def test_the_relevant_item_among_the_sampled_does_not_take_part():
    train = Interactions([0, 1, 2, 0, 1, 0], [0, 0, 0, 1, 1, 2], num_items=4)
    model = Popularity().fit(train)
    with_itself = evaluate_sampled(model, [0, 1], [[1, 0, 1, 3], [2, 0, 1, 3]], k=1)
    np.testing.assert_array_equal(with_itself.per_user["sampled_hit_rate@1"], [0, 0])
    padded = evaluate_sampled(model, [0, 1], [[1, 1, -1, 3], [2, -1, 1, 3]], k=1)
    np.testing.assert_array_equal(padded.per_user["sampled_hit_rate@1"], [1, 0])


def test_they_are_marked_wherever_they_are_printed():
    train = Interactions([0, 1, 2], [0, 0, 1], num_items=3)
    table = evaluate_sampled(Popularity().fit(train), [0, 1], [[0, 1, 2], [1, 0, 2]], k=[1, 2])
    assert all(name.startswith("sampled_") for name in table.values)
    text = str(table)
    assert "SAMPLED metrics" in text
    assert "sampled, 2 beside the relevant one" in text
    assert table.to_dict()["conventions"]["candidates"].startswith("sampled")
    assert "SAMPLED metrics" in str(compare({"popularity": table}, metric="sampled_ndcg@2"))


def test_popularity_on_the_published_split(shared_data):
    """He et al. 2017's files; Rendle et al. 2020 print .4535 and .2543 for popularity, breaking ties in their own way."""
    folder = shared_data / "ncf-ml-1m"
    if not folder.is_dir():
        pytest.skip(f"no ncf-ml-1m in {shared_data}")
    pairs = np.loadtxt(next(folder.glob("*train.pairs*")), dtype=np.int64, usecols=(0, 1))
    lines = next(folder.glob("*test.negative*")).read_text().splitlines()
    rows = [[int(word) for word in line.replace("(", "").replace(")", "").replace(",", "\t").split()] for line in lines]
    users, items = np.array([row[0] for row in rows]), np.array([row[1:] for row in rows])
    num_users, num_items = max(pairs[:, 0].max(), users.max()) + 1, max(pairs[:, 1].max(), items.max()) + 1
    model = Popularity().fit(Interactions(*pairs.T, num_users=num_users, num_items=num_items))
    table = evaluate_sampled(model, users, items, k=10)
    # the paper's rule for ties is not stated; 99 popularities out of 3,706 items seldom tie near rank 10
    assert table.values["sampled_hit_rate@10"] == pytest.approx(0.4535, abs=0.003)
    assert table.values["sampled_ndcg@10"] == pytest.approx(0.2543, abs=0.003)


@pytest.mark.parametrize(
    ("scores", "valid", "ks", "message"),
    [
        (np.zeros(3), None, [1], r"must both be \[B, L\]"),
        (np.full((1, 2), np.nan), None, [1], "must not be NaN"),
        (np.zeros((1, 2)), [[False, True]], [1], "column 0 must hold the relevant"),
        (np.zeros((1, 2)), None, [0], "k must be at least 1, got 0"),
    ],
)
def test_bad_input_is_named(scores, valid, ks, message):
    with pytest.raises(ValueError, match=message):
        sampled_ranking_metrics(scores, ks, valid_BL=valid)


def test_bad_candidates_are_named():
    model = Popularity().fit(Interactions([0], [0]))
    with pytest.raises(ValueError, match="one row for each user"):
        evaluate_sampled(model, [0, 0], [[0]])
