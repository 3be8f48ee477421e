"""Inner products of the rows of panels with one vector or with many, kept in registers, and sums of their squares.

N numbers of a flat array.

A panel (`panels.py`) is eight rows, column by column. A single vector is multiplied by eight rows at a time, one register; many vectors,
`NUM_LANES` at a time and number by number, by four rows at a time: eight registers, as many as two multiply-adds a cycle need that take four
cycles each. Both ways each sum is of the same products in the same order, so that both return the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..compiling import INSIDE
from ..tile import spread
from .panels import NONE, PANEL_ROWS, ROWS

HEIGHT = 4  # rows of a tile
REGISTERS = 2  # of each row of a tile
WIDTH = 16 if get_host_cpu_features().get("avx512f") else 8  # float32 of a register
NUM_LANES = REGISTERS * WIDTH
LANES, HALF = np.uint64(NUM_LANES), np.uint64(HEIGHT)

ir = cgutils.ir
_size = types.uint64


class _Loop:
    """Sums over k of products of a column k of a panel and the numbers k of vectors, as code: `sums` when it has been made.

    `one` is a single vector, multiplied by registers of eight rows; otherwise four rows are multiplied by `LANES` vectors.
    """

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any, *, one: bool) -> None:
        panel, self.at, depth, x, x_at, *_ = arguments
        self.context, self.builder, self.signature, self.arguments = context, builder, signature, arguments
        panel, x = self.data(0), self.data(3)
        self.vector = ir.VectorType(ir.FloatType(), PANEL_ROWS if one else WIDTH)
        before = builder.block
        head, body, done = (builder.append_basic_block(name) for name in ("panel.head", "panel.body", "panel.done"))
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(self.at.type)
        phis = [builder.phi(self.vector) for _ in range(1 if one else HEIGHT * REGISTERS)]
        builder.cbranch(builder.icmp_unsigned("<", k, depth), body, done)
        builder.position_at_end(body)
        column = builder.add(self.at, builder.mul(k, self.number(PANEL_ROWS)))
        if one:
            rows, values = [self.load(panel, column)], [self.spread(x, builder.add(x_at, k))]
        else:
            numbers = builder.add(x_at, builder.mul(k, self.number(NUM_LANES)))
            rows = [self.spread(panel, builder.add(column, self.number(row))) for row in range(HEIGHT)]
            values = [self.load(x, builder.add(numbers, self.number(n * WIDTH))) for n in range(REGISTERS)]
        pairs = [(row, value) for row in rows for value in values]
        more = [self.add_product(row, value, phi) for (row, value), phi in zip(pairs, phis, strict=True)]
        next_k = builder.add(k, self.number(1))
        builder.branch(head)
        zero = ir.Constant(self.vector, [0.0] * self.vector.count)
        for phi, start, later in (
            (k, self.number(0), next_k),
            *((p, zero, m) for p, m in zip(phis, more, strict=True)),
        ):
            phi.add_incoming(start, before)
            phi.add_incoming(later, body)
        builder.position_at_end(done)
        self.sums = phis

    def data(self, which: int) -> Any:
        return self.context.make_array(self.signature.args[which])(
            self.context, self.builder, self.arguments[which]
        ).data

    def number(self, value: int) -> Any:
        return ir.Constant(self.at.type, value)

    def _place(self, data: Any, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(data, [at]), self.vector.as_pointer())

    def load(self, data: Any, at: Any) -> Any:
        return self.builder.load(self._place(data, at), align=4)

    def store(self, vector: Any, data: Any, at: Any) -> None:
        self.builder.store(vector, self._place(data, at), align=4)

    def spread(self, data: Any, at: Any) -> Any:
        return spread(self.builder, self.builder.load(self.builder.gep(data, [at])), self.vector.count)

    def add_product(self, one: Any, other: Any, total: Any) -> Any:
        """Return total + one * other, rounded once where that is an instruction: a product and a sum apart may be merged in one place only."""
        kind = "f32" if isinstance(one.type, ir.FloatType) else f"v{one.type.count}f32"
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(one.type, [one.type] * 3), f"llvm.fmuladd.{kind}"
        )
        return self.builder.call(function, [one, other, total])


@intrinsic
def add_squares(context: Any, panel: Any, at: Any, depth: Any, x: Any, x_at: Any, out: Any, out_at: Any) -> Any:
    """out[lane] += sum_r (sum_k panel[k, r] x[k, lane])^2 for r < 4, in this order, for each lane.

    All arrays are flat, float32 and C-contiguous; they start at `at`, `x_at` and `out_at`, uint64, which are not checked. `depth` is the
    number of k, uint64.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loop = _Loop(context, builder, signature, arguments, one=False)
        out = loop.data(5)
        for n in range(REGISTERS):
            place = builder.add(arguments[6], loop.number(n * WIDTH))
            total = loop.load(out, place)
            for one in loop.sums[n::REGISTERS]:
                total = loop.add_product(one, one, total)
            loop.store(total, out, place)
        return context.get_dummy_value()

    return types.void(panel, _size, _size, x, _size, out, _size), emit


@intrinsic
def write_sums(context: Any, panel: Any, at: Any, depth: Any, x: Any, x_at: Any, out: Any, out_at: Any) -> Any:
    """out[r, lane] = sum_k panel[k, r] x[k, lane] for r < 4 and each lane; arrays as for `add_squares`."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loop = _Loop(context, builder, signature, arguments, one=False)
        for n, one in enumerate(loop.sums):
            loop.store(one, loop.data(5), builder.add(arguments[6], loop.number(n * WIDTH)))
        return context.get_dummy_value()

    return types.void(panel, _size, _size, x, _size, out, _size), emit


@intrinsic
def with_squares_of_one(context: Any, panel: Any, at: Any, depth: Any, x: Any, x_at: Any, total: Any) -> Any:
    """Return total + sum_r (sum_k panel[k, r] x[k])^2 for r < 8, in this order: what `add_squares` adds to one lane."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loop = _Loop(context, builder, signature, arguments, one=True)
        total = arguments[5]
        for row in range(PANEL_ROWS):
            one = builder.extract_element(loop.sums[0], ir.Constant(ir.IntType(32), row))
            total = loop.add_product(one, one, total)
        return total

    return types.float32(panel, _size, _size, x, _size, types.float32), emit


@intrinsic
def write_sums_of_one(context: Any, panel: Any, at: Any, depth: Any, x: Any, x_at: Any, out: Any, out_at: Any) -> Any:
    """out[r] = sum_k panel[k, r] x[k] for r < 8: what `write_sums` writes for one lane."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loop = _Loop(context, builder, signature, arguments, one=True)
        loop.store(loop.sums[0], loop.data(5), arguments[6])
        return context.get_dummy_value()

    return types.void(panel, _size, _size, x, _size, out, _size), emit


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
