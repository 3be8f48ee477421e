"""Neighbors of sparse vectors: every measure against float64 NumPy, on each device."""

import numpy as np
import pytest
import scipy.sparse as sp
from conftest import SIMULATED
from numba import get_num_threads, set_num_threads
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import cosine_similarity

from recsys_dl.kernels.comparison import Vectors
from recsys_dl.kernels.neighbors import sparse_product, updated, weighted_deviations
from recsys_dl.kernels.similarity import nearest
from recsys_dl.kernels.vectors import prepare
from recsys_dl.kernels.weighting import bm25, tfidf

MEASURES = ["cosine", "jaccard", "pearson", "common_cosine", "adjusted_cosine", "dot"]
# float32 sums of at most 60 products of stars: 1e-6 relative; a correlation subtracts such sums.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def stars(num_rows: int, num_columns: int, density: float = 0.3, seed: int = 0) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    values = rng.integers(2, 11, (num_rows, num_columns)) / 2
    return sp.csr_matrix((values * (rng.random((num_rows, num_columns)) < density)).astype(np.float32))


def as_vectors(matrix: sp.csr_matrix) -> Vectors:
    return Vectors(matrix.indptr, matrix.indices, matrix.data, matrix.shape[1])


def one_similarity(x: np.ndarray, y: np.ndarray, measure: str, means_C: np.ndarray) -> float:
    """The written formula, for two rows where 0 means no entry."""
    both = (x != 0) & (y != 0)
    if measure in ("cosine", "dot"):
        return float(x @ y) / (np.linalg.norm(x) * np.linalg.norm(y) or 1) if measure == "cosine" else float(x @ y)
    if measure == "jaccard":
        return both.sum() / max(((x != 0) | (y != 0)).sum(), 1)
    shift_x, shift_y = 0.0, 0.0
    if measure == "adjusted_cosine":
        shift_x = shift_y = means_C[both]
    elif measure == "pearson" and both.any():
        shift_x, shift_y = x[both].mean(), y[both].mean()
    x, y = x[both] - shift_x, y[both] - shift_y
    spread = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / spread) if spread > 1e-9 else 0.0


def all_similarities(
    queries: np.ndarray, matrix: np.ndarray, measure: str, shrinkage: float = 0, min_common: int = 1
) -> np.ndarray:
    entries_C = np.maximum((matrix != 0).sum(axis=0), 1)
    means_C = matrix.sum(axis=0) / entries_C
    result = np.zeros((len(queries), len(matrix)))
    for b, x in enumerate(queries):
        for r, y in enumerate(matrix):
            common = ((x != 0) & (y != 0)).sum()
            if common >= min_common:
                result[b, r] = one_similarity(x, y, measure, means_C) * common / (common + shrinkage)
    return result


def check(found_BK: np.ndarray, best_BK: np.ndarray, wanted_BR: np.ndarray, itself_B=None) -> None:
    """The lists hold the best similarities; rounding may only swap equals."""
    assert found_BK.dtype == np.int32
    assert best_BK.dtype == np.float32
    k = found_BK.shape[1]
    for b, (rows, best) in enumerate(zip(found_BK, best_BK, strict=True)):
        wanted = wanted_BR[b].copy()
        if itself_B is not None:
            wanted[itself_B[b]] = 0
        sure = np.sort(wanted[wanted > 1e-5])[::-1][:k]  # float32 sums may leave a zero of 1e-6
        np.testing.assert_allclose(best[: len(sure)], sure, **CLOSE)
        assert (np.abs(best[len(sure) :][rows[len(sure) :] >= 0]) <= 1e-5).all()
        real = rows >= 0
        np.testing.assert_allclose(best[real], wanted[rows[real]], **CLOSE)
        assert len(set(rows[real])) == real.sum()
        assert np.isneginf(best[~real]).all()
        assert (np.diff(best[real]) <= 0).all()


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("shrinkage", "min_common"), [(0, 1), (3, 2)])
def test_every_measure_is_its_formula(device, measure, shrinkage, min_common):
    matrix = stars(14, 20)
    prepared = prepare(as_vectors(matrix), measure=measure, shrinkage=shrinkage, min_common=min_common)
    found, best = nearest(prepared, 5, device=device)
    dense = matrix.toarray().astype(np.float64)
    check(found, best, all_similarities(dense, dense, measure, shrinkage, min_common), np.arange(14))


