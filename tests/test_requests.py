"""What a model keeps between requests is never wrong: whatever is written, fitted or grown in between, answers are of what it is now."""

import copy
import gc
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pytest
import scipy.sparse as sp
from numba import get_num_threads

from recsys_dl import Dataset, Interactions, Vocabulary, models
from recsys_dl.data import vocabulary
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.families.factors import cosines
from recsys_dl.families.neighborhood import as_vectors
from recsys_dl.families.rows import block_of, rows_of
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.neighbors import best_of_sparse_product, sparse_product
from recsys_dl.kernels.norms import inverse_norms
from recsys_dl.kernels.threads import at_most
from recsys_dl.kernels.topk import top_k
from recsys_dl.models import ALS, BPR, EASE, SVD
from recsys_dl.pipeline import Pipeline
from recsys_dl.protocols import Ranking
from recsys_dl.rerankers import MMR

NUM_USERS, NUM_ITEMS = 30, 600  # items enough for more than two tiles


@pytest.fixture(scope="module")
def log():
    rng = np.random.default_rng(0)
    return Interactions(
        rng.integers(0, NUM_USERS, 900), rng.integers(0, NUM_ITEMS, 900), num_users=NUM_USERS, num_items=NUM_ITEMS
    )


MODELS = {
    "ALS": lambda: ALS(embedding_size=8, epochs=2, device="cpu"),
    "BPR": lambda: BPR(embedding_size=8, epochs=2, device="cpu"),
    "SVD": lambda: SVD(embedding_size=8, device="cpu"),
    "EASE": lambda: EASE(device="cpu"),
}


def answers(model, exclude):
    """Everything that a model is asked: alone, two together, a batch, all of one user, similar items."""
    users = np.arange(NUM_USERS)
    for some in (users[:1], users[:2], users):
        yield from vars(model.recommend(some, 7, exclude=exclude)).values()
    yield from vars(model.similar_items([0, 5], 7)).values()
    yield model.score(users[:2], np.tile(np.arange(9), (2, 1)))


def fresh(name, model):
    """Return a model of the same arrays that never answered."""
    other = MODELS[name]()
    other.restore(model.arrays())
    other.users = other.items = None
    return other


@pytest.mark.parametrize("name", MODELS)
def test_arrays_written_in_place_are_used_at_once(name, log):
    """A fresh model of the same arrays, which never answered, is the oracle."""
    model = MODELS[name]().fit(log)
    list(answers(model, log))
    for array in model.fitted:
        there = getattr(model, array)
        if isinstance(there, np.ndarray) and there.dtype == np.float32 and there.size:
            there[:] = np.random.default_rng(1).permutation(there)
            for got, expected in zip(answers(model, log), answers(fresh(name, model), log), strict=True):
                np.testing.assert_array_equal(got, expected, err_msg=array)


@pytest.mark.parametrize("copied", [lambda model: model, copy.deepcopy])
def test_rules_are_read_only_while_a_sorted_copy_answers(copied, log):
    """Written by a user who allows it, or replaced, they are used at once."""
    model = models.SequentialRules(device="cpu").fit(log)
    list(answers(model, log))
    with pytest.raises(ValueError, match="read-only"):
        model.rules_II.data[:] = 1.0
    other = copied(model)
    data = other.rules_II.data
    data.flags.writeable = True
    data[:] = np.random.default_rng(1).permutation(data)
    expected = models.SequentialRules(device="cpu").fit(log)
    expected.rules_II = other.rules_II.copy()
    for got, right in zip(answers(other, log), answers(expected, log), strict=True):
        np.testing.assert_array_equal(got, right)


@pytest.mark.parametrize("name", ["ALS", "BPR"])
def test_fine_tuned_copied_and_pickled_models_answer_as_a_fresh_one(name, log):
    model = MODELS[name]().fit(log)
    list(answers(model, log))
    model.fine_tune(Interactions([0, 1], [NUM_ITEMS, 3]))
    assert model.num_items == NUM_ITEMS + 1
    expected = list(answers(fresh(name, model), log))
    for one in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for got, right in zip(answers(one, log), expected, strict=True):
            np.testing.assert_array_equal(got, right)


