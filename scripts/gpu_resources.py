#!/usr/bin/env python
"""Compile every CUDA kernel for sm_80, sm_90 and sm_100 without a GPU, and print what each takes of a multiprocessor.

    python scripts/gpu_resources.py            # the table of docs/gpu.md
    python scripts/gpu_resources.py --write    # renew it there

The table ends with a digest of each module's sources: tests compile what has changed since, and take the table's word for the rest.
A module in `kernels/cuda` lists its kernels in `SIGNATURES = {"kernel": "void(float32[:, ::1], ...)"}`, the threads of their
blocks in `BLOCKS = {"kernel": threads}`, and in `SHARED_BYTES_AT_64 = {"kernel": bytes}` the shared memory that a launch adds at D=64.
Needs numba-cuda and the wheel nvidia-cuda-nvcc (its ptxas).
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/gpu.md"
BEGIN, END = "<!-- made by scripts/gpu_resources.py -->\n", "<!-- end of it -->\n"
MODULES = [path.stem for path in sorted((ROOT / "kernels/cuda").glob("*.py")) if path.stem != "__init__"]


class Chip(NamedTuple):
    """What a multiprocessor holds (CUDA C++ Programming Guide, technical specifications per compute capability)."""

    registers: int
    shared_bytes: int
    warps: int
    blocks: int


CHIPS = {
    "sm_80": Chip(65_536, 164 << 10, 64, 32),
    "sm_90": Chip(65_536, 228 << 10, 64, 32),
    "sm_100": Chip(65_536, 228 << 10, 64, 32),
}


class Use(NamedTuple):
    """What one kernel takes."""

    registers: int  # of a thread
    shared_bytes: int  # of a block
    spilled_bytes: int
    stack_bytes: int
    threads: int  # of a block

    def occupancy(self, chip: Chip) -> float:
        """Return the warps that a multiprocessor holds at once, as a share of the most it can hold."""
        warps = -(-self.threads // 32)
        of_a_warp = -(-self.registers * 32 // 256) * 256
        by_registers = 4 * (chip.registers // 4 // of_a_warp) // warps  # each of four schedulers has a quarter of them
        shared = -(-(self.shared_bytes + 1024) // 128) * 128  # 1 KB is the system's
        blocks = min(chip.blocks, chip.warps // warps, by_registers, chip.shared_bytes // shared)
        return blocks * warps / chip.warps


def sources_of(module: str) -> list[Path]:
    """Return the files of a module of kernels and of what it imports from the kernels, in turn."""
    found: set[Path] = set()
    waiting = [ROOT / f"kernels/cuda/{module}.py"]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                others = [file.parents[node.level - 1].joinpath(*name.split(".")).with_suffix(".py") for name in names]
                waiting += [other for other in others if other.is_file()]
    return sorted(found)


def digest_of(module: str) -> str:
    """Return a digest of a module's sources."""
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in sources_of(module))).hexdigest()[:12]


def changed() -> list[str]:
    """Return the modules that are no longer those of the page: all, where it names other compilers than these."""
    page = on_the_page()
    if page.splitlines()[0] != compilers():
        return MODULES
    return [module for module in MODULES if f"{module} {digest_of(module)}" not in page]


