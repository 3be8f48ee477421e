"""Requests a second, latency and memory of `recsys-dl serve` over 100,000 generated items, and what overload gets.

    python scripts/bench_serving.py                         # a table
    python scripts/bench_serving.py --items 10000 --seconds 3

The client is asyncio over raw connections, in this process; it shares the processors with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil

from recsys_dl.data.generated import generated
from recsys_dl.models import ALS
from recsys_dl.runs import StageTimer, write_run

QUEUE = 256


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--items", type=int, default=100_000)
    options.add_argument("--users", type=int, default=20_000)
    options.add_argument("--seconds", type=float, default=8.0)
    options.add_argument("--connections", type=int, nargs="+", default=[1, 16, 256])
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = generated(num_users=chosen.users, num_items=chosen.items, num_interactions=20 * chosen.users, seed=7)
        model = ALS(embedding_size=32, epochs=1, device="cpu").fit(log)
        run = Path(folder) / "als"
        run.mkdir()
        write_run(run, config={}, model=model, seen=log.interactions, data=log, evaluations={}, stages=StageTimer())
        users = log.users.ids.to_list()
        with (Path(folder) / "log").open("w") as out:
            command = [sys.executable, "-m", "recsys_dl.cli", "serve", f"run={run}", "port=0", f"queue_size={QUEUE}"]
            server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=out, text=True)
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().split()[0].rsplit(":", 1)[1])
            print(f"{len(os.sched_getaffinity(0))} processors, ALS of 32 dimensions, {chosen.items:,} items, k=10\n")
            print("| connections | requests/s | p50 ms | p99 ms | 200 | 429 | 503 | other | server MB |")
            print("|---|---|---|---|---|---|---|---|---|")
            asyncio.run(asked(port, 1, 1.0, users))  # warm
            for connections in (*chosen.connections, 10 * QUEUE):
                print(
                    row(connections, *asyncio.run(asked(port, connections, chosen.seconds, users)), server.pid),
                    flush=True,
                )
        finally:
            server.terminate()
            server.wait(60)
        print(f"\nexit status {server.returncode}")


async def asked(port: int, connections: int, seconds: float, users: list[str]) -> tuple[list[float], Counter, float]:
    """Return the seconds of each 200, how many answers had each status, and the seconds in all."""
    times: list[float] = []
    statuses: Counter = Counter()
    start = time.perf_counter()
    await asyncio.gather(*(client(port, start + seconds, users, n, times, statuses) for n in range(connections)))
    return times, statuses, time.perf_counter() - start


async def client(port: int, until: float, users: list[str], n: int, times: list[float], statuses: Counter) -> None:
    """Ask over one connection, one request after another, until the time is over."""
    rng = np.random.default_rng(n)
    reader = writer = None
    while time.perf_counter() < until:
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            body = json.dumps({"user": users[rng.integers(len(users))], "k": 10}).encode()
            head = f"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            start = time.perf_counter()
            writer.write(head.encode() + body)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length"))
            await reader.readexactly(length)
            status = lines[0].split()[1]
            statuses[status] += 1
            if status == "200":
                times.append(time.perf_counter() - start)
            else:
                await asyncio.sleep(0.05)
        except (OSError, asyncio.IncompleteReadError):
            statuses["connection lost"] += 1
            writer = None
    if writer is not None:
        writer.close()


def row(connections: int, times: list[float], statuses: Counter, seconds: float, process: int) -> str:
    """Return a row of the table."""
    p50, p99 = (1000 * np.percentile(times, q) for q in (50, 99)) if times else (np.nan, np.nan)
    other = sum(statuses.values()) - sum(statuses[one] for one in ("200", "429", "503"))
    memory = psutil.Process(process).memory_info().rss / 1e6
    counts = " | ".join(f"{one:,}" for one in (statuses["200"], statuses["429"], statuses["503"], other))
    return f"| {connections:,} | {statuses['200'] / seconds:,.0f} | {p50:.1f} | {p99:.1f} | {counts} | {memory:,.0f} |"


if __name__ == "__main__":
    main()
