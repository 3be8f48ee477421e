"""CUDA twins. Each module has the name of its CPU twin and is imported only when a device is asked for."""

from numba import config

config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # one user's list is a small launch, and meant
