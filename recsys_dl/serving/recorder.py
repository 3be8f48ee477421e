"""Answers and feedback, written to the disk by one thread."""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from recsys_dl.data.durable import DurableTable
from recsys_dl.data.feedback_log import FeedbackLog
from recsys_dl.data.vocabulary import as_text, save_vocabularies
from recsys_dl.folders import ensure_folder, new_file, new_folder

from .batches import Batches, Job
from .errors import Refused
from .histories import Histories
from .messages import Feedback
from .mirror import MirroredTable
from .shared import opened
from .store import Address, Shown, Store

log = logging.getLogger(__name__)

CAPACITY = 20_000  # answers that wait to be written
EVERY = 1.0  # seconds between writes of answers, if no feedback comes
BEHIND = "the store does not keep up or cannot be written; send this again later, and see GET /ready"
FAILURES = (OSError, ValueError)  # of a full or damaged disk, and of a server that is away


class Recorder:
    """Keeps answers with their propensities, feedback on them, and users' histories.

    The folder holds `histories.sqlite`, and for each pair of vocabularies `logs/KEY/` with `users.parquet`, `items.parquet` and the
    `FeedbackLog` `log/`. Answers are written within a second, feedback before it is acknowledged.

    With a shared store all of this is in that database, in which `histories` looks as well; the folder has a copy of the logs, in a folder named after the
    content of the database, and what policies have learned.

    Args:
        folder: created if needed.
        shared: where the shared store is; None for the folder alone.

    Attributes:
        checks: by the key of a log, what raises ValueError for rewards that it must not have.

    Raises:
        ValueError: it holds something else, or is damaged.
        OSError: it cannot be written, or the database does not answer.
        ImportError: the database's client library is not installed.
    """

    def __init__(self, folder: Path, shared: Address | None = None) -> None:
        self.shared = None if shared is None else opened(shared)
        if shared is not None and self.shared is not None:
            folder = folder / f"{shared.kind}-{self.shared.name}"
        ensure_folder(folder)
        self.folder = folder
        self.histories: Store = self.shared or Histories(folder / "histories.sqlite")
        self.failure: str | None = None
        self.checks: dict[str, Callable[[list[float]], None]] = {}
        self._logs: dict[str, FeedbackLog] = {}
        self._copies: list[MirroredTable] = []
        self._lock = threading.Lock()
        self._waiting: list[Shown] = []
        self._written = self._looked = time.monotonic()
        self._stopping = False
        self._batches = Batches("recorder", self._process, size=256, wait=0.005, capacity=CAPACITY, tick=EVERY)

    def open_log(self, users: Any, items: Any, context_size: int, variant: str = "") -> str:
        """Open the log of answers over these vocabularies, with contexts of that size; return its key. Of two runs, each has its own."""
        content = f"{users.content_hash} {items.content_hash} {context_size}{variant and ' ' + variant}"
        key = hashlib.sha256(content.encode()).hexdigest()[:16]
        folder = self.folder / "logs" / key
        if not folder.exists():
            with new_folder(folder) as aside:
                save_vocabularies(aside, users, items)
        if key not in self._logs:
            tables = self._tables(key)
            self._logs[key] = FeedbackLog(folder / "log", items=items, context_size=context_size, tables=tables)
            if self.shared is not None:
                self.shared.describe(key, {"num_arms": len(items), "context_size": context_size})
        return key

    def log_of(self, key: str) -> FeedbackLog:
        """Return the log of a key, of this run, an earlier one or, with a shared store, another server's."""
        if key not in self._logs:
            sizes: dict[str, Any] = {}
            folder = self.folder / "logs" / key
            if self.shared is not None and not folder.exists():
                folder, sizes = self.folder / "others" / key, self.shared.described(key)
            self._logs[key] = FeedbackLog(folder / "log", tables=self._tables(key), **sizes)
        return self._logs[key]

    def _tables(self, key: str) -> Any:
        if self.shared is None:
            return DurableTable
        shared = self.shared

        def copy(folder: Path, schema: dict[str, Any]) -> MirroredTable:
            self._copies.append(MirroredTable(folder, schema, store=shared, name=f"{key}/{folder.name}"))
            return self._copies[-1]

        return copy

    def describe(self, key: str, about: dict[str, Any]) -> None:
        """Write of which of two runs a log is, and for which share of the users, beside it."""
        with new_file(self.folder / "logs" / key / "variant.json") as aside:
            aside.write_text(json.dumps(about) + "\n")

    def shown(self, answer: Shown) -> None:
        """Keep an answer.

        Raises:
            Refused: too many wait to be written.
        """
        self.check()
        with self._lock:
            self._waiting.append(answer)

    def feedback(self, body: Feedback) -> Future[int]:
        """Keep feedback; the result is the number of events, once they are on the disk.

        Raises:
            Refused: too much waits to be written.
        """
        try:
            return self._batches.put(body)
        except queue.Full:
            raise Refused(503, BEHIND, retry_after=5) from None

    def check(self) -> None:
        """Raise what a request for a list gets while answers cannot be kept."""
        if len(self._waiting) >= CAPACITY:
            raise Refused(503, BEHIND, retry_after=5)

    def stop(self) -> None:
        """Write what is left, and end."""
        self._stopping = True
        self._batches.stop()

    # In the thread

    def _process(self, feedback: Sequence[Job]) -> None:
        due = feedback or self._stopping or time.monotonic() - self._written > EVERY
        try:
            wrote = bool(self._waiting and due)
            if wrote:
                self._write_answers()
            kept = self._write_feedback(feedback)
            if due and (self.shared is None or kept or wrote):
                self.failure = None  # before anyone hears that it works
            for job in kept:
                job.result.set_result(len(job.body.events))
            if self.shared is not None and time.monotonic() - self._looked > EVERY:
                self._look()
        except FAILURES as error:
            self.failure = f"{type(error).__name__}: {error}"
            log.error("the store cannot be written: %s", self.failure)
            for job in feedback:
                if not job.result.done():
                    job.result.set_exception(Refused(503, BEHIND, retry_after=5))

    def _look(self) -> None:
        """See that the shared store can be used, and copy what other servers wrote."""
        self._looked = time.monotonic()
        self.histories.check()
        for table in list(self._copies):
            table.pull()
        self.failure = None

    def _write_answers(self) -> None:
        self._written = time.monotonic()
        alike: dict[Any, list[Shown]] = {}
        with self._lock:
            waiting = list(self._waiting)
        for one in waiting:
            alike.setdefault((one.log, one.row is None, one.joint is None, one.draws), []).append(one)
        for (key, *_), answers in alike.items():
            _append(self._logs[key], answers)
        self.histories.remember(waiting)
        with self._lock:
            del self._waiting[: len(waiting)]

    def _write_feedback(self, jobs: Sequence[Job]) -> list[Job]:
        """Write rewards, then histories; a repeated request changes neither. Return the requests that are kept; others have their refusal."""
        rewards: dict[str, list[tuple[int, int, float]]] = {}
        events: list[tuple[str, str, float]] = []
        good = []
        for job in jobs:
            try:
                key, mine, told = self._resolved(job.body)
            except Refused as error:
                job.result.set_exception(error)
                continue
            if key is not None:
                rewards.setdefault(key, []).extend(mine)
            events += told
            good.append(job)
        for key, rows in rewards.items():
            requests, arms, earned = zip(*rows, strict=True)
            self.log_of(key).reward(requests, arms, earned, [int(time.time())] * len(rows))
        if events:
            self.histories.add(events)
        return good

    def _resolved(
        self, body: Feedback
    ) -> tuple[str | None, list[tuple[int, int, float]], list[tuple[str, str, float]]]:
        """Return the log, rewards in it, and events of the user's history."""
        items = as_text([event.item for event in body.events]).to_list()
        rewards = [float(event.reward) for event in body.events]
        user = None if body.user is None else as_text([body.user])[0]
        key, mine = None, []
        if body.request_id is not None:
            answer = self.histories.answered(body.request_id)
            if answer is None:
                raise Refused(
                    404,
                    f"no answer with request_id {body.request_id} is known (they are kept for 7 days); to add to a user's history, send "
                    "user without request_id",
                )
            if user is not None and answer.user is not None and user != answer.user:
                raise Refused(422, f"user must be the one of the answer or left out, got {user[:80]!r}")
            user = answer.user if user is None else user
            if strange := [item for item in items if item not in answer.arms]:
                raise Refused(
                    422,
                    f"every item must be one of the {len(answer.arms)} of the answer, got {strange[0][:80]!r}; to add others to a user's "
                    "history, send user without request_id",
                )
            try:
                self.checks.get(answer.log, _anything)(rewards)
            except ValueError as error:
                raise Refused(422, f"the policy of this run learns from feedback, and {error}") from None
            key, number = answer.log, number_of(body.request_id)
            mine = [(number, answer.arms[item], reward) for item, reward in zip(items, rewards, strict=True)]
        told = [
            (user, item, reward) for item, reward in zip(items, rewards, strict=True) if user is not None and reward
        ]
        return key, mine, told


def _anything(rewards: list[float]) -> None:
    """Take any rewards."""


def _append(to: FeedbackLog, answers: list[Shown]) -> None:
    """Write answers that have the same optional parts."""
    shape = (len(answers), max(len(one.arms) for one in answers))
    arms_BK, chances_BK = np.full(shape, -1, np.int32), np.full(shape, np.nan)
    for b, one in enumerate(answers):
        arms_BK[b, : len(one.arms)] = list(one.arms.values())
        chances_BK[b, : len(one.arms)] = one.propensities
    nothing = (0.0,) * to.context_size  # of a stage that was skipped
    to.append(
        arms_BK,
        chances_BK,
        requests_B=[number_of(one.request) for one in answers],
        users_B=None if answers[0].row is None else [one.row for one in answers],
        contexts_BF=[one.context or nothing for one in answers] if to.context_size else None,
        times_B=[one.time for one in answers],
        joint_B=None if answers[0].joint is None else [one.joint for one in answers],
        draws=answers[0].draws,
    )


def number_of(request: str) -> int:
    """Return the number of a request in the feedback log."""
    return int(request[:16], 16) >> 1
