"""What kernels here need of the device beyond plain Numba: 16-byte loads and stores, a float's bits, sums over a warp.

Under Numba's simulator the same names do the same with NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32, int64, types, uint32

from ..device import simulated

LANES = 32  # threads of a warp
ALL = 0xFFFFFFFF  # lanes of a warp, as a mask

if simulated():

    @cuda.jit(device=True)
    def load_four(array, at):
        """See below."""
        return array.flat[at], array.flat[at + 1], array.flat[at + 2], array.flat[at + 3]

    @cuda.jit(device=True)
    def store_four(array, at, values):
        """See below."""
        array.flat[at : at + 4] = values

    @cuda.jit(device=True)
    def bits_of(value):
        """See below."""
        return np.float32(value).view(np.uint32)

    @cuda.jit(device=True)
    def float_of(bits):
        """See below."""
        return np.uint32(bits).view(np.float32)

else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    def _four(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
        """Return a pointer to four float32 of a C-contiguous array, `at` elements from its start."""
        begin = builder.gep(context.make_array(kind)(context, builder, array).data, [at])
        return builder.bitcast(begin, ir.VectorType(ir.FloatType(), 4).as_pointer(begin.type.addrspace))

    @intrinsic
    def load_four(typing_context, array, at):
        """Read four float32 by one 16-byte load; `at`, in elements from the array's start, must be a multiple of four."""

        def generate(context, builder, signature, arguments):
            four = builder.load(_four(context, builder, signature.args[0], *arguments), align=16)
            parts = [builder.extract_element(four, ir.Constant(ir.IntType(32), n)) for n in range(4)]
            return context.make_tuple(builder, signature.return_type, parts)

        return types.UniTuple(types.float32, 4)(array, types.int64), generate

    @intrinsic
    def store_four(typing_context, array, at, values):
        """Write four float32 by one 16-byte store, at a multiple of four."""

        def generate(context, builder, signature, arguments):
            array, at, values = arguments
            four = ir.Constant(ir.VectorType(ir.FloatType(), 4), ir.Undefined)
            for n in range(4):
                part = builder.extract_value(values, n)
                four = builder.insert_element(four, part, ir.Constant(ir.IntType(32), n))
            builder.store(four, _four(context, builder, signature.args[0], array, at), align=16)
            return context.get_dummy_value()

        return types.void(array, types.int64, types.UniTuple(types.float32, 4)), generate

    @intrinsic
    def bits_of(typing_context, value):
        """Return a float32's bits as an uint32."""

        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], ir.IntType(32))

        return types.uint32(types.float32), generate

    @intrinsic
    def float_of(typing_context, bits):
        """Return the float32 that has these bits."""

        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], ir.FloatType())

        return types.float32(types.uint32), generate


def bounds(threads: int, blocks: int) -> dict[str, Any]:
    """Return the option of `cuda.jit` that leaves registers for so many blocks of so many threads on a multiprocessor."""
    return {} if simulated() else {"launch_bounds": (threads, blocks)}


def wide(*tables: Any) -> bool:
    """Return whether each row of these tables on the device begins at a multiple of 16 bytes, as 16-byte loads require."""
    return all(table.shape[1] % 4 == 0 and (simulated() or _address(table) % 16 == 0) for table in tables)


def _address(array: Any) -> int:
    return array.__cuda_array_interface__["data"][0]


@cuda.jit(device=True)
def load_line(table_RD, row, column, inside, is_wide):
    """Four numbers of a row from a column on; zeros where `inside` is false or the row has ended."""
    size = table_RD.shape[1]
    if not inside or column >= size:
        return float32(0), float32(0), float32(0), float32(0)
    if is_wide:
        return load_four(table_RD, row * size + column)
    a = table_RD[row, column]
    b = table_RD[row, column + 1] if column + 1 < size else float32(0)
    c = table_RD[row, column + 2] if column + 2 < size else float32(0)
    d = table_RD[row, column + 3] if column + 3 < size else float32(0)
    return a, b, c, d


@cuda.jit(device=True)
def store_line(table_RD, row, column, values, is_wide):
    """Write four numbers of a row from a column on; those past its end are dropped."""
    size = table_RD.shape[1]
    if column < size and is_wide:
        store_four(table_RD, row * size + column, values)
    elif column < size:
        table_RD[row, column] = values[0]
        if column + 1 < size:
            table_RD[row, column + 1] = values[1]
        if column + 2 < size:
            table_RD[row, column + 2] = values[2]
        if column + 3 < size:
            table_RD[row, column + 3] = values[3]


@cuda.jit(device=True)
def dot_four(a, b):
    """Return the inner product of four and four."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]


@cuda.jit(device=True)
def add_four(sums, scale, values):
    """Return sums + scale * values, of four. Tuples stay in registers, which an array with an index might not."""
    return (
        sums[0] + scale * values[0],
        sums[1] + scale * values[1],
        sums[2] + scale * values[2],
        sums[3] + scale * values[3],
    )


@cuda.jit(device=True)
def warp_sum(value):
    """Return the sum over the warp's lanes, in every lane."""
    value += cuda.shfl_xor_sync(ALL, value, 16)
    value += cuda.shfl_xor_sync(ALL, value, 8)
    value += cuda.shfl_xor_sync(ALL, value, 4)
    value += cuda.shfl_xor_sync(ALL, value, 2)
    return value + cuda.shfl_xor_sync(ALL, value, 1)


@cuda.jit(device=True)
def below_lane(lanes):
    """Return how many of the lanes of a mask are below this one."""
    return int64(cuda.popc(lanes & ((uint32(1) << uint32(cuda.laneid)) - uint32(1))))


@cuda.jit(device=True)
def sum_below(value):
    """Return the sum over this lane and those below it."""
    lane = cuda.laneid
    for step in (1, 2, 4, 8, 16):
        below = cuda.shfl_up_sync(ALL, value, step)
        if lane >= step:
            value += below
    return value
