"""Products of sparse matrices on a GPU, one block per row.

B rows, M inner dimension, I columns of the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32

from ..comparison import Vectors
from .arrays import give_back, to_device

THREADS = 128

SIGNATURES = {
    "products": "void(int64[::1], int32[::1], float32[::1], int64[::1], int32[::1], float32[::1], float32[:, ::1])",
}
BLOCKS = dict.fromkeys(SIGNATURES, THREADS)


def sparse_product(left: Vectors, right: Vectors) -> Any:
    """See `kernels.neighbors.sparse_product`."""
    product = cuda.device_array((left.indptr_R1.shape[0] - 1, right.num_columns), np.float32)
    if product.size:
        products[product.shape[0], THREADS](*_on_device(left), *_on_device(right), product)
    return give_back(product, left.values_N)


def _on_device(vectors: Vectors) -> tuple[Any, Any, Any]:
    return (
        to_device(vectors.indptr_R1, np.int64),
        to_device(vectors.indices_N, np.int32),
        to_device(vectors.values_N, np.float32),
    )


@cuda.jit
def products(left_ptr, left_indices, left_values, right_ptr, right_indices, right_values, product_BI):
    """Write one row of the product: rows of `right` one after another, with their columns split among the threads."""
    row = product_BI[cuda.blockIdx.x]
    thread = cuda.threadIdx.x
    for at in range(thread, row.shape[0], THREADS):
        row[at] = float32(0)
    cuda.syncthreads()
    for n in range(left_ptr[cuda.blockIdx.x], left_ptr[cuda.blockIdx.x + 1]):
        middle = left_indices[n]
        weight = left_values[n]
        for m in range(right_ptr[middle] + thread, right_ptr[middle + 1], THREADS):
            row[right_indices[m]] += weight * right_values[m]
        cuda.syncthreads()  # the next row may have the same columns