def test_cosines_against_float64():
    rng = np.random.default_rng(2)
    emb_ID = rng.standard_normal((1100, 33)).astype(np.float32) * 10.0 ** rng.integers(-4, 5, (1100, 1)).astype(
        np.float32
    )
    emb_ID[7] = 0
    known_I = rng.random(1100) < 0.9
    known_I[[3, 7]] = True
    known_I[4] = False
    exact_I = 1 / np.maximum(np.linalg.norm(emb_ID.astype(np.float64), axis=1), 1e-30)
    np.testing.assert_allclose(
        inverse_norms(emb_ID), exact_I, rtol=1e-6
    )  # 33 squares, a root and a quotient in float32
    found_BI = cosines(emb_ID, np.array([3, 7, 4]), known_I)
    unit_ID = emb_ID * exact_I[:, None]
    np.testing.assert_allclose(found_BI[:2, known_I], (unit_ID[[3, 7]] @ unit_ID.T)[:, known_I], rtol=0, atol=1e-6)
    assert np.isneginf(found_BI[:2, ~known_I]).all()
    assert np.isneginf(found_BI[2]).all()
    assert found_BI.dtype == np.float32


def test_rows_of_a_matrix_are_copies(log):
    matrix = log.by_user
    for rows in ([4], [], [0, 4, 4]):
        np.testing.assert_array_equal(rows_of(matrix, np.array(rows, int)).toarray(), matrix[rows].toarray())
    one = rows_of(matrix, np.array([4]))
    one.data[:] = 99
    one.indices[:] = 0
    assert (matrix.data != 99).all()
    values = (np.arange(6).reshape(3, 2), matrix[:3])
    assert block_of(values, slice(0, 3))[0] is values[0]
    np.testing.assert_array_equal(block_of(values, slice(1, 2))[0], [[2, 3]])


def named(log, ids=None):
    return Dataset(log, Vocabulary(range(NUM_USERS), noun="user"), Vocabulary(ids or range(NUM_ITEMS), noun="item"))


def test_ids_are_compared_once_and_again_when_they_change(log, monkeypatch):
    model = ALS(embedding_size=4, epochs=1, device="cpu").fit(named(log))
    other = named(log)
    expected = model.recommend([0], 5, exclude=other).items_BK
    series = type(other.items.ids)
    monkeypatch.setattr(series, "equals", lambda *_: pytest.fail("compared again"))
    np.testing.assert_array_equal(model.recommend([0], 5, exclude=other).items_BK, expected)
    monkeypatch.undo()
    other.items.ids = other.items.ids.reverse()
    with pytest.raises(ValueError, match="numbers its items differently"):
        model.recommend([0], 5, exclude=other)
    with pytest.raises(ValueError, match="numbers its items differently"):
        Pipeline({"als": ALS(embedding_size=4, epochs=1, device="cpu")}).fit(named(log)).recommend(
            [0], 5, exclude=other
        )


def test_what_is_known_of_ids_is_neither_kept_nor_pickled():
    one, two, longer = Vocabulary(["a", "b"]), Vocabulary(["a", "b"]), Vocabulary(["a", "b", "c"])
    assert one.begins(two)
    assert one.begins(longer)
    assert not longer.begins(one)
    assert not longer.begins(one)
    assert set(vars(one)) == {"noun", "ids"}
    assert pickle.loads(pickle.dumps(one)).begins(longer)
    gone = weakref.ref(two), weakref.ref(two.ids)
    before = len(vocabulary._BEGINNINGS)
    del two
    gc.collect()
    assert gone[0]() is None
    assert gone[1]() is None
    del one
    gc.collect()
    assert len(vocabulary._BEGINNINGS) < before


@pytest.mark.parametrize("k", [1, 10, 200])
@pytest.mark.parametrize(("num_columns", "filled"), [(300, 0.01), (300, 0.2), (100_000, 0.0005), (100_000, 0.02)])
def test_the_best_of_a_sparse_product_are_those_of_its_dense_rows(k, num_columns, filled):
    """Negative weights, sums of 0, empty rows, ties; float64 cannot tie where float32 does, so the dense kernel is the oracle of bits."""
    rng = np.random.default_rng(k)
    left, right = (
        sp.random(
            rows, columns, share, "csr", np.float32, random_state=rng, data_rvs=lambda n: rng.integers(-2, 9, n) / 4
        )
        for rows, columns, share in ((25, 40, 0.2), (40, num_columns, filled))
    )
    left.data[:20] = 0
    out, within = (
        ItemLists(lists.indptr[:-1].astype(np.int64), lists.indptr[1:].astype(np.int64), lists.indices)
        for lists in (sp.random(25, num_columns, share, "csr", random_state=rng) for share in (0.3, 0.7))
    )
    exact_BI = (left.astype(np.float64) @ right.astype(np.float64)).toarray()
    for options in ({}, {"exclude": out}, {"exclude": out, "allow": within}):
        items_BK, best_BK, short_B = best_of_sparse_product(as_vectors(left), as_vectors(right), k, **options)
        dense = top_k(sparse_product(as_vectors(left), as_vectors(right), device="cpu"), k, device="cpu", **options)
        np.testing.assert_array_equal(items_BK[~short_B], dense[0][~short_B])
        np.testing.assert_array_equal(best_BK[~short_B], dense[1][~short_B])
        rows_B = np.flatnonzero(~short_B)
        np.testing.assert_array_equal(best_BK[rows_B], np.take_along_axis(exact_BI[rows_B], items_BK[rows_B], 1))
        np.testing.assert_array_equal(short_B, ~(dense[1][:, -1] > 0))


