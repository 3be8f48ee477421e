"""How many threads a call wakes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from numba import get_num_threads, set_num_threads


@contextmanager
def at_most(tasks: int) -> Iterator[None]:
    """Let kernels use no more threads than there are tasks, such as rows of a request: one without work is waited for all the same."""
    threads = get_num_threads()
    if tasks >= threads:
        yield
        return
    set_num_threads(max(1, tasks))
    try:
        yield
    finally:
        set_num_threads(threads)
