"""One reward into one linear model: its factor times a context, and the factor's update, four rows of the triangle at a time.

D numbers of a row, T = D (D + 1) / 2 numbers of a lower triangle, packed by rows.

Four rows that start at `base` have `depth` (a multiple of four) numbers each before a triangle of four numbers a side, the diagonal's too.
A vector of four from the triangle's first column on ends in numbers of the next rows, which are masked, and not written: what has just
been written in other pieces could not be read again without a wait. Numba's own loops over rows this short are mostly their remainders.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from ..compiling import INSIDE
from ..tile import prefetch_at, spread
from ..vector_code import LANE, VectorCode, ir, size_type

ROWS = 4  # numbers of half a register of 64 bytes
WIDE = 8  # columns at a time; twice ROWS
PIECES = (((0, 1),), ((0, 2),), ((0, 2), (2, 3)), ((0, 4),))  # of the triangle's rows: vectors that end at the diagonal
FASTMATH = {"reassoc", "contract"}
NONE, ONE, TOGETHER, CORNER, LINE = (np.uint64(n) for n in (0, 1, ROWS, ROWS * (ROWS + 1) // 2, 8))  # LINE: of a cache


def _vector(value: float, lanes: int = ROWS) -> Any:
    return ir.Constant(ir.VectorType(ir.DoubleType(), lanes), [value] * lanes)


def _lane(row: int) -> list[int]:
    """Return the lanes of one vector, but one of another."""
    return [ROWS + lane if lane == row else lane for lane in range(ROWS)]


class _Rows(VectorCode):
    """Code of some rows: arguments begin with the factor, where the first row starts, and the depth."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        super().__init__(context, builder, signature, arguments)
        self.factor, self.depth = self.data(0), arguments[2]
        self.bases = [arguments[1]]
        for row in range(1, ROWS):
            self.bases.append(builder.add(self.bases[-1], builder.add(self.depth, self.number(row))))
        self.corners = [builder.add(base, self.depth) for base in self.bases]  # the triangle's rows

    def columns(self, totals: list[Any], body: Callable[[Any, list[Any], int], list[Any]]) -> list[Any]:
        """Run `body` for all columns before the triangle, four of them first where their number is no multiple of eight."""
        begun = self.builder.and_(self.depth, self.number(WIDE - ROWS))
        totals = self.loop(self.number(0), begun, ROWS, totals, lambda k, totals: body(k, totals, ROWS))
        totals = [self.mixed(one, _vector(0.0), range(WIDE)) for one in totals]
        totals = self.loop(begun, self.depth, WIDE, totals, lambda k, totals: body(k, totals, WIDE))
        halves = [[self.mixed(one, one, range(at, at + ROWS)) for at in (0, ROWS)] for one in totals]
        return [self.builder.fadd(*pair) for pair in halves]

    def below(self, vector: Any, row: int) -> Any:
        """Return the lanes before that of a row, a one in its own, and zeros after it."""
        before = self.mixed(vector, _vector(0.0), [lane if lane < row else ROWS for lane in range(ROWS)])
        return self.mixed(before, _vector(1.0), _lane(row))

    def row_sums(self, rows: list[Any]) -> Any:
        """Return the sum of each of as many vectors as there are lanes."""
        even, odd = range(0, 2 * ROWS, 2), range(1, 2 * ROWS, 2)
        while len(rows) > 1:
            pairs = zip(rows[::2], rows[1::2], strict=True)
            rows = [self.builder.fadd(self.mixed(*pair, even), self.mixed(*pair, odd)) for pair in pairs]
        return rows[0]

    def sums_before(self, vector: Any, total: Any) -> tuple[Any, Any]:
        """Return `total` plus the numbers before each lane, and with the lane's own."""
        totals, step = spread(self.builder, total, ROWS), 1
        while step < ROWS:
            shifted = [lane - step if lane >= step else ROWS for lane in range(ROWS)]
            vector, step = self.builder.fadd(vector, self.mixed(vector, _vector(0.0), shifted)), 2 * step
        after = self.builder.fadd(vector, totals)
        return self.mixed(after, totals, [ROWS, *range(ROWS - 1)]), after

    def last(self, vector: Any) -> Any:
        """Return the last lane."""
        return self.builder.extract_element(vector, ir.Constant(LANE, ROWS - 1))

    def each(self, vector: Any, lanes: int) -> list[Any]:
        """Return vectors of one lane alone, for each lane."""
        return [self.mixed(vector, vector, [row] * lanes) for row in range(ROWS)]


