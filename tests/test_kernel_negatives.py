"""Negatives are drawn from the exact distribution, never from what the user had, the same on every device."""

import numba
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import chisquare

from recsys_dl.kernels.negatives import integer_weights, item_weights, sample_negatives
from recsys_dl.kernels.random import random_below, random_bits, stream_key

RARE = 1e-4  # of a chi-square test: seeds are fixed, so what passes today passes always


def csr(histories, num_items):
    indptr = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    indices = np.array([item for items in histories for item in sorted(items)], np.int32)
    return indptr, indices, num_items


def test_random_bits_are_splitmix64s():
    """The published first outputs of SplitMix64 seeded with 1234567."""
    with np.errstate(over="ignore"):
        bits = [random_bits(np.uint64(1234567), np.uint64(position)) for position in range(3)]
    assert [int(value) for value in bits] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("bound", [1, 2, 3, 1000, 2**32 - 1, 2**32, 2**32 + 1, 2**63 + 12345, 2**64 - 1])
def test_random_below_is_the_upper_half_of_the_product(bound):
    for bits in (0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 0x123456789ABCDEF0):
        with np.errstate(over="ignore"):
            assert int(random_below(np.uint64(bits), np.uint64(bound))) == (bits * bound) >> 64


def test_streams_differ_and_take_any_integers():
    keys = {int(stream_key(seed, epoch)) for seed in (-1, 0, 1, 2**63) for epoch in (0, 1, 2)}
    assert len(keys) == 12


HISTORIES = [[], [3], [0], [9], [0, 9], [2, 3, 4], list(range(9)), list(range(1, 10)), [0, 2, 4, 6, 8], list(range(10))]
WEIGHTS = np.array([5, 0, 1, 2, 0.5, 3, 0, 1, 4, 0.25])


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize("allow_positives", [False, True])
def test_the_distribution_is_exact(weights, allow_positives, device):
    """Every user, from one who had nothing to one who had all: only what may be drawn, as often as it should be."""
    data = csr(HISTORIES, 10)
    table = None if weights is None else item_weights(weights, data[1])
    draws = 4000 if device == "cpu" else 40  # the simulator is slow: there only what may be drawn at all
    drawn = sample_negatives(
        np.arange(len(HISTORIES)),
        *data,
        draws,
        seed=7,
        weights=table,
        allow_positives=allow_positives,
        device=device,
    )
    assert drawn.dtype == np.int32
    assert drawn.shape == (len(HISTORIES), draws)
    for user, history in enumerate(HISTORIES):
        expected = np.ones(10) if weights is None else weights.copy()
        if not allow_positives:
            expected[history] = 0
        if not expected.any():
            assert (drawn[user] == -1).all()
            continue
        counts = np.bincount(drawn[user], minlength=10)
        possible = expected > 0
        assert not counts[~possible].any()
        if device == "cpu" and possible.sum() > 1:
            share = expected[possible] / expected.sum()
            assert chisquare(counts[possible], share * draws).pvalue > RARE


@pytest.mark.parametrize("num_items", [1, 2, 127, 128, 129, 1000])
@pytest.mark.parametrize("weighted", [False, True])
def test_draws_equal_a_plain_scan(num_items, weighted, device):
    """The r-th item that may be drawn, found by counting: equal, not close, since all is whole numbers."""
    rng = np.random.default_rng(num_items)
    sizes = [0, 1, num_items // 2, num_items - 1, num_items]
    indptr, indices, _ = csr([rng.choice(num_items, min(size, num_items), replace=False) for size in sizes], num_items)
    users = np.array([0, 1, 2, 3, 4, 2], np.int32)
    weights = rng.random(num_items) + 0.1
    table = item_weights(weights, indices) if weighted else None
    drawn = sample_negatives(users, indptr, indices, num_items, 3, seed=1, epoch=5, weights=table, device=device)
    whole = integer_weights(weights) if weighted else np.ones(num_items, np.uint64)
    key = stream_key(1, 5)
    for p, user in enumerate(users):
        free = whole.copy()
        free[indices[indptr[user] : indptr[user + 1]]] = 0
        ends = np.cumsum(free)
        for s in range(3):
            with np.errstate(over="ignore"):
                rank = random_below(random_bits(key, np.uint64(3 * p + s)), ends[-1])
            assert drawn[p, s] == (np.searchsorted(ends, rank, side="right") if ends[-1] else -1)


def test_threads_do_not_matter_and_seed_and_epoch_do():
    data = csr([range(0, 500, 3)] * 20, 500)
    users = np.arange(20)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = sample_negatives(users, *data, 9, seed=3)
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
        many = sample_negatives(users, *data, 9, seed=3)
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(one, many)
    assert (one != sample_negatives(users, *data, 9, seed=4)).any()
    assert (one != sample_negatives(users, *data, 9, seed=3, epoch=1)).any()
    assert sample_negatives(np.empty(0, np.int32), *data, 2, seed=3).shape == (0, 2)


def test_integer_weights_keep_rare_items_and_refuse_nonsense():
    assert list(integer_weights(np.array([1e-30, 0.0, 1.0]))) == [1, 0, 2**31]
    for bad in ([-1.0, 2.0], [np.nan, 1.0], [np.inf, 1.0], [0.0, 0.0], []):
        with pytest.raises(ValueError, match="weights of items must be finite, not negative and not all zero"):
            integer_weights(np.array(bad))


def test_wrong_arguments():
    indptr, indices, num_items = csr([[0], [1]], 4)
    with pytest.raises(ValueError, match="num_negatives must be at least 1, got 0"):
        sample_negatives([0], indptr, indices, num_items, 0, seed=1)
    with pytest.raises(ValueError, match="weights must be of 4 items and 2 interactions, got 3 and 2"):
        sample_negatives([0], indptr, indices, num_items, 1, seed=1, weights=item_weights(np.ones(3), indices))


def test_against_a_large_catalog_by_sparse_lookup():
    """100,000 draws over a skewed catalog: none is a positive."""
    rng = np.random.default_rng(0)
    matrix = sp.random(200, 5000, 0.05, format="csr", random_state=rng)
    matrix.sort_indices()
    counts = np.bincount(matrix.indices, minlength=5000)
    users = rng.integers(0, 200, 1000).astype(np.int32)
    table = item_weights(counts**0.75, matrix.indices)
    drawn = sample_negatives(users, matrix.indptr, matrix.indices, 5000, 100, seed=2, weights=table)
    assert not matrix[np.repeat(users, 100), drawn.ravel()].any()
    assert counts[drawn].mean() > 1.01 * counts.mean()  # the popular are drawn more often