@pytest.mark.parametrize("name", ["ItemKNN", "SequentialRules", "RP3beta"])
def test_neighbors_are_listed_as_from_all_scores(name):
    """Lists of some items and lists that run out of them, with items left out and let in."""
    rng = np.random.default_rng(4)
    log = Interactions(
        rng.integers(0, 200, 1500),
        rng.integers(0, 4000, 1500) % 700 * 5,
        np.arange(1500) % 4,
        num_users=201,
        num_items=4000,
    )
    model = getattr(models, name)(device="cpu").fit(log)
    users = np.arange(201)
    for allow in (None, np.arange(0, 4000, 10)):
        for k in (3, 40, 4000):
            got = model.recommend(users, k, exclude=log, allow=allow)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(model), "_top_k", CatalogModel._top_k)
                expected = model.recommend(users, k, exclude=log, allow=allow)
            np.testing.assert_array_equal(got.items_BK, expected.items_BK)
            np.testing.assert_array_equal(got.scores_BK, expected.scores_BK)


def test_no_more_threads_than_tasks():
    threads = get_num_threads()
    for tasks in (0, 1, threads, threads + 1):
        with at_most(tasks):
            assert get_num_threads() == max(1, min(tasks, threads))
        assert get_num_threads() == threads
    with pytest.raises(KeyError), at_most(1):
        raise KeyError
    assert get_num_threads() == threads


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 1.0])
def test_mmr_over_users_is_the_greedy_choice(weight):
    """Vectors without negative numbers have no negative cosines, which bounds gains from the first position on."""
    rng = np.random.default_rng(3)
    log = Interactions(rng.integers(0, 40, 500), rng.integers(0, 60, 500), num_users=40, num_items=60)
    items_L, scores_L = rng.permutation(60)[:50], np.sort(rng.random(50))[::-1].round(2)  # with ties
    seen_IU = (log.by_item.toarray() > 0).astype(np.float64)
    unit_IU = seen_IU / np.maximum(np.linalg.norm(seen_IU, axis=1, keepdims=True), 1e-30)
    relevance_L = (scores_L - scores_L.min()) / np.ptp(scores_L)
    chosen: list[int] = []
    for _ in range(12):
        nearest_L = (unit_IU[items_L] @ unit_IU[items_L[chosen]].T).max(axis=1) if chosen else np.zeros(50)
        gains_L = ((1 - weight) * relevance_L - weight * nearest_L).round(12)
        gains_L[chosen] = -np.inf
        chosen.append(int(np.lexsort((items_L, -gains_L))[0]))
    ranking = Ranking(items_L[None].astype(np.int32), scores_L[None].astype(np.float32))
    mmr = MMR(weight=weight, compare_by="users").prepare(log)
    assert mmr._vectors.lowest == 0
    found = mmr.rerank([0], ranking, 12).items_BK
    if weight < 1:  # else all gains are cosines, of which many are equal up to rounding
        np.testing.assert_array_equal(found, [items_L[chosen]])
    for change in ({"lowest": -1.0}, {"num_columns": len(log)}):  # the latter: vectors are merged, not spread out
        mmr._vectors = mmr._vectors._replace(**change)
        np.testing.assert_array_equal(found, mmr.rerank([0], ranking, 12).items_BK)


@pytest.mark.parametrize("order", ["limit; import numpy, scipy.linalg", "import numpy, scipy.linalg; limit"])
def test_blas_has_one_thread_where_requests_are_answered(order):
    """Whether it was loaded before or after; other libraries have as many as they may."""
    order = order.replace("limit", "limit_threads(None, in_requests=True)")
    program = f"from recsys_dl.threads import limit_threads; {order}; import threadpoolctl; " + (
        "print({one['num_threads'] for one in threadpoolctl.threadpool_info() if one['user_api'] == 'blas'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{1}"
