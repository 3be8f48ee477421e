"""BLAS within parallel kernels."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

import numpy.linalg  # noqa: F401  (loads NumPy's BLAS)
import scipy.linalg.cython_blas  # noqa: F401  (np.dot in a kernel calls its BLAS, which must be loaded before its threads are limited)
from threadpoolctl import ThreadpoolController


def one_thread_each() -> AbstractContextManager[object]:
    """Let every call of BLAS or LAPACK, also from a thread of a kernel, run on its caller's thread alone: bits do not depend on threads."""
    return _libraries().limit(limits=1, user_api="blas")


@cache
def _libraries() -> ThreadpoolController:
    """Return the controller of BLAS; finding the loaded libraries takes milliseconds, so it is done once."""
    return ThreadpoolController()
