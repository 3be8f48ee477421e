"""Progress bars for loops that may take longer than a second, and a spinner for a single long step.

Without a terminal, the command prints a line per stage instead: a log record that carries `SIGN`.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from recsys_dl.processes import current

T = TypeVar("T")

log = logging.getLogger(__name__)

SIGN = {"sign": True}  # `extra` of a log record that reports progress
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
    """Return whether the command prints a record in addition to logging it.

    It shows warnings, what is marked `always` (how a log was read), and progress records if stderr draws no bars.
    """
    always = record.levelno >= logging.WARNING or hasattr(record, "always")
    return always or (hasattr(record, "sign") and not sys.stderr.isatty())


def _draws() -> bool:
    """Return whether this process draws bars: the first, on a terminal."""
    return sys.stderr.isatty() and not current().rank


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Suppress other libraries' warnings during a command; filters are restored afterwards."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=rf"({'|'.join(LIBRARIES)})(\.|$)")
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=category)
        yield


def track(steps: Iterable[T], description: str, *, total: int | None = None) -> Iterator[T]:
    """Yield `steps`, drawing a progress bar on stderr with count, elapsed and remaining time.

    If stderr is not a terminal (a log file, a test), a long loop logs its progress every 20 seconds instead.
    """
    if not _draws():
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
    """Show a spinner on stderr during the block. Silent where `track` is; must not contain a `track`."""
    if not _draws():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(description):
        yield


class Meter:
    """A training progress bar: steps, loss, samples per second, time left. Where `track` logs, an epoch is logged every 20 seconds."""

    def __init__(self, description: str, total: int) -> None:
        self.description, self.total = description, total
        self.shown = False
        self._start = self._last = time.monotonic()

    def tell(self, what: str, *, last: bool = False) -> None:
        """Log an epoch if no bar is drawn and the last line is old enough; not for the last epoch."""
        now = time.monotonic()
        if not self.shown and not last and now - self._last >= SECONDS:
            self._last = now
            log.info("%s: %s, %.0f s", self.description, what, now - self._start, extra=SIGN)

    def start(self, done: int = 0) -> None:
        """Show the bar, starting at `done` steps."""
        if not _draws():
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
        """Remove the bar."""
        if self.shown:
            self._progress.stop()
            self.shown = False
