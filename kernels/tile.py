"""What Numba's loops do not become by themselves: a tile of outer products kept in registers, a mask of comparisons, keys split
by a pivot, weighted rows of eight float64, and a prefetch."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16  # columns are padded to a multiple of this many float32
MASKED = 32  # comparisons of a mask
EIGHT = 8  # keys, or float64, of a vector
AHEAD = 8  # rows to prefetch before they are summed
HEIGHT = 4  # rows of a tile: four registers of 16 lanes, or eight of 8


def spread(builder: Any, value: Any, lanes: int) -> Any:
    """Return a vector of equal numbers."""
    undefined, word = (
        cgutils.ir.Constant(cgutils.ir.VectorType(value.type, lanes), cgutils.ir.Undefined),
        cgutils.int32_t,
    )
    zeros = cgutils.ir.Constant(cgutils.ir.VectorType(word, lanes), [0] * lanes)
    return builder.shuffle_vector(builder.insert_element(undefined, value, word(0)), undefined, zeros)


def _call_prefetch(builder: Any, pointer: Any) -> None:
    flag = cgutils.int32_t
    function = cgutils.get_or_insert_function(
        builder.module,
        cgutils.ir.FunctionType(cgutils.ir.VoidType(), [cgutils.voidptr_t, flag, flag, flag]),
        "llvm.prefetch.p0i8",
    )
    address = builder.bitcast(pointer, cgutils.voidptr_t)
    builder.call(function, [address, flag(0), flag(3), flag(1)])  # read, high locality, data cache


@intrinsic
def prefetch(typing, table, row, column):
    """Prefetch a cache line of a table: randomly accessed rows would otherwise stall one by one."""

    def emit(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        at = builder.add(builder.mul(arguments[1], cgutils.unpack_tuple(builder, array.shape)[1]), arguments[2])
        _call_prefetch(builder, builder.gep(array.data, [at]))
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
        scaled = builder.fmul(
            load(block(rows, k, j)), spread(builder, load(builder.gep(scale.data, [k])), LANES), flags=("fast",)
        )
        more = [
            builder.fadd(
                sums[r],
                builder.fmul(
                    spread(builder, load(at(rows, k, builder.add(i, number(r)))), LANES), scaled, flags=("fast",)
                ),
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


@intrinsic
def prefetch_at(typing, array, at):
    """Prefetch the cache line of a position of a flat array."""

    def emit(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        _call_prefetch(builder, builder.gep(array.data, [arguments[1]]))
        return context.get_dummy_value()

    return types.void(array, types.uint64), emit


def _compared(
    context: Any, builder: Any, signature: Any, arguments: Any, *, unordered: str = "", ordered: str = ""
) -> Any:
    """Emit the comparison of `above` and `reaching`: one that holds for what is not a number, or one that does not."""
    ir = cgutils.ir
    scores, first, floor = arguments
    vector = ir.VectorType(ir.FloatType(), MASKED)
    data = context.make_array(signature.args[0])(context, builder, scores).data
    read = builder.load(builder.bitcast(builder.gep(data, [first]), vector.as_pointer()), align=4)
    floors = spread(builder, floor, MASKED)
    found = builder.fcmp_ordered(ordered, read, floors) if ordered else builder.fcmp_unordered(unordered, read, floors)
    return builder.bitcast(found, ir.IntType(MASKED))


@intrinsic
def above(context: Any, scores: Any, first: Any, floor: Any) -> Any:
    """Return a uint32 whose bit j says whether scores[first + j] > floor, for 32 float32; first is uint64, and not checked."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _compared(context, builder, signature, arguments, ordered=">")

    return types.uint32(scores, types.uint64, types.float32), emit


@intrinsic
def reaching(context: Any, scores: Any, first: Any, floor: Any) -> Any:
    """Return what `above` does for not scores[first + j] < floor: NaN reaches any floor."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _compared(context, builder, signature, arguments, unordered=">=")

    return types.uint32(scores, types.uint64, types.float32), emit


@intrinsic
def lowest_bit(context: Any, mask: Any) -> Any:
    """Return the number of the lowest bit of a uint32 that is set, as uint64; the mask must not be 0."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        ir = cgutils.ir
        return builder.zext(builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1)), ir.IntType(64))

    return types.uint64(types.uint32), emit


