"""Merging lists, against the same in plain Python."""

import numpy as np
import pytest

from recsys_dl.pipeline.merging import check_merge, quota, reciprocal_rank, round_robin
from recsys_dl.protocols import Ranking


def lists_of(rng, num_users, num_items, sizes):
    """Lists of distinct items, some shorter than others."""
    made = {}
    for at, size in enumerate(sizes):
        items = np.array([rng.permutation(num_items)[:size] for _ in range(num_users)], np.int32)
        ends = rng.integers(0, size + 1, num_users)
        items[np.arange(size) >= ends[:, None]] = -1
        made[f"r{at}"] = Ranking(items, np.where(items >= 0, np.float32(1), np.float32(-np.inf)))
    return made


def plain(lists, b):
    return [[int(item) for item in one.items_BK[b] if item >= 0] for one in lists.values()]


@pytest.mark.parametrize("seed", range(5))
def test_round_robin_is_turns(seed):
    rng = np.random.default_rng(seed)
    lists = lists_of(rng, 30, 40, [7, 12, 3])
    merged = round_robin(lists, 15)
    for b in range(30):
        queues, taken = plain(lists, b), []
        while any(queues) and len(taken) < 15:
            for queue in queues:
                while queue and queue[0] in taken:
                    queue.pop(0)
                if queue and len(taken) < 15:
                    taken.append(queue.pop(0))
        assert [item for item in merged.items_BK[b] if item >= 0] == taken
    assert (np.diff(np.where(merged.items_BK >= 0, merged.scores_BK, 0), axis=1) <= 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_quota_is_the_best_not_taken(seed):
    rng = np.random.default_rng(seed)
    lists = lists_of(rng, 30, 40, [7, 12, 3])
    quotas = {"r0": 3, "r1": 5, "r2": 2}
    merged = quota(lists, 9, quotas=quotas)
    for b in range(30):
        taken = []
        for (name, most), queue in zip(quotas.items(), plain(lists, b), strict=True):
            assert name in lists
            taken += [item for item in queue if item not in taken][:most]
        assert [item for item in merged.items_BK[b] if item >= 0] == taken[:9]


@pytest.mark.parametrize("seed", range(5))
def test_reciprocal_rank_is_its_formula(seed):
    rng = np.random.default_rng(seed)
    lists = lists_of(rng, 30, 40, [7, 12, 3])
    merged = reciprocal_rank(lists, 15, offset=10, weights={"r1": 2.0})
    for b in range(30):
        sums = {}
        for weight, queue in zip((1, 2, 1), plain(lists, b), strict=True):
            for rank, item in enumerate(queue, start=1):
                sums[item] = sums.get(item, 0) + weight / (10 + rank)
        best = sorted(sums, key=lambda item: (-sums[item], item))[:15]
        assert [item for item in merged.items_BK[b] if item >= 0] == best
        np.testing.assert_allclose(merged.scores_BK[b, : len(best)], [sums[item] for item in best], rtol=1e-6)


def test_by_hand():
    lists = {
        "a": Ranking(np.array([[4, 2, 7]], np.int32), np.ones((1, 3), np.float32)),
        "b": Ranking(np.array([[2, 9, -1]], np.int32), np.ones((1, 3), np.float32)),
    }
    assert round_robin(lists, 5).items_BK.tolist() == [[4, 2, 7, 9, -1]]
    assert quota(lists, 5, quotas={"a": 2, "b": 2}).items_BK.tolist() == [[4, 2, 9, -1, -1]]
    assert reciprocal_rank(lists, 5).items_BK.tolist() == [[2, 4, 9, 7, -1]]  # 1/62 + 1/61, 1/61, 1/62, 1/63


@pytest.mark.parametrize(
    ("merge", "arguments", "message"),
    [
        ("best", {}, "merge must be one of"),
        ("round_robin", {"offset": 3}, "takes the arguments none; got 'offset'"),
        ("quota", {}, "at least 1 for every retriever, got None for a"),
        ("quota", {"quotas": {"c": 1}}, r"quotas must name retrievers \(a, b\), got 'c'"),
        ("reciprocal_rank", {"offset": -1}, "offset must be a number that is not negative"),
        ("reciprocal_rank", {"weights": {"a": -1}}, "weights must be numbers that are not negative"),
    ],
)
def test_wrong_words(merge, arguments, message):
    with pytest.raises(ValueError, match=message):
        check_merge(merge, arguments, {"a": None, "b": None})
