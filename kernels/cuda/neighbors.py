"""Products of sparse matrices on a GPU, one block per row and tile of columns, whose sums are in shared memory.

B rows, M inner dimension, I columns of the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32

from ..comparison import PRODUCT, Vectors
from .arrays import give_back, to_device
from .similarity import THREADS, TILE_SUMS, accumulate, tile_of

SIGNATURES = {
    "products": "void(int64[::1], int32[::1], float32[::1], int64[::1], int32[::1], float32[::1], int64, "
    "float32[:, ::1])",
}
BLOCKS = dict.fromkeys(SIGNATURES, THREADS)
SHARED_BYTES_AT_64 = dict.fromkeys(SIGNATURES, 4 * TILE_SUMS)


def sparse_product(left: Vectors, right: Vectors) -> Any:
    """See `kernels.neighbors.sparse_product`."""
    product = cuda.device_array((left.indptr_R1.shape[0] - 1, right.num_columns), np.float32)
    if product.size:
        tile = tile_of(right.num_columns, 1)
        blocks = product.shape[0] * -(-right.num_columns // tile)
        products[blocks, THREADS, 0, 4 * tile](*_on_device(left), *_on_device(right), tile, product)
    return give_back(product, left.values_N)


def _on_device(vectors: Vectors) -> tuple[Any, Any, Any]:
    return (
        to_device(vectors.indptr_R1, np.int64),
        to_device(vectors.indices_N, np.int32),
        to_device(vectors.values_N, np.float32),
    )


@cuda.jit
def products(left_ptr, left_indices, left_values, right_ptr, right_indices, right_values, tile, product_BI):
    """Write a tile of one row of the product: rows of `right` one after another, with their columns split among the threads."""
    sums = cuda.shared.array(0, float32)
    rows, columns = product_BI.shape
    b = cuda.blockIdx.x % rows
    low = cuda.blockIdx.x // rows * tile
    high = min(low + tile, columns)
    first = left_ptr[b]
    accumulate(
        PRODUCT, 1, False, left_indices, left_values, first, left_ptr[b + 1] - first, right_ptr, right_indices, right_values,
        low, high, columns, sums
    )  # fmt: skip
    for at in range(low + cuda.threadIdx.x, high, THREADS):
        product_BI[b, at] = sums[at - low]
