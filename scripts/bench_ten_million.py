"""Ten million generated rows, end to end: read, split, fit ALS, evaluate; seconds and peak memory of each stage.

    python scripts/bench_ten_million.py                      # --rows 10000000 --embedding-size 64 --epochs 10

The log is generated (planted tastes; recsys_dl.data.generated) and written as CSV, untimed; then each stage runs in one
process, as a user would run it. Peak memory is the process's largest resident size up to the end of the stage.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from recsys_dl.threads import limit_threads


def main() -> None:
    """Generate, then time every stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=25_000)
    parser.add_argument("--embedding-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    chosen = parser.parse_args()
    threads = limit_threads(None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "log.csv"
        write_log(file, chosen)
        measure(file, chosen, threads)


def write_log(file: Path, chosen: argparse.Namespace) -> None:
    """Write the generated log in a process of its own, so that its memory does not count."""
    import multiprocessing

    worker = multiprocessing.get_context("spawn").Process(
        target=_write, args=(file, chosen.rows, chosen.users, chosen.items)
    )
    worker.start()
    worker.join()
    if worker.exitcode:
        raise SystemExit(worker.exitcode)


def _write(file: Path, rows: int, users: int, items: int) -> None:
    import polars as pl

    from recsys_dl.data.generated import generated

    data = generated(num_users=users, num_items=items, num_interactions=rows, seed=7)
    log = data.interactions
    columns = {"user_id": data.users.at(log.users_N), "item_id": data.items.at(log.items_N), "timestamp": log.times_N}
    pl.DataFrame(columns).write_csv(file)


def measure(file: Path, chosen: argparse.Namespace, threads: int) -> None:
    """Run and print the stages."""
    from recsys_dl import evaluate, leave_last_out, read_log
    from recsys_dl.models import ALS
    from recsys_dl.provenance import peak_memory

    print(f"{chosen.rows:,} rows, {file.stat().st_size / 1e6:,.0f} MB of CSV, {threads} threads\n")
    print("| stage | seconds | peak memory so far, GB |\n|---|---|---|", flush=True)
    start = time.perf_counter()

    def report(stage: str) -> None:
        nonlocal start
        print(f"| {stage} | {time.perf_counter() - start:.1f} | {peak_memory() / 1e9:.2f} |", flush=True)
        start = time.perf_counter()

    report("import")
    data = read_log(file)
    report("read")
    train, _, test = leave_last_out(data)
    report("split")
    model = ALS(embedding_size=chosen.embedding_size, epochs=chosen.epochs, solver="cholesky", seed=7).fit(train)
    report(f"fit ALS, embedding_size={chosen.embedding_size}, {chosen.epochs} epochs")
    table = evaluate(model, train, test, k=[10, 20])
    report(f"evaluate, {len(table.users):,} users, full catalog of {data.num_items:,}")
    print(f"\n{table}")


if __name__ == "__main__":
    main()
