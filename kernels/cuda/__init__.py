"""CUDA twins. Each module has the name of its CPU twin and is imported only when a device is requested."""

from numba import config

config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # a list for one user is a small launch, on purpose
