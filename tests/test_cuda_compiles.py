"""Every CUDA kernel becomes machine code for sm_80, sm_90 and sm_100: no spills, no local memory, no float64. Needs no GPU.

A module in `kernels/cuda` lists its kernels in `SIGNATURES = {"kernel": "void(float32[:, ::1], ...)"}`. A kernel that needs
local memory says how much and why in `STACK_BYTES = {"kernel": bytes}`.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOM = Path(__file__).parents[1] / "kernels"
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


def kernels_in(source: str) -> list[str]:
    """Names of the functions under `@cuda.jit` that are kernels, not device functions."""
    names = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            marks = [ast.unparse(mark) for mark in node.decorator_list]
            if any(mark.startswith("cuda.jit") and "device=True" not in mark for mark in marks):
                names.append(node.name)
    return names


MODULES = [path.stem for path in sorted((ROOM / "cuda").glob("*.py")) if path.stem != "__init__"]
KERNELS = [(module, name) for module in MODULES for name in kernels_in((ROOM / f"cuda/{module}.py").read_text())]


def compiled_to_ptx(architecture: str) -> dict[str, dict]:
    """PTX of every listed kernel, and which kernels there are; runs in a process of its own, without the simulator."""
    from numba import cuda
    from numba.cuda import dispatcher

    capability = divmod(int(architecture[3:]), 10)
    # Device functions ask the current device what to compile for, even where none is needed
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    answer: dict[str, dict] = {}
    for module_name in MODULES:
        module = import_module(f"recsys_dl.kernels.cuda.{module_name}")
        signatures = getattr(module, "SIGNATURES", {})
        kernels = {
            name: value
            for name, value in vars(module).items()
            if isinstance(value, dispatcher.CUDADispatcher)
            and not value.targetoptions.get("device")
            and value.py_func.__module__ == module.__name__
        }
        answer[module_name] = {
            "kernels": sorted(kernels),
            "signatures": sorted(signatures),
            "stack": getattr(module, "STACK_BYTES", {}),
            "ptx": {},
            "errors": {},
        }
        for name in kernels.keys() & signatures.keys():
            options = kernels[name].targetoptions
            chosen = {key: options[key] for key in ("fastmath", "opt", "launch_bounds") if options.get(key) is not None}
            try:
                code, _ = cuda.compile(
                    kernels[name].py_func,
                    signatures[name],
                    device=False,
                    abi="numba",
                    output="ptx",
                    cc=capability,
                    **chosen,
                )
                answer[module_name]["ptx"][name] = code.decode() if isinstance(code, bytes) else code
            except Exception as error:  # whatever it is, the test of this kernel shows it
                answer[module_name]["errors"][name] = f"{type(error).__name__}: {error}"
    return answer


@pytest.fixture(scope="session")
def ptx(request: pytest.FixtureRequest) -> dict[str, dict[str, dict]]:
    """What `compiled_to_ptx` gives for each architecture, kept until a kernel or Numba changes."""
    pytest.importorskip("numba_cuda")
    sources = b"".join(path.read_bytes() for path in sorted([*ROOM.rglob("*.py"), Path(__file__)]))
    key = hashlib.sha256(sources + version("numba-cuda").encode() + version("numba").encode()).hexdigest()
    kept = request.config.cache.get("recsys_dl/ptx", None)
    if kept is None or kept["key"] != key:
        with ThreadPoolExecutor() as pool:
            kept = {"key": key, **dict(zip(ARCHITECTURES, pool.map(in_own_process, ARCHITECTURES), strict=True))}
        request.config.cache.set("recsys_dl/ptx", kept)
    return kept


def in_own_process(architecture: str) -> dict[str, dict]:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "ptx.json")
        subprocess.run([sys.executable, __file__, architecture, target], env=environment, check=True, timeout=600)
        return json.loads(target.read_text())


@pytest.fixture(scope="session")
def ptxas() -> Path:
    """The assembler of the wheel nvidia-cuda-nvcc."""
    try:
        return next(Path(file.locate()) for file in files("nvidia-cuda-nvcc") or [] if file.name == "ptxas")
    except (PackageNotFoundError, StopIteration):
        pytest.skip("needs the package nvidia-cuda-nvcc, for its ptxas")


@pytest.mark.parametrize("module", MODULES)
def test_every_kernel_has_a_signature(module, ptx):
    found = ptx[ARCHITECTURES[0]][module]
    assert found["kernels"] == found["signatures"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("module", "name"), [pytest.param(*kernel, id="-".join(kernel)) for kernel in KERNELS])
def test_a_kernel_assembles_without_spills_local_memory_or_float64(module, name, architecture, ptx, ptxas, tmp_path):
    found = ptx[architecture][module]
    assert name not in found["errors"], found["errors"][name]
    assert name in found["ptx"], f"kernels/cuda/{module}.py gives no SIGNATURES[{name!r}]"
    code = found["ptx"][name]
    doubles = [line.strip() for line in code.splitlines() if ".f64" in line]
    assert not doubles, f"float64 in {name}: a Python float or a wide integer leaked in\n" + "\n".join(doubles[:10])

    source = tmp_path / "kernel.ptx"
    source.write_text(code)
    command = [ptxas, "-v", f"-arch={architecture}", "--warn-on-spills", "-Werror", source]
    done = subprocess.run([*command, "-o", tmp_path / "kernel.cubin"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    stack = sum(int(size) for size in re.findall(r"(\d+) bytes stack frame", done.stderr))
    assert stack <= found["stack"].get(name, 0), f"{name} uses {stack} bytes of local memory\n{done.stderr}"
    print(done.stderr)  # registers and shared memory, for `pytest -rP`


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(compiled_to_ptx(sys.argv[1])))
