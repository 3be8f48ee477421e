# mypy: ignore-errors
"""A linear solver for ONNX, which has none: Gauss-Jordan elimination in an ONNX loop. B batch, D unknowns."""

from onnxscript import DOUBLE, script
from onnxscript import opset18 as op


@script(default_opset=op)
def solve_positive(matrix_BDD: DOUBLE, right_BDR: DOUBLE) -> DOUBLE:
    """Return x [B, D, R] of matrix x = right, for positive definite matrices, without pivoting."""
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
    """Replacement of `torch.linalg.solve_ex` for positive definite matrices, traced by the exporter."""
    return solve_positive(matrix, right), op.Constant(value_int=0)
