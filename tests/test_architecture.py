"""Who may import whom, and what no file may do. The map is in README.md and CONTRIBUTING.md."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "kernels").rglob("*.py"), *(ROOT / "recsys_dl").rglob("*.py")])
FILES = [file for file in FILES if not {"kernels", "conf"} & set(file.relative_to(ROOT).parts[1:-1])]

# rooms that every room but kernels may import: what arguments must be, what is meant by a wrong name, and how learning is whole or not at all
LOWEST = {"arguments", "learning", "names"}

# room -> rooms of ours that it may import
ALLOWED = {
    "kernels": set(),
    "arguments": {"names"},
    "names": set(),
    "learning": set(),
    "folders": {"trust", "leftovers"},
    "leftovers": set(),
    "trust": set(),
    "progress": set(),
    "threads": set(),
    "data": {"folders", "progress"},
    "losses": set(),
    "metrics": set(),
    "protocols": {"data"},
    "training": {"kernels", "data", "losses", "metrics", "protocols", "folders", "progress", "threads"},
    "models": {"kernels", "data", "losses", "metrics", "training", "protocols", "folders", "progress", "version"},
    "retrieval": {"kernels", "data", "protocols", "folders", "progress", "version"},
    "rankers": {
        "trust",
        "kernels",
        "data",
        "losses",
        "metrics",
        "training",
        "protocols",
        "folders",
        "progress",
        "version",
    },
    "rerankers": {"kernels", "data", "protocols", "progress", "folders", "version"},
    "evaluation": {"protocols", "data", "metrics", "folders", "progress"},
    "export": {"protocols", "data", "folders", "version"},
    "pipeline": {"kernels", "data", "protocols", "folders", "progress", "version"},
    "run_lists": {"protocols", "data", "pipeline"},
    "runs": {"run_lists", "progress", "trust", "protocols", "data", "evaluation", "folders", "version"},
    "fine_tuning": {"runs", "evaluation", "protocols", "data", "folders"},
    "compose": set(),
    "verbs": {
        "compose",
        "data",
        "evaluation",
        "export",
        "fine_tuning",
        "folders",
        "metrics",
        "progress",
        "retrieval",
        "runs",
        "threads",
        "training",
    },
    "__main__": {"cli"},
    "cli": {"compose", "progress", "verbs", "version"},
    "version": {
        "data",
        "protocols",
        "evaluation",
        "fine_tuning",
        "runs",
    },  # recsys_dl/__init__.py: lazily, and for type checkers
}


def room_of(file: Path) -> str:
    parts = file.relative_to(ROOT).parts
    if parts[0] == "kernels":
        return "kernels"
    name = parts[1].removesuffix(".py")
    return "version" if name == "__init__" else name


def imports_of(file: Path) -> list[tuple[str, int]]:
    """Rooms of ours that a file imports absolutely, with lines; and relative imports that leave the room."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level > len(file.relative_to(ROOT).parts) - (
            1 if file.is_relative_to(ROOT / "kernels") else 2
        ):
            found.append((f"out of its room by dots: {node.module}", node.lineno))
        for name in names:
            parts = name.split(".")
            if parts[0] == "recsys_dl":
                ours = {path.stem for path in (ROOT / "recsys_dl").iterdir()}
                found.append((parts[1] if len(parts) > 1 and parts[1] in ours else "version", node.lineno))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_arrows_point_down(file):
    room = room_of(file)
    assert room in ALLOWED, f"a new room, {room}: say in tests/test_architecture.py what it may import"
    allowed = ALLOWED[room] | {room} | (LOWEST if room != "kernels" else set())
    wrong = [(name, line) for name, line in imports_of(file) if name not in allowed]
    assert not wrong, f"{file.relative_to(ROOT)} ({room}) imports {wrong}"


def test_the_guard_sees_a_wrong_arrow(tmp_path):
    assert imports_of(ROOT / "recsys_dl/models/popularity.py")
    assert "models" not in ALLOWED["data"]


def test_only_the_edges_know_hydra():
    know = {room_of(file) for file in FILES if re.search(r"^\s*(import|from) hydra\b", file.read_text(), re.MULTILINE)}
    assert know == {"compose", "verbs"}


def test_no_room_without_a_name():
    nameless = {"utils", "util", "helpers", "helper", "common", "base", "core", "misc"}
    assert not [file for file in FILES if nameless & {part.removesuffix(".py") for part in file.parts}]


def test_files_can_be_read_at_one_sitting():
    long = {str(f.relative_to(ROOT)): n for f in FILES if (n := len(f.read_text().splitlines())) > 400}
    assert not long, f"over 400 lines: {long}"
    assert len((ROOT / "recsys_dl/cli.py").read_text().splitlines()) < 150


@pytest.mark.parametrize("statement", ["import recsys_dl", "import recsys_dl.cli", "import recsys_dl.models"])
def test_nothing_heavy_is_imported_before_it_is_asked_for(statement):
    heavy = "{'torch', 'numba', 'scipy', 'polars', 'numpy', 'hydra', 'pytorch_lightning', 'torchmetrics', 'faiss'}"
    program = f"{statement}; import sys; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
