"""Running the trials of a ledger by a launcher, until each is finished or has failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .launchers import Job, Launcher, python
from .ledger import Trial

SECONDS_BETWEEN = 1.0
ENDED = ("finished", "failed")


def run_trials(
    trials: Sequence[Trial], launcher: Launcher, *, module: str, ended: Callable[[Trial, str], None]
) -> None:
    """Run every trial that is not finished. Those that run, or wait in the launcher's queue, since an earlier command are waited for.

    Failed trials of earlier commands are tried again. Each is started at most once, unless one that an earlier command started
    ends unfinished.

    Args:
        trials: to run.
        launcher: how.
        module: that runs a trial, given its folder.
        ended: called with each trial that is finished or has failed in this call, and its state.
    """
    launched: set[int] = set()
    unfinished = [trial for trial in trials if not trial.finished]
    for trial in unfinished:
        trial.retry()
    with _watching(unfinished, ended):
        while True:
            in_queue = launcher.in_queue([trial.job["id"] for trial in trials if trial.job is not None])
            states = {trial.number: trial.state(in_queue) for trial in trials}
            start = [
                trial
                for trial in trials
                if trial.number not in launched and states[trial.number] in ("waiting", "interrupted")
            ]
            if start:
                launched |= {trial.number for trial in start}
                launcher.launch([job_of(trial, launcher.name, module) for trial in start])
            elif any(state in ("running", "queued") for state in states.values()):
                time.sleep(SECONDS_BETWEEN)
            else:
                return


def job_of(trial: Trial, launcher: str, module: str) -> Job:
    """Return the command line that runs a trial."""
    return Job(
        f"trial {trial.number}",
        python(module, str(trial.folder)),
        trial.folder,
        trial.log,
        Path.cwd(),
        trial.processes,
        trial.num_nodes,
        {"RECSYS_DL_LAUNCHER": launcher},
    )


@contextmanager
def _watching(trials: Sequence[Trial], ended: Callable[[Trial, str], None]) -> Iterator[None]:
    """Call `ended` for each trial that ends inside the block, as its folder says so."""
    waiting, over = list(trials), threading.Event()

    def look() -> None:
        for trial in list(waiting):
            if (state := trial.state()) in ENDED:
                waiting.remove(trial)
                ended(trial, state)

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    look()
