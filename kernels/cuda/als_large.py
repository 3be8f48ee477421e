"""Exact solutions of many columns on a GPU, for `als`: matrices by `als_long`, their Cholesky factors by cuSOLVER, through Torch.

R rows, L of them at a time, D embedding size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..device import simulated
from .als_long import normal_equations

LIFTS = [
    10.0**power for power in range(-6, 1)
]  # of the diagonal, where rounding leaves a matrix that is not positive definite


def solve_large(indptr: np.ndarray, entries: Any, penalties: Any, fixed: Any, gram: Any, solved: Any) -> None:
    """Write the solutions of all rows to `solved` [R, D]; as many matrices are held at once as `als_long.PARTS_BYTES` allows, twice.

    Raises:
        RuntimeError: Torch is built without CUDA.
    """
    penalties_R, solved_RD = _tensor(penalties), _tensor(solved)
    for rows, matrices, rights in normal_equations(np.arange(len(indptr) - 1), indptr, entries, fixed, gram):
        some = slice(int(rows[0]), int(rows[-1]) + 1)
        solved_RD[some] = solutions(_tensor(matrices), _tensor(rights), penalties_R[some])


def solutions(matrices_LDD: Any, rights_LD: Any, penalties_L: Any) -> Any:
    """Return x_l with (matrix_l + penalty_l) x_l = right_l, Torch tensors of any one device; the matrices are overwritten."""
    import torch

    diagonals_LD = matrices_LDD.diagonal(dim1=1, dim2=2)
    diagonals_LD += penalties_L[:, None]
    factors_LDD, failed_L = torch.linalg.cholesky_ex(matrices_LDD)
    for lift in LIFTS:
        (some,) = failed_L.nonzero(as_tuple=True)
        if not len(some):
            break
        diagonals_LD[some] *= 1 + lift
        factors_LDD[some], failed_L[some] = torch.linalg.cholesky_ex(matrices_LDD[some])
    return torch.cholesky_solve(rights_LD[:, :, None], factors_LDD)[:, :, 0]


def _tensor(array: Any) -> Any:
    """Return a device array as a Torch tensor of the same memory; on the CPU where the GPU is simulated."""
    import torch

    if simulated():
        return torch.from_numpy(np.asarray(array))
    if not torch.cuda.is_available():
        raise RuntimeError(
            'exact solutions of so many columns on a GPU need a Torch built for CUDA: use solver="ials++", or device="cpu"'
        )
    return torch.as_tensor(array, device="cuda")
