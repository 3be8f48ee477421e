"""An epoch of factorization with features is one sequence of batches: NumPy takes the same ones in float64."""

import numba
import numpy as np
import pytest
import scipy.sparse as sp

from recsys_dl.kernels import feature_mf
from recsys_dl.kernels.feature_sides import START, Side, vectors
from recsys_dl.kernels.negatives import item_weights
from recsys_dl.kernels.random import random_below, random_bits, stream_key

SETTINGS = {
    "max_sampled": 3,
    "learning_rate": 0.1,
    "regularization": 0.2,
    "id_dropout": 0.0,
    "seed": 7,
    "epoch": 2,
}
# float32 keeps 1e-7 of each number; a number is changed some 30 times in these tests, with steps that add up
CLOSE = {"rtol": 1e-4, "atol": 3e-6}


def side(num, values, size, *, of_users, seed):
    """Rows with several values, some with weights of their own and row 0 with its id alone."""
    rng = np.random.default_rng(seed)
    features = sp.random(num, values, 0.5, random_state=rng, format="lil", dtype=np.float32)
    features[0] = 0
    matrix = sp.hstack([features, sp.identity(num)], format="csr", dtype=np.float32)
    matrix.sort_indices()
    emb = rng.normal(0, 0.5, (values + num, size + 2)).astype(np.float32)
    constant = size + of_users
    emb[:, constant] = 0
    if of_users:
        emb[:, size] = rng.normal(0, 0.1, len(emb))
    squares = np.full_like(emb, START)
    return Side(matrix.indptr.astype(np.int64), matrix.indices, matrix.data, values, constant, emb, squares)


def problem(num_users=6, num_items=9, size=5, share=0.4, seed=0):
    """Users of all kinds: row 0 had nothing, row 1 all items."""
    rng = np.random.default_rng(seed)
    seen = rng.random((num_users, num_items)) < share
    seen[0], seen[1] = False, True
    indptr = np.concatenate([[0], np.cumsum(seen.sum(axis=1))]).astype(np.int64)
    indices = np.nonzero(seen)[1].astype(np.int32)
    return (
        indptr,
        indices,
        side(num_users, 3, size, of_users=True, seed=1),
        side(num_items, 4, size, of_users=False, seed=2),
    )


def copied(one):
    return one._replace(emb_VW=one.emb_VW.copy(), squares_VW=one.squares_VW.copy())


def run(indptr, indices, users, items, loss, **options):
    users, items = copied(users), copied(items)
    feature_mf.feature_epoch(indptr, indices, users, items, loss=loss, **{**SETTINGS, **options})
    return users, items


