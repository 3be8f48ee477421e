"""Every CUDA kernel becomes machine code for sm_80, sm_90 and sm_100: no spills, no local memory, no float64, and docs/gpu.md says what it takes.

Needs no GPU; see scripts/gpu_resources.py, which compiles.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import gpu_resources
from gpu_resources import CHIPS, MODULES, Use

ROOM = Path(__file__).parents[1] / "kernels"


def kernels_in(source: str) -> list[str]:
    """Names of the functions under `@cuda.jit` that are kernels, not device functions."""
    names = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            marks = [ast.unparse(mark) for mark in node.decorator_list]
            if any(mark.startswith("cuda.jit") and "device=True" not in mark for mark in marks):
                names.append(node.name)
    return names


KERNELS = [(module, name) for module in MODULES for name in kernels_in((ROOM / f"cuda/{module}.py").read_text())]


@pytest.fixture(scope="session")
def ptx(request: pytest.FixtureRequest) -> dict[str, dict[str, dict]]:
    """What `compiled_to_ptx` gives for each architecture, kept until a kernel or Numba changes."""
    pytest.importorskip("numba_cuda")
    sources = b"".join(path.read_bytes() for path in sorted([*ROOM.rglob("*.py"), Path(gpu_resources.__file__)]))
    key = hashlib.sha256(sources + version("numba-cuda").encode() + version("numba").encode()).hexdigest()
    kept = request.config.cache.get("recsys_dl/ptx", None)
    if kept is None or kept["key"] != key:
        kept = {"key": key, **gpu_resources.all_compiled()}
        request.config.cache.set("recsys_dl/ptx", kept)
    return kept


@pytest.fixture(scope="session")
def ptxas() -> Path:
    """The assembler."""
    try:
        return gpu_resources.assembler()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("module", MODULES)
def test_every_kernel_has_a_signature_and_a_block_size(module, ptx):
    found = ptx["sm_80"][module]
    assert found["kernels"] == found["signatures"] == sorted(found["blocks"])


@pytest.mark.parametrize("architecture", CHIPS)
@pytest.mark.parametrize(("module", "name"), [pytest.param(*kernel, id="-".join(kernel)) for kernel in KERNELS])
def test_a_kernel_assembles_without_spills_local_memory_or_float64(module, name, architecture, ptx, ptxas):
    found = ptx[architecture][module]
    assert name not in found["errors"], found["errors"][name]
    assert name in found["ptx"], f"kernels/cuda/{module}.py gives no SIGNATURES[{name!r}]"
    doubles = [line.strip() for line in found["ptx"][name].splitlines() if ".f64" in line]
    assert not doubles, f"float64 in {name}: a Python float or a wide integer leaked in\n" + "\n".join(doubles[:10])
    use = gpu_resources.assembled(ptxas, architecture, found, name)
    assert use.spilled_bytes == use.stack_bytes == 0


def test_the_page_says_what_each_kernel_takes(ptx, ptxas):
    """Word for word by the versions that the page names; another compiler may take other registers."""
    made, page = gpu_resources.table_of(gpu_resources.all_uses(ptx)), gpu_resources.on_the_page()
    if made.splitlines()[0] != page.splitlines()[0]:
        made, page = (["|".join(line.split("|")[:5]) for line in text.splitlines()[2:]] for text in (made, page))
    assert made == page, "renew it: python scripts/gpu_resources.py --write"


def test_occupancy_is_what_the_scarcest_resource_allows():
    """Worked out by hand from the limits of compute capability 8.0 and 9.0."""
    chip = CHIPS["sm_90"]
    assert Use(32, 0, 0, 0, 256).occupancy(chip) == 1  # 8 blocks of 8 warps
    assert Use(128, 0, 0, 0, 256).occupancy(chip) == 0.25  # 2 blocks of 32,768 registers
    assert Use(129, 0, 0, 0, 256).occupancy(chip) == 0.125  # a register more, given by eight
    assert Use(32, 47 << 10, 0, 0, 32).occupancy(CHIPS["sm_80"]) == 3 / 64  # 48 KB each of 164
    assert Use(32, 47 << 10, 0, 0, 32).occupancy(chip) == 4 / 64  # of 228
    assert Use(16, 0, 0, 0, 32).occupancy(chip) == 0.5  # 32 blocks of one warp
