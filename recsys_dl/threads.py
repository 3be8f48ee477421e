"""What a process does with the machine: one place that sizes the thread pools of Numba, BLAS and OpenMP, so that they do not
oversubscribe, and that tells the allocator to keep what it has."""

from __future__ import annotations

import ctypes
import os
import sys


def limit_threads(num_threads: int | None) -> int:
    """Let every library use `num_threads` (None: all the processors this process may use); return the number.

    Call it before the libraries are imported where that is possible: it sets their environment variables, and turns
    down those that are loaded already.

    Raises:
        ValueError: less than one, or more than the processors there are.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = processors if num_threads is None else num_threads
    if not 1 <= threads <= processors:
        raise ValueError(f"threads must be between 1 and the {processors} processors of this machine, got {threads}")
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    os.environ.setdefault("NUMBA_NUM_THREADS", str(processors))
    if "numba" in sys.modules:
        import numba

        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    else:
        os.environ["NUMBA_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads)
    return threads


def keep_freed_memory() -> None:
    """Let this process keep large blocks that it frees, for the next of their size, instead of giving them back to the system.

    A training asks for the same tens of megabytes at each step, and the system hands out pages that it must clear first: NeuMF
    at batch 8192 trained half as fast again with this. It cannot be undone, so only the command does it; a program of your own
    may. Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    trim_threshold, mmap_threshold = -1, -3  # mallopt(3)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)
