"""Where a run was made: code, libraries, hardware, environment variables, launcher. Recorded in its manifest."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from recsys_dl.threads import usable_processors

LIBRARIES = (
    *("numpy", "scipy", "numba", "polars", "torch", "pytorch-lightning", "scikit-learn", "hydra-core"),
    *("numba-cuda", "faiss-cpu", "faiss-gpu-cu12", "lightgbm"),  # optional
)
# Environment variables that may change results or speed. Others may hold secrets, and are never recorded.
PREFIXES = ("OMP_", "NUMBA_", "OPENBLAS_", "MKL_", "KMP_", "NCCL_", "GLOO_")
VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_CUDA_ALLOC_CONF"),
    *("RECSYS_DL_LAUNCHER", "RECSYS_DL_TRUST", "PYTHONHASHSEED", "TORCHELASTIC_RUN_ID"),
    *("WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK"),
    *("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_PARTITION", "SLURM_JOB_NUM_NODES"),
    *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE", "SLURM_JOB_NODELIST"),
)
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")
LONGEST = 200  # characters of a variable's value


def provenance() -> dict[str, Any]:
    """Return everything about this process that a later run should share to give the same numbers, as plain values."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "versions": _versions(),
        "hardware": hardware(),
        "environment": environment(os.environ),
        **launched(os.environ),
    }


def hardware() -> dict[str, Any]:
    """Return the processor's model, the processors that this process may use, bytes of memory, and GPUs with their driver."""
    usable = len(usable_processors())
    return {"processor": _processor(), "processors": usable, "memory_bytes": memory_limit(), "gpus": _gpus()}


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that may change results or speed; no other is ever read, since it may be a secret."""
    kept = {
        name: value[:LONGEST]
        for name, value in variables.items()
        if (name in VARIABLES or name.startswith(PREFIXES)) and not any(word in name.upper() for word in SECRET)
    }
    return dict(sorted(kept.items()))


def launched(variables: Mapping[str, str]) -> dict[str, str | None]:
    """Return the launcher, such as "slurm" or "torchrun", and its job id; None for a command typed by hand.

    `RECSYS_DL_LAUNCHER` names a launcher that sets no variables of its own.
    """
    array, task = variables.get("SLURM_ARRAY_JOB_ID"), variables.get("SLURM_ARRAY_TASK_ID")
    slurm = f"{array}_{task}" if array and task else variables.get("SLURM_JOB_ID")
    elastic = variables.get("TORCHELASTIC_RUN_ID")
    found = "torchrun" if elastic is not None else "slurm" if slurm else None
    return {"launcher": variables.get("RECSYS_DL_LAUNCHER") or found, "job": slurm or elastic}


def memory_limit() -> int:
    """Return the bytes of memory that this process may use: the machine's, or less if its control group is limited."""
    total = int(psutil.virtual_memory().total)
    limits = []
    for file in _memory_limits():
        text = file.read_text().strip()
        limits += [int(text)] if text.isdigit() else []  # "max": none
    return min([total, *limits])


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _memory_limits() -> list[Path]:
    """Return the files with the memory limits of this process's control group (version 2) and of those above it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    inside = next((line[len("0::/") :] for line in lines if line.startswith("0::/")), None)
    if inside is None:
        return []
    group = Path("/sys/fs/cgroup") / inside
    homes = [group, *group.parents][: len(Path(inside).parts) + 1]
    return [file for home in homes if (file := home / "memory.max").is_file()]


def _processor() -> str:
    """Return the processor's model as its maker names it."""
    file = Path("/proc/cpuinfo")
    if file.is_file():
        for line in file.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """Return name, memory and driver of each NVIDIA GPU."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    return answer.stdout.strip().splitlines() if answer.returncode == 0 else []


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that is not installed
    return found


def commit() -> str | None:
    """Return the commit of the checkout this package runs from, "+changes" if it is not clean; None outside a checkout."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return None
    answer = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or None