def compiled_to_ptx(architecture: str, modules: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return PTX of every listed kernel of the modules, and which kernels there are; runs in a process of its own, without the simulator."""
    from numba import cuda
    from numba.cuda import dispatcher

    capability = divmod(int(architecture[3:]), 10)
    # Device functions ask the current device what to compile for, even where none is needed
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    answer: dict[str, dict[str, Any]] = {}
    for module_name in modules:
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
            "blocks": getattr(module, "BLOCKS", {}),
            "shared": getattr(module, "SHARED_BYTES_AT_64", {}),
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
            except Exception as error:  # whatever it is, the caller names this kernel
                answer[module_name]["errors"][name] = f"{type(error).__name__}: {error}"
    return answer


def in_own_process(architecture: str, modules: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return what `compiled_to_ptx` does, from a process that imports Numba anew."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "ptx.json")
        command = [sys.executable, __file__, "--compile", architecture, "--modules", *modules, "--to", target]
        subprocess.run(command, env=environment, check=True, timeout=600)
        return json.loads(target.read_text())


def all_compiled(modules: Iterable[str] = MODULES) -> dict[str, dict[str, dict[str, Any]]]:
    """Return `compiled_to_ptx` of each architecture."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(CHIPS, pool.map(in_own_process, CHIPS, [modules] * len(CHIPS)), strict=True))


def assembler() -> Path:
    """Return the ptxas of the wheel nvidia-cuda-nvcc.

    Raises:
        FileNotFoundError: it is not installed.
    """
    try:
        return next(Path(file.locate()) for file in files("nvidia-cuda-nvcc") or [] if file.name == "ptxas")
    except (PackageNotFoundError, StopIteration):
        raise FileNotFoundError("needs the package nvidia-cuda-nvcc, for its ptxas") from None


def assembled(ptxas: Path, architecture: str, module: dict[str, Any], name: str) -> Use:
    """Assemble a kernel and return what it takes.

    Raises:
        RuntimeError: it computes in float64, a Python float or a wide integer having leaked in; ptxas refuses, or has to spill registers.
    """
    if doubles := [line.strip() for line in module["ptx"][name].splitlines() if ".f64" in line]:
        raise RuntimeError("\n".join([f"float64 in {name} for {architecture}:", *doubles[:10]]))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(module["ptx"][name])
        command = [ptxas, "-v", f"-arch={architecture}", "--warn-on-spills", "-Werror", source]
        done = subprocess.run([*command, "-o", Path(folder, "kernel.cubin")], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} for {architecture}: {done.stdout}{done.stderr}")

    def number(pattern: str) -> int:
        return sum(map(int, re.findall(pattern, done.stderr)))

    return Use(
        number(r"Used (\d+) registers"),
        number(r"(\d+) bytes smem") + module["shared"].get(name, 0),
        number(r"(\d+) bytes spill stores"),
        number(r"(\d+) bytes stack frame"),
        module["blocks"][name],
    )


def compilers() -> str:
    """Return the first line of the table."""
    packages = [("ptxas", "nvidia-cuda-nvcc"), ("numba-cuda", "numba-cuda"), ("Numba", "numba")]
    return (
        f"Registers a thread / occupancy, by {', '.join(f'{name} {version(package)}' for name, package in packages)}."
    )


def table_of(uses: dict[tuple[str, str], dict[str, Use]]) -> str:
    """Return the table in Markdown, from each kernel's use by architecture."""
    lines = [
        compilers(),
        "",
        f"| kernel | threads | shared bytes | spilled | {' | '.join(CHIPS)} |",
        f"|---|---|---|---|{'---|' * len(CHIPS)}",
    ]
    for (module, name), by_chip in uses.items():
        first = by_chip["sm_80"]
        cells = [f"{use.registers} / {use.occupancy(CHIPS[chip]):.0%}" for chip, use in by_chip.items()]
        spilled = sum(use.spilled_bytes + use.stack_bytes for use in by_chip.values())
        lines.append(
            f"| `{module}.{name}` | {first.threads} | {first.shared_bytes:,} | {spilled} | {' | '.join(cells)} |"
        )
    digests = ", ".join(f"{module} {digest_of(module)}" for module in MODULES)
    return "\n".join([*lines, "", f"<!-- of {digests} -->"]) + "\n"


def all_uses(ptx: dict[str, dict[str, dict[str, Any]]]) -> dict[tuple[str, str], dict[str, Use]]:
    """Assemble every kernel for every architecture."""
    ptxas = assembler()
    names = [(module, name) for module, found in ptx["sm_80"].items() for name in found["kernels"]]
    return {
        (module, name): {chip: assembled(ptxas, chip, ptx[chip][module], name) for chip in CHIPS}
        for module, name in names
    }


def on_the_page() -> str:
    """Return the table that docs/gpu.md holds."""
    return PAGE.read_text().split(BEGIN)[1].split(END)[0]


def main() -> None:
    """Print the table, or write it into docs/gpu.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="renew the table in docs/gpu.md")
    parser.add_argument("--compile", choices=CHIPS, help=argparse.SUPPRESS)
    parser.add_argument("--modules", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compile:
        options.to.write_text(json.dumps(compiled_to_ptx(options.compile, options.modules)))
        return
    table = table_of(all_uses(all_compiled()))
    if options.write:
        before, after = PAGE.read_text().split(BEGIN + on_the_page() + END)
        PAGE.write_text(before + BEGIN + table + END + after)
    else:
        print(table, end="")


if __name__ == "__main__":
    main()
