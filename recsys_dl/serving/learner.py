"""Policies of served pipelines that learn from the feedback of their answers, beside the thread that answers."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.folders import new_folder
from recsys_dl.protocols import Policy
from recsys_dl.runs import DAMAGE
from recsys_dl.saving import Saved, load_saved

from .recorder import FAILURES, Recorder

log = logging.getLogger(__name__)


@dataclass
class Learned:
    """What the policies of one loaded run have learned here.

    Attributes:
        log: key of the log of its answers.
        stages: re-rankers with a policy, by name.
        origin: digest of those policies as they were loaded, and of what contexts are made from.
        began: time of the first answer to learn from.
        position: in the log, as of `FeedbackLog.since`.
        rewards: how many were learned from.
    """

    log: str
    stages: dict[str, Any]
    origin: str
    began: int
    position: int = 0
    rewards: int = 0


class Learner:
    """Updates policies in the background, in batches.

    What was learned is in STORE/policies/KEY, replaced whole after each batch, where KEY is that of the log of answers: for each policy its
    folder, and the position in the log. A policy learns from each reward once, whatever was killed in between: without that folder, or if the run has another
    policy than the one of the folder, all of the log is learned from again. Only policies that see contexts do not learn from answers of
    another run, whose contexts mean something else.

    Args:
        recorder: has the logs.
        settle: seconds after which a shown item without feedback counts as a reward of 0; None: never.
    """

    def __init__(self, recorder: Recorder, *, settle: float | None = None) -> None:
        self.recorder, self.settle = recorder, settle
        self.failure: str | None = None
        self._known: dict[int, tuple[Any, Learned]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def adopt(self, live: Any) -> None:
        """Give the policies of a loaded run what they have learned here before; it does not answer yet."""
        stages = {
            name: one
            for name, one in getattr(live.run.model, "rerankers", {}).items()
            if getattr(one, "policy", None) is not None
        }
        if not stages:
            return
        with self._lock:
            sees = any(getattr(one, "context_size", 0) for one in stages.values())
            began = int(time.time()) if sees else 0
            learned = Learned(live.log, stages, origin_of(stages), began)
            self._restore(learned)
            self.recorder.checks[live.log] = lambda rewards: check(stages, rewards)
            self._known[id(live)] = live, learned
            self._learn(learned)

    def learn(self, lives: Iterable[Any]) -> None:
        """Learn from what has become known; runs that answer no longer are forgotten."""
        answering = {id(live) for live in lives}
        with self._lock:
            self._known = {key: one for key, one in self._known.items() if key in answering}
            for _, learned in self._known.values():
                self._learn(learned)

    def start(self, seconds: float, lives: Callable[[], Iterable[Any]]) -> None:
        """Learn every so many seconds, in a thread of its own."""

        def work() -> None:
            while not self._stopping.wait(seconds):
                self.tick(lives())

        self._thread = threading.Thread(target=work, name="learner", daemon=True)
        self._thread.start()

    def tick(self, lives: Iterable[Any]) -> None:
        """Learn; what prevents it is logged, and shown by /health."""
        try:
            self.learn(lives)
            self.failure = None
        except FAILURES as error:
            self.failure = f"{type(error).__name__}: {error}"
            log.error("the policy does not learn: %s", self.failure)

    def stop(self, lives: Iterable[Any]) -> None:
        """Learn from what is left, and end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self.tick(lives)

    def about(self, live: Any) -> dict[str, Any] | None:
        """Return what the policies of a run have learned from; None if it has none."""
        known = self._known.get(id(live))  # once: the learner's thread replaces the dictionary
        if known is None:
            return None
        learned = known[1]
        return {"rewards": learned.rewards, "refused": self.failure}

    # Internal

    def _learn(self, learned: Learned) -> None:
        answers = self.recorder.log_of(learned.log)
        if self.settle is not None:
            answers.settle(before=int(time.time() - self.settle))
        if answers.empty:
            return
        feedback, position = answers.since(learned.position)
        if position == learned.position:
            return
        if learned.began and feedback.times_R is not None:
            feedback = feedback.take(feedback.times_R >= learned.began)
        for stage in learned.stages.values():
            if len(feedback):
                stage.policy = updated(stage, feedback)  # whole: a request is answered by the old one or by the new one
        learned.position = position
        learned.rewards += int(np.isfinite(feedback.rewards_RK).sum())
        self._save(learned)

    def _folder(self, learned: Learned) -> Path:
        return self.recorder.folder / "policies" / learned.log

    def _save(self, learned: Learned) -> None:
        state = {name: getattr(learned, name) for name in ("origin", "began", "position", "rewards")}
        with new_folder(self._folder(learned), overwrite=True) as aside:
            for name, stage in learned.stages.items():
                stage.policy.save(aside / name)
            (aside / "state.json").write_text(json.dumps(state) + "\n")

    def _restore(self, learned: Learned) -> None:
        folder = self._folder(learned)
        if not (folder / "state.json").is_file():
            return
        try:
            state = json.loads((folder / "state.json").read_text())
            if state["origin"] != learned.origin:
                log.info("%s is of another policy: the policy of this run begins as it was trained", folder)
                return
            found = {name: load_saved(folder / name, Saved, noun="policy") for name in learned.stages}
            learned.began, learned.position, learned.rewards = state["began"], state["position"], state["rewards"]
        except DAMAGE as error:
            log.warning("%s is damaged (%s): the policy learns from the log again", folder, error)
            return
        for name, stage in learned.stages.items():
            stage.policy = found[name]


def updated(stage: Any, feedback: BanditFeedback) -> Policy:
    """Return the policy of a stage after it has learned; the stage itself goes on with the old one."""
    aside = copy.copy(stage)
    aside.policy = copy.deepcopy(stage.policy)
    refused = _update(aside, feedback)
    if refused:
        log.warning("%d of %d rewarded lists are left out: %s", len(refused), len(feedback), refused[0])
    policy: Policy = aside.policy
    return policy


def _update(stage: Any, feedback: BanditFeedback) -> list[str]:
    """Let a stage learn; return why it refused each list that it refused, such as those of rewards that another policy took."""
    try:
        stage.update(feedback)
        return []
    except ValueError as error:
        if len(feedback) == 1:
            return [str(error)]
    rows = np.arange(len(feedback))
    half = len(feedback) // 2
    return _update(stage, feedback.take(rows[:half])) + _update(stage, feedback.take(rows[half:]))


def check(stages: dict[str, Any], rewards: list[float]) -> None:
    """Raise what feedback gets whose rewards a policy does not take."""
    for stage in stages.values():
        checked = getattr(stage.policy, "check_rewards", None)
        if checked is not None:
            checked(np.array(rewards))


def origin_of(stages: dict[str, Any]) -> str:
    """Return a digest of policies as they were trained, and of what their contexts are made from."""
    digest = hashlib.sha256()
    for name, stage in sorted(stages.items()):
        digest.update(f"{name} {stage.policy!r} {getattr(stage, 'places', None)}".encode())
        arrays = {**stage.policy.arrays(), "vectors": getattr(stage, "item_vectors_ID", np.zeros(0))}
        for part, values in sorted(arrays.items()):
            digest.update(part.encode())
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
