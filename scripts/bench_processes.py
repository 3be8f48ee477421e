"""Several processes beside one: is the result the same, how much faster, and how much memory each takes.

    python scripts/bench_processes.py                 # --processes 1 2 4 --users 6000 --items 2000 --rows 200000

Every job runs on a generated log in 1, 2 and 4 processes of one thread each, started by torchrun on this machine, over gloo. Strong
scaling: the same log for all. Weak scaling: users, items and rows in proportion to the processes. Measured are seconds of wall time, and of CPU time of
the process that computes most, which others' work on the machine does not change and which is the wall time where every process has a core of its own,
but for waiting; after a first small run that compiles the kernels. Memory is the largest resident size of any process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

JOBS = ("als", "als, ials++", "explicit_als", "bpr", "item_knn", "neumf", "two_tower", "evaluate", "recommend")


def main() -> None:
    """Run everything, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--users", type=int, default=6_000)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--worker", help="used by the script itself")
    chosen = parser.parse_args()
    if chosen.worker:
        work(chosen, Path(chosen.worker))
        return
    with tempfile.TemporaryDirectory() as folder:
        strong = {size: launch(chosen, size, 1, Path(folder) / f"strong-{size}") for size in chosen.processes}
        weak = {
            size: strong[size] if size == 1 else launch(chosen, size, size, Path(folder) / f"weak-{size}")
            for size in chosen.processes
            if size <= (os.cpu_count() or 1)
        }
        differences(strong, Path(folder))
    print(f"\n{os.cpu_count()} cores; load {os.getloadavg()[0]:.1f} at the end\n")
    table("strong scaling, CPU seconds", strong, "cpu")
    table("strong scaling, wall seconds", strong, "wall")
    table("weak scaling, CPU seconds", weak, "cpu")
    table("weak scaling, wall seconds", weak, "wall")


def launch(chosen: argparse.Namespace, size: int, scale: int, folder: Path) -> dict[str, Any]:
    """Run all jobs in some processes; return their figures."""
    folder.mkdir()
    shape = [f"--users={chosen.users * scale}", f"--items={chosen.items * scale}", f"--rows={chosen.rows * scale}"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
    subprocess.run(
        [*command, __file__, *shape, f"--worker={folder}"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        check=True,
    )
    return json.loads((folder / "figures.json").read_text())


def work(chosen: argparse.Namespace, folder: Path) -> None:
    """Run all jobs as one of the processes; the first writes results and figures."""
    from recsys_dl.data.generated import generated
    from recsys_dl.processes import together

    with together() as group:
        log = generated(num_users=chosen.users, num_items=chosen.items, num_interactions=chosen.rows, seed=7)
        small = generated(num_users=1_200, num_items=300, num_interactions=20_000, seed=7)
        jobs(small, group, folder / "small", trained=False)
        figures, results = jobs(log, group, folder)
        figures["memory"] = max(group.gather(peak_bytes()))
        if group.rank == 0:
            np.savez(folder / "results.npz", **results)
            (folder / "figures.json").write_text(json.dumps(figures))


def jobs(data: Any, group: Any, folder: Path, *, trained: bool = True) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return seconds and results of each job; `trained`: of neural models too."""
    import recsys_dl.models as models
    from recsys_dl import evaluate
    from recsys_dl.data.split import leave_last_out
    from recsys_dl.training import TrainerOptions

    folder.mkdir(exist_ok=True)
    train, _, test = leave_last_out(data)
    rated = train.interactions.with_weights(np.random.default_rng(7).integers(1, 6, len(train)))
    trainer = TrainerOptions(processes=group.size)
    plain = {"device": "cpu", "embedding_size": 64}
    deep = {"device": "cpu", "embedding_size": 16, "epochs": 1, "batch_size": 4096}
    fits = {
        "als": lambda: models.ALS(epochs=3, **plain).fit(train),
        "als, ials++": lambda: models.ALS(epochs=3, solver="ials++", **plain).fit(train),
        "explicit_als": lambda: models.ExplicitALS(epochs=3, **plain).fit(rated),
        "bpr": lambda: models.BPR(epochs=3, **plain).fit(train),
        "item_knn": lambda: models.ItemKNN(device="cpu").fit(train),
        "neumf": lambda: models.NeuMF(**deep).fit(train, trainer=trainer),
        "two_tower": lambda: models.TwoTower(dropout=0.0, id_dropout=0.0, **deep).fit(train, trainer=trainer),
    }
    seconds: dict[str, Any] = {}
    results: dict[str, np.ndarray] = {}
    for name, fit in fits.items():
        if not trained and name in ("neumf", "two_tower"):
            continue
        model, seconds[name] = timed(group, fit)
        dense = {key: value for key, value in model.arrays().items() if isinstance(value, np.ndarray)}
        dense |= {key: value.data for key, value in model.arrays().items() if key == "neighbors_RR"}
        results |= {f"{name}/{key}": value for key, value in dense.items() if value.dtype.kind == "f"}
        if name == "als":
            als = model
    figures, seconds["evaluate"] = timed(group, lambda: evaluate(als, train, test, k=[10, 20]))
    results |= {f"evaluate/{name}": values for name, values in figures.per_user.items()}
    rows, seconds["recommend"] = timed(group, lambda: lists(als, data, train, group))
    results["recommend/items"] = rows
    return seconds, results


def lists(model: Any, data: Any, train: Any, group: Any) -> np.ndarray:
    """Return the lists of all users, in blocks as `recsys-dl recommend output=folder/` shares them."""
    blocks = [np.arange(first, min(first + 1024, data.num_users)) for first in range(0, data.num_users, 1024)]
    mine = [model.recommend(users, 100, exclude=train).items_BK for users in blocks[group.rank :: group.size]]
    return np.concatenate(group.in_turn(mine, len(blocks)))


def timed(group: Any, call: Any) -> tuple[Any, dict[str, float]]:
    """Return a result, and the seconds until all processes have theirs."""
    group.gather(None)
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return result, {name: round(max(group.gather(one)), 2) for name, one in spent.items()}


def peak_bytes() -> int:
    """Return the largest resident size of this process so far."""
    from recsys_dl.runs import peak_memory

    return peak_memory()


def differences(figures: dict[int, dict[str, Any]], folder: Path) -> None:
    """Print the largest difference of each job's result from that of the fewest processes."""
    found = {size: dict(np.load(folder / f"strong-{size}" / "results.npz")) for size in figures}
    one, *others = found
    print(f"\n| largest difference from {one} process | " + " | ".join(f"{size} processes" for size in others) + " |")
    print("|---" * (len(others) + 1) + "|")
    for job in JOBS:
        names = [name for name in found[one] if name.partition("/")[0] == job]
        cells = []
        for size in others:
            most = max(float(np.nanmax(np.abs(found[size][name] - found[one][name]), initial=0)) for name in names)
            cells.append("0" if most == 0 else f"{most:.1e}")
        print(f"| {job} | " + " | ".join(cells) + " |")


def table(title: str, figures: dict[int, dict[str, Any]], kind: str) -> None:
    """Print seconds by job and number of processes, and memory."""
    print(f"| {title} | " + " | ".join(map(str, figures)) + " |")
    print("|---" * (len(figures) + 1) + "|")
    for job in JOBS:
        print(f"| {job} | " + " | ".join(f"{one[job][kind]:.2f}" for one in figures.values()) + " |")
    print(
        "| memory of a process, MB | " + " | ".join(f"{one['memory'] / 1e6:,.0f}" for one in figures.values()) + " |\n"
    )


if __name__ == "__main__":
    main()
