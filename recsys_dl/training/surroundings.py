"""Running under our own global settings, and restoring the host program's."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

# environment variables set by Lightning and Torch: for deterministic training, for GPU detection, and on import
VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "PYTORCH_NVML_BASED_CUDA_CHECK", "TORCHINDUCTOR_CACHE_DIR")
NO_MEMORY = "can't allocate memory"  # in Torch's RuntimeError on a CPU
ADVICE = (
    "lower model.batch_size, model.embedding_size or model.num_negatives, set trainer.accumulate, or divide the tables of gmf, mlp, neumf "
    "and, with model.softmax=sampled, towers among processes: trainer.shard_tables=true trainer.processes=2"
)
Function = TypeVar("Function", bound=Callable[..., Any])


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Compute in float32 with gradients, without autocast and inference mode, with our own random generators; restore everything afterwards.

    Restored are the states of Python's and Torch's random generators, Torch's default dtype and device, its settings for deterministic
    algorithms and float32 matmul precision, and warning filters. On a GPU the matmul precision stays the host's.
    """
    cuda = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    products, kind = torch.get_float32_matmul_precision(), torch.get_default_dtype()
    strict, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    benchmark, drawn = torch.backends.cudnn.benchmark, random.getstate()
    variables = {name: os.environ.get(name) for name in VARIABLES}
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=cuda))
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        _leave_autocast(stack)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        try:
            torch.set_default_dtype(torch.float32)
            if not torch.cuda.is_available():
                torch.set_float32_matmul_precision("highest")
            _be_deterministic(False, False)
            yield
        finally:
            torch.set_default_dtype(kind)
            torch.set_float32_matmul_precision(products)
            _be_deterministic(strict, warn_only)
            torch.backends.cudnn.benchmark = benchmark
            random.setstate(drawn)
            for name, value in variables.items():
                _restore(name, value)


@contextlib.contextmanager
def scoring() -> Iterator[None]:
    """Compute scores in the tensors' own dtypes and without gradients, regardless of the host program's autocast or inference mode."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        _leave_autocast(stack)
        yield


@contextlib.contextmanager
def enough_memory(device: torch.device) -> Iterator[None]:
    """Raise MemoryError, with advice, for any error of Torch or NumPy that says that an allocation failed."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        said = str(error)
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError) and NO_MEMORY not in said:
            raise
        if ADVICE in said:  # raised by a block within
            raise
        first = said.splitlines()[0] if said else type(error).__name__
        raise MemoryError(f"training needs more memory than {device} has ({first}); {ADVICE}") from error


def with_own_settings(function: Function) -> Function:
    """Wrap a function to run under `own_settings`."""

    @functools.wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        with own_settings():
            return function(*arguments, **named)

    return run  # type: ignore[return-value]


def _leave_autocast(stack: contextlib.ExitStack) -> None:
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            stack.enter_context(torch.autocast(device, enabled=False))


def _be_deterministic(strict: bool, warn_only: bool) -> None:
    """Set Torch's setting for deterministic algorithms, if it is another: that imports Torch's compiler, which takes a second."""
    if (strict, warn_only) != (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    ):
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)


def _restore(variable: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = value
