"""The largest eigenvectors of a weighted Gram matrix against NumPy's dense decomposition."""

import numpy as np
import pytest
import scipy.sparse as sp
from numba import config, set_num_threads

from recsys_dl.kernels import eigenvectors
from recsys_dl.kernels.comparison import Vectors
from recsys_dl.kernels.eigenvectors import gram_eigenvectors
from recsys_dl.kernels.row_sums import row_sums


def vectors_of(matrix: sp.csr_matrix) -> Vectors:
    return Vectors(matrix.indptr, matrix.indices, matrix.data, matrix.shape[1])


def sparse(shape: tuple[int, int], density: float) -> sp.csr_matrix:
    matrix = sp.random(*shape, density, "csr", dtype=np.float32, random_state=0)
    matrix.sort_indices()
    return matrix


@pytest.mark.parametrize("size", [1, 8, 13])
@pytest.mark.parametrize("shape", [(700, 90), (300, 600), (2000, 513)])
def test_values_and_vectors_are_those_of_the_dense_matrix(shape, size):
    matrix, rng = sparse(shape, 0.05), np.random.default_rng(1)
    inner_R, outer_C = rng.random(shape[0]), rng.random(shape[1])
    found_D, vectors_CD = gram_eigenvectors(vectors_of(matrix), inner_R, outer_C, size, seed=3)
    scaled = np.sqrt(inner_R)[:, None] * matrix.toarray().astype(np.float64) * outer_C
    gram = scaled.T @ scaled
    np.testing.assert_allclose(found_D, np.linalg.eigvalsh(gram)[::-1][:size], rtol=1e-9)
    np.testing.assert_allclose(vectors_CD.T @ vectors_CD, np.eye(size), atol=1e-9)  # ASKEW, summed
    assert (
        np.linalg.norm(gram @ vectors_CD - vectors_CD * found_D, axis=0).max() <= 2e-10 * found_D[0]
    )  # TOLERANCE twice


def test_more_equal_values_than_a_block_holds():
    """40 groups of columns that only their own rows have: 30 equal values, then 10 that are a little smaller."""
    values = np.repeat([2.0, 1.875], [30, 10])
    matrix = sp.kron(sp.diags(values), np.ones((20, 15)), "csr").astype(np.float32)
    found_D, vectors_CD = gram_eigenvectors(vectors_of(matrix), np.ones(800), np.ones(600), 35, seed=7)
    np.testing.assert_allclose(found_D, np.repeat([4.0, 1.875**2], [30, 5]) * 300, rtol=1e-9)
    np.testing.assert_allclose(vectors_CD.T @ vectors_CD, np.eye(35), atol=1e-9)


def test_fewer_values_than_requested():
    matrix = sp.csr_matrix(np.outer(np.arange(1.0, 301), np.arange(1.0, 201)).astype(np.float32))
    found_D, vectors_CD = gram_eigenvectors(vectors_of(matrix), np.ones(300), np.ones(200), 5, seed=7)
    np.testing.assert_allclose(found_D / found_D[0], [1, 0, 0, 0, 0], atol=1e-12)  # rounding of float64
    assert abs(vectors_CD[:, 0] @ np.arange(1.0, 201)) == pytest.approx(np.linalg.norm(np.arange(1.0, 201)))


def test_threads_change_no_bit():
    matrix, found = vectors_of(sparse((3000, 1100), 0.02)), []
    for threads in (1, config.NUMBA_NUM_THREADS):
        set_num_threads(threads)
        found.append(gram_eigenvectors(matrix, np.ones(3000), np.ones(1100), 10, seed=7))
    set_num_threads(config.NUMBA_NUM_THREADS)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_convergence_is_an_error(monkeypatch):
    monkeypatch.setattr(eigenvectors, "MOST_STEPS", 9)
    with pytest.raises(RuntimeError, match="the 8 largest eigenvectors have not converged after 9 products"):
        gram_eigenvectors(vectors_of(sparse((700, 300), 0.05)), np.ones(700), np.ones(300), 8, seed=7)


@pytest.mark.parametrize(("columns", "size"), [(64, 1), (80, 20), (100, 0)])
def test_a_size_that_makes_no_sense(columns, size):
    with pytest.raises(ValueError, match=f"size must be at least 1, and columns more than .* got {size} and {columns}"):
        gram_eigenvectors(vectors_of(sparse((70, columns), 0.5)), np.ones(70), np.ones(columns), size, seed=7)


@pytest.mark.parametrize("size", [1, 8, 16, 65])
@pytest.mark.parametrize("matrix", [sp.eye(700), sp.kron(sp.eye(70), np.ones((3, 10)))])
def test_all_values_equal(matrix, size):
    vectors = vectors_of(sp.csr_matrix(matrix, dtype=np.float32))
    found_D, vectors_CD = gram_eigenvectors(vectors, np.ones(matrix.shape[0]), np.ones(700), size, seed=7)
    np.testing.assert_allclose(found_D, found_D[0], rtol=1e-9)
    np.testing.assert_allclose(vectors_CD.T @ vectors_CD, np.eye(size), atol=1e-9)


@pytest.mark.parametrize("size", [1, 8, 13])
def test_row_sums_are_the_product(size):
    matrix, table_CD = sparse((300, 70), 0.1), np.random.default_rng(2).standard_normal((70, size))
    expected = matrix.toarray().astype(np.float64) @ table_CD
    np.testing.assert_allclose(row_sums(vectors_of(matrix), table_CD), expected, atol=1e-14)  # rounding of float64
