"""Inner products of the rows of panels with one vector or with many, kept in registers, and sums of their squares.

N numbers of a flat array.

A panel (`panels.py`) is eight rows, column by column. A single vector is multiplied by eight rows at a time, one register; many vectors,
`NUM_LANES` at a time and number by number, by four rows at a time: eight registers, as many as two multiply-adds a cycle need that take four
cycles each. Both ways each sum is of the same products in the same order, so that both return the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from ..compiling import INSIDE
from ..register_tile import HALF, LANES, REGISTERS, WIDTH, Loop
from ..vector_code import ir, size_type
from .panels import NONE, PANEL_ROWS, ROWS


@intrinsic
def add_squares(context: Any, panel: Any, at: Any, depth: Any, x: Any, x_at: Any, out: Any, out_at: Any) -> Any:
    """out[lane] += sum_r (sum_k panel[k, r] x[k, lane])^2 for r < 4, in this order, for each lane.

    All arrays are flat, float32 and C-contiguous; they start at `at`, `x_at` and `out_at`, uint64, which are not checked. `depth` is the
    number of k, uint64.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loop = Loop(context, builder, signature, arguments, panel_rows=PANEL_ROWS, one=False)
        out = loop.data(5)
        for n in range(REGISTERS):
            place = builder.add(arguments[6], loop.number(n * WIDTH))
            total = loop.load(out, place, WIDTH)
            for one in loop.sums[n::REGISTERS]:
                total = loop.add_product(one, one, total)
            loop.store(total, out, place)
        return context.get_dummy_value()

    return types.void(panel, size_type, size_type, x, size_type, out, size_type), emit


@intrinsic
def write_sums(context: Any, panel: Any, at: Any, depth: Any, x: Any, x_at: Any, out: Any, out_at: Any) -> Any:
    """out[r, lane] = sum_k panel[k, r] x[k, lane] for r < 4 and each lane; arrays as for `add_squares`."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loop = Loop(context, builder, signature, arguments, panel_rows=PANEL_ROWS, one=False)
        for n, one in enumerate(loop.sums):
            loop.store(one, loop.data(5), builder.add(arguments[6], loop.number(n * WIDTH)))
        return context.get_dummy_value()

    return types.void(panel, size_type, size_type, x, size_type, out, size_type), emit


@intrinsic
def with_squares_of_one(context: Any, panel: Any, at: Any, depth: Any, x: Any, x_at: Any, total: Any) -> Any:
    """Return total + sum_r (sum_k panel[k, r] x[k])^2 for r < 8, in this order: what `add_squares` adds to one lane."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loop = Loop(context, builder, signature, arguments, panel_rows=PANEL_ROWS, one=True)
        total = arguments[5]
        for row in range(PANEL_ROWS):
            one = builder.extract_element(loop.sums[0], ir.Constant(ir.IntType(32), row))
            total = loop.add_product(one, one, total)
        return total

    return types.float32(panel, size_type, size_type, x, size_type, types.float32), emit


@intrinsic
def write_sums_of_one(context: Any, panel: Any, at: Any, depth: Any, x: Any, x_at: Any, out: Any, out_at: Any) -> Any:
    """out[r] = sum_k panel[k, r] x[k] for r < 8: what `write_sums` writes for one lane."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loop = Loop(context, builder, signature, arguments, panel_rows=PANEL_ROWS, one=True)
        loop.store(loop.sums[0], loop.data(5), arguments[6])
        return context.get_dummy_value()

    return types.void(panel, size_type, size_type, x, size_type, out, size_type), emit


@njit(error_model="numpy", **INSIDE)
def squares(panels_N, size, x_N, x_at, out_N, out_at):
    """Write the squared length of a triangle times x for each lane; x is [D, lanes]."""
    for lane in range(NONE, LANES):
        out_N[out_at + lane] = np.float32(0)
    at = NONE
    for low in range(NONE, size, ROWS):
        depth = min(low + ROWS, size)
        add_squares(panels_N, at, min(low + HALF, size), x_N, x_at, out_N, out_at)
        if low + HALF < size:
            add_squares(panels_N, at + HALF, depth, x_N, x_at, out_N, out_at)
        at += ROWS * depth


@njit(error_model="numpy", **INSIDE)
def squares_of_one(panels_N, size, x_N, x_at):
    """Return the squared length of a triangle times x [D]."""
    total, at = np.float32(0), NONE
    for low in range(NONE, size, ROWS):
        depth = min(low + ROWS, size)
        total = with_squares_of_one(panels_N, at, depth, x_N, x_at, total)
        at += ROWS * depth
    return total
