"""Re-ranking of lists: rules, diversity, calibration, exploration. Numba on the CPU; lists are short, so no CUDA twins."""
