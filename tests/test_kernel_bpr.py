"""BPR's epoch is one sequence of steps: NumPy takes the same ones in float64, whatever the device and the threads."""

import numba
import numpy as np
import pytest

from recsys_dl.kernels import bpr, bpr_blocks
from recsys_dl.kernels.negatives import integer_weights
from recsys_dl.kernels.random import random_below, random_bits, stream_key

RATE, PENALTY = 0.1, 0.03
# float32 keeps 1e-7 of each number; a number is changed some 50 times in these tests, with steps that add up
CLOSE = {"rtol": 1e-4, "atol": 2e-6}


def problem(num_users, num_items, size, share=0.3, seed=0):
    """Users of all kinds: row 0 had nothing, row 1 all items, the others a share of them."""
    rng = np.random.default_rng(seed)
    seen = rng.random((num_users, num_items)) < share
    seen[0] = False
    seen[1:2] = True
    indptr = np.concatenate([[0], np.cumsum(seen.sum(axis=1))]).astype(np.int64)
    indices = np.nonzero(seen)[1].astype(np.int32)
    user_emb = rng.normal(0, 0.3, (num_users, size)).astype(np.float32)
    item_emb = rng.normal(0, 0.3, (num_items, size)).astype(np.float32)
    return indptr, indices, user_emb, item_emb, rng.normal(0, 0.1, num_items).astype(np.float32)


def drawn(key, position, candidates, seen, weights):
    """What the documented draw gives: 16 tries among the candidates, then the exact share of those not had."""
    bits = random_bits(key, np.uint64(position))
    ends = np.cumsum(weights[candidates])
    if not ends[-1]:
        return -1
    for again in range(16):
        item = candidates[np.searchsorted(ends, random_below(bits, ends[-1]), side="right")]
        if item not in seen:
            return item
        bits = random_bits(bits, np.uint64(again))
    free = np.array([0 if item in seen else weights[item] for item in candidates], np.uint64)
    ends = np.cumsum(free)
    return candidates[np.searchsorted(ends, random_below(bits, ends[-1]), side="right")] if ends[-1] else -1


