"""Kernels beside their peers: `recsys-dl bench kernels`."""

from .kernels import JOBS, LOGS, bench_kernels

__all__ = ["JOBS", "LOGS", "bench_kernels"]
