"""Transposing rows of a table in vector registers, 16 x 16 numbers at a time, which the compiler does not make of a loop.

T items of a tile, D embedding size, N numbers in a flat table.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

WIDTH = 16  # rows and columns of a block: an AVX-512 register of float32; LLVM splits it where registers are shorter


@intrinsic
def transpose_block(typing_context: Any, source: Any, start: Any, stride: Any, target: Any, to: Any, step: Any) -> Any:
    """Write a block of `source` transposed: `target[to + d * step + j] = source[start + j * stride + d]` for j, d in 0 ... 15.

    Both are flat float32 arrays, and positions uint64; nothing is checked.
    """
    signature = types.none(source, types.uint64, types.uint64, target, types.uint64, types.uint64)

    def generate(context, builder, signature, arguments):
        source, start, stride, target, to, step = arguments
        read = context.make_array(signature.args[0])(context, builder, source).data
        written = context.make_array(signature.args[3])(context, builder, target).data
        vector = ir.VectorType(ir.FloatType(), WIDTH)
        lanes = ir.VectorType(ir.IntType(32), WIDTH)

        def place(base, first, each, number):
            at = builder.add(first, builder.mul(each, ir.Constant(each.type, number)))
            return builder.bitcast(builder.gep(base, [at]), vector.as_pointer())

        rows = [builder.load(place(read, start, stride, j), align=4) for j in range(WIDTH)]
        for half in (1, 2, 4, 8):  # swap the off-diagonal quarters of each square of 2 * half
            low = [lane if not lane & half else WIDTH + lane - half for lane in range(WIDTH)]
            high = [lane + half if not lane & half else WIDTH + lane for lane in range(WIDTH)]
            for j in range(WIDTH):
                if not j & half:
                    pair = rows[j], rows[j + half]
                    rows[j] = builder.shuffle_vector(*pair, ir.Constant(lanes, low))
                    rows[j + half] = builder.shuffle_vector(*pair, ir.Constant(lanes, high))
        for d, row in enumerate(rows):
            builder.store(row, place(written, to, step, d), align=4)
        return context.get_dummy_value()

    return signature, generate


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def _read(emb_N, start, stop):
    """Return the sum of some numbers: what is read in order arrives faster than what is read by columns."""
    total = np.float32(0)
    for n in range(start, stop):
        total += emb_N[n]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def transpose_items(emb_N, first, num_items, size, packed_N, tile):
    """Write items first ... first + num_items - 1 of a table [I, D] as [D, T]; at most T, the rest of a line keeps its numbers.

    All counts are uint64. Returns a number that says nothing, so that no read is left out.
    """
    width = np.uint64(WIDTH)
    read = _read(emb_N, first * size, (first + num_items) * size)
    blocks_T, blocks_D = num_items // width * width, size // width * width
    for t in range(np.uint64(0), blocks_T, width):
        for d in range(np.uint64(0), blocks_D, width):
            transpose_block(emb_N, (first + t) * size + d, size, packed_N, d * tile + t, tile)
        for d in range(blocks_D, size):
            for j in range(t, t + width):
                packed_N[d * tile + j] = emb_N[(first + j) * size + d]
    for j in range(blocks_T, num_items):
        for d in range(size):
            packed_N[d * tile + j] = emb_N[(first + j) * size + d]
    return read