def slopes(loss, s_i, draws, scores, num_others, weights=None):
    """j and the slopes of the loss of the papers in s_i and s_j, from the items drawn in turn."""
    if loss == "warp":
        for k, j in enumerate(draws, 1):
            if scores[j] > s_i - 1:
                weight = sum(1 / r for r in range(1, num_others // k + 1))
                return (j, -weight, weight) if weight else None
        return None
    j = draws[0]
    if loss == "bpr":
        return j, -1 / (1 + np.exp(s_i - scores[j])), 1 / (1 + np.exp(s_i - scores[j]))
    return j, -1 / (1 + np.exp(s_i)), 1 / (1 + np.exp(-scores[j]))


def reference(indptr, indices, users, items, loss, batch, weights=None, id_dropout=0.0):
    """Batches of the documented order, draws and steps, in float64."""
    key = stream_key(SETTINGS["seed"], SETTINGS["epoch"])
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    num_items, rate, penalty = len(items.indptr_R1) - 1, SETTINGS["learning_rate"], SETTINGS["regularization"]
    tables = [one.emb_VW.astype(np.float64) for one in (users, items)]
    squares = [one.squares_VW.astype(np.float64) for one in (users, items)]
    matrices = [
        sp.csr_matrix((one.weights_M, one.codes_M, one.indptr_R1), dtype=np.float64).toarray() for one in (users, items)
    ]
    with np.errstate(over="ignore"):
        order = np.argsort(random_bits(~key, np.arange(len(indices), dtype=np.uint64)), kind="stable")
        for number, start in enumerate(range(0, len(indices), batch)):
            used = [matrix.copy() for matrix in matrices]
            for i in range(num_items):
                left_out = random_bits(stream_key(int(key), number), np.uint64(i)) < np.uint64(id_dropout * 2.0**64)
                if left_out and (used[1][i] != 0).sum() > 1:
                    used[1][i, items.first_id :] = 0
            p, q = used[0] @ tables[0], used[1] @ tables[1]
            p[:, users.constant] = q[:, items.constant] = 1
            of_users, of_items = np.zeros_like(p), np.zeros_like(q)
            touched = [np.zeros(len(p)), np.zeros(len(q))]
            for n in order[start : start + batch]:
                u, i = rows[n], indices[n]
                others = np.setdiff1d(np.arange(num_items), indices[indptr[u] : indptr[u + 1]])
                if not len(others):
                    continue
                whole = np.ones(num_items, np.uint64) if weights is None else weights
                ends = np.cumsum(whole[others])
                most = SETTINGS["max_sampled"]
                bits = [random_bits(key, np.uint64(n * most + draw)) for draw in range(most)]
                draws = [others[np.searchsorted(ends, random_below(one, ends[-1]), side="right")] for one in bits]
                found = slopes(loss, p[u] @ q[i], draws, q @ p[u], len(others))
                if found is not None:
                    j, slope, other_slope = found
                    of_users[u] += slope * q[i] + other_slope * q[j]
                    of_items[i] += slope * p[u]
                    of_items[j] += other_slope * p[u]
                    touched[0][u] += 1
                    touched[1][[i, j]] += 1
            for at, (one, sums) in enumerate(((users, of_users), (items, of_items))):
                sums[:, one.constant] = 0
                parts = (used[at] != 0).T @ touched[at]
                gradient = used[at].T @ sums + penalty * parts[:, None] * tables[at]
                squares[at] += gradient**2
                tables[at] -= rate * gradient / np.sqrt(squares[at])
    return tables, squares


@pytest.mark.parametrize("loss", feature_mf.LOSSES)
@pytest.mark.parametrize("size", [1, 5, 16, 33])
@pytest.mark.parametrize("batch", [1, 4, 100])
def test_an_epoch_takes_the_documented_steps(loss, size, batch):
    data = problem(size=size)
    users, items = run(*data, loss, batch=batch)
    tables, squares = reference(*data, loss, batch)
    for found, table, square in zip((users, items), tables, squares, strict=True):
        assert found.emb_VW.dtype == np.float32
        np.testing.assert_allclose(found.emb_VW, table, **CLOSE)
        np.testing.assert_allclose(found.squares_VW, square, **CLOSE)
    assert not np.array_equal(items.emb_VW, data[3].emb_VW)


@pytest.mark.parametrize("loss", ["bpr", "logistic"])
def test_items_are_drawn_by_weight(loss):
    data = problem()
    counts = np.linspace(0.5, 3, 9)
    weights = item_weights(counts, data[1])
    users, items = run(*data, loss, batch=4, weights=weights)
    tables, _ = reference(*data, loss, 4, weights=np.diff(weights.below_I1))
    np.testing.assert_allclose(users.emb_VW, tables[0], **CLOSE)
    np.testing.assert_allclose(items.emb_VW, tables[1], **CLOSE)


def test_ids_are_left_out_of_batches():
    data = problem()
    users, items = run(*data, "bpr", batch=4, id_dropout=0.6)
    tables, _ = reference(*data, "bpr", 4, id_dropout=0.6)
    np.testing.assert_allclose(items.emb_VW, tables[1], **CLOSE)
    np.testing.assert_allclose(users.emb_VW, tables[0], **CLOSE)
    assert not np.allclose(items.emb_VW, run(*data, "bpr", batch=4)[1].emb_VW, atol=1e-3)


def test_the_gradient_is_that_of_the_loss():
    """Finite differences in float64 of the bpr loss of one batch, over every entry of both tables."""
    data = indptr, indices, users, items = problem(num_users=3, num_items=4, size=2)
    _, squares = reference(*data, "bpr", 100)
    key = stream_key(SETTINGS["seed"], SETTINGS["epoch"])
    matrices = [
        sp.csr_matrix((o.weights_M, o.codes_M, o.indptr_R1)).toarray().astype(np.float64) for o in (users, items)
    ]
    rows, most = np.repeat(np.arange(3), np.diff(indptr)), SETTINGS["max_sampled"]

    def loss(*embs):
        p, q = matrices[0] @ embs[0], matrices[1] @ embs[1]
        p[:, users.constant] = q[:, items.constant] = 1
        total = 0.0
        for n, (u, i) in enumerate(zip(rows, indices, strict=True)):
            others = np.setdiff1d(np.arange(4), indices[indptr[u] : indptr[u + 1]])
            if len(others):
                with np.errstate(over="ignore"):
                    j = others[int(random_below(random_bits(key, np.uint64(n * most)), np.uint64(len(others))))]
                total += np.log1p(np.exp(p[u] @ (q[j] - q[i])))
                for matrix, emb, touched in ((matrices[0], embs[0], [u]), (matrices[1], embs[1], [i, j])):
                    for row in touched:
                        total += SETTINGS["regularization"] / 2 * (emb[matrix[row] != 0] ** 2).sum()
        return total

    for at, one in enumerate((users, items)):
        gradient = np.sqrt(squares[at] - START)
        for v, w in np.ndindex(*one.emb_VW.shape):
            if w == one.constant:
                continue
            up, down = ([o.emb_VW.astype(np.float64) for o in (users, items)] for _ in range(2))
            up[at][v, w] += 1e-5
            down[at][v, w] -= 1e-5
            numeric = (loss(*up) - loss(*down)) / 2e-5
            np.testing.assert_allclose(
                gradient[v, w], abs(numeric), rtol=1e-3, atol=2e-4
            )  # 1e-7 of 1 is lost in START + g^2


def test_warp_estimates_the_rank_by_how_long_it_draws():
    """With the margin violated by v of m others, draws are geometric: the mean weight is that of Weston et al. 2011."""
    num_items, violating, epochs = 41, 10, 400
    emb_I = np.zeros((num_items, 3), np.float32)
    emb_I[0, 0], emb_I[1:, 0] = 2.0, 0.0
    emb_I[1 : 1 + violating, 0] = 1.5  # above 2 - 1
    ids = (
        np.arange(num_items + 1, dtype=np.int64),
        np.arange(num_items, dtype=np.int32),
        np.ones(num_items, np.float32),
    )
    indptr, indices = np.array([0, 1], np.int64), np.zeros(1, np.int32)
    weights, drawn = [], set()
    for epoch in range(epochs):
        emb_U = np.array([[1.0, 0, 0]], np.float32)
        user = Side(np.array([0, 1]), np.zeros(1, np.int32), np.ones(1, np.float32), 0, 2, emb_U, np.ones_like(emb_U))
        items = Side(*ids, 0, 1, emb_I.copy(), np.full_like(emb_I, START))
        settings = SETTINGS | {"max_sampled": 40, "regularization": 0.0, "epoch": epoch}
        feature_mf.feature_epoch(indptr, indices, user, items, loss="warp", **settings)
        gradients = np.sqrt(items.squares_VW[:, 0] - START)
        weights.append(gradients[0])
        drawn |= set(np.flatnonzero(gradients[1:]) + 1)
    share = violating / 40
    expected = sum(share * (1 - share) ** (k - 1) * sum(1 / r for r in range(1, 40 // k + 1)) for k in range(1, 41))
    assert drawn == set(range(1, 1 + violating))  # only items that violate the margin, and each of them
    assert abs(np.mean(weights) - expected) < 4 * np.std(weights) / np.sqrt(epochs)


@pytest.mark.parametrize("loss", feature_mf.LOSSES)
@pytest.mark.parametrize("size", [14, 31, 64])
def test_the_number_of_threads_changes_no_bit(loss, size):
    rng = np.random.default_rng(3)
    matrix = sp.random(60, 300, 0.05, random_state=rng, format="csr")
    matrix.sort_indices()
    data = (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32))
    sides = (side(60, 8, size, of_users=True, seed=1), side(300, 20, size, of_users=False, seed=2))
    before, results = numba.get_num_threads(), []
    try:
        for threads in (1, numba.config.NUMBA_NUM_THREADS):
            numba.set_num_threads(threads)
            results.append(run(*data, *sides, loss, id_dropout=0.2))
    finally:
        numba.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one.emb_VW, two.emb_VW)


def test_the_columns_of_threads_are_computed_alike(monkeypatch):
    """Also where one thread is all there is: a batch cut into columns gives the bits of the whole."""
    data = problem(size=30)
    whole = run(*data, "bpr", batch=4)
    monkeypatch.setattr(feature_mf, "get_num_threads", lambda: 3)
    for one, two in zip(whole, run(*data, "bpr", batch=4), strict=True):
        np.testing.assert_array_equal(one.emb_VW, two.emb_VW)


def test_seed_and_epoch_change_the_draws():
    data = problem()
    for options in ({"seed": 8}, {"epoch": 3}):
        assert not np.array_equal(run(*data, "bpr")[1].emb_VW, run(*data, "bpr", **options)[1].emb_VW)


@pytest.mark.parametrize("loss", feature_mf.LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_folding_in_takes_the_users_half_of_the_steps(loss, weighted):
    indptr, indices, users, items = problem(size=6)
    q = vectors(items, np.arange(9))
    start = vectors(users, np.arange(6))
    sums = item_weights(np.linspace(0.5, 3, 9), indices) if weighted and loss != "warp" else None
    whole = np.ones(9, np.uint64) if sums is None else np.diff(sums.below_I1)
    settings = {"max_sampled": 3, "epochs": 3, "learning_rate": 0.1, "regularization": 0.2, "seed": 7, "loss": loss}
    found = feature_mf.fold_users(indptr, indices, start, q, weights=sums, **settings)
    for user in range(6):
        mine = indices[indptr[user] : indptr[user + 1]]
        others = np.setdiff1d(np.arange(9), mine)
        own, squares = np.zeros(8), np.full(8, START)
        for epoch in range(3):
            for t, i in enumerate(mine):
                if not len(others):
                    continue
                p = start[user] + own
                ends = np.cumsum(whole[others])
                with np.errstate(over="ignore"):
                    bits = [
                        random_bits(stream_key(7), np.uint64((epoch * len(mine) + t) * 3 + draw)) for draw in range(3)
                    ]
                    draws = [others[np.searchsorted(ends, random_below(one, ends[-1]), side="right")] for one in bits]
                chosen = slopes(loss, p @ q[i], draws, q @ p, len(others))
                if chosen is not None:
                    j, slope, other_slope = chosen
                    gradient = slope * q[i].astype(np.float64) + other_slope * q[j] + 0.2 * own
                    gradient[users.constant] = 0
                    squares += gradient**2
                    own -= 0.1 * (3 - epoch) / 3 * gradient / np.sqrt(squares)
        np.testing.assert_allclose(found[user], start[user] + own, **CLOSE)
    np.testing.assert_array_equal(found[:2], start[:2])  # no items, and all of them


def test_batches_grow_with_the_catalog_but_leave_several_in_an_epoch():
    assert feature_mf.batch_pairs(80_000, 10_000_000) == 10_000
    assert feature_mf.batch_pairs(10**6, 64_000) == 1000
    assert feature_mf.batch_pairs(40, 1000) == 16
