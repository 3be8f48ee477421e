"""One reward into one linear model: its factor times a context, and the factor's update, four rows of the triangle at a time.

D numbers of a row, T = D (D + 1) / 2 numbers of a lower triangle, packed by rows.

Four rows that start at `base` have `depth` (a multiple of four) numbers each before the diagonal, and a triangle of six numbers after
them. Numba's own loops over rows this short are mostly their remainders: with these a model of 64 weights learns twice as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..compiling import INSIDE
from ..tile import spread

ir = cgutils.ir
_FOUR = ir.VectorType(ir.DoubleType(), 4)
_ZERO = ir.Constant(_FOUR, [0.0] * 4)
_size = types.uint64
NONE, ONE, TWO, FOUR = (np.uint64(n) for n in (0, 1, 2, 4))
FASTMATH = {"reassoc", "contract"}


class _Rows:
    """Code of four rows: arguments begin with the factor, where the first row starts, and the depth."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.context, self.builder, self.signature, self.arguments = context, builder, signature, arguments
        self.depth = arguments[2]
        self.bases = [arguments[1]]
        for row in range(1, 4):
            self.bases.append(builder.add(self.bases[-1], builder.add(self.depth, self.number(row))))

    def number(self, value: int) -> Any:
        """Return a constant of the type of places."""
        return ir.Constant(self.depth.type, value)

    def data(self, which: int) -> Any:
        """Return the pointer to the numbers of an array among the arguments."""
        array = self.context.make_array(self.signature.args[which])
        return array(self.context, self.builder, self.arguments[which]).data

    def load(self, data: Any, at: Any) -> Any:
        """Return the four numbers at a place."""
        return self.builder.load(self._place(data, at), align=8)

    def store(self, vector: Any, data: Any, at: Any) -> None:
        """Write four numbers to a place."""
        self.builder.store(vector, self._place(data, at), align=8)

    def _place(self, data: Any, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(data, [at]), _FOUR.as_pointer())

    def spread_each(self, which: int) -> list[Any]:
        """Return the numbers from `depth` on of an array among the arguments, one for each row, each in all four lanes."""
        numbers = self.load(self.data(which), self.depth)
        return [spread(self.builder, self.builder.extract_element(numbers, self.lane(row)), 4) for row in range(4)]

    @staticmethod
    def lane(value: int) -> Any:
        """Return a constant that names a lane."""
        return ir.Constant(ir.IntType(32), value)

    def add_product(self, one: Any, other: Any, total: Any) -> Any:
        """Return total + one * other."""
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(_FOUR, [_FOUR] * 3), "llvm.fmuladd.v4f64"
        )
        return self.builder.call(function, [one, other, total])

    def mixed(self, one: Any, other: Any, lanes: list[int]) -> Any:
        """Return a vector of chosen lanes of two."""
        return self.builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), 4), lanes))

    def loop(self, start: Any, step: int, totals: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """Run `body` from `start` to the depth, and return what becomes of `totals`."""
        builder, before = self.builder, self.builder.block
        head, inside, done = (builder.append_basic_block(name) for name in ("rows.head", "rows.body", "rows.done"))
        builder.branch(head)
        builder.position_at_end(head)
        k, phis = builder.phi(self.depth.type), [builder.phi(_FOUR) for _ in totals]
        builder.cbranch(builder.icmp_unsigned("<", k, self.depth), inside, done)
        builder.position_at_end(inside)
        more, next_k = body(k, phis), builder.add(k, self.number(step))
        builder.branch(head)
        for phi, first, later in ((k, start, next_k), *zip(phis, totals, more, strict=True)):
            phi.add_incoming(first, before)
            phi.add_incoming(later, inside)
        builder.position_at_end(done)
        return phis


@intrinsic
def _write_products(context: Any, factor: Any, base: Any, depth: Any, x: Any, out: Any) -> Any:
    """out[depth + r] = sum_k row_r[k] x[k] for the k below the depth; all arrays float64 and C-contiguous, not checked."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = _Rows(context, builder, signature, arguments)
        factor, x = rows.data(0), rows.data(3)
        # eight at a time, two sums a row; four more first where the depth is no multiple of eight, else zeros
        odd = builder.and_(rows.depth, rows.number(4))
        some = builder.icmp_unsigned("!=", odd, rows.number(0))
        first = builder.select(some, rows.load(x, rows.number(0)), _ZERO)
        totals = [builder.fmul(rows.load(factor, base), first) for base in rows.bases] + [_ZERO] * 4

        def body(k: Any, totals: list[Any]) -> list[Any]:
            more = []
            for half in range(2):
                at = builder.add(k, rows.number(4 * half))
                numbers = rows.load(x, at)
                for row, base in enumerate(rows.bases):
                    values = rows.load(factor, builder.add(base, at))
                    more.append(rows.add_product(values, numbers, totals[4 * half + row]))
            return more

        halves = rows.loop(odd, 8, totals, body)
        sums = [builder.fadd(halves[row], halves[row + 4]) for row in range(4)]
        pairs = [
            builder.fadd(rows.mixed(one, other, [0, 4, 2, 6]), rows.mixed(one, other, [1, 5, 3, 7]))
            for one, other in (sums[:2], sums[2:])
        ]
        left, right = pairs
        total = builder.fadd(rows.mixed(left, right, [0, 1, 4, 5]), rows.mixed(left, right, [2, 3, 6, 7]))
        rows.store(total, rows.data(4), rows.depth)
        return context.get_dummy_value()

    return types.void(factor, _size, _size, x, out), emit


@intrinsic
def _update_rows(context: Any, factor: Any, base: Any, depth: Any, slopes: Any, v: Any, gain: Any) -> Any:
    """For each row: row += slopes[depth + r] gain, then gain += v[depth + r] times the row before; below the depth."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = _Rows(context, builder, signature, arguments)
        factor, gain = rows.data(0), rows.data(5)
        slopes, values = rows.spread_each(3), rows.spread_each(4)

        def body(k: Any, _: list[Any]) -> list[Any]:
            gains = rows.load(gain, k)
            for base, slope, value in zip(rows.bases, slopes, values, strict=True):
                at = builder.add(base, k)
                old = rows.load(factor, at)
                rows.store(rows.add_product(slope, gains, old), factor, at)
                gains = rows.add_product(value, old, gains)
            rows.store(gains, gain, k)
            return []

        rows.loop(rows.number(0), 4, [], body)
        return context.get_dummy_value()

    return types.void(factor, _size, _size, slopes, v, gain), emit


@njit(fastmath=FASTMATH, error_model="numpy", **INSIDE)
def _products(factor_T, x_D, f_D):
    """Write the triangle, with ones on its diagonal, times x."""
    size, base = np.uint64(len(x_D)), NONE
    whole = size // FOUR * FOUR
    for low in range(NONE, whole, FOUR):
        _write_products(factor_T, base, low, x_D, f_D)
        at = base
        for row in range(low, low + FOUR):
            for k in range(low, row):
                f_D[row] += factor_T[at + k] * x_D[k]
            f_D[row] += x_D[row]
            at += row + ONE
        base = at
    for row in range(whole, size):
        f_D[row] = x_D[row]
        for k in range(NONE, row):
            f_D[row] += factor_T[base + k] * x_D[k]
        base += row + ONE


@njit(fastmath=FASTMATH, error_model="numpy", **INSIDE)
def _update_row(factor_T, base, low, high, slope, value, gain_D):
    """Update the numbers of one row from `low` on, and the gain with them."""
    for k in range(low, high):
        old = factor_T[base + k]
        factor_T[base + k] = old + slope * gain_D[k]
        gain_D[k] += value * old


@njit(fastmath=FASTMATH, error_model="numpy", **INSIDE)
def _update(factor_T, slopes_D, v_D, gain_D):
    """Update the triangle below its diagonal, and write the gain."""
    size, base = np.uint64(len(v_D)), NONE
    whole = size // FOUR * FOUR
    for low in range(NONE, whole, FOUR):
        _update_rows(factor_T, base, low, slopes_D, v_D, gain_D)
        for row in range(low, low + FOUR):
            _update_row(factor_T, base, low, row, slopes_D[row], v_D[row], gain_D)
            gain_D[row] = v_D[row]
            base += row + ONE
    for row in range(whole, size):
        _update_row(factor_T, base, NONE, row, slopes_D[row], v_D[row], gain_D)
        gain_D[row] = v_D[row]
        base += row + ONE


@njit(fastmath=FASTMATH, error_model="numpy", **INSIDE)
def learn_row(factor_T, theta_D, x_D, reward, weight, work_5D):
    """Update one model by one reward (Bierman 1977; see `linear.py`).

    Args:
        factor_T: float64, updated.
        theta_D: float64, updated.
        x_D: float64.
        reward: float64.
        weight: float64, above 0.
        work_5D: float64, to work in.
    """
    f_D, v_D, slopes_D, gain_D, total_D = work_5D[0], work_5D[1], work_5D[2], work_5D[3], work_5D[4]
    size, error, total, at = np.uint64(len(x_D)), reward, 1.0 / weight, NONE
    _products(factor_T, x_D, f_D)
    for j in range(NONE, size):
        error -= theta_D[j] * x_D[j]
        v_D[j] = factor_T[at] * f_D[j]
        at += j + TWO
    for j in range(NONE, size):
        slopes_D[j] = total
        total += f_D[j] * v_D[j]
        total_D[j] = total
    for j in range(NONE, size):  # divisions, four at a time
        total_D[j] = slopes_D[j] / total_D[j]
        slopes_D[j] = -f_D[j] / slopes_D[j]
    at = NONE
    for j in range(NONE, size):
        factor_T[at] *= total_D[j]
        at += j + TWO
    _update(factor_T, slopes_D, v_D, gain_D)
    for j in range(NONE, size):
        theta_D[j] += gain_D[j] * (error / total)
