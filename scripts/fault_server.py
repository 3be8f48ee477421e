"""Servers of `recsys-dl serve` in processes of their own, forked after the imports, for bench_faults.py.

This process must compute nothing, so that it has no threads that a forked one would lack.
"""

from __future__ import annotations

import http.client
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn  # noqa: F401  (imported before servers are forked)

import recsys_dl.compose
import recsys_dl.serving.app
import recsys_dl.serving.server
import recsys_dl.verbs.serve  # noqa: F401
from recsys_dl.cli import main as recsys
from recsys_dl.data.generated import generated
from recsys_dl.models import EASE
from recsys_dl.runs import StageTimer, write_run

USERS, ITEMS, TIMEOUT = 200, 100, 2.0

Answer = tuple[int, dict[str, Any]]


class Server:
    """A server in a process of its own.

    Args:
        folder: where it runs and has its log.
        words: further words of the command.
        shift: seconds by which its clock is off; shared memory.
        hung: above 0, its writes do not return; likewise.
    """

    def __init__(self, folder: Path, *words: str, shift: Any = None, hung: Any = None) -> None:
        reading, writing = os.pipe()
        self.process = os.fork()
        if not self.process:
            try:
                _enter(folder, writing, words, shift, hung)
            except BaseException:
                traceback.print_exc()
            os._exit(70)
        os.close(writing)
        with os.fdopen(reading) as printed:
            assert select.select([printed], [], [], 120)[0], "the server neither started nor ended"
            self.line = printed.readline()
        self.port = int(self.line.split()[0].rsplit(":", 1)[1]) if self.line.startswith("http://") else 0

    def ask(self, path: str, body: Any = None, *, method: str = "POST", kind: str = "application/json") -> Answer:
        """Send a request over a connection of its own; return status and answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": kind})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; return its status."""
        os.kill(self.process, number)
        return self.status()

    def status(self) -> int:
        """Wait for its end; return its status."""
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


def _enter(folder: Path, printed: int, words: tuple[str, ...], shift: Any, hung: Any) -> None:
    os.chdir(folder)
    os.dup2(printed, 1)
    errors = os.open("log.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(errors, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    if shift is not None:
        real_time = time.time
        time.time = lambda: real_time() + shift.value
    if hung is not None:
        real_sync = os.fsync

        def sync(file: Any) -> None:
            while hung.value:
                time.sleep(0.02)
            real_sync(file)

        os.fsync = sync
    sys.argv = ["recsys-dl", "serve", *words]
    os._exit(recsys(["serve", "port=0", "threads=1", "watch=0", f"timeout={TIMEOUT}", "queue_size=64", *words]))


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Path | None]:
    """Mount a small file system; None where that is not allowed."""
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder):
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def write(folder: Path) -> None:
    """Write a small run."""
    log = generated(num_users=USERS, num_items=ITEMS, num_interactions=8 * USERS, seed=7)
    model = EASE(regularization=5.0).fit(log)
    folder.mkdir()
    write_run(folder, config={}, model=model, seen=log.interactions, data=log, evaluations={}, stages=StageTimer())


def apart(call: Callable[..., Any], *given: Any) -> Any:
    """Call in another process, so that this one starts no threads; return the result."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        try:
            with os.fdopen(writing, "wb") as out:
                pickle.dump(call(*given), out)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        found = answer.read()
    assert os.waitpid(process, 0)[1] == 0
    return pickle.loads(found)  # noqa: S301  from our own process


def mount(*words: object) -> bool:
    """Run mount; return whether it was allowed."""
    return not subprocess.run(["mount", *map(str, words)], capture_output=True, check=False).returncode