@intrinsic
def _multiply_rows(context: Any, factor: Any, base: Any, depth: Any, x: Any, f: Any) -> Any:
    """Write the products of some rows, with ones on their diagonal, and x; arrays are float64."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = _Rows(context, builder, signature, arguments)
        x = rows.data(3)

        def multiply(k: Any, totals: list[Any], lanes: int) -> list[Any]:
            numbers = rows.load(x, k, lanes)
            old = [rows.load(rows.factor, builder.add(base, k), lanes) for base in rows.bases]
            return [rows.add_product(one, numbers, total) for one, total in zip(old, totals, strict=True)]

        own = rows.load(x, rows.depth, ROWS)
        sums = rows.columns([_vector(0.0)] * ROWS, multiply)
        unit = [rows.below(rows.load(rows.factor, at, ROWS), row) for row, at in enumerate(rows.corners)]
        total = rows.row_sums([rows.add_product(one, own, total) for one, total in zip(unit, sums, strict=True)])
        rows.store(total, rows.data(4), rows.depth)
        return context.get_dummy_value()

    return types.void(factor, size_type, size_type, x, f), emit


@intrinsic
def _update_rows(context: Any, factor: Any, base: Any, depth: Any, f: Any, gain: Any, total: Any) -> Any:
    """Update some rows and the gain, and return the next total.

    One row after the other, with f its product with x and d its number on the diagonal, which both take as one: the row becomes
    row - (f / total) gain, the gain grows by d f times the row before, d is multiplied by total / (total + d f^2), and the latter
    is the next total. Arrays are float64; what the gain's numbers of these rows are does not matter.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = _Rows(context, builder, signature, arguments)
        gain, f = rows.data(4), rows.load(rows.data(3), rows.depth, ROWS)
        corner = [rows.load(rows.factor, at, ROWS) for at in rows.corners]
        diagonal = corner[0]
        for row in range(1, ROWS):
            diagonal = rows.mixed(diagonal, corner[row], _lane(row))
        v = builder.fmul(diagonal, f)
        before, after = rows.sums_before(builder.fmul(f, v), arguments[5])
        slopes, shrunk = builder.fdiv(builder.fsub(_vector(-0.0), f), before), builder.fdiv(before, after)

        def update(k: Any, _: list[Any], lanes: int) -> list[Any]:
            gains = rows.load(gain, k, lanes)
            for base, slope, value in zip(rows.bases, rows.each(slopes, lanes), rows.each(v, lanes), strict=True):
                at = builder.add(base, k)
                old = rows.load(rows.factor, at, lanes)
                rows.store(rows.add_product(slope, gains, old), rows.factor, at)
                gains = rows.add_product(value, old, gains)
            rows.store(gains, gain, k)
            return []

        rows.columns([], update)
        gains, shrunk = _vector(0.0), builder.fmul(diagonal, shrunk)
        for row, (at, slope, value) in enumerate(
            zip(rows.corners, rows.each(slopes, ROWS), rows.each(v, ROWS), strict=True)
        ):
            new = rows.mixed(rows.add_product(slope, gains, corner[row]), shrunk, _lane(row))
            for first, end in PIECES[row]:
                rows.store(rows.mixed(new, new, range(first, end)), rows.factor, builder.add(at, rows.number(first)))
            gains = rows.add_product(value, rows.below(corner[row], row), gains)
        rows.store(gains, gain, rows.depth)
        return rows.last(after)

    return types.float64(factor, size_type, size_type, f, gain, types.float64), emit


@njit(fastmath=FASTMATH, error_model="numpy", **INSIDE)
def _update_row(factor_T, base, row, x_D, gain_D, total):
    """Do what `_update_rows` does for one row."""
    f = x_D[row]
    for k in range(NONE, row):
        f += factor_T[base + k] * x_D[k]
    value, slope = factor_T[base + row] * f, -f / total
    after = total + f * value
    for k in range(NONE, row):
        old = factor_T[base + k]
        factor_T[base + k] = old + slope * gain_D[k]
        gain_D[k] += value * old
    factor_T[base + row] *= total / after
    gain_D[row] = value
    return after


@njit(fastmath=FASTMATH, error_model="numpy", **INSIDE)
def learn_row(factor_T, theta_D, x_D, reward, weight, work_2D, next_T):
    """Update one model by one reward (Bierman 1977; see `linear.py`).

    Args:
        factor_T: float64, updated.
        theta_D: float64, updated.
        x_D: float64.
        reward: float64.
        weight: float64, above 0.
        work_2D: float64, to work in.
        next_T: the factor that is updated next, to be prefetched; or nothing.
    """
    f_D, gain_D = work_2D[0], work_2D[1]
    size, base, error, total = np.uint64(len(x_D)), NONE, reward, 1.0 / weight
    whole, prefetched = size // TOGETHER * TOGETHER, len(next_T) > 0
    for j in range(NONE, size):
        error -= theta_D[j] * x_D[j]
    for low in range(NONE, whole, TOGETHER):
        _multiply_rows(factor_T, base, low, x_D, f_D)
        base += TOGETHER * low + CORNER
    base = NONE
    for low in range(NONE, whole, TOGETHER):
        total = _update_rows(factor_T, base, low, f_D, gain_D, total)
        end = base + TOGETHER * low + CORNER
        if prefetched:
            for at in range(base, end, LINE):
                prefetch_at(next_T, at)
        base = end
    for row in range(whole, size):
        total = _update_row(factor_T, base, row, x_D, gain_D, total)
        base += row + ONE
    step = error / total
    for j in range(NONE, size):
        theta_D[j] += gain_D[j] * step
