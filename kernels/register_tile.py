"""Inner products of a few rows with many vectors, or with one, summed in registers: what Numba's loops do not become by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.extending import intrinsic

from .vector_code import VectorCode, ir, size_type

HEIGHT = 4  # rows of a tile
REGISTERS = 2  # of each row of a tile
WIDTH = 16 if get_host_cpu_features().get("avx512f") else 8  # float32 of a register
NUM_LANES = REGISTERS * WIDTH
LANES, HALF = np.uint64(NUM_LANES), np.uint64(HEIGHT)


class Loop(VectorCode):
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
        super().__init__(context, builder, signature, arguments)
        _, first, depth, _, x_at, *_ = arguments
        panel, x, lanes = self.data(0), self.data(3), panel_rows if one else WIDTH
        starts = [ir.Constant(ir.VectorType(ir.FloatType(), lanes), [0.0] * lanes)] * (1 if one else HEIGHT * REGISTERS)
        if start is not None:
            places = [builder.add(arguments[start], self.number(n * WIDTH)) for n in range(REGISTERS)]
            starts = [self.load(self.data(start - 1), place, WIDTH) for place in places] * HEIGHT

        def add_column(k: Any, totals: list[Any]) -> list[Any]:
            column = builder.add(first, builder.mul(k, self.number(panel_rows)))
            if one:
                rows, values = [self.load(panel, column, lanes)], [self.spread(x, builder.add(x_at, k), lanes)]
            else:
                numbers = builder.add(x_at, builder.mul(k, self.number(NUM_LANES)))
                rows = [self.spread(panel, builder.add(column, self.number(row)), lanes) for row in range(HEIGHT)]
                values = [self.load(x, builder.add(numbers, self.number(n * WIDTH)), lanes) for n in range(REGISTERS)]
            pairs = [(row, value) for row in rows for value in values]
            return [self.add_product(row, value, total) for (row, value), total in zip(pairs, totals, strict=True)]

        self.sums = self.loop(self.number(0), depth, 1, starts, add_column)


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

    return types.void(fours, size_type, size_type, x, size_type, bias, size_type, out, size_type, size_type), emit
