"""Fixtures of every test: where to compute, and where the real data lies."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# Tests run in several processes at once, whose threads would wait for each other on processors that others need. Beside other
# work a thousand short loops of two threads took 9.4 s of processor time and 48 s, with passive waiting 0.06 s and 2.3 s;
# three hundred small products of two OpenBLAS threads 7.6 s and 36 s, of one 0.6 s and 4.4 s.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from recsys_dl.kernels.device import num_gpus  # imports NumPy, which reads the variables

if not num_gpus():
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"  # read once, when Numba is imported; so before any test module is

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it; tables are tested as they are written to a file

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0"

# The longest files, begun first, so that no process is left with one at the end while the others have nothing to do. The first
# two have few kernels in common, which both would compile.
LONGEST = (
    "contract",
    "slurm",
    "export",
    "processes",
    "sweep",
    "sharded_tables",
    "readme",
    "tune_command",
    "training_processes",
    "bandits_contract",
    "what_bad_input_gets",
    "reproducibility",
    "training_command",
    "new_model",
    "examples",
    "warmup",
    "bench_kernels",
    "gpu_check",
)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one process more than there are processors: tests wait for Slurm, servers, other processes and clocks half of their time."""
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist hand out files in the order of collection, not by their number of tests: a file of minutes has few."""
    config.option.loadscopereorder = False


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Leave what collection creates, a million objects, out of searches for garbage: they took a quarter of its time, and of the tests'."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Leave out what a file's tests have imported and compiled, too, once they have ended."""
    try:
        return (yield)
    finally:
        if nextitem is not None and nextitem.path != item.path:
            gc.collect()
            gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, then those of many tests."""
    names = [item.path.stem.removeprefix("test_") for item in items]
    sizes = Counter(names)
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    order = sorted(range(len(items)), key=lambda at: (ranks.get(names[at], len(ranks)), -sizes[names[at]], names[at]))
    items[:] = [items[at] for at in order]


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=() if SIMULATED else pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Both devices. "cuda" is a GPU where there is one, and Numba's simulator (keep sizes tiny) where there is none."""
    if request.param == "cuda":
        if find_spec("numba_cuda") is None:
            pytest.skip("needs the package numba-cuda")
        if SIMULATED:
            pytest.importorskip("greenlet")
            from cuda_scheduler import install

            install()
    return request.param


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, from RECSYS_DATA or beside the repository."""
    folder = Path(os.environ.get("RECSYS_DATA", Path(__file__).parents[1] / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set RECSYS_DATA to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs that can be served."""
    for package in ("fastapi", "uvicorn", "prometheus_client", "httpx"):
        if find_spec(package) is None:
            pytest.skip(f"serving needs {package}: pip install '.[serve]' httpx")
    from serving_process import write_runs

    folder = tmp_path_factory.mktemp("serving")
    write_runs(folder)
    return folder


@pytest.fixture(scope="session")
def server(served: Path) -> Iterator[Any]:
    """A client of the one server of the session."""
    from serving_process import running

    yield from running(served)
