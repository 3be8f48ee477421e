"""Prepare, train on and serve a generated log that is larger than the memory allowed: seconds and peak memory of each stage.

    python scripts/bench_shards.py --rows 100_000_000 --memory 3GiB
    python scripts/bench_shards.py --rows 10_000_000 --memory 2GiB --s3      # from a local S3 server (moto)

The log is written to Parquet block by block. Each stage is a command in a process of its own, limited by RLIMIT_DATA: what it
allocates (heap, anonymous and private mappings) may not exceed the ceiling, whoever asks; beyond it allocations fail. RLIMIT_AS
would also count files that are mapped (the log itself) and addresses that Numba and Torch only reserve. File pages are the system's
cache, which it takes back when memory is short; "resident" counts those that happened to be there.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl

BLOCK = 2_000_000  # rows written at once
ROWS_PER_FILE = 10_000_000
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
FIELDS = {"allocated": "VmData", "anonymous": "RssAnon", "resident": "VmRSS"}
GMF = ["model.batch_size=65536", "model.num_negatives=1"]
KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}


def generate(folder: Path, rows: int, num_users: int, num_items: int) -> None:
    """Write `rows` interactions of users with tastes: an item is popular by Zipf's law, in one of 50 orders of the items."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    shares = np.cumsum(1 / np.arange(1, num_items + 1) ** 0.8)
    orders = np.stack([rng.permutation(num_items) for _ in range(50)])
    for number, first in enumerate(range(0, rows, ROWS_PER_FILE)):
        blocks = []
        for start in range(first, min(first + ROWS_PER_FILE, rows), BLOCK):
            size = min(BLOCK, first + ROWS_PER_FILE - start, rows - start)
            users = (num_users * rng.random(size) ** 1.5).astype(np.int64)
            ranks = np.searchsorted(shares, rng.random(size) * shares[-1])
            items = orders[users % 50, np.minimum(ranks, num_items - 1)]
            times = 1_600_000_000 + np.sort(
                rng.integers(start * 100_000_000 // rows, (start + size) * 100_000_000 // rows, size)
            )
            blocks.append(pl.DataFrame({"user_id": users * 7 + 1, "item_id": items, "timestamp": times}))
        pl.concat(blocks).write_parquet(folder / f"part-{number:05d}.parquet", row_group_size=1_000_000)


def run(name: str, command: list[str], ceiling: int, home: Path) -> None:
    """Run a command under the ceiling; print its seconds, peak allocation and peak resident memory."""
    limit = (ceiling, ceiling)
    started = time.perf_counter()
    child = subprocess.Popen(
        command,
        cwd=home,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, limit),
        stdout=(out := (home / f"{name.replace(' ', '_')}.log").open("w")),
        stderr=subprocess.STDOUT,
    )
    peak = {"allocated": 0, "anonymous": 0, "resident": 0}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            try:
                status = Path(f"/proc/{child.pid}/status").read_text()
                found = {key: 1024 * int(status.split(f"{field}:")[1].split()[0]) for key, field in FIELDS.items()}
            except (OSError, IndexError):
                return
            for key, value in found.items():
                peak[key] = max(peak[key], value)

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = child.wait()
    stop.set()
    watcher.join()
    out.close()
    text = Path(out.name).read_text()
    parts = re.findall(r"^[a-z]+: ((?:\w+ [0-9.]+ s(?:, )?)+)$", text, re.M)
    sizes = " | ".join(f"{peak[key] / 2**30:.2f}" for key in ("allocated", "anonymous", "resident"))
    took = f"{time.perf_counter() - started:.0f}{f' ({parts[-1]})' if parts else ''}"
    print(f"| {name} | {took} | {sizes} |", flush=True)
    if status:
        raise SystemExit(f"{name} failed, exit status {status}:\n{text[-3000:]}")


STAGES = ("prepare", "train popularity", "train als", "evaluate als", "recommend", "train gmf")


def stages(path: str, ceiling: int, home: Path, chosen: list[str], block: int) -> None:
    """Prepare, train, evaluate and recommend, each by a command in a process of its own."""
    prepare = "from recsys_dl.threads import limit_threads; limit_threads(None)  # as the command does\n"
    prepare += f"from recsys_dl.readers.shards import read_shards; print(read_shards({path!r}, block={block}))"
    train = ["recsys-dl", "train", "data=shards", f"data.path={path}", f"data.block={block}", "evaluate.k=[10]"]
    commands = {
        "prepare": [sys.executable, "-c", prepare],
        "train popularity": [*train, "model=popularity", "run=popularity"],
        "train als": [*train, "model=als", "model.embedding_size=32", "model.epochs=2", "run=als"],
        "evaluate als": ["recsys-dl", "evaluate", "run=als", "part=test", "k=[10]"],
        "recommend": ["recsys-dl", "recommend", "run=als", "users=[1,8]", "k=3"],
        "train gmf": [*train, "model=gmf", "model.embedding_size=16", "model.epochs=1", *GMF, "split=none", "run=gmf"],
    }
    for name in chosen:
        run(name, commands[name], ceiling, home)


def serve(raw: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a local S3 server, and copy the log to it; return the server and the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL
    )
    os.environ |= KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    import s3fs

    for _ in range(100):
        time.sleep(0.2)
        with socket.socket() as client:
            if not client.connect_ex(("127.0.0.1", port)):
                break
    store = s3fs.S3FileSystem()
    store.mkdir("bench")
    store.put(str(raw), "bench/raw", recursive=True)
    return server, "s3://bench/raw"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, help="default: a hundredth of the rows")
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--memory", default="3GiB", help="ceiling of each process")
    parser.add_argument("--block", type=int, default=4_000_000, help="data.block: interactions worked on at once")
    parser.add_argument("--folder", type=Path, default=Path("bench_shards"))
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--s3", action="store_true", help="read from a local S3 server (moto)")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    asked = parser.parse_args()
    ceiling = int(float(asked.memory[:-3]) * UNITS[asked.memory[-3:]])
    home, users = asked.folder.absolute(), asked.users or asked.rows // 100
    started = time.perf_counter()
    if not (home / "raw").exists():
        generate(home / "raw", asked.rows, users, asked.items)
    size = sum(file.stat().st_size for file in (home / "raw").iterdir())
    print(
        f"{asked.rows:,} interactions, {users:,} users, {asked.items:,} items: {size / 1e9:.2f} GB of Parquet, ", end=""
    )
    print(
        f"written in {time.perf_counter() - started:.0f} s; ceiling {asked.memory} (RLIMIT_DATA), {os.cpu_count()} processors\n"
    )
    print(
        "| process | seconds | allocated, GiB | of that in use, GiB | resident with file pages, GiB |\n|---|---|---|---|---|",
        flush=True,
    )
    os.environ["RECSYS_CACHE"] = str(home / "cache")
    server, path = None, "raw"
    if asked.s3:
        server, path = serve(home / "raw")
    try:
        stages(path, ceiling, home, asked.stages, asked.block)
    finally:
        if server is not None:
            server.terminate()
    used = sum(file.stat().st_size for file in (home / "cache").rglob("*") if file.is_file())
    print(f"\nprepared, on disk: {used / 1e9:.1f} GB")
    if not asked.keep:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
