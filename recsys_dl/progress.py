"""A progress bar for every loop that may take longer than a second, and a sign of life for a single long step.

Where nobody watches, the command prints a line for each stage instead: a log record that carries `SIGN`.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

SIGN = {"sign": True}  # `extra` of a log record that tells a person how far the work is
LIBRARIES = (
    "pytorch_lightning",
    "lightning",
    "lightning_fabric",
    "lightning_utilities",
    "torch",
    "torchmetrics",
    "mlflow",
    "wandb",
)
SECONDS = 20  # between two lines of one loop


def shown_on_console(record: logging.LogRecord) -> bool:
    """Return whether the command shows a record beside its log.

    It shows warnings, what is marked `always` (how a log was read), and signs of life where stderr draws no bars.
    """
    always = record.levelno >= logging.WARNING or hasattr(record, "always")
    return always or (hasattr(record, "sign") and not sys.stderr.isatty())


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep warnings of the libraries below us out of the terminal while a command of ours runs; then filters are as before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=rf"({'|'.join(LIBRARIES)})(\.|$)")
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=category)
        yield


def track(steps: Iterable[T], description: str, *, total: int | None = None) -> Iterator[T]:
    """Yield `steps`, drawing a bar on stderr with the count, the time gone and the time left.

    Where stderr is not a terminal (a log file, a test), a long loop is logged instead, every 20 seconds.
    """
    if not sys.stderr.isatty():
        last = start = time.monotonic()
        size = total if total is not None else len(steps) if isinstance(steps, Sized) else None
        for done, step in enumerate(steps):
            if (now := time.monotonic()) - last >= SECONDS:
                last = now
                of = "" if size is None else f" of {size:,}"
                log.info("%s: %d%s, %.0f s", description, done, of, now - start, extra=SIGN)
            yield step
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    count = total if total is not None else len(steps) if isinstance(steps, Sized) else None
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(steps, total=count, description=description)


@contextmanager
def waiting(description: str) -> Iterator[None]:
    """Show on stderr that something is going on inside the block. Silent where `track` is; no `track` may run inside."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(description):
        yield


class Meter:
    """A bar for a training: steps, loss, samples a second, time left. Where `track` logs, an epoch is logged every 20 seconds."""

    def __init__(self, description: str, total: int) -> None:
        self.description, self.total = description, total
        self.shown = False
        self._start = self._last = time.monotonic()

    def tell(self, what: str, *, last: bool = False) -> None:
        """Log an epoch where no bar is drawn, if the last line is old enough; the last epoch needs none."""
        now = time.monotonic()
        if not self.shown and not last and now - self._last >= SECONDS:
            self._last = now
            log.info("%s: %s, %.0f s", self.description, what, now - self._start, extra=SIGN)

    def start(self, done: int = 0) -> None:
        """Show the bar, `done` steps along."""
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}, {task.fields[rate]:,.0f} samples/s"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(self.description, total=self.total, completed=done, loss=0.0, rate=0.0)
        self._progress.start()
        self._began, self._since, self.shown = time.perf_counter(), done, True

    def advance(self, done: int, *, loss: float, num_samples: int) -> None:
        """Move to `done` steps of `num_samples` each."""
        rate = (done - self._since) * num_samples / max(time.perf_counter() - self._began, 1e-9)
        self._progress.update(self._task, completed=done, loss=loss, rate=rate)

    def stop(self) -> None:
        """Take the bar away."""
        if self.shown:
            self._progress.stop()
            self.shown = False
