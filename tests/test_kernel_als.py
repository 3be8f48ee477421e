"""An ALS half-step solves what it says: against float64 NumPy, on each device, for each solver."""

from contextlib import nullcontext

import numba
import numpy as np
import pytest
import scipy.sparse as sp
from conftest import SIMULATED

from recsys_dl.kernels.als import Observed, solve_rows
from recsys_dl.kernels.device import place

# Sizes that are not whole vectors, whole warps or whole tiles; one past what fits a GPU's shared memory at once.
SIZES = [1, 16, 17, 64, 127, 128, 129, 150]
SIMULATED_SIZES = [1, 5, 17]


def sizes(device):
    return SIMULATED_SIZES if device == "cuda" and SIMULATED else SIZES


def shape(device):
    return {"rows": 2, "fixed": 21} if device == "cuda" and SIMULATED else {"rows": 12, "fixed": 131}


def problem(size, *, rows=12, fixed=131, density=0.3, seed=0):
    """A few rows of weighted entries, one with every entry and one with none; the fixed rows; rows to begin with."""
    rng = np.random.default_rng(seed)
    matrix = sp.random(rows, fixed, density, format="csr", rng=rng, dtype=np.float32)
    full = sp.csr_matrix(rng.random((1, fixed), dtype=np.float32) + 0.1)
    matrix = sp.vstack([matrix, full, sp.csr_matrix((1, fixed), dtype=np.float32)]).tocsr()
    penalties = rng.uniform(0.3, 2, rows + 2).astype(np.float32)
    observed = Observed(
        matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data, 1 + matrix.data, penalties
    )
    spread = 1 / np.sqrt(size)
    fixed_SD, start_RD = (rng.normal(0, spread, (count, size)).astype(np.float32) for count in (fixed, matrix.shape[0]))
    return observed, fixed_SD, start_RD


def systems(observed, fixed_SD, all_weight):
    """The normal equations of each row in float64: (A, b) with A x = b at the minimum."""
    fixed = fixed_SD.astype(np.float64)
    gram = all_weight * fixed.T @ fixed
    for row, penalty in enumerate(observed.penalties_R.astype(np.float64)):
        mine = slice(*observed.indptr_R1[row : row + 2])
        seen = fixed[observed.indices_N[mine]]
        weights, targets = observed.weights_N[mine].astype(np.float64), observed.targets_N[mine].astype(np.float64)
        yield gram + penalty * np.eye(len(gram)) + (seen.T * weights) @ seen, seen.T @ targets


def exact(observed, fixed_SD, all_weight):
    return np.array([np.linalg.solve(*system) for system in systems(observed, fixed_SD, all_weight)])


def close(found, wanted, tolerance):
    """Relative to the largest entry: rounding in a row is of the size of its largest terms."""
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("all_weight", [0.0, 0.7])
def test_cholesky_equals_a_dense_solve(device, all_weight):
    for size in sizes(device):
        observed, fixed_SD, start_RD = problem(size, **shape(device))
        found = solve_rows(observed, fixed_SD, start_RD, all_weight=all_weight, solver="cholesky", device=device)
        # float32 keeps 6e-8; sums of 131 terms and condition numbers below 100 lose about two digits
        close(found, exact(observed, fixed_SD, all_weight), 1e-5)
        assert not found[-1].any()  # nothing observed: drawn to 0


def after_steps(observed, fixed_SD, start_RD, steps):
    """Conjugate gradients in float64."""
    rows = []
    for (matrix, right), x in zip(systems(observed, fixed_SD, 0.7), start_RD.astype(np.float64), strict=True):
        residual = right - matrix @ x
        direction = residual.copy()
        for _ in range(min(steps, len(x))):
            length = (residual @ residual) / (direction @ matrix @ direction)
            x, fresh = x + length * direction, residual - length * matrix @ direction
            direction = fresh + (fresh @ fresh) / (residual @ residual) * direction
            residual = fresh
        rows.append(x)
    return np.array(rows)


def takes_the_steps(size, steps, device, **shape):
    observed, fixed_SD, start_RD = problem(size, **shape)
    found = solve_rows(observed, fixed_SD, start_RD, all_weight=0.7, solver="cg", cg_steps=steps, device=device)
    close(found, after_steps(observed, fixed_SD, start_RD, steps), 1e-5)  # as above


