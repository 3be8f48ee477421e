"""Processes of the command and of small programs, without their seconds of imports.

Each is forked from one process that has imported what the command imports and has computed nothing, so that it has its own
memory, folder, environment and streams like one just started.
"""

from __future__ import annotations

import atexit
import io
import os
import socket
import sys
import tempfile
from multiprocessing import forkserver, get_context
from pathlib import Path
from subprocess import CompletedProcess

import pytest

FORKS = get_context("forkserver")  # whose server is another process than this one, which has computed
FORKS.set_forkserver_preload(["imported"])


def command(*words: object, cwd: Path, status: int | None = 0) -> CompletedProcess:
    """Run `recsys-dl WORDS` in a folder and return what was printed; the status must be `status`, if given."""
    done = _process(_command, [str(word) for word in words], cwd, dict(os.environ) | {"COLUMNS": "120"})
    if status is not None:
        assert done.returncode == status, f"{done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr, done.stderr
    return done


def commands(processes: int, *words: object, cwd: Path) -> str:
    """Run `recsys-dl WORDS` in processes that compute together, which must all succeed; return what they printed."""
    return _together(processes, _command, [str(word) for word in words], cwd)


def programs(processes: int, text: str, *arguments: object, cwd: Path) -> str:
    """Run a Python program in processes that compute together, which must all succeed; return what they printed."""
    return _together(processes, _program, [text, *map(str, arguments)], cwd)


def program(text: str, *arguments: object, cwd: Path | None = None) -> str:
    """Run a Python program, which must succeed, and return what it printed."""
    done = _process(_program, [text, *map(str, arguments)], cwd or Path.cwd(), dict(os.environ))
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


class Going:
    """A process of the command that goes on until it is told to end, with what `subprocess.Popen` has of it."""

    def __init__(self, *words: str, cwd: Path, err: Path | None = None, environment: dict[str, str] | None = None):
        self.folder = tempfile.TemporaryDirectory()
        files = [Path(self.folder.name, "out"), err or Path(self.folder.name, "err")]
        for file in files:
            file.touch()
        self.stdout, self.stderr = (file.open(encoding="utf-8") for file in files)
        _start_server()
        printed = [str(file) for file in files]
        environment = dict(os.environ) | (environment or {})
        self.process = FORKS.Process(target=_enter, args=(_command, words, str(cwd), environment, printed))
        self.process.start()
        atexit.register(self.process.kill)  # one that a failed test has left would be waited for

    def line(self) -> str:
        """Return the next whole line that it prints, or what there is once it has ended."""
        found = ""
        while not found.endswith("\n"):
            ended = self.process.exitcode is not None
            found += self.stdout.readline()
            if ended:
                break
            self.process.join(0.02)
        return found

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()

    def wait(self, timeout: float | None = None) -> int | None:
        """Return its status once it has ended, or None where it has not in so many seconds."""
        self.process.join(timeout)
        return self.process.exitcode


def _process(target, words: list[str], cwd: Path, environment: dict[str, str]) -> CompletedProcess:
    (done,) = _processes(target, words, cwd, [environment])
    return done


def _together(processes: int, target, words: list[str], cwd: Path) -> str:
    """Run processes with the variables that torchrun sets; the first has the store, which torchrun's own process has else."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    all_of_them = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": port}
    all_of_them |= {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "GROUP_RANK": 0}
    environments = [
        dict(os.environ) | {name: str(value) for name, value in (all_of_them | {"RANK": at, "LOCAL_RANK": at}).items()}
        for at in range(processes)
    ]
    done = _processes(target, words, cwd, environments)
    assert not any(one.returncode for one in done), "\n".join(one.stderr[-3000:] for one in done)
    return "".join(one.stdout for one in done)


def _processes(target, words: list[str], cwd: Path, environments: list[dict[str, str]]) -> list[CompletedProcess]:
    """Run a process for each environment, all at once."""
    with tempfile.TemporaryDirectory() as folder:
        _start_server()
        printed = [[os.path.join(folder, f"{at}.{name}") for name in ("out", "err")] for at in range(len(environments))]
        started = [
            FORKS.Process(target=_enter, args=(target, words, str(cwd), environment, files))
            for environment, files in zip(environments, printed, strict=True)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join()
        return [
            CompletedProcess(words, process.exitcode, *(Path(file).read_text("utf-8") for file in files))
            for process, files in zip(started, printed, strict=True)
        ]


def _start_server() -> None:
    """Start the server, unless it runs, where it finds `imported.py`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in (str(Path(__file__).parent), *sys.path) if path))
        forkserver.ensure_running()


def _enter(target, words: list[str], cwd: str, environment: dict[str, str], printed: list[str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, file in enumerate(printed, start=1):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8", write_through=True) for number in (1, 2)
    )
    sys.exit(target(words))


def _command(words: list[str]) -> int:
    from recsys_dl.cli import main

    sys.argv = ["recsys-dl", *words]
    return main()


def _program(words: list[str]) -> None:
    sys.argv = ["-c", *words[1:]]
    exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})
