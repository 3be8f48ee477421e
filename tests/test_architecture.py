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

# rooms that every room but kernels may import: what arguments must be, what is meant by a wrong name, how learning is whole or not at all
LOWEST = {"arguments", "learning", "names", "version", "lazy"}

OF_NETWORKS = {
    "kernels",
    "data",
    "losses",
    "metrics",
    "networks",
    "training",
    "protocols",
    "saving",
}  # families and rankers

# room -> rooms of ours that it may import, each lower than itself; in the order of the house, from the ground up
ALLOWED: dict[str, set[str]] = {
    "kernels": set(),
    "version": set(),
    "lazy": set(),
    "names": set(),
    "arguments": set(),
    "learning": set(),
    "trust": set(),
    "earlier": set(),
    "leftovers": set(),
    "sizes": set(),
    "threads": set(),
    "processes": {"threads"},
    "progress": {"processes"},
    "folders": {"leftovers"},
    "saving": {"folders", "trust"},
    "losses": set(),
    "metrics": set(),
    "data": {"folders"},
    "fitted_on": {"data"},
    "protocols": {"data"},
    "wider": {"data", "protocols", "saving"},
    "readers": {"data", "folders", "progress"},
    "networks": set(),
    "training": {"kernels", "data", "losses", "metrics", "networks", "folders", "progress", "threads"},
    "families": {*OF_NETWORKS, "folders", "sizes", "earlier", "progress", "processes", "wider", "fitted_on"},
    "models": {
        "families",
        "kernels",
        "data",
        "losses",
        "networks",
        "training",
        "protocols",
        "fitted_on",
        "sizes",
        "progress",
        "processes",
    },
    "retrieval": {"kernels", "data", "protocols", "saving", "progress", "processes"},
    "rankers": {*OF_NETWORKS, "trust", "earlier"},
    "rerankers": {"kernels", "data", "protocols", "saving"},
    "bandits": {"kernels", "data", "protocols", "saving"},
    "evaluation": {"protocols", "fitted_on", "data", "metrics", "folders", "saving", "progress", "processes"},
    "benchmarking": {"models", "evaluation", "kernels", "metrics", "data", "folders"},
    "off_policy": {"kernels", "protocols", "data", "metrics", "evaluation", "saving"},
    "cold_start": {"protocols", "data", "evaluation"},
    "simulation": {"kernels", "data", "protocols"},
    "export": {"protocols", "data", "folders"},
    "pipeline": {"kernels", "data", "protocols", "wider", "saving", "earlier", "progress"},
    "run_requests": {"protocols", "data"},
    "run_lists": {"run_requests", "protocols", "data", "pipeline"},
    "provenance": {"threads"},
    "runs": {
        "run_lists",
        "provenance",
        "data",
        "readers",
        "protocols",
        "evaluation",
        "folders",
        "saving",
        "earlier",
        "trust",
        "progress",
    },
    "reporting": {"runs", "run_requests", "evaluation", "metrics", "protocols", "data", "folders"},
    "serving": {"run_requests", "run_lists", "runs", "protocols", "data", "folders", "saving", "trust"},
    "monitoring": {"run_requests", "runs", "metrics", "data"},
    "planning": {"data", "evaluation", "provenance", "sizes"},
    "fine_tuning": {"runs", "evaluation", "protocols", "data", "folders"},
    "new_items": {"runs", "readers", "data", "folders", "wider"},
    "package": {
        "data",
        "readers",
        "protocols",
        "evaluation",
        "runs",
        "fine_tuning",
        "new_items",
    },  # recsys_dl/__init__.py: when a name is asked for
    "sweeps": {"threads", "protocols", "evaluation", "folders", "leftovers", "progress"},
    "compose": set(),
    "verbs": {
        "compose",
        "off_policy",
        "protocols",
        "saving",
        "data",
        "readers",
        "metrics",
        "training",
        "retrieval",
        "benchmarking",
        "evaluation",
        "export",
        "runs",
        "provenance",
        "sizes",
        "planning",
        "fine_tuning",
        "folders",
        "leftovers",
        "sweeps",
        "simulation",
        "reporting",
        "serving",
        "monitoring",
        "progress",
        "processes",
        "threads",
    },
    "cli": {"compose", "verbs", "progress"},
    "__main__": {"cli"},
}


