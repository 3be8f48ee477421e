"""Launchers of trials on this machine. A launcher runs command lines, each in processes of its own, and returns when all have ended.

What became of a trial is in its folder, written by its own processes: a launcher keeps nothing.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from recsys_dl.threads import usable_processors

SECONDS_TO_STOP = 30


@dataclass(frozen=True)
class Job:
    """A command line to run.

    Attributes:
        name: shown by a cluster.
        command: its words.
        folder: where it leaves what became of it: job.json.
        log: file that its output is appended to.
        cwd: its working folder.
        processes: number of processes that it starts on all machines; num_nodes: number of machines.
        environment: variables to set.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    log: Path
    cwd: Path
    processes: int = 1
    num_nodes: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, more: Mapping[str, str] | None = None, processors: Sequence[int] | None = None) -> int:
        """Run it here, on these processors only if given; return its exit status. On an error or Ctrl-C it is stopped first."""
        environment = {**os.environ, **self.environment, **(more or {})}
        with self.log.open("ab") as stream:
            process = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env=environment,
                stdout=stream,
                stderr=stream,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # so that signals meant for the launcher do not reach it
            )
            if processors is not None and hasattr(os, "sched_setaffinity"):
                with contextlib.suppress(ProcessLookupError):  # it has ended
                    os.sched_setaffinity(process.pid, processors)
            try:
                return process.wait()
            except BaseException:
                stop(process)
                raise


def stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process and those it started, so that they leave nothing half-written; kill them if they do not end."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_TO_STOP)
            return


class Launcher(Protocol):
    """How trials are run."""

    name: str

    def check(self, num_nodes: int) -> None:
        """Check, before anything is written, that it can run jobs of up to this number of machines.

        Raises:
            ImportError: a package is missing; the message says what to install.
            ValueError: it cannot run them.
        """

    def launch(self, jobs: Sequence[Job]) -> None:
        """Run jobs; return when all have ended.

        Raises:
            RuntimeError: they could not be started.
        """

    def in_queue(self, jobs: Sequence[str]) -> dict[str, str]:
        """Return the state of each of these jobs of earlier launches that is still in its queue."""


class OnThisMachine:
    """What launchers on this machine share.

    Attributes:
        package: that it needs, if any.
    """

    name: str
    package: str | None = None

    def check(self, num_nodes: int) -> None:
        """Check that its package is installed, and that no job needs other machines.

        Raises:
            ImportError: it is not; says what to install.
            ValueError: one does.
        """
        if self.package is not None:
            need(self.package, self.name)
        if num_nodes > 1:
            raise ValueError("trainer.num_nodes above 1 needs launcher=slurm, whose jobs have several nodes")

    def in_queue(self, jobs: Sequence[str]) -> dict[str, str]:
        """Return nothing: these launchers have no queue that outlives them."""
        return {}


class Basic(OnThisMachine):
    """One after the other.

    Examples:
        >>> import sys, tempfile
        >>> from pathlib import Path
        >>> from recsys_dl.sweeps.launchers import Basic, Job
        >>> here = Path(tempfile.mkdtemp())
        >>> Basic().launch([Job("hello", (sys.executable, "-c", "print('hello')"), here, here / "log", here)])
        >>> (here / "log").read_text().strip()
        'hello'
    """

    name = "basic"

    def launch(self, jobs: Sequence[Job]) -> None:
        """Run jobs one after the other."""
        for job in jobs:
            job.run()


class Joblib(OnThisMachine):
    """Several at once, each with its share of processors and GPUs.

    Args:
        jobs: number at once.

    Raises:
        ValueError: fewer than one.

    Examples:
        >>> import sys, tempfile
        >>> from pathlib import Path
        >>> from recsys_dl.sweeps.launchers import Job, Joblib
        >>> here = Path(tempfile.mkdtemp())
        >>> command = (sys.executable, "-c", "print('hello')")
        >>> Joblib(jobs=2).launch([Job(str(n), command, here, here / f"log{n}", here) for n in range(3)])
        >>> sorted(file.name for file in here.iterdir())
        ['log0', 'log1', 'log2']
    """

    name = "joblib"

    def __init__(self, jobs: int = 2) -> None:
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {jobs}")
        self.jobs = jobs

    def launch(self, jobs: Sequence[Job]) -> None:
        """Run jobs, `self.jobs` at once."""
        from joblib import Parallel, delayed

        free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for place in range(self.jobs):
            free.put(place)

        def run(job: Job) -> None:
            place = free.get()
            try:
                job.run(gpu_of(place, job), processors_of(place, self.jobs))
            finally:
                free.put(place)

        Parallel(n_jobs=self.jobs, backend="threading")(delayed(run)(job) for job in jobs)


def processors_of(place: int, places: int) -> list[int]:
    """Return the processors of one of `places` equal shares of those available to this process; at least one.

    Examples:
        >>> from recsys_dl.sweeps.launchers import processors_of
        >>> len(processors_of(0, 1000))
        1
    """
    mine = sorted(usable_processors())
    share = max(1, len(mine) // places)
    start = place * share % len(mine)
    return mine[start : start + share]


def gpu_of(place: int, job: Job) -> dict[str, str]:
    """Return the environment that gives a job of one process one of this machine's GPUs; nothing without several."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = [number.name.removeprefix("nvidia") for number in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    gpus = found if given is None else [one for one in given.split(",") if one]
    return {"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if len(gpus) > 1 and job.processes == 1 else {}


def python(module: str, *words: str) -> tuple[str, ...]:
    """Return the command line that runs a module with this Python."""
    return (sys.executable, "-m", module, *words)


def need(package: str, launcher: str) -> Any:
    """Import a launcher's package.

    Raises:
        ImportError: it is not installed; says what to install.
    """
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"launcher={launcher} needs the package {package}, which is not installed ({error}): "
            f"pip install 'recsys_dl[{'ray' if package == 'ray' else 'sweep'}]', or launcher=joblib"
        ) from error