@pytest.mark.parametrize("measure", MEASURES)
def test_queries_are_compared_as_rows_are(device, measure):
    matrix, queries = stars(12, 15), stars(4, 15, seed=1)
    found, best = nearest(prepare(as_vectors(matrix), measure=measure), 6, queries=as_vectors(queries), device=device)
    dense, asked = matrix.toarray().astype(np.float64), queries.toarray().astype(np.float64)
    check(found, best, all_similarities(asked, dense, measure))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("shrinkage", "min_common"), [(0, 1), (3, 2)])
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_vectors_on_the_device_stay_there(device, measure, shrinkage, min_common):
    from numba import cuda

    matrix, queries = stars(12, 15), stars(4, 15, seed=1)
    options = {"measure": measure, "shrinkage": shrinkage, "min_common": min_common}
    options |= {"scale_R": np.linspace(0.5, 2, 12).astype(np.float32)} if measure == "dot" else {}

    def there(matrix):
        parts = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data
        return Vectors(*(cuda.to_device(part) for part in parts), matrix.shape[1])

    for asked in (None, queries):
        # Vectors of the device are searched there, whatever `device` says: "auto" would not take the simulator.
        lists = nearest(prepare(there(matrix), **options), 5, queries=None if asked is None else there(asked))
        assert all(hasattr(part, "copy_to_host") for part in lists)
        wanted = nearest(
            prepare(as_vectors(matrix), **options),
            5,
            queries=None if asked is None else as_vectors(asked),
            device="cpu",
        )
        best = lists[1].copy_to_host()
        sure = wanted[1] > 1e-5  # float32 sums may leave a zero of 1e-6
        np.testing.assert_allclose(best[sure], wanted[1][sure], **CLOSE)
        assert (best[~sure] <= 1e-5).all()
        assert lists[0].copy_to_host().dtype == np.int32
    rows = np.array([5, 1])
    some = nearest(prepare(there(matrix), **options), 2, rows=rows)[1].copy_to_host()
    wanted = nearest(prepare(as_vectors(matrix), **options), 2, rows=rows, device="cpu")[1]
    np.testing.assert_allclose(some[some > 1e-5], wanted[some > 1e-5], **CLOSE)


@pytest.mark.parametrize("num_rows", [1, 2, 127, 128, 129, 700])
def test_sizes_against_scikit_learn(num_rows):
    matrix = stars(num_rows, 60, density=0.2)
    for k in (1, 7, num_rows + 3):
        found, best = nearest(prepare(as_vectors(matrix)), k, device="cpu")
        check(found, best, cosine_similarity(matrix.astype(np.float64)), np.arange(num_rows))
        found, best = nearest(prepare(as_vectors(matrix), measure="jaccard"), k, device="cpu")
        had = matrix.toarray() != 0
        wanted = 1 - pairwise_distances(had, metric="jaccard") if num_rows > 1 else np.ones((1, 1))
        wanted[~had.any(axis=1)] = 0  # scikit-learn calls two empty sets alike
        check(found, best, wanted, np.arange(num_rows))


def test_empty_full_and_lonely_rows(device):
    dense = np.zeros((6, 130), np.float32)
    dense[1] = 1  # has everything
    dense[2, :3] = [1, 2, 3]
    dense[3, 3] = 5  # shares a column with row 1 only
    dense[4, :3] = [1, 2, 3]
    found, best = nearest(prepare(as_vectors(sp.csr_matrix(dense))), 4, device=device)
    assert found[0].tolist() == found[5].tolist() == [-1] * 4
    assert found[3].tolist() == [1, -1, -1, -1]
    assert found[2].tolist() == [4, 1, -1, -1]
    assert best[2, 0] == pytest.approx(1, abs=1e-6)
    assert best[3, 0] == pytest.approx(1 / np.sqrt(130), rel=1e-6)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (3, 4)])
