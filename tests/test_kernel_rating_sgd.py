"""An epoch over ratings is one sequence of steps: NumPy takes the same ones in float64, and FunkSVD whatever the number of threads."""

import numba
import numpy as np
import pytest
import scipy.sparse as sp

from recsys_dl.kernels import bpr_blocks, rating_sgd
from recsys_dl.kernels.random import random_below, random_bits, stream_key
from recsys_dl.kernels.rating_sgd import biased_epoch, svdpp_epoch

RATE, PENALTY, BIAS_PENALTY, MEAN = 0.02, 0.1, 0.05, 3.1
STEPS = {"learning_rate": RATE, "regularization": PENALTY, "bias_regularization": BIAS_PENALTY, "seed": 5, "epoch": 2}
KEY = stream_key(5, 2)
CLOSE = {"atol": 1e-5}  # float32 over some 100 dependent steps on numbers near 1


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Cut small logs as large ones are."""
    monkeypatch.setattr(bpr_blocks, "LEAST_ITEMS", 4)
    monkeypatch.setattr(bpr_blocks, "LEAST_STEPS", 16)
    monkeypatch.setattr(rating_sgd, "LEAST_WORK", 1)


def problem(num_users: int, num_items: int, size: int) -> tuple[tuple[np.ndarray, ...], list[np.ndarray]]:
    """A CSR of ratings, where user 0 has none and user 1 all items; float64 tables that float32 holds exactly."""
    rng = np.random.default_rng(size)
    rated_UI = rng.random((num_users, num_items)) < 0.3
    rated_UI[0], rated_UI[1] = False, True
    csr = sp.csr_matrix(rated_UI)
    shapes = [(num_users,), (num_items,), (num_users, size), (num_items, size)]
    tables = [rng.normal(0, 0.1, shape).astype(np.float32).astype(np.float64) for shape in shapes]
    ratings_N = rng.uniform(1, 5, csr.nnz).astype(np.float32)
    return (csr.indptr.astype(np.int64), csr.indices, ratings_N), tables


def shuffled(count: int, key: np.uint64) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.argsort(random_bits(key, np.arange(count, dtype=np.uint64)), kind="stable")


def biased_steps(indptr: np.ndarray, items: np.ndarray, num_items: int, blocks: int):
    """User and position of each step, in order."""
    block_I = np.empty(num_items, int)
    block_I[shuffled(num_items, ~KEY)] = np.arange(num_items) * blocks // num_items
    users = bpr_blocks.user_blocks(indptr, blocks)
    for diagonal in range(blocks):
        for b in range(blocks):
            cell: list[tuple[int, int]] = []
            for user in range(users[b], users[b + 1]):
                for n in range(indptr[user], indptr[user + 1]):
                    if block_I[items[n]] == (b + diagonal) % blocks:
                        with np.errstate(over="ignore"):
                            place = int(random_below(random_bits(KEY, np.uint64(n)), np.uint64(len(cell) + 1)))
                        cell.append((user, n))
                        cell[place], cell[-1] = cell[-1], cell[place]
            yield from cell


@pytest.mark.parametrize(
    ("num_users", "num_items", "size"), [(12, 4, 1), (9, 21, 16), (30, 30, 127), (9, 9, 128), (9, 9, 129)]
)
def test_an_epoch_takes_each_rating_once(num_users, num_items, size):
    csr, tables = problem(num_users, num_items, size)
    indptr, items, ratings = csr
    ours = [table.astype(np.float32) for table in tables]
    biased_epoch(*csr, MEAN, *ours, **STEPS)
    bias_U, bias_I, p_UD, q_ID = tables
    blocks = bpr_blocks.num_blocks(num_users, num_items, len(items))
    steps = list(biased_steps(indptr, items, num_items, blocks))
    assert sorted(n for _, n in steps) == list(range(len(items)))
    for u, n in steps:
        i = items[n]
        e = ratings[n] - (MEAN + bias_U[u] + bias_I[i] + p_UD[u] @ q_ID[i])
        bias_U[u] += RATE * (e - BIAS_PENALTY * bias_U[u])
        bias_I[i] += RATE * (e - BIAS_PENALTY * bias_I[i])
        p_UD[u], q_ID[i] = (
            p_UD[u] + RATE * (e * q_ID[i] - PENALTY * p_UD[u]),
            q_ID[i] + RATE * (e * p_UD[u] - PENALTY * q_ID[i]),
        )
    for array, reference in zip(ours, tables, strict=True):
        np.testing.assert_allclose(array, reference, **CLOSE)


@pytest.mark.parametrize("size", [1, 16, 127, 128, 129])
def test_an_epoch_of_svdpp_is_user_by_user(size):
    """The reference changes every y_j at every rating, which the kernel must equal without doing so."""
    rng = np.random.default_rng(size)
    counts = np.array([3, 0, 11, 1, 6])
    starts = np.concatenate([[0], np.cumsum(counts)])
    items = np.concatenate([rng.permutation(11)[:count] for count in counts])
    ratings = rng.uniform(1, 5, len(items))
    order = rng.permutation(5)
    arrays = [rng.normal(0, 0.1, shape) for shape in [(5,), (11,), (5, size), (11, size), (11, size)]]
    ours = [array.astype(np.float32) for array in arrays]
    rate, penalty, bias_penalty, mean = 0.03, 0.1, 0.05, 3.1
    error = svdpp_epoch(
        order,
        starts,
        items.astype(np.int32),
        ratings.astype(np.float32),
        mean,
        *ours,
        learning_rate=rate,
        regularization=penalty,
        bias_regularization=bias_penalty,
    )
    bias_U, bias_I, p_UD, q_ID, y_ID = arrays
    squares = 0.0
    for u in order:
        mine = items[starts[u] : starts[u + 1]]
        for n in range(starts[u], starts[u + 1]):
            i = items[n]
            q_D = q_ID[i].copy()
            whole_D = p_UD[u] + y_ID[mine].sum(axis=0) / np.sqrt(len(mine))
            e = ratings[n] - (mean + bias_U[u] + bias_I[i] + q_D @ whole_D)
            squares += e * e
            bias_U[u] += rate * (e - bias_penalty * bias_U[u])
            bias_I[i] += rate * (e - bias_penalty * bias_I[i])
            p_UD[u] += rate * (e * q_D - penalty * p_UD[u])
            q_ID[i] += rate * (e * whole_D - penalty * q_D)
            y_ID[mine] += rate * (e * q_D / np.sqrt(len(mine)) - penalty * y_ID[mine])
    for array, reference in zip(ours, arrays, strict=True):
        np.testing.assert_allclose(array, reference, atol=1e-5)  # float32 over 21 dependent steps on numbers near 1
    assert error == pytest.approx(squares / len(items), rel=1e-4)


def test_the_result_does_not_depend_on_threads():
    csr, tables = problem(90, 40, 16)
    most = numba.config.NUMBA_NUM_THREADS
    results = []
    for threads in sorted({1, 2, 4, most}):
        if threads > most:
            continue
        numba.set_num_threads(threads)
        biased = [table.astype(np.float32) for table in tables]
        biased_epoch(*csr, MEAN, *biased, **STEPS)
        results.append(biased)
    numba.set_num_threads(most)
    for other in results[1:]:
        for array, reference in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(array, reference)


def test_no_ratings_no_steps():
    none = np.zeros(0, np.int32)
    bias, emb_UD, emb_ID = (np.ones(shape, np.float32) for shape in [2, (2, 3), (2, 3)])
    csr = (np.zeros(3, np.int64), none, none.astype(np.float32))
    biased_epoch(*csr, MEAN, bias, bias, emb_UD, emb_ID, **STEPS)
    for array in (bias, emb_UD, emb_ID):
        assert (array == 1).all()