def steps(indptr, indices, num_items, blocks, key, weights):
    """The triples of an epoch, in order."""
    with np.errstate(over="ignore"):
        shuffled = np.argsort(random_bits(~key, np.arange(num_items, dtype=np.uint64)), kind="stable")
        item_blocks = [shuffled[b * num_items // blocks : (b + 1) * num_items // blocks] for b in range(blocks)]
        users = bpr_blocks.user_blocks(indptr, blocks)
        for diagonal in range(blocks):
            for b in range(blocks):
                candidates = item_blocks[(b + diagonal) % blocks]
                for user in range(users[b], users[b + 1]):
                    seen = set(indices[indptr[user] : indptr[user + 1]])
                    for n in range(indptr[user], indptr[user + 1]):
                        if indices[n] in candidates:
                            yield user, indices[n], drawn(key, n, candidates, seen, weights)


def reference(indptr, indices, user_emb, item_emb, bias, blocks, seed, epoch, weights):
    """The step of Rendle et al. 2009, figure 4, with biases, in float64."""
    p, q, b = (table.astype(np.float64) for table in (user_emb, item_emb, bias))
    for u, i, j in steps(indptr, indices, len(q), blocks, stream_key(seed, epoch), weights):
        if j >= 0:
            assert j not in indices[indptr[u] : indptr[u + 1]]
            pull = 1 / (1 + np.exp(b[i] - b[j] + p[u] @ (q[i] - q[j])))
            p[u], q[i], q[j] = (
                p[u] + RATE * (pull * (q[i] - q[j]) - PENALTY * p[u]),
                q[i] + RATE * (pull * p[u] - PENALTY * q[i]),
                q[j] + RATE * (-pull * p[u] - PENALTY * q[j]),
            )
            b[i], b[j] = b[i] + RATE * (pull - PENALTY * b[i]), b[j] + RATE * (-pull - PENALTY * b[j])
    return p, q, b


def run(indptr, indices, *tables, device="cpu", **options):
    changed = [table.copy() for table in tables]
    settings = {"learning_rate": RATE, "regularization": PENALTY, "seed": 7, "epoch": 3} | options
    bpr.bpr_epoch(indptr, indices, *changed, device=device, **settings)
    return changed


@pytest.mark.parametrize("size", [1, 31, 32, 33, 64])
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_epoch_takes_the_documented_steps(size, blocks, weighted, device, monkeypatch):
    monkeypatch.setattr(bpr, "num_blocks", lambda *shape: blocks)
    data = problem(6, 13, size)
    weights = integer_weights(np.linspace(0, 3, 13)) if weighted else None
    found = run(*data, device=device, weights_I=weights)
    expected = reference(*data, blocks, 7, 3, np.ones(13, np.uint64) if weights is None else weights)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, **CLOSE)
    assert not np.array_equal(found[0], data[2])


@pytest.mark.parametrize("num_items", [1, 2, 127, 128, 129])
def test_catalogs_of_any_size(num_items, monkeypatch):
    monkeypatch.setattr(bpr, "num_blocks", lambda *shape: min(num_items, 5))
    data = problem(9, num_items, 8)
    weights = np.ones(num_items, np.uint64)
    for one, other in zip(run(*data), reference(*data, min(num_items, 5), 7, 3, weights), strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)


def test_users_who_had_nearly_all_items(device, monkeypatch):
    """Sixteen tries rarely find the one item in forty that is left: then it is counted through."""
    monkeypatch.setattr(bpr, "num_blocks", lambda *shape: 2)
    data = problem(4, 80, 4, share=0.975)
    weights = np.ones(80, np.uint64)
    for one, other in zip(run(*data, device=device), reference(*data, 2, 7, 3, weights), strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)


def test_the_number_of_threads_changes_no_bit():
    data = problem(400, 600, 16)
    assert bpr_blocks.num_blocks(400, 600, len(data[1])) > 4
    before = numba.get_num_threads()
    results = []
    try:
        for threads in (1, 2, numba.config.NUMBA_NUM_THREADS):
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
            results.append(run(*data))
    finally:
        numba.set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_seed_and_epoch_change_the_draws():
    data = problem(50, 40, 8)
    for options in ({"seed": 8}, {"epoch": 4}):
        assert not np.array_equal(run(*data)[1], run(*data, **options)[1])


def test_every_item_not_had_is_drawn_alike_whatever_the_blocks():
    """Over 3,000 epochs each (u, i) meets each j as often as any other: the claim of the module's first lines."""
    indptr, indices, *_ = problem(4, 12, 1, share=0.4, seed=2)
    ones = np.ones(12, np.uint64)
    counts = np.zeros((4, 12), np.int64)
    epochs = 3000
    for epoch in range(epochs):
        for user, _, other in steps(indptr, indices, 12, 3, stream_key(0, epoch), ones):
            if other >= 0:
                counts[user, other] += 1
    for user in (2, 3):
        own = indices[indptr[user] : indptr[user + 1]]
        assert not counts[user, own].any()
        free = np.setdiff1d(np.arange(12), own)
        # A Poisson count strays five standard deviations once in a million; draws of an epoch are less than independent
        mean = counts[user, free].mean()
        assert np.abs(counts[user, free] - mean).max() < 6 * np.sqrt(mean)
    assert not counts[:2].any()  # who had nothing has no steps; who had all has no item to compare with


@pytest.mark.parametrize("weighted", [False, True])
def test_folding_in_takes_the_users_half_of_the_steps(weighted, device):
    indptr, indices, _, item_emb, bias = problem(5, 9, 33)
    weights = integer_weights(np.linspace(0.5, 3, 9)) if weighted else None
    settings = {"epochs": 3, "learning_rate": RATE, "regularization": PENALTY, "seed": 7, "weights_I": weights}
    found = bpr.fold_users(indptr, indices, item_emb, bias, device=device, **settings)
    assert found.dtype == np.float32
    whole = np.ones(9, np.uint64) if weights is None else weights
    q, b = item_emb.astype(np.float64), bias.astype(np.float64)
    for user in range(5):
        own = indices[indptr[user] : indptr[user + 1]]
        p = np.zeros(33)
        for epoch in range(3):
            rate = RATE * (3 - epoch) / 3
            for t, i in enumerate(own):
                with np.errstate(over="ignore"):
                    j = drawn(stream_key(7), epoch * len(own) + t, np.arange(9), set(own), whole)
                if j >= 0:
                    pull = 1 / (1 + np.exp(b[i] - b[j] + p @ (q[i] - q[j])))
                    p += rate * (pull * (q[i] - q[j]) - PENALTY * p)
        np.testing.assert_allclose(found[user], p, **CLOSE)
        part = np.array([0, len(own)], np.int64)
        alone = bpr.fold_users(part, own, item_emb, bias, device=device, **settings)
        np.testing.assert_array_equal(alone[0], found[user])


def test_sizes_that_do_not_fit():
    indptr, indices, user_emb, item_emb, bias = problem(5, 9, 4)
    with pytest.raises(ValueError, match=r"must be of \[U \+ 1\], \[U, D\], \[I, D\], \[I\], got \(6,\), \(5, 4\)"):
        run(indptr, indices, user_emb, item_emb[:, :3], bias)
