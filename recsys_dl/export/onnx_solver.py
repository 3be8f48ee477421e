# mypy: ignore-errors
"""A solver for ONNX, which has none: Gauss-Jordan elimination in a loop of its own operators. B batch, D unknowns."""

from onnxscript import DOUBLE, script
from onnxscript import opset18 as op


@script(default_opset=op)
def solve_positive(matrix_BDD: DOUBLE, right_BDR: DOUBLE) -> DOUBLE:
    """Return x [B, D, R] of matrix x = right, for positive definite matrices: no pivot is looked for."""
    last, before, second = op.Constant(value_ints=[-1]), op.Constant(value_ints=[-2]), op.Constant(value_ints=[1])
    sizes = op.Shape(matrix_BDD, start=-1)
    size = op.Squeeze(sizes)
    table = op.Concat(matrix_BDD, right_BDR, axis=-1)
    rows_D1 = op.Unsqueeze(op.Range(op.Constant(value_int=0), size, op.Constant(value_int=1)), second)
    for d in range(size):
        row = op.Gather(table, d, axis=-2)
        pivot = op.Unsqueeze(row / op.Unsqueeze(op.Gather(row, d, axis=-1), last), before)
        column = op.Unsqueeze(op.Gather(table, d, axis=-1), last)
        table = op.Where(op.Equal(rows_D1, d), pivot, table - column * pivot)
    return op.Slice(table, sizes, op.Shape(table, start=-1), last)


def solve_ex(matrix, right, left=True, check_errors=False):
    """Return what `torch.linalg.solve_ex` does of positive definite matrices; the exporter traces it."""
    return solve_positive(matrix, right), op.Constant(value_int=0)
