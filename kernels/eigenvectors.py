"""The largest eigenvalues of a weighted Gram matrix of sparse vectors, and their vectors, by a block Lanczos iteration in float64.

R rows, C columns, N stored entries, D eigenvectors; S their length C, filled up to P parts of T numbers; M vectors of the basis.

The matrix is multiplied by eight vectors at a time, which are then made orthogonal to all before them (Golub and Underwood 1977, "The Block
Lanczos Method for Computing Eigenvalues"). Whenever the basis is full, the best vectors that it contains stay (Wu and Simon 2000,
"Thick-Restart Lanczos Method for Large Symmetric Eigenvalue Problems"). Each of the D best must satisfy |G v - e v| <= TOLERANCE e_1, where e_1
is the largest eigenvalue. A block of eight finds at most eight equal eigenvalues; so the iteration then starts again from random vectors
orthogonal to what it found, and ends when a few steps find nothing larger.

Rows, and parts of vectors, are divided in the same way for any number of threads, and sums are added in order, so that threads change no bit.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from .blas import one_thread_each
from .comparison import Vectors
from .compiling import INSIDE
from .row_sums import Gram, of_lines
from .tile import EIGHT

TOLERANCE = 1e-10
MOST_STEPS = 10_000  # products of the matrix with eight vectors
KEPT = 1.75  # times D, vectors that stay when the basis is full
FEWEST = 32  # of those, and of those found until it is full again
LOOK = 4  # blocks of the last look
PART = 512  # numbers of each vector that are combined at a time: a block of them is 32 KB
NEGLIGIBLE = 1e-13  # share of a length that is rounding
SMALL = (
    1e-3  # share of its length that is left of a vector without its projection, below which it is made orthogonal again
)
ASKEW = 1e-11  # projection of what is left on a vector of the basis, above which it is made orthogonal again
PASSES = 4  # of that


def gram_eigenvectors(
    vectors: Vectors, inner_R: np.ndarray, outer_C: np.ndarray, size: int, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues [D] of G[i, j] = outer[i] outer[j] sum over r of inner[r] V[r, i] V[r, j], and their vectors [C, D].

    Args:
        vectors: V.
        inner_R: float64, at least 0.
        outer_C: float64.
        size: D, at least 1; C must be above 64 and above 4 D. Beyond a tenth of C a dense decomposition is cheaper.
        seed: of the vectors that the iteration starts from; it affects the result only by TOLERANCE.

    Returns:
        float64, largest first; the vectors orthonormal.

    Raises:
        ValueError: no such size.
        RuntimeError: no convergence.
    """
    if size < 1 or vectors.num_columns <= max(2 * FEWEST, 4 * size):
        raise ValueError(
            f"size must be at least 1, and columns more than {2 * FEWEST} and than 4 x size, got {size} and {vectors.num_columns}"
        )
    with one_thread_each():
        return _iterate(vectors, inner_R, outer_C, size, seed)