@pytest.mark.parametrize("steps", [1, 3])
def test_cg_takes_the_steps_of_conjugate_gradients(device, steps):
    for size in sizes(device):
        takes_the_steps(size, steps, device, **shape(device))


@pytest.mark.parametrize(("size", "fixed"), [(36, 21), (100, 9)])
def test_cg_on_a_gpu_whose_groups_are_half_a_warp_and_a_warp(device, size, fixed):
    if device == "cpu":
        pytest.skip("concerns the GPU alone")
    takes_the_steps(size, 2, device, rows=0, fixed=fixed)


def test_exact_rows_on_a_gpu_by_blocks_of_eight_warps_and_in_segments(device, monkeypatch):
    if device == "cpu":
        pytest.skip("concerns the GPU alone")
    monkeypatch.setattr("recsys_dl.kernels.cuda.als.LONGEST", 8)
    monkeypatch.setattr("recsys_dl.kernels.cuda.als_long.SEGMENT", 5)
    observed, fixed_SD, start_RD = problem(36, rows=1, fixed=12)
    found = solve_rows(observed, fixed_SD, start_RD, all_weight=0.7, device=device)
    close(found, exact(observed, fixed_SD, 0.7), 1e-5)


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("als_narrow.KEPT_BYTES", 384),  # rows gathered again at each product
        ("als.LONGEST", 8),  # rows split into segments, of which one is short
        ("als.WIDEST", 0),  # vectors in shared memory
    ],
)
def test_cg_on_a_gpu_past_its_limits(device, monkeypatch, limit, value):
    if device == "cpu":
        pytest.skip("concerns the GPU alone")
    monkeypatch.setattr(f"recsys_dl.kernels.cuda.{limit}", value)
    monkeypatch.setattr("recsys_dl.kernels.cuda.als.LONGEST_PER_COLUMN", 0)
    monkeypatch.setattr("recsys_dl.kernels.cuda.als_long.SEGMENT", 18)
    takes_the_steps(17, 2, device, **shape(device))


@pytest.mark.parametrize("solver", ["cholesky", "cg", "ials++"])
@pytest.mark.parametrize("held", [1, 3])  # matrices: a row is one segment, or up to three; a row at a time
def test_long_rows_on_a_gpu_by_every_solver_and_size_of_memory(device, monkeypatch, solver, held):
    if device == "cpu":
        pytest.skip("concerns the GPU alone")
    from cuda_scheduler import shuffled

    size = 17
    for name, value in {
        "als.LONGEST": 4,
        "als.LONGEST_PER_COLUMN": 0,
        "als.WIDEST": 0,  # conjugate gradients of many columns
        "als_long.SEGMENT": 5,
        "als_long.PARTS_BYTES": held * 4 * size**2,
    }.items():
        monkeypatch.setattr(f"recsys_dl.kernels.cuda.{name}", value)
    observed, fixed_SD, start_RD = problem(size, rows=1, fixed=12)
    with shuffled(held) if SIMULATED else nullcontext():
        found = solve_rows(
            observed, fixed_SD, start_RD, all_weight=0.7, solver=solver, cg_steps=2, block_size=16, device=device
        )
    wanted = {
        "cholesky": lambda: exact(observed, fixed_SD, 0.7),
        "cg": lambda: after_steps(observed, fixed_SD, start_RD, 2),
        "ials++": lambda: after_blocks(observed, fixed_SD, start_RD, 16),
    }
    close(found, wanted[solver](), 1e-5)  # as above


def after_blocks(observed, fixed_SD, start_RD, block):
    """A pass of iALS++ in float64."""
    rows = []
    for (matrix, right), x in zip(systems(observed, fixed_SD, 0.7), start_RD.astype(np.float64), strict=True):
        for begin in range(0, len(x), block):
            mine = slice(begin, begin + block)
            x[mine] += np.linalg.solve(matrix[mine, mine], (right - matrix @ x)[mine])
        rows.append(x)
    return np.array(rows)


def test_ials_takes_exact_steps_block_after_block(device):
    size, block = 33, 16
    observed, fixed_SD, start_RD = problem(size, rows=2, fixed=20)
    found = solve_rows(observed, fixed_SD, start_RD, all_weight=0.7, solver="ials++", block_size=block, device=device)
    close(found, after_blocks(observed, fixed_SD, start_RD, block), 1e-5)  # as above


