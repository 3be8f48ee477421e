"""Conjugate gradients for rows of up to 128 columns on a GPU, for `als`: one block per row, its vectors in registers.

R rows, S fixed rows, N observed entries, D embedding size, M matrices.

A group of 8, 16 or 32 lanes holds a vector, four columns to a lane. Groups split a row's entries and the rows of the Gram matrix; each adds to a
product of its own, in registers. These are summed by shuffles within a warp, and through shared memory, in order, over warps: one barrier per
product. Gathered rows are read 16 bytes at a time, and the first of them kept in shared memory for the further products.
"""

from __future__ import annotations

from numba import cuda, float32, int64

from .machine import ALL, LANES, add_four, dot_four, load_four, load_line, store_four, store_line

WARPS = 4  # of a block
WIDEST = 4 * LANES  # columns
KEPT_BYTES = 16 << 10  # of a row's fixed rows

SIGNATURES = {
    "narrow_rows": "void(int32[::1], boolean, int64, int64[::1], int32[::1], float32[::1], float32[::1], float32[::1], "
    "float32[:, ::1], float32[:, :, ::1], float32[:, ::1], int64, int64, int64, boolean, float32[:, ::1])",
}
BLOCKS = {"narrow_rows": LANES * WARPS}


def narrow_memory(size: int) -> tuple[int, int, int]:
    """Return the lanes that hold a vector, how many fixed rows a block keeps, and the bytes of shared memory it needs."""
    width = 8
    while 4 * width < size:
        width *= 2
    kept = KEPT_BYTES // (16 * width)
    return width, kept, 16 * width * (kept + 2 * WARPS)


SHARED_BYTES_AT_64 = {"narrow_rows": narrow_memory(64)[2]}


@cuda.jit(device=True)
def _dot(a, b, width):
    """The inner product of vectors that a group holds, in all its lanes."""
    total = dot_four(a, b)
    reach = width >> 1
    while reach > 0:
        total += cuda.shfl_xor_sync(ALL, total, reach)
        reach >>= 1
    return total


@cuda.jit
def narrow_rows(
    rows,
    own,
    longest,
    indptr,
    indices,
    weights,
    targets,
    penalties,
    fixed,
    matrices_MDD,
    rights_MD,
    steps,
    width,
    kept,
    is_wide,
    solved,
):
    """Take conjugate-gradient steps from `solved`.

    If `own`, block b solves row rows[b] by the b-th matrix and right-hand side, which contain its entries; else row b, by the first matrix and
    its entries, unless it has more than `longest`.
    """
    pool = cuda.shared.array(0, float32)
    block = int64(cuda.blockIdx.x)
    row = int64(rows[block]) if own else block
    begin, end = indptr[row], indptr[row + 1]
    if own:
        end = begin
    elif end - begin > longest:
        return
    thread = int64(cuda.threadIdx.x)
    lane = thread % width
    column = 4 * lane
    which = block if own else int64(0)
    gram = matrices_MDD[which]
    penalty = penalties[row]
    x = load_line(solved, row, column, True, is_wide)
    direction = x
    product = _product(
        indices, weights, targets, penalty, fixed, gram, begin, end, True, width, kept, is_wide, 0, direction, pool
    )
    right = load_line(rights_MD, which, column, own, is_wide)
    residual = add_four(right, float32(-1), product)
    direction = residual
    squares = _dot(residual, residual, width)
    for step in range(steps):
        if squares < float32(1e-20):
            break
        product = _product(
            indices,
            weights,
            targets,
            penalty,
            fixed,
            gram,
            begin,
            end,
            False,
            width,
            kept,
            is_wide,
            1 - step % 2,
            direction,
            pool,
        )
        length = squares / _dot(direction, product, width)
        x = add_four(x, length, direction)
        residual = add_four(residual, -length, product)
        fresh = _dot(residual, residual, width)
        direction = add_four(residual, fresh / squares, direction)
        squares = fresh
    if thread < width:
        store_line(solved, row, column, x, is_wide)


@cuda.jit(device=True)
def _product(
    indices, weights, targets, penalty, fixed, gram, begin, end, first, width, kept, is_wide, buffer, direction, pool
):
    """Return the matrix times the direction, minus the targets the first time: this lane's four columns.

    Sums of warps alternate between two buffers, so that one barrier is enough.
    """
    thread = int64(cuda.threadIdx.x)
    lane, group, groups = thread % width, thread // width, LANES * WARPS // width
    column = 4 * lane
    size = fixed.shape[1]
    sums = (float32(0), float32(0), float32(0), float32(0))
    start = thread % LANES - lane  # the group's first lane in its warp
    for four in range(group, width, groups):
        a = cuda.shfl_sync(ALL, direction[0], start + four)
        b = cuda.shfl_sync(ALL, direction[1], start + four)
        c = cuda.shfl_sync(ALL, direction[2], start + four)
        d = cuda.shfl_sync(ALL, direction[3], start + four)
        line = 4 * four
        sums = add_four(sums, a, load_line(gram, line, column, line < size, is_wide))
        sums = add_four(sums, b, load_line(gram, line + 1, column, line + 1 < size, is_wide))
        sums = add_four(sums, c, load_line(gram, line + 2, column, line + 2 < size, is_wide))
        sums = add_four(sums, d, load_line(gram, line + 3, column, line + 3 < size, is_wide))
    for together in range(begin, end, groups):  # all groups of a warp go on alike: they shuffle together
        n = together + group
        inside = n < end
        near = 4 * width * (n - begin) + column
        if inside and n - begin < kept and not first:
            y = load_four(pool, near)
        else:
            source = int64(indices[n]) if inside else int64(0)
            y = load_line(fixed, source, column, inside, is_wide)
            if inside and n - begin < kept:
                store_four(pool, near, y)  # and read by this lane alone
        scale = _dot(y, direction, width)
        if inside:
            scale *= weights[n]
            if first:
                scale -= targets[n]
            sums = add_four(sums, scale, y)
    reach = width
    while reach < LANES:
        others = (
            cuda.shfl_xor_sync(ALL, sums[0], reach),
            cuda.shfl_xor_sync(ALL, sums[1], reach),
            cuda.shfl_xor_sync(ALL, sums[2], reach),
            cuda.shfl_xor_sync(ALL, sums[3], reach),
        )
        sums = add_four(sums, float32(1), others)
        reach <<= 1
    at = 4 * width * (kept + buffer * WARPS) + column
    if thread % LANES < width:
        store_four(pool, at + 4 * width * (thread // LANES), sums)
    cuda.syncthreads()
    total = (penalty * direction[0], penalty * direction[1], penalty * direction[2], penalty * direction[3])
    for warp in range(WARPS):
        total = add_four(total, float32(1), load_four(pool, at + 4 * width * warp))
    return total