def test_nothing_to_compare(device, shape):
    found, best = nearest(prepare(as_vectors(sp.csr_matrix(shape, dtype=np.float32))), 2, device=device)
    assert found.shape == best.shape == (shape[0], 2)
    assert (found == -1).all()


def test_three_rows_by_hand(device):
    matrix = sp.csr_matrix(np.array([[3, 4, 0, 0], [4, 3, 0, 5], [0, 2, 1, 0]], np.float32))

    def similarities(measure, **options):
        found, best = nearest(prepare(as_vectors(matrix), measure=measure, **options), 2, device=device)
        return {(row, int(near)): float(s) for row in range(3) for near, s in zip(found[row], best[row], strict=True)}

    cosine = similarities("cosine")
    assert cosine[0, 1] == pytest.approx(24 / (5 * np.sqrt(50)))
    assert cosine[0, 2] == pytest.approx(8 / (5 * np.sqrt(5)))
    assert cosine[2, 1] == pytest.approx(6 / np.sqrt(250))
    jaccard = similarities("jaccard")
    assert jaccard[0, 1] == pytest.approx(2 / 3)
    assert jaccard[1, 2] == pytest.approx(1 / 4)
    assert similarities("cosine", shrinkage=2)[0, 1] == pytest.approx(24 / (5 * np.sqrt(50)) * 2 / 4)
    assert (0, 2) not in similarities("cosine", min_common=2)
    assert similarities("pearson") == {(row, -1): -np.inf for row in range(3)}  # 0 and 1 run against each other
    # Column means 3.5, 3: rows 0 and 1 differ from them by (-.5, 1) and (.5, 0).
    assert (0, 1) not in similarities("adjusted_cosine")
    # Rows 0 and 2 by (1) and (-1), rows 1 and 2 by (0) and (-1): none positive.
    assert set(similarities("adjusted_cosine").values()) == {-np.inf}
    assert similarities("dot")[1, 0] == 24


def test_equal_similarities_go_to_the_lower_row(device):
    matrix = sp.csr_matrix(np.tile(np.array([[1, 2, 0, 3]], np.float32), (9, 1)))
    matrix = sp.vstack([matrix[:4], sp.csr_matrix(np.float32([[1, 0, 0, 0]])), matrix[4:]]).tocsr()  # other counts too
    found, _ = nearest(prepare(as_vectors(matrix), measure="common_cosine"), 3, device=device)
    for row in range(10):
        assert found[row].tolist() == [other for other in range(10) if other != row][:3]


def test_a_scaled_row_is_found_by_its_scale(device):
    matrix = stars(8, 10, density=0.6)
    scale_R = np.linspace(0.1, 2, 8).astype(np.float32)
    found, best = nearest(prepare(as_vectors(matrix), measure="dot", scale_R=scale_R), 8, device=device)
    dense = matrix.toarray().astype(np.float64)
    check(found, best, dense @ dense.T * scale_R, np.arange(8))


