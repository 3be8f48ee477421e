"""A progress bar for every loop that may take longer than a second, and a sign of life for a single long step."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def track(steps: Iterable[T], description: str, *, total: int | None = None) -> Iterator[T]:
    """Yield `steps`, drawing a bar on stderr with the count, the time gone and the time left.

    Silent where stderr is not a terminal (a log file, a test), so that logs stay readable.
    """
    if not sys.stderr.isatty():
        yield from steps
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
