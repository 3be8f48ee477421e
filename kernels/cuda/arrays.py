"""Moving arrays to and from the device; those already there (Torch tensors included) are used in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import DTypeLike


def on_device(array: Any) -> bool:
    """Return whether the array is on the device."""
    return hasattr(array, "__cuda_array_interface__") or hasattr(
        array, "__cuda_ndarray__"
    )  # Numba's own, including simulated ones


def to_device(array: Any, dtype: DTypeLike | None = None) -> Any:
    """Return the array as a Numba device array: the same memory if it is already there, else a C-contiguous copy.

    Args:
        array: NumPy, or anything with `__cuda_array_interface__`.
        dtype: type to convert a NumPy array to.

    Raises:
        ValueError: an array on the device is not C-contiguous or not of `dtype`, so it would have to be copied.
    """
    if not on_device(array):
        return cuda.to_device(np.ascontiguousarray(array, dtype))
    there = array if hasattr(array, "__cuda_ndarray__") else cuda.as_cuda_array(array)
    if not there.is_c_contiguous():
        raise ValueError("an array on the device must be C-contiguous; call .contiguous() on the tensor first")
    if dtype is not None and there.dtype != dtype:
        raise ValueError(f"an array on the device must be {np.dtype(dtype)}, got {there.dtype}; convert it first")
    return there


def give_back(array: Any, like: Any) -> Any:
    """Return a device array's values as NumPy if `like` is NumPy, else the device array itself."""
    return array if on_device(like) else array.copy_to_host()
