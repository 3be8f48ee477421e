"""How kernels are compiled in less time; each rule was measured on Numba 0.68.

- LLVM compiles the body of a `prange` loop about four times over, and Numba looks through all of it for more parallel loops. A long body
  is a function of its own, which takes the loop's number as `np.int64`: else it is compiled for two types.
- `a[...] = b` of two arrays compares their shapes, and compiles text for the error: 1 to 3 seconds. A loop does not.
- A function that only kernels call needs no entry from Python or C (`INSIDE`).
"""

from __future__ import annotations

INSIDE = {"cache": True, "nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
