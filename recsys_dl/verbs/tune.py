"""Search the settings of a model on validation."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from .running import read_parts, shown
from .search import Search
from .tuned import best_experiment, print_study, test_winner

if TYPE_CHECKING:
    from recsys_dl.sweeps.study import Study

log = logging.getLogger(__name__)

WORKER = "RECSYS_DL_TUNE_WORKER"  # set in processes that only run trials


def tune(config: DictConfig) -> int:
    """Run or resume a study; print and write all of its trials, and the best one's config."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ImportError(
            f"recsys-dl tune needs a package that is not installed ({error.name}): pip install optuna cmaes, or pip install '.[tune]'"
        ) from error
    from recsys_dl.sweeps.study import Study

    began = time.monotonic()
    search = Search(config)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    split = read_parts(search.base, _stages(), expected_hash=None)
    study = Study(search.folder, search.plan(), search.identity(split), config.storage)
    study.report_done()
    until = float("inf") if config.timeout is None else began + config.timeout
    if os.environ.get(WORKER):
        with contextlib.suppress(KeyboardInterrupt):  # the command that started it says so
            _end_with_parent()
            study.work(lambda claim: search.run(claim, split), until=until)
        return 0
    try:
        with _workers(config, study):
            study.work(lambda claim: search.run(claim, split), until=until)
    except KeyboardInterrupt:
        log.info("%s is kept; the same command continues it", shown(study.folder), extra={"always": True})
        raise
    if config.keep == "best":
        study.keep_best()
    experiment = best_experiment(study, search)
    print_study(study, search, experiment, time.monotonic() - began)
    if config.test:
        test_winner(study, search, split)
    states = {one.state for one in study.records(search.command)}
    return 1 if states == {"failed"} else 0


@contextmanager
def _workers(config: DictConfig, study: Study) -> Iterator[None]:
    """Run the other workers during the block; they end with it."""
    command = [sys.executable, "-m", "recsys_dl", "tune", *config.typed]
    environment = os.environ | {WORKER: str(os.getpid())}
    others: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(min(config.workers, study.trials) - 1):
            others.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
        yield
        for other in others:
            other.wait()
    finally:
        for other in others:
            if other.poll() is None:
                other.terminate()
        for other in others:
            other.wait()


def _end_with_parent() -> None:
    """Let the system interrupt this worker when the process that started it ends in any way."""
    if sys.platform.startswith("linux"):
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != int(os.environ[WORKER]):  # it ended before
        raise KeyboardInterrupt


def _stages() -> Any:
    from recsys_dl.runs import StageTimer

    return StageTimer()
