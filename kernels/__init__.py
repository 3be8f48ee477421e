"""Arithmetic on arrays: Numba CPU kernels, and their CUDA twins in `cuda/`. Imports numpy and numba, nothing of ours."""
