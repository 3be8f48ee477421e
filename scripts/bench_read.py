#!/usr/bin/env python3
"""How long read_log takes on a generated log, and how much memory: as CSV, as Parquet, and as a CSV with bad rows.

    python scripts/bench_read.py --rows 10_000_000

The log has popular and unpopular users and items, ratings in half stars and times in seconds. Each reading runs in a
process of its own; its peak memory is what Linux reports, less what the process held after its imports.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

BLOCK = 1_000_000
READ = """
import json, sys, time
import polars, pyarrow.parquet, scipy.sparse
from recsys_dl import read_log
import recsys_dl.readers.log

def kilobytes(what):  # of this program alone; ru_maxrss would begin with what the parent held
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what))

before, start = kilobytes("VmRSS"), time.perf_counter()
data = read_log(sys.argv[1], on_bad_rows=sys.argv[2])
seconds = time.perf_counter() - start
log = data.interactions
held = sum(column.nbytes for column in (log.users_N, log.items_N, log.weights_N, log.times_N))
held += data.users.ids.estimated_size() + data.items.ids.estimated_size()
print(json.dumps({"seconds": seconds, "peak": (kilobytes("VmHWM") - before) * 1024, "held": held, "rows": len(log),
                  "users": data.num_users, "items": data.num_items, "skipped": sum(data.report.skipped.values())}))
"""


def generate(folder: Path, rows: int) -> list[tuple[str, Path, str]]:
    """Write the log in three ways; return label, file and on_bad_rows of each."""
    rng = np.random.default_rng(7)
    users, items = max(10, rows // 70), max(10, rows // 350)
    csv, bad, parquet = folder / "log.csv", folder / "bad.csv", folder / "log.parquet"
    with csv.open("wb") as plain, bad.open("wb") as broken:
        for start in range(0, rows, BLOCK):
            n = min(BLOCK, rows - start)
            frame = pl.DataFrame(
                {
                    "userId": (users * rng.random(n) ** 2).astype(np.int64),
                    "movieId": (items * rng.random(n) ** 3).astype(np.int64),
                    "rating": rng.integers(1, 11, n) / 2,
                    "timestamp": rng.integers(1_000_000_000, 1_700_000_000, n),
                }
            )
            text = frame.write_csv(include_header=start == 0).encode()
            plain.write(text)
            broken.write(text + b"1,2,3.5,1000000000,one field too many\n")
            frame.write_parquet(folder / f"{start:012}.part")
    parts = sorted(folder.glob("*.part"))
    pl.scan_parquet(parts).sink_parquet(parquet)
    for part in parts:
        part.unlink()
    return [("CSV", csv, "error"), ("Parquet", parquet, "error"), ("CSV, a bad row a million", bad, "skip")]


def main() -> None:
    """Generate, read, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"generating {arguments.rows:,} rows", file=sys.stderr)
        sources = generate(Path(folder), arguments.rows)
        print("| source | file, MB | seconds | rows/s | peak, MB | peak, bytes/row | kept, bytes/row |")
        print("|---|---|---|---|---|---|---|")
        for label, file, on_bad_rows in sources:
            done = subprocess.run(
                [sys.executable, "-c", READ, str(file), on_bad_rows], capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(done.stderr)
            found = json.loads(done.stdout)
            rows = found["rows"]
            print(
                f"| {label} | {file.stat().st_size / 1e6:,.0f} | {found['seconds']:.1f} | {rows / found['seconds']:,.0f} "
                f"| {found['peak'] / 1e6:,.0f} | {found['peak'] / rows:.0f} | {found['held'] / rows:.1f} |"
            )
        print(f"\n{rows:,} rows of {found['users']:,} users and {found['items']:,} items; generated data")


if __name__ == "__main__":
    main()
