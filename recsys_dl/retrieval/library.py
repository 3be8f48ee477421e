"""Importing FAISS, with installation advice if it is missing, and copying an index to a GPU.

Nothing about the GPU here has ever run: see docs/retrieval.md.
"""

from __future__ import annotations

from typing import Any

from recsys_dl.kernels.device import Device
from recsys_dl.kernels.device import resolve as resolve_device

LONGEST_ON_GPU = 2048  # candidates of one search, and lists of an IVF probed


def faiss_library() -> Any:
    """Return the module faiss.

    Raises:
        ImportError: it is absent, or only its empty folder is left.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            f"this index needs FAISS, but importing it says: {error}. Install it: pip install 'recsys_dl[cpu]'"
        ) from error
    if not hasattr(faiss, "IndexFlatIP"):
        raise ImportError(
            "this index needs FAISS, and of that only an empty folder is installed, as when one of faiss-cpu and faiss-gpu "
            "was removed after both had been there. Install it anew: pip install --force-reinstall 'recsys_dl[cpu]'"
        )
    return faiss


def resolve(device: Device) -> str:
    """Return "cpu" or "cuda"; "auto" means CUDA if FAISS was built for it and finds a GPU.

    Raises:
        ValueError: another word.
        RuntimeError: "cuda" without a FAISS for GPUs, or without a GPU; says which.
    """
    return resolve_device(device, _missing)


def _missing() -> str:
    faiss = faiss_library()
    if not hasattr(faiss, "StandardGpuResources"):
        return "a FAISS built for GPUs (pip uninstall faiss-cpu, then pip install 'recsys_dl[gpu]')"
    if not faiss.get_num_gpus():  # asked first: index_cpu_to_all_gpus returns an empty index where there is none
        return "an NVIDIA GPU with a working driver; FAISS finds none"
    return ""


class OnGpu:
    """A copy of a FAISS index on the first GPU. It cannot leave items out, and returns at most LONGEST_ON_GPU.

    Args:
        index: a flat, IVF or IVF-PQ index in the memory of the CPU.

    Raises:
        MemoryError: it does not fit the GPU.
    """

    def __init__(self, index: Any) -> None:
        faiss = faiss_library()
        self._resources = faiss.StandardGpuResources()  # must outlive the index
        try:
            self.index = faiss.index_cpu_to_gpu(self._resources, 0, index)
        except RuntimeError as error:
            raise out_of_memory(error) from error


def out_of_memory(error: RuntimeError) -> Exception:
    """Return what to say of an error of FAISS: what to lower if it is for want of memory, else the error itself."""
    if "memory" not in str(error).lower():
        return error
    return MemoryError(
        f"the GPU's memory does not hold this index ({str(error).splitlines()[0]}): take ivf_pq, fewer num_subvectors, or "
        'device="cpu"'
    )
