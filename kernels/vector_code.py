"""What vector code in kernels is written with: arguments, places, vectors and a loop that keeps its sums in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba import types
from numba.core import cgutils

from .tile import spread

ir = cgutils.ir
LANE = ir.IntType(32)
size_type = types.uint64


class VectorCode:
    """Code of an intrinsic whose places are uint64; flat arrays are C-contiguous and not checked."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.context, self.builder, self.signature, self.arguments = context, builder, signature, arguments

    def number(self, value: int) -> Any:
        """Return a constant place."""
        return ir.Constant(ir.IntType(64), value)

    def data(self, which: int) -> Any:
        """Return the pointer to the numbers of an array among the arguments."""
        array = self.context.make_array(self.signature.args[which])
        return array(self.context, self.builder, self.arguments[which]).data

    def _place(self, data: Any, at: Any, lanes: int) -> tuple[Any, int]:
        number = data.type.pointee
        pointer = self.builder.gep(data, [at])
        return self.builder.bitcast(pointer, ir.VectorType(number, lanes).as_pointer()), _bytes(number)

    def load(self, data: Any, at: Any, lanes: int) -> Any:
        """Return the vector at a place."""
        place, align = self._place(data, at, lanes)
        return self.builder.load(place, align=align)

    def store(self, vector: Any, data: Any, at: Any) -> None:
        """Write a vector to a place."""
        place, align = self._place(data, at, vector.type.count)
        self.builder.store(vector, place, align=align)

    def spread(self, data: Any, at: Any, lanes: int) -> Any:
        """Return the number at a place in every lane."""
        return spread(self.builder, self.builder.load(self.builder.gep(data, [at])), lanes)

    def add_product(self, one: Any, other: Any, total: Any) -> Any:
        """Return total + one * other, rounded once where that is an instruction: a product and a sum apart may be merged in one place only."""
        vector = isinstance(one.type, ir.VectorType)
        kind = f"f{8 * _bytes(one.type.element if vector else one.type)}"
        name = f"llvm.fmuladd.{f'v{one.type.count}' if vector else ''}{kind}"
        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(one.type, [one.type] * 3), name)
        return self.builder.call(function, [one, other, total])

    def mixed(self, one: Any, other: Any, lanes: Sequence[int]) -> Any:
        """Return a vector of chosen lanes of two vectors, those of the second numbered after those of the first."""
        return self.builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(LANE, len(lanes)), list(lanes)))

    def loop(
        self, start: Any, end: Any, step: int, totals: Sequence[Any], body: Callable[[Any, list[Any]], list[Any]]
    ) -> list[Any]:
        """Run `body` from `start` to below `end`, and return what becomes of `totals`."""
        builder, before = self.builder, self.builder.block
        head, inside, done = (
            builder.append_basic_block(name) for name in ("vector.head", "vector.body", "vector.done")
        )
        builder.branch(head)
        builder.position_at_end(head)
        k, phis = builder.phi(start.type), [builder.phi(total.type) for total in totals]
        builder.cbranch(builder.icmp_unsigned("<", k, end), inside, done)
        builder.position_at_end(inside)
        more, next_k = body(k, phis), builder.add(k, self.number(step))
        builder.branch(head)
        for phi, first, later in ((k, start, next_k), *zip(phis, totals, more, strict=True)):
            phi.add_incoming(first, before)
            phi.add_incoming(later, inside)
        builder.position_at_end(done)
        return phis


def _bytes(number: Any) -> int:
    return 8 if isinstance(number, ir.DoubleType) else 4