@pytest.mark.parametrize("solver", ["cg", "ials++"])
def test_repeated_half_steps_reach_the_exact_solution(device, solver):
    size, times = (17, 12) if device == "cuda" and SIMULATED else (48, 40)
    observed, fixed_SD, rows = problem(size, **shape(device))
    wanted = exact(observed, fixed_SD, 0.7)
    for _ in range(times // 4 if solver == "cg" else times):
        rows = solve_rows(
            observed, fixed_SD, rows, all_weight=0.7, solver=solver, cg_steps=6, block_size=16, device=device
        )
    close(rows, wanted, 1e-4)  # convergence, not rounding, decides


def test_one_block_of_all_columns_is_exact():
    observed, fixed_SD, start_RD = problem(50)
    found = solve_rows(observed, fixed_SD, start_RD, solver="ials++", block_size=64, device="cpu")
    close(found, exact(observed, fixed_SD, 0.0), 1e-5)


def test_rows_longer_than_the_buffer():
    observed, fixed_SD, start_RD = problem(64, rows=2, fixed=4001)
    for solver, tolerance in (("cholesky", 1e-5), ("cg", 1e-4), ("ials++", 1e-3)):
        found = start_RD
        for _ in range(1 if solver == "cholesky" else 8):
            found = solve_rows(observed, fixed_SD, found, all_weight=0.1, solver=solver, cg_steps=8, device="cpu")
        close(found, exact(observed, fixed_SD, 0.1), tolerance)  # the last two: after so many steps


@pytest.mark.parametrize("held", [1, 100])  # matrices: a row of one segment at a time, or all
def test_a_matrix_that_shared_memory_cannot_hold_is_factorized_by_torch(device, monkeypatch, held):
    if device == "cpu":
        pytest.skip("concerns the GPU alone")
    monkeypatch.setattr("recsys_dl.kernels.cuda.als.SHARED_BYTES", 800)  # 84 too few
    monkeypatch.setattr("recsys_dl.kernels.cuda.als_long.SEGMENT", 16)
    monkeypatch.setattr("recsys_dl.kernels.cuda.als_long.PARTS_BYTES", held * 4 * 5**2)
    observed, fixed_SD, start_RD = problem(5, **shape(device))
    found = solve_rows(observed, fixed_SD, start_RD, all_weight=0.7, device=device)
    close(found, exact(observed, fixed_SD, 0.7), 1e-5)
    with pytest.raises(ValueError, match="5 columns together are too many for a GPU: use a smaller block_size"):
        solve_rows(observed, fixed_SD, start_RD, solver="ials++", device=device)


@pytest.mark.parametrize("size", [1, 137, 300])
def test_torch_solves_what_it_says(size):
    """On Torch's CPU here, on its GPU there."""
    import torch

    from recsys_dl.kernels.cuda.als_large import solutions

    observed, fixed_SD, _ = problem(size)
    made = list(systems(observed, fixed_SD, 0.7))
    penalties = observed.penalties_R
    matrices = np.array([matrix - penalty * np.eye(size) for (matrix, _), penalty in zip(made, penalties, strict=True)])
    rights = np.array([right for _, right in made])
    for where in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        arrays = (torch.from_numpy(array.astype(np.float32)).to(where) for array in (matrices, rights, penalties))
        close(solutions(*arrays).cpu().numpy(), exact(observed, fixed_SD, 0.7), 1e-5)


def test_torch_solves_what_rounding_has_made_indefinite():
    import torch

    from recsys_dl.kernels.cuda.als_large import solutions

    rng = np.random.default_rng(0)
    rank_one = rng.normal(0, 10, 40).astype(np.float32)
    matrices = np.stack([np.outer(rank_one, rank_one), np.eye(40, dtype=np.float32), -np.eye(40, dtype=np.float32)])
    rights = np.stack([rank_one, rank_one, rank_one])
    assert torch.linalg.cholesky_ex(torch.from_numpy(matrices))[1][0] > 0
    found = solutions(*map(torch.from_numpy, (matrices.copy(), rights, np.full(3, 1e-6, np.float32)))).numpy()
    assert np.isfinite(found[:2]).all()
    np.testing.assert_allclose(found[0] @ rank_one, 1, rtol=0.1)  # the product is determined, the vector is not
    np.testing.assert_allclose(found[1], rank_one / (1 + 1e-6), rtol=1e-6)  # not touched by the first


def test_arrays_on_the_device_stay_there(device):
    if device == "cpu":
        pytest.skip("concerns the GPU alone")
    observed, fixed_SD, start_RD = problem(5, **shape(device))
    there = Observed(*place(observed, device))
    found = solve_rows(there, *place((fixed_SD, start_RD), device), all_weight=0.7, device=device)
    assert not isinstance(found, np.ndarray)
    np.testing.assert_array_equal(
        found.copy_to_host(), solve_rows(observed, fixed_SD, start_RD, all_weight=0.7, device=device)
    )


@pytest.mark.parametrize("solver", ["cholesky", "cg", "ials++"])
def test_the_number_of_threads_changes_no_bit(solver):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs two processors")
    observed, fixed_SD, start_RD = problem(40, rows=300, fixed=2500, density=0.02)
    results = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        results.append(solve_rows(observed, fixed_SD, start_RD, all_weight=0.5, solver=solver, device="cpu"))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("solver", ["cholesky", "cg", "ials++"])
def test_columns_that_say_the_same_do_no_harm(device, solver):
    observed, fixed_SD, start_RD = problem(5, **shape(device))
    fixed_SD[:] = 100 * fixed_SD[:, :1]  # of rank one: rounding makes the matrix indefinite
    observed = observed._replace(penalties_R=np.full_like(observed.penalties_R, 1e-6))
    found = solve_rows(observed, fixed_SD, 0 * start_RD, solver=solver, device=device)
    assert np.isfinite(found).all()
    wanted = exact(observed._replace(penalties_R=observed.penalties_R + 1e-3), fixed_SD, 0.0)
    # The embeddings are not determined, the products are: up to rounding (1e-7) over the least pivot allowed (1e-6).
    np.testing.assert_allclose(found @ fixed_SD.T, wanted @ fixed_SD.T, atol=0.1 * np.abs(wanted @ fixed_SD.T).max())


def test_no_rows_and_no_entries(device):
    empty = Observed(np.zeros(1, np.int64), *(np.zeros(0, kind) for kind in (np.int32, *3 * [np.float32])))
    fixed_SD = np.ones((3, 4), np.float32)
    for solver in ("cholesky", "cg", "ials++"):
        none = solve_rows(empty, fixed_SD, np.zeros((0, 4), np.float32), solver=solver, device=device)
        assert none.shape == (0, 4)
        two = empty._replace(indptr_R1=np.zeros(3, np.int64), penalties_R=np.ones(2, np.float32))
        drawn = solve_rows(two, fixed_SD, np.ones((2, 4), np.float32), all_weight=1.0, solver=solver, device=device)
        np.testing.assert_allclose(drawn, 0, atol=1e-6)


def test_what_does_not_fit_together():
    observed, fixed_SD, start_RD = problem(5)
    with pytest.raises(ValueError, match=r'solver must be "cholesky", "cg" or "ials\+\+", got \'lu\''):
        solve_rows(observed, fixed_SD, start_RD, solver="lu", device="cpu")
    with pytest.raises(ValueError, match="start, fixed rows, indptr and penalties"):
        solve_rows(observed, fixed_SD[:, :4], start_RD, device="cpu")
    with pytest.raises(ValueError, match="cg_steps and block_size must be at least 1, got 0"):
        solve_rows(observed, fixed_SD, start_RD, solver="cg", cg_steps=0, device="cpu")


def test_conjugate_gradients_on_a_gpu_know_how_much_shared_memory_there_is():
    from recsys_dl.kernels.cuda.als import SHARED_BYTES, WARPS, cg_memory

    for size in (1, 64, 1000, 1228, 1229, 1365, 1366, 1536):
        kept, shared = cg_memory(size)
        assert kept >= 1
        assert shared == 4 * (kept + 3 + WARPS) * size <= SHARED_BYTES
    with pytest.raises(
        ValueError, match=r'solver="cg" on a GPU takes an embedding_size of at most 1,536, got 1,537.*ials\+\+'
    ):
        cg_memory(1537)
