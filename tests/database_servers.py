"""A real PostgreSQL and a real Redis of Debian's packages, started by the tests."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PASSWORD = "s3cret/p@ss"
QUOTED = "s3cret%2Fp%40ss"
POSTGRES = next(
    (str(one) for one in sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)),
    shutil.which("postgres"),
)
REDIS = shutil.which("redis-server")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """A process that is killed, stopped and started again.

    Attributes:
        url: with the password; `shown` without.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen | None = None

    def run(self, words: list[str], ready: Callable[[], bool], **options) -> None:
        with (self.folder / "server.log").open("ab") as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=out, **options)
        end = time.monotonic() + 30
        while not ready():
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                raise AssertionError(f"the database did not start: {(self.folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it in order, without waiting for its clients."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def hold(self) -> None:
        """Let it hang."""
        self._signal(signal.SIGSTOP)

    def release(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, which: int) -> None:
        os.kill(self.process.pid, which)


class PostgresServer(Server):
    """PostgreSQL with one user, who has a password. It refuses to run as root: root becomes the user postgres."""

    def __init__(self, folder: Path) -> None:
        self.user: dict = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        if self.user:  # pytest's folders are closed to others
            folder = Path(tempfile.mkdtemp(prefix="recsys-dl-postgres-"))
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        super().__init__(folder)
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        words = [
            str(Path(POSTGRES).parent / "initdb"),
            "-D",
            str(folder / "data"),
            "-U",
            "recsys",
            "-A",
            "scram-sha-256",
        ]
        made = subprocess.run(
            [*words, f"--pwfile={folder}/password"], capture_output=True, text=True, cwd=folder, **self.user
        )
        assert made.returncode == 0, made.stderr
        self.url, self.shown = (
            f"postgresql://recsys{word}@127.0.0.1:{self.port}/postgres" for word in (f":{QUOTED}", "")
        )

    def start(self, *settings: str) -> None:
        words = [POSTGRES, "-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder)]
        words += [part for one in ("shared_buffers=16MB", *settings) for part in ("-c", one)]
        self.run(words, self._answers, cwd=self.folder, **self.user)

    def _answers(self) -> bool:
        words = [str(Path(POSTGRES).parent / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        return subprocess.run(words).returncode == 0

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(self.folder)

    def kill(self) -> None:
        """End all of its processes as a crash does."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, which: int) -> None:
        """Of all of its processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for one in (self.process.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):  # a connection that has ended
                os.kill(one, which)


class RedisServer(Server):
    """Redis with a password, which keeps what it acknowledges unless told otherwise."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.url, self.shown = (f"redis://{word}127.0.0.1:{self.port}/0" for word in (f":{QUOTED}@", ""))

    def start(self, *settings: str) -> None:
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}", f'requirepass "{PASSWORD}"', 'save ""']
        lines += ["appendonly yes", "appendfsync always", *settings]
        (self.folder / "redis.conf").write_text("\n".join(lines) + "\n")
        self.run([REDIS, str(self.folder / "redis.conf")], self._answers)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as one:
                one.sendall(f"AUTH {PASSWORD}\r\n".encode())
                one.recv(100)
                one.sendall(b"PING\r\n")
                return b"PONG" in one.recv(100)  # and not that it is still loading
        except OSError:
            return False


def make(kind: str, folder: Path) -> Server:
    """Return a server that is not started yet; skip the test where the programs or the client library are absent."""
    if kind == "postgresql":
        pytest.importorskip("psycopg", reason="store=postgresql:// needs psycopg: pip install 'recsys_dl[postgres]'")
        if POSTGRES is None:
            pytest.skip("no PostgreSQL here: apt-get install postgresql")
        return PostgresServer(folder)
    pytest.importorskip("redis", reason="store=redis:// needs redis: pip install 'recsys_dl[redis]'")
    if REDIS is None:
        pytest.skip("no Redis here: apt-get install redis-server")
    return RedisServer(folder)
