"""What a server of `recsys-dl serve` does when it is killed, its disk is full, read-only or hangs, its clock jumps, and clients misbehave.

    python scripts/bench_faults.py                  # the table; some minutes
    python scripts/bench_faults.py --kills 20

Every server is `recsys-dl serve` in a process of its own, forked from this one after the imports, so that 200 starts take minutes and not
hours; asked over HTTP. Full and read-only disks are small file systems that are mounted here, which takes root; elsewhere those rows are left out, with a note.
A clock that jumps and a disk that hangs are `time.time` and `os.fsync` of that process, replaced before it starts.
The status is 1 if a row is not as docs/serving.md says.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import multiprocessing
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fault_server import ITEMS, TIMEOUT, Server, apart, disk, mount, write

from recsys_dl.data.durable import DurableTable
from recsys_dl.data.feedback_log import REWARDS
from recsys_dl.serving.recorder import number_of

CLIENTS = 4


@dataclass
class Row:
    """A row of the table."""

    fault: str
    answered: str
    right: bool


@dataclass
class Kept:
    """What clients sent and what was acknowledged.

    Attributes:
        sent: (request, arm or item) -> reward.
        rewards, histories: acknowledged (request id, item) and (user, item).
    """

    sent: dict[tuple[Any, str], float] = field(default_factory=dict)
    rewards: list[tuple[str, str]] = field(default_factory=list)
    histories: list[tuple[str, str]] = field(default_factory=list)


def feed(server: Server, kept: Kept, first: int, count: int = 1_000_000) -> Counter:
    """Ask for lists of histories and send feedback on them and of new users, until the server is gone; return how many events had each status."""
    statuses: Counter = Counter()
    for n in range(count):
        try:
            status, answer = server.ask("/recommend", {"history": [f"i{(first + n) % ITEMS}"], "k": 5})
            if status != 200:
                statuses[f"list {status}"] += 1
                continue
            name, items = answer["request_id"], [one["item"] for one in answer["items"]][:3]
            events = [{"item": item, "reward": 1.0 + int(item[1:]) % 4} for item in items]
            kept.sent |= {(number_of(name), one["item"]): one["reward"] for one in events}
            status, _ = server.ask("/feedback", {"request_id": name, "events": events})
            statuses[str(status)] += len(events)
            if status == 200:
                kept.rewards += [(name, item) for item in items]
            user = f"new-{first + n}"
            status, _ = server.ask("/feedback", {"user": user, "events": [{"item": items[0]}]})
            statuses[str(status)] += 1
            if status == 200:
                kept.histories.append((user, items[0]))
        except (OSError, http.client.HTTPException, ValueError):
            break
    return statuses


def lost(store: Path, kept: Kept) -> tuple[int, int]:
    """Return how many acknowledged events are not on the disk, and how many rows are there that nobody sent."""
    (folder,) = (store / "logs").glob("*/log")
    rows = DurableTable(folder / "rewards", REWARDS).read()
    ids = [f"i{at}" for at in range(ITEMS)]
    there = {(row["request"], ids[row["arm"]]): row["reward"] for row in rows.iter_rows(named=True)}
    strange = sum(kept.sent.get(key) != reward for key, reward in there.items()) + len(rows) - len(there)
    gone = sum((number_of(name), item) not in there for name, item in kept.rewards)
    with contextlib.closing(sqlite3.connect(store / "histories.sqlite")) as histories:
        assert histories.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        known = set(histories.execute("SELECT user, item FROM events"))
    return gone + sum(one not in known for one in kept.histories), strange


def kills(folder: Path, count: int) -> Iterator[Row]:
    """`kill -9` at random moments during feedback; the next server starts on what is left."""
    rng, kept, gone, strange, ready = np.random.default_rng(7), Kept(), 0, 0, 0
    for number in range(count):
        server = Server(folder, "run=run", "store=killed")
        ready += server.ask("/ready", method="GET")[0] == 200
        parts = [Kept() for _ in range(CLIENTS)]
        clients = [
            threading.Thread(target=feed, args=(server, part, 1_000_000 * number + 10_000 * at))
            for at, part in enumerate(parts)
        ]
        for one in clients:
            one.start()
        time.sleep(float(rng.uniform(0.05, 0.8)))
        server.stop(signal.SIGKILL)
        for one in clients:
            one.join()
        for part in parts:
            kept.sent |= part.sent
            kept.rewards += part.rewards
            kept.histories += part.histories
        gone, strange = apart(lost, folder / "killed", kept)
        if gone or strange:
            break
    unfinished = len(list((folder / "killed/logs").rglob("aside/*")))
    events = len(kept.rewards) + len(kept.histories)
    yield Row(
        f"`kill -9` at random moments during feedback of {CLIENTS} clients, {number + 1} times",
        f"{events:,} events acknowledged, {gone} lost; {strange} rows read that nobody sent; {unfinished} unfinished pieces set aside; "
        f"{ready} of {number + 1} starts ready at once",
        not gone and not strange and ready == number + 1 == count,
    )


def during(
    server: Server,
    store: Path,
    kept: Kept,
    fault: str,
    mend: Callable[[], Any],
    wanted: tuple[int, ...] = (503, 200, 503),
) -> Row:
    """Return what a server with a store that fails answers, and after the fault is mended."""
    shown = server.ask("/recommend", {"user": "u3", "k": 3})[1]
    asked = {"request_id": shown["request_id"], "events": [{"item": shown["items"][0]["item"]}]}
    feedback = server.ask("/feedback", asked)[0]
    lists, ready = server.ask("/recommend", {"user": "u1"})[0], server.ask("/ready", method="GET")[0]
    mend()
    again, ready_again = server.ask("/feedback", asked)[0], server.ask("/ready", method="GET")[0]
    kept.sent[(number_of(shown["request_id"]), asked["events"][0]["item"])] = 1.0
    status = server.stop()
    gone, strange = apart(lost, store, kept)
    return Row(
        fault,
        f"feedback {feedback}, lists {lists}, /ready {ready}; afterwards feedback {again}, /ready {ready_again}; {gone} of "
        f"{len(kept.rewards) + len(kept.histories)} acknowledged events lost, {strange} rows that nobody sent; stopped with status {status}",
        (feedback, lists, ready, again, ready_again, gone, strange, status) == (*wanted, 200, 200, 0, 0, 0),
    )


def disks(folder: Path) -> Iterator[Row]:
    """A disk that becomes full, one that becomes read-only, and one that is from the start."""
    with disk(folder / "full", "1m") as place:
        if place is None:
            yield Row("full and read-only disk", "left out: mounting a file system takes root", True)
            return
        server, kept = Server(folder, "run=run", "store=full/store"), Kept()
        feed(server, kept, 1_000, 20)
        with contextlib.suppress(OSError), (place / "else").open("wb", buffering=0) as other:
            while other.write(bytes(4096)):
                pass
        yield during(server, place / "store", kept, "full disk, while it runs", (place / "else").unlink)
    with disk(folder / "fixed", "8m") as place:
        assert place is not None
        server, kept = Server(folder, "run=run", "store=fixed/store"), Kept()
        feed(server, kept, 2_000, 20)
        (logs,) = (place / "store/logs").glob("*/log")
        mount("--bind", logs, logs)
        mount("-o", "remount,bind,ro", logs)
        mend = partial(subprocess.run, ["umount", "-l", str(logs)], check=True)
        yield during(server, place / "store", kept, "read-only disk, while it runs", mend)
        mount("-o", "remount,ro", place)
        yield refusal(folder, "read-only disk, at the start", "run=run", "store=fixed/other")


def refusal(folder: Path, fault: str, *words: str) -> Row:
    """Return how a server that must not start ends."""
    log = folder / "log.jsonl"
    before = log.stat().st_size if log.exists() else 0
    server = Server(folder, *words)
    if server.port:
        return Row(fault, f"it started: {server.line.strip()}, and was stopped with status {server.stop()}", False)
    status = server.status()
    said = log.read_bytes()[before:].decode().strip().splitlines()
    return Row(fault, f"status {status}: {said[-1][:160] if said else 'silent'}", status == 1 and len(said) == 1)


def clocks(folder: Path) -> Iterator[Row]:
    """A clock that jumps between an answer and its feedback."""
    for name, seconds, wanted in (
        ("a year back", -31_536_000, 200),
        ("an hour ahead", 3_600, 200),
        ("a year ahead", 31_536_000, 404),
    ):
        shift = multiprocessing.Value("d", 0.0, lock=False)
        server = Server(folder, "run=run", f"store=clock-{seconds}", shift=shift)
        answer = server.ask("/recommend", {"user": "u3", "k": 3})[1]
        asked = {"request_id": answer["request_id"], "events": [{"item": answer["items"][0]["item"]}]}
        server.ask("/feedback", {"user": "u9", "events": [{"item": "i1"}]})
        shift.value = seconds
        fresh = server.ask("/recommend", {"user": "u4", "k": 3})[1]
        server.ask("/feedback", {"user": "u9", "events": [{"item": "i2"}]})
        late = server.ask("/feedback", asked)[0]
        new = server.ask(
            "/feedback", {"request_id": fresh["request_id"], "events": [{"item": fresh["items"][0]["item"]}]}
        )[0]
        shift.value = 0.0
        back = server.ask("/feedback", {"user": "u9", "events": [{"item": "i3"}]})[0]
        status = server.stop()
        yield Row(
            f"the clock jumps {name}",
            f"feedback on an answer before the jump {late}, on one after it {new}; when it is right again {back}; stopped with status {status}",
            (late, new, back, status) == (wanted, 200, 200, 0),
        )


def hangs(folder: Path) -> Iterator[Row]:
    """A disk whose writes do not return, and a store that another process has locked."""
    hung = multiprocessing.Value("d", 0.0, lock=False)
    server = Server(folder, "run=run", "store=hung", hung=hung)
    answer = server.ask("/recommend", {"user": "u3", "k": 3})[1]
    asked = {"request_id": answer["request_id"], "events": [{"item": answer["items"][0]["item"]}]}
    hung.value = 1.0
    start = time.monotonic()
    during = server.ask("/feedback", asked)[0]
    seconds = time.monotonic() - start
    lists = server.ask("/recommend", {"user": "u4"})[0]
    hung.value = 0.0
    again = server.ask("/feedback", asked)[0]
    yield Row(
        "a disk that does not answer",
        f"feedback {during} after {seconds:.1f} s (`timeout` {TIMEOUT:g}), lists {lists}; afterwards {again}; stopped with status {server.stop()}",
        (during, lists, again) == (503, 200, 200) and seconds < TIMEOUT + 1,
    )
    server = Server(folder, "run=run", "store=locked")
    with contextlib.closing(sqlite3.connect(folder / "locked/histories.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        during = server.ask("/feedback", {"user": "u3", "events": [{"item": "i1"}]})[0]
        lists = server.ask("/recommend", {"user": "u4"})[0]
        other.execute("ROLLBACK")
    again = server.ask("/feedback", {"user": "u3", "events": [{"item": "i1"}]})[0]
    yield Row(
        "a store that another process holds locked",
        f"feedback {during}, lists {lists}; afterwards {again}; stopped with status {server.stop()}",
        (during, lists, again) == (503, 200, 200),
    )


def slow(server: Server, count: int = 200) -> Iterator[Row]:
    """Clients that send a byte at a time."""
    for what, head in (
        ("headers", b"POST /recommend HTTP/1.1\r\nHost: x\r\n"),
        (
            "body",
            b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n",
        ),
    ):
        opened = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40 if what == "body" else count)]
        start, waits, left = time.monotonic(), [], len(opened)
        for one in opened:
            one.sendall(head)
        ends: Counter = Counter()
        while left and time.monotonic() - start < 5 * TIMEOUT:
            asked = time.monotonic()
            status = server.ask("/recommend", {"user": "u5"})[0]
            waits.append(time.monotonic() - asked if status == 200 else np.inf)
            for at, one in enumerate(opened):
                if one is None:
                    continue
                try:
                    one.sendall(b"x")
                    one.setblocking(False)
                    got = one.recv(20)
                    ends[got[9:12].decode() or "closed"] += 1
                except BlockingIOError:
                    one.setblocking(True)
                    continue
                except OSError:
                    ends["closed"] += 1
                one.close()
                opened[at], left = None, left - 1  # type: ignore[call-overload]
            time.sleep(0.1)
        yield Row(
            f"{len(opened)} clients that send their {what} a byte at a time",
            f"{', '.join(f'{one}: {many}' for one, many in ends.items())}, after {time.monotonic() - start:.1f} s; in the meantime {len(waits)} others got 200, "
            f"the slowest after {1000 * max(waits):,.0f} ms",
            not left and max(waits) < TIMEOUT and set(ends) <= {"408", "closed"},
        )


BODIES: tuple[tuple[str, str, bytes, int], ...] = (
    ("10 MB of body", "/recommend", b" " * 10_000_000, 413),
    ("100,000 brackets", "/recommend", b"[" * 100_000, 422),
    ("objects 20,000 deep", "/score", b'{"items":' * 20_000, 422),
    ("NaN", "/feedback", b'{"user": "u3", "events": [{"item": "i1", "reward": NaN}]}', 422),
    ("an infinite number", "/feedback", b'{"user": "u3", "events": [{"item": "i1", "reward": 1e999}]}', 422),
    ("a lone surrogate", "/recommend", b'{"user": "\\ud800"}', 422),
    ("bytes that are not UTF-8", "/recommend", b'{"user": "\xff"}', 422),
    ("a zero character", "/recommend", b'{"user": "\\u0000"}', 404),
    ("a run named in the body", "/recommend", b'{"run": "../../etc/passwd"}', 422),
    ("a path with dots", "/../../etc/passwd", b"{}", 404),
    ("an encoded path", "/page/%2e%2e%2f%2e%2e%2fetc/passwd%00", b"{}", 404),
)
RUNS = (
    "../../../../etc/passwd",
    "run/../../nowhere",
    "/dev/zero",
    "https://host/run",
    "~nobody/run",
    "run\n/../x",
    "a" * 5000,
)


def table(folder: Path, count: int) -> Iterator[Row]:
    """Yield every row."""
    yield from kills(folder, count)
    yield from disks(folder)
    yield from clocks(folder)
    yield from hangs(folder)
    server = Server(folder, "run=run", "store=bodies")
    yield from slow(server)
    for fault, path, body, wanted in BODIES:
        status, answer = server.ask(path, body)
        yield Row(fault, f"{status}: {answer.get('error', '')[:90]}", status == wanted)
    alive = server.ask("/recommend", {"user": "u5"})[0], server.stop()
    yield Row("a request after all of these", f"{alive[0]}; stopped with status {alive[1]}", alive == (200, 0))
    for name in RUNS:
        yield refusal(folder, f"`run={name[:30]!r}`", f"run={json.dumps(name)}")


def main() -> int:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kills", type=int, default=200)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        apart(write, folder / "run")
        print("| fault | answered | as documented |\n|---|---|---|")
        wrong, tracebacks = 0, 0
        for row in table(folder, chosen.kills):
            wrong += not row.right
            print(
                f"| {row.fault} | {row.answered.replace('|', chr(92) + '|')} | {'yes' if row.right else '**no**'} |",
                flush=True,
            )
        tracebacks = (folder / "log.jsonl").read_text(errors="replace").count("Traceback")
    print(f"\n{tracebacks} tracebacks in the logs of all servers")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