@intrinsic
def split_eight(context: Any, keys: Any, first: Any, pivot: Any, to: Any, others: Any, to_other: Any) -> Any:
    """Of keys[first : first + 8] write those above the pivot to keys[to:], the others to others[to_other:]; return the number above, uint64.

    The keys are uint64, the positions uint64 and not checked; `to` must not exceed `first`. A vector instruction with AVX-512.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        ir = cgutils.ir
        keys, first, pivot, to, others, to_other = arguments
        word, flag = ir.IntType(64), ir.IntType(1)
        vector, flags = ir.VectorType(word, EIGHT), ir.VectorType(flag, EIGHT)
        data = context.make_array(signature.args[0])(context, builder, keys).data
        rest = context.make_array(signature.args[4])(context, builder, others).data
        read = builder.load(builder.bitcast(builder.gep(data, [first]), vector.as_pointer()), align=8)
        larger = builder.icmp_unsigned(">", read, spread(builder, pivot, EIGHT))
        compress = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [vector, flags, vector]),
            f"llvm.experimental.vector.compress.v{EIGHT}i64",
        )
        for kept, target, at in ((larger, data, to), (builder.not_(larger), rest, to_other)):
            packed = builder.call(compress, [read, kept, ir.Constant(vector, ir.Undefined)])
            builder.store(packed, builder.bitcast(builder.gep(target, [at]), vector.as_pointer()), align=8)
        return builder.zext(builder.ctpop(builder.bitcast(larger, ir.IntType(EIGHT))), word)

    place = types.uint64
    return types.uint64(keys, place, types.uint64, place, others, place), emit


def _weighted_rows(context: Any, builder: Any, signature: Any, arguments: Any, *, add: bool) -> None:
    """Emit the loop of `sum_rows` and `add_to_rows`."""
    ir = cgutils.ir
    indices, values, table, vectors = (
        context.make_array(signature.args[at])(context, builder, arguments[at]).data for at in (0, 1, 4, 5)
    )
    _, _, first, end, _, _, at = arguments
    vector, lanes = ir.VectorType(ir.DoubleType(), EIGHT), ir.VectorType(ir.IntType(32), EIGHT)

    def number(value: int) -> Any:
        return ir.Constant(first.type, value)

    def row(n: Any) -> Any:
        index = builder.zext(builder.load(builder.gep(indices, [n])), first.type)
        return builder.bitcast(builder.gep(table, [builder.mul(index, number(EIGHT))]), vector.as_pointer())

    place = builder.bitcast(builder.gep(vectors, [at]), vector.as_pointer())
    given = builder.load(place, align=8) if add else ir.Constant(vector, [0.0] * EIGHT)
    before, last = builder.block, builder.sub(end, number(1))
    head, body, done = (builder.append_basic_block(name) for name in ("rows.head", "rows.body", "rows.done"))
    builder.branch(head)
    builder.position_at_end(head)
    n, total = builder.phi(first.type), builder.phi(vector)
    builder.cbranch(builder.icmp_unsigned("<", n, end), body, done)
    builder.position_at_end(body)
    later = builder.add(n, number(AHEAD))
    _call_prefetch(builder, row(builder.select(builder.icmp_unsigned("<", later, end), later, last)))
    value = builder.fpext(builder.load(builder.gep(values, [n])), ir.DoubleType())
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    weight = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), ir.Constant(lanes, [0] * EIGHT))
    here = row(n)
    read = builder.load(here, align=8)
    term = builder.fmul(total if add else read, weight, flags=("contract",))
    added = builder.fadd(read if add else total, term, flags=("contract",))
    if add:
        builder.store(added, here, align=8)
    n.add_incoming(first, before)
    n.add_incoming(builder.add(n, number(1)), builder.block)
    total.add_incoming(given, before)
    total.add_incoming(total if add else added, builder.block)
    builder.branch(head)
    builder.position_at_end(done)
    if not add:
        builder.store(total, place, align=8)


@intrinsic
def sum_rows(typing: Any, indices: Any, values: Any, first: Any, end: Any, table: Any, sums: Any, to: Any) -> Any:
    """Write to sums[to : to + 8] the sum over first <= n < end of values[n] * table[8 * indices[n] : 8 * indices[n] + 8], in that order.

    Flat arrays: uint32 indices, float32 values, float64 table and sums. first, end and to are uint64, and nothing is checked.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _weighted_rows(context, builder, signature, arguments, add=False)
        return context.get_dummy_value()

    size = types.uint64
    return types.void(indices, values, size, size, table, sums, size), emit


@intrinsic
def add_to_rows(typing: Any, indices: Any, values: Any, first: Any, end: Any, table: Any, added: Any, at: Any) -> Any:
    """Add values[n] * added[at : at + 8] to table[8 * indices[n] : 8 * indices[n] + 8] for first <= n < end; types as in `sum_rows`."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _weighted_rows(context, builder, signature, arguments, add=True)
        return context.get_dummy_value()

    size = types.uint64
    return types.void(indices, values, size, size, table, added, size), emit
