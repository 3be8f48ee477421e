"""Conjugate gradients for many small systems at once on a GPU, for `als`: one thread block per row."""

from __future__ import annotations

from numba import cuda, float32, int64, uint64

from .machine import warp_sum

WARPS = 4  # per block

SIGNATURES = {
    "cg_rows": "void(int32[::1], boolean, int64, int64[::1], int32[::1], float32[::1], float32[::1], float32[::1], float32[:, ::1], "
    "float32[:, :, ::1], float32[:, ::1], int64, int64, float32[:, ::1])",
}
BLOCKS = {"cg_rows": 32 * WARPS}
SHARED_BYTES_AT_64 = {"cg_rows": 4 * 64 * (64 + 3 + WARPS)}


@cuda.jit
def cg_rows(
    rows, own, longest, indptr, indices, weights, targets, penalties, fixed, matrices_MDD, rights_MD, steps, kept, solved
):  # fmt: skip
    """Conjugate gradients starting from `solved`. Warps split a row's entries, lanes split the columns.

    `rows`, `own`, `longest`, matrices and right-hand sides are those of `als_narrow.narrow_rows`.
    """
    pool = cuda.shared.array(0, float32)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    size = fixed.shape[1]
    block = int64(cuda.blockIdx.x)
    row = int64(rows[block]) if own else block
    begin, end = indptr[row], indptr[row + 1]
    if own:
        end = begin
    elif end - begin > longest:
        return
    which = block if own else int64(0)
    gram = matrices_MDD[which]
    direction = pool[:size]
    residual = pool[size : 2 * size]
    product = pool[2 * size : 3 * size]
    sums = pool[3 * size : (3 + WARPS) * size]
    near = pool[(3 + WARPS) * size :]
    for d in range(thread, size, threads):
        direction[d] = solved[row, d]
    for at in range(thread, min(kept, end - begin) * size, threads):
        near[at] = fixed[indices[begin + at // size], at % size]
    cuda.syncthreads()
    # The residual is the right-hand side minus A x, where A x is the product with the direction x.
    _product(
        indices, weights, targets, penalties[row], fixed, gram, begin, end, True, kept, direction, sums, near, product
    )
    for d in range(thread, size, threads):
        residual[d] = (rights_MD[which, d] if own else float32(0.0)) - product[d]
        direction[d] = residual[d]
    cuda.syncthreads()
    squares = _dot(residual, residual)
    for _ in range(steps):
        if squares < float32(1e-20):
            break
        _product(
            indices,
            weights,
            targets,
            penalties[row],
            fixed,
            gram,
            begin,
            end,
            False,
            kept,
            direction,
            sums,
            near,
            product,
        )
        length = squares / _dot(direction, product)
        for d in range(thread, size, threads):
            solved[row, d] += length * direction[d]
            residual[d] -= length * product[d]
        cuda.syncthreads()
        fresh = _dot(residual, residual)
        for d in range(thread, size, threads):
            direction[d] = residual[d] + fresh / squares * direction[d]
        squares = fresh
        cuda.syncthreads()


@cuda.jit(device=True)
def _dot(a, b):
    """The inner product, computed by each warp independently."""
    total = float32(0.0)
    for d in range(cuda.threadIdx.x % 32, a.shape[0], 32):
        total += a[d] * b[d]
    return warp_sum(total)


@cuda.jit(device=True)
def _product(
    indices, weights, targets, penalty, fixed, gram, begin, end, subtract_targets, kept, direction, sums, near, product
):
    """product = A direction, minus the targets if requested: each warp sums its entries, then each thread its columns."""
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    lane, warp = thread % 32, thread // 32
    size = fixed.shape[1]
    for d in range(lane, size, 32):
        sums[warp * size + d] = float32(0.0)
    for n in range(begin + warp, end, threads // 32):
        at = n - begin
        source = uint64(indices[uint64(n)])
        total = float32(0.0)
        for d in range(lane, size, 32):
            total += (near[uint64(at * size + d)] if at < kept else fixed[source, uint64(d)]) * direction[uint64(d)]
        scale = weights[n] * warp_sum(total)
        if subtract_targets:
            scale -= targets[n]
        for d in range(lane, size, 32):
            sums[uint64(warp * size + d)] += scale * (
                near[uint64(at * size + d)] if at < kept else fixed[source, uint64(d)]
            )
    cuda.syncthreads()
    for d in range(thread, size, threads):
        total = penalty * direction[d]
        for e in range(size):
            total += gram[uint64(e), uint64(d)] * direction[uint64(e)]
        for other in range(threads // 32):
            total += sums[other * size + d]
        product[d] = total
    cuda.syncthreads()