@pytest.mark.parametrize("measure", MEASURES)
def test_threads_do_not_change_a_bit_and_pairs_are_symmetric(measure):
    prepared = prepare(as_vectors(stars(150, 90, seed=4)), measure=measure, shrinkage=2)
    before = get_num_threads()
    set_num_threads(1)
    try:
        one = nearest(prepared, 150, device="cpu")
    finally:
        set_num_threads(before)
    many = nearest(prepared, 150, device="cpu")
    np.testing.assert_array_equal(one[0], many[0])
    np.testing.assert_array_equal(one[1], many[1])
    table = np.full((150, 151), -np.inf, np.float32)
    np.put_along_axis(table, one[0] % 151, one[1], axis=1)
    np.testing.assert_array_equal(table[:, :150], table[:, :150].T)
    some = nearest(prepared, 150, rows=np.array([7, 3, 7]), device="cpu")
    np.testing.assert_array_equal(some[1], one[1][[7, 3, 7]])


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("k", [2, 10, 200])
def test_updated_lists_are_those_of_a_new_search(measure, k):
    rng = np.random.default_rng(5)
    old = stars(120, 200, density=0.03, seed=6)
    new = sp.lil_matrix((123, 205), dtype=np.float32)
    new[:120, :200] = old
    for row, column in zip(rng.integers(0, 123, 6), rng.integers(0, 205, 6), strict=True):
        new[row, column] = 4
    new = new.tocsr()
    before, after = (prepare(as_vectors(matrix), measure=measure, shrinkage=1) for matrix in (old, new))
    lists = updated(before, after, *nearest(before, k, device="cpu"), device="cpu")
    wanted = nearest(after, k, device="cpu")
    np.testing.assert_array_equal(lists[0], wanted[0])
    np.testing.assert_array_equal(lists[1], wanted[1])


def test_ratings_by_the_nearest_raters():
    matrix, k = stars(25, 18, density=0.4), 3
    deviations = matrix.copy()
    deviations.data = deviations.data - 2.75
    dense, known = deviations.toarray().astype(np.float64), matrix.toarray() != 0
    rows, columns = (part.ravel() for part in np.indices(matrix.shape))
    got = weighted_deviations(prepare(as_vectors(matrix)), as_vectors(deviations), rows, columns, k)
    similar = cosine_similarity(matrix.astype(np.float64))
    for row, column, value in zip(rows, columns, got, strict=True):
        raters = [r for r in np.flatnonzero(known[:, column]) if r != row and similar[row, r] > 0]
        raters = sorted(raters, key=lambda r: -similar[row, r])[:k]
        weights = similar[row, raters]
        wanted = weights @ dense[raters, column] / weights.sum() if raters else 0.0
        assert value == pytest.approx(wanted, abs=1e-5)  # float32 products
    assert len(weighted_deviations(prepare(as_vectors(matrix)), as_vectors(deviations), rows[:0], columns[:0], k)) == 0


@pytest.mark.parametrize("shape", [(0, 3, 5), (4, 0, 5), (4, 3, 0), (3, 9, 130)])
def test_product_of_sparse_matrices(device, shape):
    left, right = stars(shape[0], shape[1], 0.5), stars(shape[1], shape[2], 0.5, seed=2)
    product = sparse_product(as_vectors(left), as_vectors(right), device=device)
    assert product.dtype == np.float32
    np.testing.assert_allclose(product, left.toarray().astype(np.float64) @ right.toarray(), rtol=1e-6)


