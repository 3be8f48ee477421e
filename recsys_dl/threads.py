"""Process-wide settings: sizing the thread pools of Numba, BLAS and OpenMP to avoid oversubscription, and letting the
allocator keep freed memory."""

from __future__ import annotations

import ctypes
import os
import sys

SPINS = "1000"  # of an idle thread of GNU's OpenMP before it sleeps, some 20 microseconds; by default it takes milliseconds from the others


def usable_processors() -> frozenset[int]:
    """Return the numbers of the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def limit_threads(num_threads: int | None, *, in_requests: bool = False) -> int:
    """Limit every library to `num_threads` (None: all processors available to this process, at most the RECSYS_DL_CPUS that
    a launcher gave it); return the number.

    With `in_requests` NumPy's and SciPy's BLAS get one thread: the products of a request are small, and on a busy machine a thread that comes late is waited for.

    Call it before the libraries are imported if possible: it sets their environment variables, and limits
    those already loaded.

    Raises:
        ValueError: less than one, or more than the number of processors.
    """
    processors = len(usable_processors())
    given = min(processors, int(os.environ.get("RECSYS_DL_CPUS", processors)))
    threads = given if num_threads is None else num_threads
    if not 1 <= threads <= processors:
        raise ValueError(f"threads must be between 1 and the {processors} processors of this machine, got {threads}")
    in_blas = 1 if in_requests else threads
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    os.environ["OPENBLAS_NUM_THREADS"] = str(in_blas)
    os.environ.setdefault("MIMALLOC_ARENA_EAGER_COMMIT", "0")  # PyArrow's allocator else takes 1 GiB at once
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
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
        threadpool_limits(in_blas, "blas")
    return threads


def keep_freed_memory() -> None:
    """Let this process keep large freed blocks for reuse, instead of returning them to the system.

    Training allocates the same tens of megabytes at each step, and the system must clear new pages first: NeuMF
    at batch 8192 trained 1.5 times as fast with this. It cannot be undone, so only the command does it; your own program
    may too. Does nothing if the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    trim_threshold, mmap_threshold = -1, -3  # mallopt(3)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)
