"""Every CUDA kernel becomes machine code for sm_80, sm_90 and sm_100: no spills, no local memory, no float64, and docs/gpu.md says what it takes.

Needs no GPU; see scripts/gpu_resources.py, which compiles. Here it compiles one module, and those whose sources are not the ones that the
page was written from; for the others the page stands, which is written only once all that is tested here holds of them.
"""

from __future__ import annotations

import ast
import sys
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


SAMPLE = "vectors"  # compiled in any case


@pytest.fixture(scope="session")
def ptx() -> dict[str, dict[str, dict]]:
    """What `compiled_to_ptx` gives for each architecture."""
    pytest.importorskip("numba_cuda")
    return gpu_resources.all_compiled(sorted({SAMPLE, *gpu_resources.changed()}))


def rows_of(table: str) -> dict[str, list[str]]:
    """The cells of a table's rows, by the kernel."""
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| `")]
    return {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows}


@pytest.fixture(scope="session")
def ptxas() -> Path:
    """The assembler."""
    try:
        return gpu_resources.assembler()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("module", MODULES)
def test_every_kernel_has_a_signature_and_a_block_size(module, ptx):
    names = sorted(name for one, name in KERNELS if one == module)
    assert names == sorted(
        name.split(".")[1] for name in rows_of(gpu_resources.on_the_page()) if name.split(".")[0] == module
    )
    if module in ptx["sm_80"]:
        found = ptx["sm_80"][module]
        assert names == found["kernels"] == found["signatures"] == sorted(found["blocks"])


@pytest.mark.parametrize("architecture", CHIPS)
@pytest.mark.parametrize(("module", "name"), [pytest.param(*kernel, id="-".join(kernel)) for kernel in KERNELS])
def test_a_kernel_assembles_without_spills_local_memory_or_float64(module, name, architecture, ptx, ptxas):
    if module in ptx[architecture]:
        found = ptx[architecture][module]
        assert name not in found["errors"], found["errors"][name]
        assert name in found["ptx"], f"kernels/cuda/{module}.py gives no SIGNATURES[{name!r}]"
        use = gpu_resources.assembled(ptxas, architecture, found, name)
        assert use.spilled_bytes == use.stack_bytes == 0
    else:
        assert rows_of(gpu_resources.on_the_page())[f"{module}.{name}"][2] == "0"


def test_the_page_says_what_each_kernel_takes(ptx, ptxas):
    """Word for word by the versions that the page names; another compiler may take other registers."""
    page = gpu_resources.on_the_page()
    same = page.splitlines()[0] == gpu_resources.compilers()
    for name, cells in rows_of(gpu_resources.table_of(gpu_resources.all_uses(ptx))).items():
        some = slice(None) if same else slice(3)
        assert rows_of(page)[name][some] == cells[some], "renew it: python scripts/gpu_resources.py --write"
    assert not same or not gpu_resources.changed(), "renew it: python scripts/gpu_resources.py --write"


def test_what_a_module_imports_counts_as_its_source():
    sources = {file.relative_to(ROOM).as_posix() for file in gpu_resources.sources_of("als_cg")}
    assert {"cuda/als_cg.py", "cuda/machine.py"} <= sources
    assert "topk.py" not in sources


def test_occupancy_is_what_the_scarcest_resource_allows():
    """Worked out by hand from the limits of compute capability 8.0 and 9.0."""
    chip = CHIPS["sm_90"]
    assert Use(32, 0, 0, 0, 256).occupancy(chip) == 1  # 8 blocks of 8 warps
    assert Use(128, 0, 0, 0, 256).occupancy(chip) == 0.25  # 2 blocks of 32,768 registers
    assert Use(129, 0, 0, 0, 256).occupancy(chip) == 0.125  # a register more, given by eight
    assert Use(32, 47 << 10, 0, 0, 32).occupancy(CHIPS["sm_80"]) == 3 / 64  # 48 KB each of 164
    assert Use(32, 47 << 10, 0, 0, 32).occupancy(chip) == 4 / 64  # of 228
    assert Use(16, 0, 0, 0, 32).occupancy(chip) == 0.5  # 32 blocks of one warp
