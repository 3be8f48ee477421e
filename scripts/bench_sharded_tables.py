"""Embedding tables that do not fit one process's memory limit, and fit each of two that divide them.

    python scripts/bench_sharded_tables.py                 # --limit 1536 --users 2000000 --items 500000 --processes 2

A GMF with row_adam on a generated log of few interactions, so that tables and optimizer are nearly all there is. The limit is RLIMIT_DATA, set when a process
starts: the kernel then refuses it more private memory than that many MiB, libraries included. Trained are: one process with whole tables under
the limit, which is expected to fail; processes that divide the tables under the same limit, started by torchrun on this machine; and, for comparison of the
result, one process without a limit. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZE = 64
ROWS = 200_000
EPOCHS = 1


def main() -> None:
    """Train all, print the table and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=1536, help="MiB of private memory of a process")
    parser.add_argument("--users", type=int, default=2_000_000)
    parser.add_argument("--items", type=int, default=500_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--worker", help="used by the script itself")
    chosen = parser.parse_args()
    if chosen.worker:
        work(chosen, Path(chosen.worker))
        return
    tables = 4 * SIZE * (chosen.users + chosen.items)
    moments = tables + 8 * (chosen.users + chosen.items)
    print(
        f"tables {tables / 2**20:,.0f} MiB, row_adam {moments / 2**20:,.0f} MiB, limit of a process {chosen.limit:,} MiB\n"
    )
    print("| | private memory after imports, MiB | most while training | after training | seconds | result |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, processes, limit in (
            ("1 process, whole tables", 1, chosen.limit),
            (f"{chosen.processes} processes, divided", chosen.processes, chosen.limit),
            ("1 process, whole tables, no limit", 1, 0),
        ):
            for report in launch(chosen, folder, processes, limit):
                cells = [report.get(key, "-") for key in ("imports", "most", "after", "seconds", "result")]
                print(f"| {title}, rank {report['rank']} |" + "".join(f" {cell} |" for cell in cells), flush=True)
        print(f"\nlargest difference of a weight, divided from whole: {difference(folder, chosen.processes):.1e}")


def launch(chosen: argparse.Namespace, folder: Path, processes: int, limit: int) -> list[dict[str, Any]]:
    """Train in processes of their own; return what each reports."""
    words = [__file__, "--limit", limit, "--users", chosen.users, "--items", chosen.items, "--processes", processes]
    words += ["--worker", folder]
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    one_thread = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *start, *map(str, words)],
        env=os.environ | one_thread,
        stdout=subprocess.PIPE,
        check=False,
        text=True,
    )
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if len(reports) < processes:
        raise RuntimeError(f"{processes} processes gave {len(reports)} reports, exit status {done.returncode}")
    return sorted(reports, key=lambda report: report["rank"])


def private() -> int:
    """Return the MiB that RLIMIT_DATA counts."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData")]
    return int(line.split()[1]) // 1024


def work(chosen: argparse.Namespace, folder: Path) -> None:
    """Train in this process, and print a report as JSON."""
    if chosen.limit:
        resource.setrlimit(resource.RLIMIT_DATA, (chosen.limit << 20, chosen.limit << 20))
    import numpy as np

    from recsys_dl import Interactions
    from recsys_dl.models import GMF
    from recsys_dl.processes import together
    from recsys_dl.training import TrainerOptions
    from recsys_dl.training.scorer import Scorer

    rng = np.random.default_rng(1)
    shape = {"num_users": chosen.users, "num_items": chosen.items}
    train = Interactions(rng.integers(chosen.users, size=ROWS), rng.integers(chosen.items, size=ROWS), **shape)
    sizes = []
    step = Scorer.training_step

    def watched(self: Scorer, share: Any, index: int) -> Any:
        sizes.append(private())
        return step(self, share, index)

    Scorer.training_step = watched  # type: ignore[method-assign]
    with together() as group:
        report: dict[str, Any] = {"rank": group.rank, "imports": private()}
        start = time.perf_counter()
        model = GMF(embedding_size=SIZE, optimizer="row_adam", batch_size=8192, epochs=EPOCHS, device="cpu")
        options = TrainerOptions(processes=group.size, shard_tables=group.size > 1)
        try:
            model.fit(train, trainer=options)
            lists = model.recommend([0, chosen.users - 1], 10).items_BK
            report |= {
                "most": max(sizes),
                "after": private(),
                "result": f"trained; a user's list: {lists[1][:3].tolist()}…",
            }
            if group.rank == 0:
                model.save(folder / str(group.size))
        except (MemoryError, RuntimeError) as error:
            report |= {"most": max(sizes, default=private()), "result": f"{type(error).__name__}: {error}"}
        print(json.dumps(report | {"seconds": round(time.perf_counter() - start)}), flush=True)


def difference(folder: Path, processes: int) -> float:
    """Return the largest difference of a weight between two saved models, the only ones there."""
    import numpy as np

    one, other = (np.load(folder / str(size) / "arrays.npz") for size in (1, processes))
    names = [name for name in one.files if name.startswith("network.")]
    return max(float(np.abs(one[name] - other[name]).max()) for name in names)


if __name__ == "__main__":
    main()
