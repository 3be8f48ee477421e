"""Requests answered together: a bounded queue and a worker thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Job:
    """A request in the queue, its answer, and when it was queued, in nanoseconds since 1970."""

    body: Any
    result: Future[Any] = field(default_factory=Future)
    queued: int = field(default_factory=time.time_ns)


class Batches:
    """A worker thread that gathers jobs.

    Args:
        name: of the thread.
        process: sets the result of each job of a batch; what it raises becomes the result of those without one. Jobs that
            were given up in the meantime are left out.
        size: jobs of a batch, at most.
        wait: seconds that a job waits for others, at most.
        capacity: of the queue.
        tick: seconds after which `process` is called without a job if none comes; None for never.

    Attributes:
        present: returns how many jobs there may be at most now; a batch that has all of them does not wait.
    """

    def __init__(
        self,
        name: str,
        process: Callable[[Sequence[Job]], None],
        *,
        size: int,
        wait: float,
        capacity: int,
        tick: float | None = None,
    ) -> None:
        self.process, self.size, self.wait, self.tick = process, size, wait, tick
        self.present: Callable[[], int] = lambda: size
        self.jobs: queue.Queue[Job | None] = queue.Queue(capacity)
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def put(self, body: Any) -> Future[Any]:
        """Queue a job.

        Raises:
            queue.Full: there is no room.
        """
        job = Job(body)
        self.jobs.put_nowait(job)
        return job.result

    def stop(self) -> None:
        """Process what is queued, and end the thread."""
        self.jobs.put(None)
        self.thread.join()

    def _work(self) -> None:
        going = True
        while going:
            batch, going = self._gathered()
            batch = [job for job in batch if job.result.set_running_or_notify_cancel()]
            if not batch and (going and self.tick is None):
                continue
            try:
                self.process(batch)
            except Exception as error:
                for job in batch:
                    if not job.result.done():
                        job.result.set_exception(error)

    def _gathered(self) -> tuple[list[Job], bool]:
        """Return the next jobs, and whether more may come."""
        try:
            job = self.jobs.get(timeout=self.tick)
        except queue.Empty:
            return [], True
        batch: list[Job] = []
        until = time.monotonic() + self.wait
        while job is not None:
            batch.append(job)
            left = until - time.monotonic()
            try:
                if len(batch) >= min(self.size, self.present()):
                    break
                job = self.jobs.get(timeout=left) if left > 0 else self.jobs.get_nowait()
            except queue.Empty:
                break
        return batch, job is not None
