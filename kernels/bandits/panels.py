"""Lower triangles and vectors in panels of eight rows, column by column, as `panel_products.py` multiplies them.

D numbers of a row, N numbers of a flat array, M models, L models asked for, T = D (D + 1) / 2 numbers of a lower triangle, packed by rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from ..compiling import INSIDE
from ..vector_code import VectorCode, ir, size_type

PANEL_ROWS = 8
ROWS, NONE, ONE = np.uint64(PANEL_ROWS), np.uint64(0), np.uint64(1)


@njit(cache=True, nogil=True)
def triangle_size(size):
    """Return how many numbers the panels of a lower triangle take."""
    total = 0
    for low in range(0, size, PANEL_ROWS):
        total += PANEL_ROWS * min(low + PANEL_ROWS, size)
    return total


@intrinsic
def _pack_eight(context: Any, factor: Any, low: Any, unit: Any, scale: Any, out: Any, at: Any) -> Any:
    """Write rows low ... low + 7 of a lower triangle as a panel: four columns at a time, turned in registers.

    What the packed triangle has right of a diagonal are numbers of the next row; they are replaced by zeros.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = VectorCode(context, builder, signature, arguments)
        factor, scale, out = (code.data(which) for which in (0, 3, 4))
        _, low, unit, _, _, at = arguments
        scales = [code.spread(scale, code.number(r), 4) for r in range(PANEL_ROWS)]
        bases = []
        for r in range(PANEL_ROWS):
            row = builder.add(low, code.number(r))
            bases.append(builder.lshr(builder.mul(row, builder.add(row, code.number(1))), code.number(1)))

        def columns(k: Any) -> list[Any]:
            four = ir.VectorType(ir.FloatType(), 4)
            rows = [
                builder.fptrunc(builder.fmul(code.load(factor, builder.add(base, k), 4), scaling), four)
                for base, scaling in zip(bases, scales, strict=True)
            ]
            pairs = [code.mixed(rows[r], rows[r + 4], range(8)) for r in range(4)]
            halves = [
                (
                    code.mixed(pairs[r], pairs[r + 1], [0, 8, 1, 9, 4, 12, 5, 13]),
                    code.mixed(pairs[r], pairs[r + 1], [2, 10, 3, 11, 6, 14, 7, 15]),
                )
                for r in (0, 2)
            ]
            return [
                code.mixed(halves[0][n], halves[1][n], order)
                for n in range(2)
                for order in ([0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15])
            ]

        def store(column: Any, k: Any) -> None:
            code.store(column, out, builder.add(at, builder.mul(k, code.number(PANEL_ROWS))))

        def pack_four(k: Any, _: list[Any]) -> list[Any]:
            for n, column in enumerate(columns(k)):
                store(column, builder.add(k, code.number(n)))
            return []

        code.loop(code.number(0), low, 4, [], pack_four)
        unit = builder.icmp_unsigned("!=", unit, ir.Constant(unit.type, 0))
        eight = ir.VectorType(ir.FloatType(), PANEL_ROWS)
        ones = builder.fptrunc(code.load(scale, code.number(0), PANEL_ROWS), eight)
        flags, zero = ir.VectorType(ir.IntType(1), PANEL_ROWS), ir.Constant(eight, [0.0] * PANEL_ROWS)
        diagonal = [one for first in (0, 4) for one in columns(builder.add(low, code.number(first)))]
        for c, column in enumerate(diagonal):
            lower = builder.select(ir.Constant(flags, [int(r >= c) for r in range(PANEL_ROWS)]), column, zero)
            with_ones = builder.select(ir.Constant(flags, [int(r == c) for r in range(PANEL_ROWS)]), ones, lower)
            store(builder.select(unit, with_ones, lower), builder.add(low, code.number(c)))
        return context.get_dummy_value()

    return types.void(factor, size_type, types.boolean, scale, out, size_type), emit


@njit(error_model="numpy", **INSIDE)
def _pack_last(factor_T, low, count, unit, scale_8, out_N, at):
    """Write fewer than eight rows of a lower triangle as a panel, with zeros below."""
    for k in range(NONE, low + count):
        for r in range(NONE, ROWS):
            row, value = low + r, 0.0
            if r < count and k <= row:
                value = scale_8[r]
                if k < row or not unit:
                    value *= factor_T[row * (row + ONE) // np.uint64(2) + k]
            out_N[at + ROWS * k + r] = np.float32(value)


@njit(error_model="numpy", **INSIDE)
def pack_triangle(factor_T, size, unit, scale_8, out_N):
    """Write a lower triangle as panels; with `unit`, ones take the place of the diagonal d, and each row is times the root of its d.

    Args:
        factor_T: float64.
        size: D, uint64.
        unit: bool.
        scale_8: float64, to work in.
        out_N: out, float32; see `triangle_size`.
    """
    at = NONE
    for low in range(NONE, size, ROWS):
        count, depth = min(ROWS, size - low), min(low + ROWS, size)
        for r in range(NONE, count):
            row = low + r
            scale_8[r] = factor_T[row * (row + np.uint64(3)) // np.uint64(2)] if unit else 1.0
        for r in range(NONE, ROWS):
            scale_8[r] = np.sqrt(scale_8[r])
        if count == ROWS:
            _pack_eight(factor_T, low, unit, scale_8, out_N, at)
        else:
            _pack_last(factor_T, low, count, unit, scale_8, out_N, at)
        at += ROWS * depth


@njit(error_model="numpy", **INSIDE)
def pack_rows(theta_MD, models_L, low, count, out_N):
    """Write rows low ... low + count - 1 of `models_L` as panels, one after the other, with zeros where there is none."""
    size, all_rows = np.uint64(theta_MD.shape[1]), np.uint64(count)
    panels = (all_rows + ROWS - ONE) // ROWS
    out_N[: panels * ROWS * size] = np.float32(0)
    for row in range(NONE, all_rows):
        at = row // ROWS * ROWS * size + row % ROWS
        theta_D = theta_MD[models_L[low + row]]
        for k in range(NONE, size):
            out_N[at + k * ROWS] = np.float32(theta_D[k])