def _iterate(
    vectors: Vectors, inner_R: np.ndarray, outer_C: np.ndarray, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    least, kept = _blocks(size), _blocks(max(FEWEST, KEPT * size))
    full = kept + max(FEWEST, least)
    basis = _Basis(vectors, inner_R, outer_C, full, seed)
    found_D, due = None, full
    product_MM = np.zeros((full, full))  # the matrix in the basis
    block_S8 = basis.random()
    for _ in range(MOST_STEPS):
        basis.append(block_S8)
        count = basis.count
        block_S8, within_M8, beyond_88 = basis.orthonormal(basis.product(block_S8))
        product_MM[:count, count - EIGHT : count] = within_M8
        product_MM[count - EIGHT : count, :count] = within_M8.T
        if count < due:
            continue
        values_M, turn_MM = np.linalg.eigh(product_MM[:count, :count])
        values_M, turn_MM = values_M[::-1], turn_MM[:, ::-1]
        allowed = TOLERANCE * values_M[0]
        residual = np.linalg.norm(beyond_88 @ turn_MM[-EIGHT:, :size], axis=0).max()
        converged = residual <= allowed
        if converged and found_D is not None and np.abs(values_M[:size] - found_D).max() <= allowed:
            return values_M[:size], basis.turned(turn_MM[:, :size])
        found_D, due = (values_M[:size], least + LOOK * EIGHT) if converged else (None, full)
        if converged or count == full:
            stay = least if converged else kept
            basis.turn(turn_MM[:, :stay])
            product_MM[:] = 0
            product_MM[np.diag_indices(stay)] = values_M[:stay]
        if converged:
            block_S8 = basis.random()
    raise RuntimeError(
        f"the {size} largest eigenvectors have not converged after {MOST_STEPS} products: residuals are up to "
        f"{residual / values_M[0]:.0e} of the largest eigenvalue instead of {TOLERANCE:.0e}"
    )


def _blocks(vectors: float) -> int:
    """Return how many vectors are whole blocks."""
    return math.ceil(vectors / EIGHT) * EIGHT


class _Basis:
    """Orthonormal vectors, and products of the matrix with blocks of them.

    They are stored in parts of T numbers; blocks are [S, 8].

    Attributes:
        count: M, at most the capacity.
    """

    def __init__(self, vectors: Vectors, inner_R: np.ndarray, outer_C: np.ndarray, capacity: int, seed: int) -> None:
        self.length, self.count = vectors.num_columns, 0
        self.gram, self.outer_C1 = Gram(vectors, inner_R), outer_C[:, None]
        self.rng = np.random.default_rng(seed)
        parts = -(-self.length // PART)
        self.parts_PMT = np.zeros((parts, capacity, PART))
        self.block_S8, self.scaled_S8 = of_lines(parts * PART), of_lines(parts * PART)

    def random(self) -> np.ndarray:
        """Return a random block, orthonormal and orthogonal to the basis."""
        block_S8 = np.zeros_like(self.block_S8)
        block_S8[: self.length] = self.rng.standard_normal((self.length, EIGHT))
        return self.orthonormal(block_S8)[0]

    def append(self, block_S8: np.ndarray) -> None:
        """Add the vectors of an orthonormal block."""
        block_PT8 = block_S8.reshape(-1, PART, EIGHT)
        self.parts_PMT[:, self.count : self.count + EIGHT] = block_PT8.transpose(0, 2, 1)
        self.count += EIGHT

    def product(self, block_S8: np.ndarray) -> np.ndarray:
        """Return the matrix times a block; the array is used again at the next call."""
        scaled_C8, product_C8 = self.scaled_S8[: self.length], self.block_S8[: self.length]
        np.multiply(block_S8[: self.length], self.outer_C1, out=scaled_C8)
        self.gram.times(scaled_C8, product_C8)
        product_C8 *= self.outer_C1
        return self.block_S8

    def turned(self, turn_ML: np.ndarray) -> np.ndarray:
        """Return combinations of the vectors, [C, L]."""
        return self._turned(turn_ML).transpose(0, 2, 1).reshape(-1, turn_ML.shape[1])[: self.length]

    def turn(self, turn_ML: np.ndarray) -> None:
        """Replace the vectors by combinations of them, which must be orthonormal."""
        self.count = turn_ML.shape[1]
        self.parts_PMT[:, : self.count] = self._turned(turn_ML)

    def _turned(self, turn_ML: np.ndarray) -> np.ndarray:
        turned_PLT = np.empty((len(self.parts_PMT), turn_ML.shape[1], PART))
        _turn_cpu(self.parts_PMT, np.ascontiguousarray(turn_ML.T), turned_PLT)
        return turned_PLT

    def orthonormal(self, block_S8: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return Q [S, 8], X [M, 8] and Y [8, 8] with block = basis X + Q Y, where Q is orthonormal and orthogonal to the basis.

        Vectors of which nothing is left are replaced by random ones, or by zeros if the basis spans everything; their rows of Y are 0.
        The block is overwritten. Once made orthogonal, it is measured, and made orthogonal again if it must be.
        """
        parts = len(self.parts_PMT)
        shares_PM8, grams_P88 = np.empty((parts, self.count, EIGHT)), np.empty((parts, EIGHT, EIGHT))
        within_M8, beyond_88 = np.zeros((self.count, EIGHT)), np.eye(EIGHT)
        _project_cpu(self.parts_PMT, block_S8, shares_PM8)
        share_M8 = shares_PM8.sum(axis=0)
        for left in reversed(range(PASSES)):
            _remove_cpu(self.parts_PMT, share_M8, block_S8, shares_PM8, grams_P88)
            within_M8 += share_M8 @ beyond_88
            gram_88 = grams_P88.sum(axis=0)
            squares_8, turn_88 = np.linalg.eigh(gram_88)
            lengths_8 = np.sqrt(np.maximum(squares_8, 0))
            longest = np.sqrt((np.diag(gram_88) + (share_M8**2).sum(axis=0)).max())
            gone_8 = lengths_8 <= NEGLIGIBLE * longest
            lengths_8[gone_8] = 0
            turn_88 /= np.where(gone_8, np.inf, lengths_8)
            block_S8 = block_S8 @ turn_88
            share_M8 = shares_PM8.sum(axis=0) @ turn_88
            beyond_88 = lengths_8[:, None] ** 2 * turn_88.T @ beyond_88
            if gone_8.any() and left:
                block_S8[: self.length, gone_8] = (
                    self.rng.standard_normal((self.length, gone_8.sum())) / self.length**0.5
                )
                _project_cpu(self.parts_PMT, block_S8, shares_PM8)
                share_M8 = shares_PM8.sum(axis=0)
            elif lengths_8.min() > SMALL * longest and np.abs(share_M8).max(initial=0) <= ASKEW:
                break
        return block_S8, within_M8, beyond_88


@njit(**INSIDE)
def _of_part(part, basis_PMT, count):
    """Return a part of the first vectors, contiguous for BLAS."""
    _, capacity, width = basis_PMT.shape
    first = part * capacity * width
    return basis_PMT.reshape(-1)[first : first + count * width].reshape((count, width))


@njit(**INSIDE)
def _project_part(part, basis_PMT, block_S8, shares_PM8):
    basis_MT, width = _of_part(part, basis_PMT, shares_PM8.shape[1]), basis_PMT.shape[2]
    np.dot(basis_MT, block_S8[part * width : (part + 1) * width], shares_PM8[part])


@njit(cache=True, nogil=True, parallel=True)
def _project_cpu(basis_PMT, block_S8, shares_PM8):
    for part in prange(len(basis_PMT)):
        _project_part(np.int64(part), basis_PMT, block_S8, shares_PM8)


@njit(**INSIDE)
def _remove_part(part, basis_PMT, share_M8, block_S8, shares_PM8, grams_P88):
    basis_MT, width = _of_part(part, basis_PMT, len(share_M8)), basis_PMT.shape[2]
    block_T8 = block_S8[part * width : (part + 1) * width]
    within_T8 = np.dot(basis_MT.T, share_M8)
    for t in range(width):
        for w in range(block_T8.shape[1]):
            block_T8[t, w] -= within_T8[t, w]
    np.dot(basis_MT, block_T8, shares_PM8[part])
    np.dot(block_T8.T, block_T8, grams_P88[part])


@njit(cache=True, nogil=True, parallel=True)
def _remove_cpu(basis_PMT, share_M8, block_S8, shares_PM8, grams_P88):
    """Subtract from each part of a block its share of the basis; write what is left of that, and the products of what is left of it."""
    for part in prange(len(basis_PMT)):
        _remove_part(np.int64(part), basis_PMT, share_M8, block_S8, shares_PM8, grams_P88)


@njit(**INSIDE)
def _turn_part(part, basis_PMT, turn_LM, turned_PLT):
    basis_MT = _of_part(part, basis_PMT, turn_LM.shape[1])
    np.dot(turn_LM, basis_MT, turned_PLT[part])


@njit(cache=True, nogil=True, parallel=True)
def _turn_cpu(basis_PMT, turn_LM, turned_PLT):
    for part in prange(len(basis_PMT)):
        _turn_part(np.int64(part), basis_PMT, turn_LM, turned_PLT)
