"""Sequential rules are the sums that they say they are, and know the order."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import SIMULATED

from recsys_dl import evaluate
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.kernels.sequences import followers
from recsys_dl.models.ease import EASE
from recsys_dl.models.sequential_rules import SequentialRules


def sequences_of(rng, num_users=40, num_items=15, longest=25):
    """Users' items in order, some repeated, some users without any; weights with zeros among them."""
    lists = [rng.integers(0, num_items, rng.integers(0, longest + 1)) for _ in range(num_users)]
    weights = [rng.choice([0, 0.5, 1, 3], len(items)).astype(np.float32) for items in lists]
    return lists, weights


def plain_rules(lists, weights, num_items, window, shrinkage):
    rules = np.zeros((num_items, num_items))
    had = np.zeros(num_items)
    for items, weighs in zip(lists, weights, strict=True):
        for at, item in enumerate(items):
            had[item] += 1
            for step in range(1, window + 1):
                if at + step < len(items) and items[at + step] != item:
                    rules[item, items[at + step]] += weighs[at + step] / step
    return rules / np.maximum(had + shrinkage, 1e-9)[:, None]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("window", "shrinkage", "k"), [(1, 0.0, 15), (4, 2.5, 15), (100, 0.0, 15), (4, 2.5, 3)])
def test_rules_are_sums_over_places(seed, window, shrinkage, k):
    lists, weights = sequences_of(np.random.default_rng(seed))
    starts = np.concatenate([[0], np.cumsum([len(items) for items in lists])])
    given = (np.concatenate(lists), np.concatenate(weights), starts, 15, k)
    indptr, indices, values = followers(*given, window=window, shrinkage=shrinkage)
    expected = plain_rules(lists, weights, 15, window, shrinkage).astype(np.float32)
    for item in range(15):
        mine = slice(indptr[item], indptr[item + 1])
        strongest = -np.sort(-expected[item])[:k]
        np.testing.assert_allclose(values[mine], strongest[strongest > 0], rtol=1e-6)
        np.testing.assert_allclose(values[mine], expected[item, indices[mine]], rtol=1e-6)
        keys = list(zip(-values[mine], indices[mine], strict=True))
        assert keys == sorted(set(keys))  # strongest first, equal ones by item, none twice


def test_rules_do_not_depend_on_threads():
    program = """
import hashlib
import numpy as np
from recsys_dl.kernels.sequences import followers
rng = np.random.default_rng(1)
starts = np.arange(0, 5001, 50)
found = followers(rng.zipf(1.4, 5000) % 300, rng.random(5000), starts, 300, 40, window=9, shrinkage=1.0)
print(hashlib.sha256(b"".join(array.tobytes() for array in found)).hexdigest())
"""
    told = [
        subprocess.run(
            [sys.executable, "-c", f"import numba; numba.set_num_threads({threads}){program}"],
            capture_output=True,
            text=True,
            check=True,
            env={"NUMBA_NUM_THREADS": "2"},
        ).stdout
        for threads in (1, 2)
    ]
    assert len(told[0]) == 65
    assert told[0] == told[1]


def test_scores_weigh_the_newest_most():
    rng = np.random.default_rng(3)
    lists, weights = sequences_of(rng)
    users = np.repeat(np.arange(40), [len(items) for items in lists])
    places = np.concatenate([np.arange(len(items)) for items in lists])
    shuffled = rng.permutation(len(users))
    log = Interactions(
        users[shuffled],
        np.concatenate(lists)[shuffled],
        np.concatenate(weights)[shuffled],
        1000 * places[shuffled] + 7,
        num_users=40,
        num_items=15,
    )
    model = SequentialRules(window=4, history_size=3, shrinkage=1).fit(log)
    rules = plain_rules(lists, weights, 15, 4, 1)
    expected = np.zeros((40, 15))
    for user, (items, weighs) in enumerate(zip(lists, weights, strict=True)):
        for place, (item, weight) in enumerate(zip(items[::-1][:3], weighs[::-1][:3], strict=True), start=1):
            expected[user] += weight / place * rules[item]
    some = np.flatnonzero([len(items) > 0 for items in lists])
    every = np.tile(np.arange(15), (len(some), 1))
    np.testing.assert_allclose(model.score(some, every), expected[some], rtol=1e-5, atol=1e-7)
    in_order = model.fold_in([list(lists[user]) for user in some])  # a list is in order, without weights
    ones = [np.ones(len(items), np.float32) for items in lists]
    for b, user in enumerate(some):
        recent = list(zip(lists[user][::-1][:3], ones[user][:3], strict=False))
        asked = sum(weight / place * rules[item] for place, (item, weight) in enumerate(recent, start=1))
        np.testing.assert_allclose(model.score(in_order, every)[b], asked, rtol=1e-5, atol=1e-7)


def test_the_next_item_is_found_where_the_order_tells_it():
    """Each user walks along a circle of items from a place of their own; who had what tells little, the last item all."""
    rng = np.random.default_rng(0)
    firsts = rng.integers(0, 60, 300)
    walks = (firsts[:, None] + np.cumsum(rng.integers(1, 3, (300, 12)), axis=1)) % 60
    walks = [list(dict.fromkeys(walk)) for walk in walks.tolist()]
    users = np.repeat(np.arange(300), [len(walk) - 1 for walk in walks])
    items = np.concatenate([walk[:-1] for walk in walks])
    ids = (Vocabulary(range(300), noun="user"), Vocabulary(range(60), noun="item"))
    train = Dataset(Interactions(users, items, num_users=300, num_items=60), *ids)
    test = Dataset(Interactions(np.arange(300), [walk[-1] for walk in walks], num_users=300, num_items=60), *ids)
    found = {
        type(model).__name__: evaluate(model.fit(train), train, test, k=2, metrics=["hit_rate"]).values["hit_rate@2"]
        for model in (SequentialRules(), EASE(regularization=10))
    }
    assert found["SequentialRules"] > 0.95
    assert found["EASE"] < 0.8


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window": 0}, "window must be a whole number of at least 1, got 0"),
        ({"history_size": 0}, "history_size must be a whole number of at least 1, got 0"),
        ({"num_followers": -1}, "num_followers must be a whole number of at least 1, got -1"),
        ({"shrinkage": -0.5}, r"shrinkage must be a finite number at least 0, got -0\.5"),
        ({"shrinkage": float("nan")}, "shrinkage must be a finite number at least 0, got nan"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        SequentialRules(**wrong)


@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_scores_in_tiles_on_a_gpu_are_those_of_the_cpu(device, monkeypatch):
    """Rules are kept strongest first; tiles need their items ascending."""
    if not SIMULATED:
        pytest.skip("a GPU is at hand, whose blocks are compiled")
    from recsys_dl.kernels.cuda import neighbors, similarity

    for module in (neighbors, similarity):
        monkeypatch.setattr(module, "THREADS", 32)
    monkeypatch.setattr(similarity, "TILE_SUMS", 32)
    lists, _ = sequences_of(np.random.default_rng(3), num_users=20, num_items=90)
    log = Interactions.from_histories(map(list, lists), num_items=90)
    models = [SequentialRules(device=where).fit(log) for where in ("cpu", device)]
    users_B, items_BL = np.arange(2), np.tile(np.arange(90), (2, 1))
    np.testing.assert_allclose(*(model.score(users_B, items_BL) for model in models), rtol=1e-6)
