"""CUDA twins. Each module has the name of its CPU twin and is imported only when a device is asked for."""
