"""The simulator that stands in for a GPU finds what a GPU would punish."""

import sys
from pathlib import Path

import numpy as np
import pytest
from numba import cuda

from recsys_dl.kernels.device import simulated

pytestmark = pytest.mark.skipif(not simulated(), reason="a GPU is at hand, nothing is simulated")


@pytest.fixture(autouse=True)
def scheduler():
    pytest.importorskip("greenlet")
    from cuda_scheduler import install

    install()


def test_a_block_sums_its_values_through_shared_memory():
    @cuda.jit
    def block_sum(values_N, out):
        partial = cuda.shared.array(64, np.float32)
        thread = cuda.threadIdx.x
        partial[thread] = values_N[cuda.grid(1)]
        half = cuda.blockDim.x // 2
        while half > 0:
            cuda.syncthreads()
            if thread < half:
                partial[thread] += partial[thread + half]
            half //= 2
        if thread == 0:
            cuda.atomic.add(out, 0, partial[0])

    out = np.zeros(1, np.float32)
    block_sum[3, 64](np.arange(192, dtype=np.float32), out)
    assert out[0] == 191 * 192 / 2


def test_warps_shuffle_and_vote():
    @cuda.jit
    def butterfly(out):
        lane = cuda.laneid
        total = lane
        for bits in (16, 8, 4, 2, 1):
            total += cuda.shfl_xor_sync(0xFFFFFFFF, total, bits)
        below = cuda.shfl_up_sync(0xFFFFFFFF, lane, 1)
        out[cuda.threadIdx.x] = total + below + (cuda.ballot_sync(0xFFFFFFFF, lane == 3) == 8)

    out = np.zeros(64, np.int64)
    butterfly[1, 64](out)
    expected = 496 + np.maximum(np.arange(32) - 1, 0) + 1
    np.testing.assert_array_equal(out, np.tile(expected, 2))


def test_a_barrier_that_not_all_threads_reach_is_an_error():
    @cuda.jit
    def divergent():
        if cuda.threadIdx.x < 5:
            cuda.syncthreads()
        else:
            cuda.syncthreads()

    with pytest.raises(RuntimeError, match="wait at different places"):
        divergent[1, 32]()


@pytest.mark.parametrize("toward", [-1, 1])
def test_a_missing_barrier_shows_whichever_way_it_points(toward):
    @cuda.jit
    def neighbor(out):
        row = cuda.shared.array(32, np.float32)
        for step in range(2):
            row[cuda.threadIdx.x] = step
            out[cuda.threadIdx.x] += row[min(max(cuda.threadIdx.x + toward, 0), 31)] != step
            cuda.syncthreads()

    out = np.zeros(32, np.float32)
    neighbor[1, 32](out)
    assert out.any()


def test_memory_begins_as_garbage_in_every_block():
    @cuda.jit
    def untouched(out):
        shared = cuda.shared.array(4, np.float32)
        local = cuda.local.array(4, np.int32)
        out[cuda.blockIdx.x] = np.isnan(shared[0]) and local[0] > 1_000_000
        shared[0] = 1.0

    out = np.zeros(2, np.float32)
    untouched[2, 1](out)
    assert out.all()
    assert np.isnan(cuda.device_array(3, np.float32).copy_to_host()).all()


def test_random_orders_find_a_missing_barrier_too():
    from cuda_scheduler import shuffled

    @cuda.jit
    def neighbor(out):
        row = cuda.shared.array(32, np.float32)
        row[cuda.threadIdx.x] = 1
        out[cuda.threadIdx.x] = row[31 - cuda.threadIdx.x]

    out = np.zeros(32, np.float32)
    with shuffled(1):
        neighbor[1, 32](out)
    assert np.isnan(out).any()
    assert (out == 1).any()


@pytest.mark.parametrize("seed", [1, 2])
def test_every_kernel_is_right_in_random_orders_of_threads(seed):
    from cuda_scheduler import shuffled

    sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
    import gpu_jobs

    checks = [check for make in gpu_jobs.CHECKS for check in make(True)]
    with shuffled(seed):
        for check in checks[seed % 2 :: 2]:  # half of them by each order
            outputs = check.run([cuda.to_device(array) for array in check.inputs], "cuda")
            there = [array if isinstance(array, np.ndarray) else array.copy_to_host() for array in outputs]
            assert check.error(there) <= check.tolerance, check.job
