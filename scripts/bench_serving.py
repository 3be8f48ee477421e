"""Requests a second, latency and memory of `recsys-dl serve` over 100,000 generated items, beside a plain server, and what overload gets.

    python scripts/bench_serving.py                                  # tables; wrk asks: apt-get install wrk
    python scripts/bench_serving.py --peer PYTHON                    # beside FastAPI and implicit, which that Python has
    python scripts/bench_serving.py --items 10000 --seconds 3

The peer answers from the same factors, and its lists are compared with ours before anything is measured. Servers and connections take turns, `--rounds`
times; a row has the medians. The client shares the processors with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import scipy.sparse as sp

from recsys_dl.data.generated import generated
from recsys_dl.models import ALS
from recsys_dl.runs import StageTimer, write_run

QUEUE = 256
COMPARED = 200  # lists
SCRIPT = """
math.randomseed(7)
request = function()
    local body = string.format('{"user": "%s%d", "k": 10}', "PREFIX", math.random(0, USERS - 1))
    return wrk.format("POST", "/recommend", {["Content-Type"] = "application/json"}, body)
end
done = function(summary, latency, requests)
    io.write(string.format('\\n{"requests": %d, "us": %d, "failed": %d, "p50": %d, "p99": %d}\\n', summary.requests, summary.duration,
        summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
        latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass
class Server:
    """A process that answers."""

    name: str
    process: subprocess.Popen
    port: int

    def megabytes(self) -> float:
        """Return the memory of the process."""
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def ask(self, user: str) -> list[str]:
        """Return a list of items."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(
            "POST", "/recommend", json.dumps({"user": user, "k": 10}), {"Content-Type": "application/json"}
        )
        found = json.loads(connection.getresponse().read())
        return [one["item"] for one in found["items"]]


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--items", type=int, default=100_000)
    options.add_argument("--users", type=int, default=20_000)
    options.add_argument("--seconds", type=float, default=8.0)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--connections", type=int, nargs="+", default=[1, 16, 256])
    options.add_argument("--peer", help="a Python that has implicit, fastapi and uvicorn")
    chosen = options.parse_args()
    wrk = shutil.which("wrk")
    if wrk is None:
        options.error("wrk is needed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        log = generated(num_users=chosen.users, num_items=chosen.items, num_interactions=20 * chosen.users, seed=7)
        model = ALS(embedding_size=32, epochs=1, device="cpu").fit(log)
        run = home / "als"
        run.mkdir()
        write_run(run, config={}, model=model, seen=log.interactions, data=log, evaluations={}, stages=StageTimer())
        users = log.users.ids.to_list()
        prefix = users[0].rstrip("0")
        assert {f"{prefix}{n}" for n in range(len(users))} == set(users)
        (home / "ask.lua").write_text(SCRIPT.replace("PREFIX", prefix).replace("USERS", str(len(users))))
        command = [sys.executable, "-m", "recsys_dl.cli", "serve", f"run={run}", "port=0", f"queue_size={QUEUE}"]
        servers = [started("recsys-dl serve", command, home)]
        try:
            if chosen.peer:
                np.savez(home / "model.npz", users=model.user_emb_UD, items=model.item_emb_ID)
                sp.save_npz(home / "seen.npz", log.interactions.by_user)
                (home / "ids.json").write_text(json.dumps({"users": users, "items": log.items.ids.to_list()}))
                peer = [chosen.peer, str(Path(__file__).parent / "peer_implicit.py"), folder]
                servers.append(started("FastAPI and implicit", peer, home))
            report(servers, wrk, home, chosen, users)
        finally:
            for server in servers:
                server.process.terminate()
                server.process.wait(60)
        print(f"\nexit status {servers[0].process.returncode}")


def started(name: str, command: list[str], home: Path) -> Server:
    """Start a server, which prints its port or its address."""
    with (home / "log").open("a") as out:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=out, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{name} did not start:\n{(home / 'log').read_text()[-3000:]}")
    return Server(name, process, int(line.split()[0].rsplit(":", 1)[-1]))


def report(servers: list[Server], wrk: str, home: Path, chosen: argparse.Namespace, users: list[str]) -> None:
    """Measure and print."""
    print(
        f"{len(os.sched_getaffinity(0))} processors, ALS of 32 dimensions, {chosen.items:,} items, k=10, {chosen.rounds} rounds of {chosen.seconds:g} s"
    )
    if len(servers) > 1:
        drawn = np.random.default_rng(7).choice(users, COMPARED, replace=False)
        same = sum(servers[0].ask(user) == servers[1].ask(user) for user in drawn)
        print(f"{same} of {COMPARED} lists are the same")
    for server in servers:
        asked_by_wrk(wrk, home, server, 16, 2.0)  # warm
    measured: dict[tuple[int, str], list[dict]] = {}
    for turn in range(chosen.rounds):
        for connections in chosen.connections:
            for server in servers[:: 1 if turn % 2 == 0 else -1]:
                found = asked_by_wrk(wrk, home, server, connections, chosen.seconds)
                measured.setdefault((connections, server.name), []).append(found)
    print("\n| connections | server | requests/s | p50 ms | p99 ms | not 200 | server MB |")
    print("|---|---|---|---|---|---|---|")
    for connections in chosen.connections:
        for server in servers:
            rounds = measured[connections, server.name]
            rate, p50, p99 = (median(one[name] for one in rounds) for name in ("rate", "p50", "p99"))
            failed, memory = sum(one["failed"] for one in rounds), max(one["memory"] for one in rounds)
            print(
                f"| {connections} | {server.name} | {rate:,.0f} | {p50:.1f} | {p99:.1f} | {failed:,} | {memory:,.0f} |"
            )
    print("\n| connections | requests/s | p50 ms | p99 ms | 200 | 429 | 503 | other | server MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    times, statuses, seconds = asyncio.run(asked(servers[0].port, 10 * QUEUE, chosen.seconds, users))
    print(row(10 * QUEUE, times, statuses, seconds, servers[0].megabytes()), flush=True)


def asked_by_wrk(wrk: str, home: Path, server: Server, connections: int, seconds: float) -> dict:
    """Return requests a second, milliseconds, failed requests and memory."""
    words = [
        wrk,
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "30s",
        "-s",
        str(home / "ask.lua"),
    ]
    said = subprocess.run(
        [*words, f"http://127.0.0.1:{server.port}"], capture_output=True, text=True, check=True
    ).stdout
    found = json.loads(said.strip().splitlines()[-1])
    rate = (found["requests"] - found["failed"]) / (found["us"] / 1e6)
    times = {name: found[name] / 1000 for name in ("p50", "p99")}
    return {"rate": rate, **times, "failed": found["failed"], "memory": server.megabytes()}


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


def row(connections: int, times: list[float], statuses: Counter, seconds: float, memory: float) -> str:
    """Return a row of the table."""
    p50, p99 = (1000 * np.percentile(times, q) for q in (50, 99)) if times else (np.nan, np.nan)
    other = sum(statuses.values()) - sum(statuses[one] for one in ("200", "429", "503"))
    counts = " | ".join(f"{one:,}" for one in (statuses["200"], statuses["429"], statuses["503"], other))
    return f"| {connections:,} | {statuses['200'] / seconds:,.0f} | {p50:.1f} | {p99:.1f} | {counts} | {memory:,.0f} |"


if __name__ == "__main__":
    main()
