"""Inner products of a few rows with many vectors, or with one, summed in registers: what Numba's loops do not become by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .tile import spread

HEIGHT = 4  # rows of a tile
REGISTERS = 2  # of each row of a tile
WIDTH = 16 if get_host_cpu_features().get("avx512f") else 8  # float32 of a register
NUM_LANES = REGISTERS * WIDTH
LANES, HALF = np.uint64(NUM_LANES), np.uint64(HEIGHT)

ir = cgutils.ir
_size = types.uint64


class Loop:
    """Sums over k of products of a column k of a panel and the numbers k of vectors, as code: `sums` when it has been made.

    Arguments of the code begin with the panel, where it starts, the number of k, the vectors, and where they start. A panel holds
    `panel_rows` rows, column by column. `one` is a single vector, multiplied by a register of all rows; otherwise four rows are multiplied by `LANES` vectors. Sums of vectors
    start from `start`, the position of an argument with a number for each lane, and of the one before whose array it is in; else from 0.
    """

    def __init__(
        self,
        context: Any,
        builder: Any,
        signature: Any,
        arguments: Any,
        *,
        panel_rows: int,
        one: bool,
        start: int | None = None,
    ) -> None:
        panel, self.at, depth, x, x_at, *_ = arguments
        self.context, self.builder, self.signature, self.arguments = context, builder, signature, arguments
        panel, x = self.data(0), self.data(3)
        self.vector = ir.VectorType(ir.FloatType(), panel_rows if one else WIDTH)
        zero = ir.Constant(self.vector, [0.0] * self.vector.count)
        starts = [zero] * (1 if one else HEIGHT * REGISTERS)
        if start is not None:
            places = [builder.add(arguments[start], self.number(n * WIDTH)) for n in range(REGISTERS)]
            starts = [self.load(self.data(start - 1), place) for place in places] * HEIGHT
        before = builder.block
        head, body, done = (builder.append_basic_block(name) for name in ("panel.head", "panel.body", "panel.done"))
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(self.at.type)
        phis = [builder.phi(self.vector) for _ in starts]
        builder.cbranch(builder.icmp_unsigned("<", k, depth), body, done)
        builder.position_at_end(body)
        column = builder.add(self.at, builder.mul(k, self.number(panel_rows)))
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
        for phi, begin, later in ((k, self.number(0), next_k), *zip(phis, starts, more, strict=True)):
            phi.add_incoming(begin, before)
            phi.add_incoming(later, body)
        builder.position_at_end(done)
        self.sums = phis

    def data(self, which: int) -> Any:
        """Return the pointer to the numbers of an array among the arguments."""
        return self.context.make_array(self.signature.args[which])(
            self.context, self.builder, self.arguments[which]
        ).data

    def number(self, value: int) -> Any:
        """Return a constant of the type of places."""
        return ir.Constant(self.at.type, value)

    def _place(self, data: Any, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(data, [at]), self.vector.as_pointer())

    def load(self, data: Any, at: Any) -> Any:
        """Return the vector at a place."""
        return self.builder.load(self._place(data, at), align=4)

    def store(self, vector: Any, data: Any, at: Any) -> None:
        """Write a vector to a place."""
        self.builder.store(vector, self._place(data, at), align=4)

    def spread(self, data: Any, at: Any) -> Any:
        """Return the number at a place in every lane."""
        return spread(self.builder, self.builder.load(self.builder.gep(data, [at])), self.vector.count)

    def add_product(self, one: Any, other: Any, total: Any) -> Any:
        """Return total + one * other, rounded once where that is an instruction: a product and a sum apart may be merged in one place only."""
        kind = "f32" if isinstance(one.type, ir.FloatType) else f"v{one.type.count}f32"
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(one.type, [one.type] * 3), f"llvm.fmuladd.{kind}"
        )
        return self.builder.call(function, [one, other, total])


@intrinsic
def write_scores(
    context: Any,
    fours: Any,
    at: Any,
    depth: Any,
    x: Any,
    x_at: Any,
    bias: Any,
    bias_at: Any,
    out: Any,
    out_at: Any,
    step: Any,
) -> Any:
    """out[r * step + lane] = bias[lane] + sum_k fours[k, r] x[k, lane] for r < 4 and `LANES` lanes, in the order of k.

    All arrays are flat, float32 and C-contiguous; they start at `at`, `x_at`, `bias_at` and `out_at`, uint64, which are not checked.
    `depth` is the number of k, uint64.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loop = Loop(context, builder, signature, arguments, panel_rows=HEIGHT, one=False, start=6)
        for n, one in enumerate(loop.sums):
            row = builder.mul(arguments[9], loop.number(n // REGISTERS))
            place = builder.add(builder.add(arguments[8], row), loop.number(n % REGISTERS * WIDTH))
            loop.store(one, loop.data(7), place)
        return context.get_dummy_value()

    return types.void(fours, _size, _size, x, _size, bias, _size, out, _size, _size), emit