def room_of(file: Path) -> str:
    parts = file.relative_to(ROOT).parts
    if parts[0] == "kernels":
        return "kernels"
    name = parts[1].removesuffix(".py")
    return "package" if name == "__init__" else name


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
                found.append((parts[1] if len(parts) > 1 and parts[1] in ours else "package", node.lineno))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_arrows_point_down(file):
    room = room_of(file)
    assert room in ALLOWED, f"a new room, {room}: say in tests/test_architecture.py what it may import"
    allowed = ALLOWED[room] | {room} | (LOWEST if room != "kernels" else set())
    wrong = [(name, line) for name, line in imports_of(file) if name not in allowed]
    assert not wrong, f"{file.relative_to(ROOT)} ({room}) imports {wrong}"


def test_rooms_lie_in_the_order_in_which_they_are_named():
    order = list(ALLOWED)
    for room, lower in ALLOWED.items():
        below = set(order[: order.index(room)])
        assert lower <= below, f"{room} may import {lower - below}, which do not lie below it"
    below_arguments = set(order[: order.index("arguments")])
    assert LOWEST & below_arguments == {
        "version",
        "lazy",
        "names",
    }  # so arguments may import them, not the other way round


def test_models_are_exactly_the_options_of_conf():
    files = {file.stem for file in (ROOT / "recsys_dl/models").glob("[!_]*.py")}
    assert files == {file.stem for file in (ROOT / "conf/model").glob("*.yaml")}


def module_of(file: Path, root: Path) -> str:
    parts = list(file.relative_to(root).with_suffix("").parts)
    parts = ["recsys_dl", *parts] if parts[0] == "kernels" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph(files: list[Path], root: Path) -> dict[str, set[str]]:
    """Which module imports which of ours, at the top or within a function, for running or for type checkers alone."""
    modules = {module_of(file, root): file for file in files}
    arrows: dict[str, set[str]] = {}
    for module, file in modules.items():
        package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
        arrows[module] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                home = package[: len(package) - node.level + 1] if node.level else []
                home = [*home, *((node.module or "").split(".") if node.module else [])]
                names = [".".join([*home, alias.name]) for alias in node.names]
            for name in names:
                while name and name not in modules:
                    name = name.rpartition(".")[0]
                if name and name not in (module, "recsys_dl"):
                    arrows[module].add(name)
    return arrows


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """Modules that import themselves by way of others: what is left when those are taken away that import only what was taken."""
    left = dict(arrows)
    while free := [module for module, others in left.items() if not others & set(left)]:
        for module in free:
            del left[module]
    while unused := [module for module in left if not any(module in others for others in left.values())]:
        for module in unused:
            del left[module]
    return sorted(left)


def test_no_circle():
    assert circles(graph(FILES, ROOT)) == []


def test_the_guards_see_a_wrong_arrow_and_a_circle(tmp_path, monkeypatch):
    (tmp_path / "recsys_dl/data").mkdir(parents=True)
    (tmp_path / "recsys_dl/models").mkdir()
    low, high = tmp_path / "recsys_dl/data/low.py", tmp_path / "recsys_dl/models/high.py"
    low.write_text("def late():\n    from recsys_dl.models.high import name\n    return name\n")
    high.write_text("from recsys_dl.data import low\nfrom ..data import low as again\n")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    with pytest.raises(AssertionError, match=r"low.py \(data\) imports \[\('models', 2\)\]"):
        test_arrows_point_down(low)
    with pytest.raises(AssertionError, match="out of its room by dots"):
        test_arrows_point_down(high)
    assert circles(graph([low, high], tmp_path)) == ["recsys_dl.data.low", "recsys_dl.models.high"]
    low.write_text("")
    assert circles(graph([low, high], tmp_path)) == []
    test_arrows_point_down(low)


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
