"""What Numba's loops do not become by themselves: a tile of outer products kept in registers, and a prefetch."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16  # columns are padded to a multiple of this many float32
HEIGHT = 4  # rows of a tile: four registers of 16 lanes, or eight of 8


@intrinsic
def prefetch(typing, table, row, column):
    """Prefetch a cache line of a table: randomly accessed rows would otherwise stall one by one."""

    def emit(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        at = builder.add(builder.mul(arguments[1], cgutils.unpack_tuple(builder, array.shape)[1]), arguments[2])
        address = builder.bitcast(builder.gep(array.data, [at]), cgutils.voidptr_t)
        flag = cgutils.int32_t
        function = cgutils.get_or_insert_function(
            builder.module,
            cgutils.ir.FunctionType(cgutils.ir.VoidType(), [cgutils.voidptr_t, flag, flag, flag]),
            "llvm.prefetch.p0i8",
        )
        builder.call(function, [address, flag(0), flag(3), flag(1)])  # read, high locality, data cache
        return context.get_dummy_value()

    return types.void(table, types.uint64, types.uint64), emit


@intrinsic
def add_tile(context: Any, matrix: Any, i: Any, j: Any, rows: Any, first: Any, last: Any, scale: Any) -> Any:
    """matrix[i + r, j + c] += sum_k scale_k rows[k, i + r] rows[k, j + c] for first <= k < last, r < 4, c < 16.

    The 64 sums stay in registers for all k, each in the order of k. All arrays are float32 and C-contiguous; i, j, first and last are
    uint64, and not checked.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        ir = cgutils.ir
        matrix, rows, scale = (
            context.make_array(signature.args[at])(context, builder, arguments[at]) for at in (0, 3, 6)
        )
        _, i, j, _, first, last, _ = arguments
        vector = ir.VectorType(ir.FloatType(), LANES)

        def number(value: int) -> Any:
            return ir.Constant(i.type, value)

        def at(array: Any, row: Any, column: Any) -> Any:
            width = cgutils.unpack_tuple(builder, array.shape)[1]
            return builder.gep(array.data, [builder.add(builder.mul(row, width), column)])

        def block(array: Any, row: Any, column: Any) -> Any:
            return builder.bitcast(at(array, row, column), vector.as_pointer())

        def spread(value: Any) -> Any:
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

        def load(pointer: Any) -> Any:
            return builder.load(pointer, align=4)

        targets = [block(matrix, builder.add(i, number(r)), j) for r in range(HEIGHT)]
        begun = [load(target) for target in targets]
        before = builder.block
        head, body, done = (builder.append_basic_block(name) for name in ("tile.head", "tile.body", "tile.done"))
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(i.type)
        sums = [builder.phi(vector) for _ in range(HEIGHT)]
        builder.cbranch(builder.icmp_unsigned("<", k, last), body, done)
        builder.position_at_end(body)
        scaled = builder.fmul(load(block(rows, k, j)), spread(load(builder.gep(scale.data, [k]))), flags=("fast",))
        more = [
            builder.fadd(
                sums[r],
                builder.fmul(spread(load(at(rows, k, builder.add(i, number(r))))), scaled, flags=("fast",)),
                flags=("fast",),
            )
            for r in range(HEIGHT)
        ]
        next_k = builder.add(k, number(1))
        builder.branch(head)
        for phi, start, later in zip([k, *sums], [first, *begun], [next_k, *more], strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(later, body)
        builder.position_at_end(done)
        for target, total in zip(targets, sums, strict=True):
            builder.store(total, target, align=4)
        return context.get_dummy_value()

    size = types.uint64
    return types.void(matrix, size, size, rows, size, size, scale), emit