def uneven(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The same entries, with values whose sums depend on their order."""
    matrix.data *= np.random.default_rng(9).uniform(0.5, 1.5, matrix.nnz).astype(np.float32)
    return matrix


def tiled(monkeypatch, threads, sums):
    """Let a block of the CUDA twins have so many threads, and its tile so many sums."""
    from recsys_dl.kernels.cuda import neighbors, similarity

    for module in (similarity, neighbors):
        monkeypatch.setattr(module, "THREADS", threads)
    monkeypatch.setattr(similarity, "WARPS", threads // 32)
    monkeypatch.setattr(similarity, "TILE_SUMS", sums)


@pytest.mark.parametrize("measure", ["jaccard", "cosine", "pearson"])
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_tiles_blocks_and_the_order_of_threads_change_no_bit(device, measure, monkeypatch):
    if not SIMULATED:
        pytest.skip("a GPU is at hand, whose blocks are compiled")
    from cuda_scheduler import shuffled

    matrix, queries = uneven(stars(70, 41)), uneven(stars(2, 41, seed=1))
    prepared = prepare(as_vectors(matrix), measure=measure)
    lists = []
    for threads, sums, seed in ((128, 8192, 1), (32, 6 * 32, 2), (64, 0, 3)):  # one tile, and three and two (pearson)
        tiled(monkeypatch, threads, sums)
        with shuffled(seed):
            lists.append(nearest(prepared, 5, queries=as_vectors(queries), device=device))
    dense, asked = matrix.toarray().astype(np.float64), queries.toarray().astype(np.float64)
    check(*lists[0], all_similarities(asked, dense, measure))
    for found, best in lists[1:]:
        np.testing.assert_array_equal(found, lists[0][0])
        np.testing.assert_array_equal(best, lists[0][1])


@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_of_more_equal_rows_than_a_warp_holds_the_lower_are_kept(device, monkeypatch):
    if not SIMULATED:
        pytest.skip("a GPU is at hand, whose blocks are compiled")
    tiled(monkeypatch, 32, 4 * 160)
    ones = np.ones((170, 2), np.float32)
    ones[40:, 1] = 0  # fewer entries: they come first where rows are renumbered
    prepared = prepare(as_vectors(sp.csr_matrix(ones)), measure="common_cosine")
    found, best = nearest(prepared, 3, rows=np.array([1, 100]), device=device)
    np.testing.assert_array_equal(found, [[0, 2, 3], [0, 1, 2]])
    np.testing.assert_array_equal(best, 1)


@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_tiles_of_a_product_change_no_bit(device, monkeypatch):
    if not SIMULATED:
        pytest.skip("a GPU is at hand, whose blocks are compiled")
    from cuda_scheduler import shuffled

    left, right = uneven(stars(2, 37, 0.9)), uneven(stars(37, 150, 0.6, seed=2))
    products = []
    for threads, sums, seed in ((128, 8192, 1), (32, 64, 2), (64, 64, 3)):
        tiled(monkeypatch, threads, sums)
        with shuffled(seed):
            products.append(sparse_product(as_vectors(left), as_vectors(right), device=device))
    np.testing.assert_allclose(products[0], left.toarray().astype(np.float64) @ right.toarray(), rtol=1e-6)
    np.testing.assert_array_equal(products[1], products[0])
    np.testing.assert_array_equal(products[2], products[0])


def test_weighting_by_hand():
    matrix = sp.csr_matrix(np.array([[1, 2, 0], [0, 1, 0], [0, 3, 1]], np.float32))
    dense = matrix.toarray()
    idf = np.log(4 / (1 + np.array([1, 3, 1]))) + 1
    np.testing.assert_allclose(tfidf(*[as_vectors(matrix)] * 2).values_N, (dense * idf)[dense > 0], rtol=1e-6)
    idf = np.log(1 + (3 - np.array([1, 3, 1]) + 0.5) / (np.array([1, 3, 1]) + 0.5))
    lengths = np.array([[3], [1], [4]])
    wanted = idf * dense * 2.2 / (dense + 1.2 * (0.25 + 0.75 * lengths / (8 / 3)))
    np.testing.assert_allclose(bm25(*[as_vectors(matrix)] * 2).values_N, wanted[dense > 0], rtol=1e-6)


def test_what_is_refused():
    vectors = as_vectors(stars(3, 4))
    with pytest.raises(ValueError, match=r"measure must be one of cosine, .*, got 'cosin'"):
        prepare(vectors, measure="cosin")
    with pytest.raises(ValueError, match="shrinkage must be at least 0"):
        prepare(vectors, shrinkage=-1)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        nearest(prepare(vectors), 0)
    with pytest.raises(ValueError, match="same 4 columns, got 5"):
        nearest(prepare(vectors), 1, queries=as_vectors(stars(2, 5)))
    with pytest.raises(ValueError, match="right must have 4 rows, one for each column of left, got 3"):
        sparse_product(vectors, vectors)
