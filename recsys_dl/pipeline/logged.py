"""A running pipeline whose answers are logged before they are shown, and whose policies learn from the log.

B users, K positions, N rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys_dl.data.feedback_log import FeedbackLog
from recsys_dl.protocols import Staged, Users, UserState

from .pipeline import Pipeline


class LoggedPipeline:
    """A pipeline with its feedback log.

    A pipeline that was saved after `learn` and is loaded again continues where it stopped: it learns from each reward once, whatever was
    killed in between.

    Args:
        pipeline: fitted; at most one of its stages draws, and it is the last.
        log: over its items, with contexts of the size that its policy sees.

    Raises:
        ValueError: a log over another number of items, or with other contexts.

    Examples:
        >>> import tempfile
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.bandits import Thompson
        >>> from recsys_dl.data.feedback_log import FeedbackLog
        >>> from recsys_dl.models import Popularity
        >>> from recsys_dl.pipeline import LoggedPipeline, Pipeline
        >>> from recsys_dl.rerankers import Exploration
        >>> stages = {"exploration": Exploration(Thompson(), places=[2])}
        >>> train = Interactions([0, 0, 1, 2], [0, 1, 0, 2], num_items=5)
        >>> pipeline = Pipeline({"popular": Popularity()}, rerankers=stages).fit(train)
        >>> running = LoggedPipeline(pipeline, FeedbackLog(tempfile.mkdtemp(), num_arms=5))
        >>> answer, requests_B = running.recommend([0, 1], k=2)
        >>> running.reward(requests_B, answer.items_BK[:, 1], [1.0, 0.0])
        >>> running.learn()
        2
    """

    def __init__(self, pipeline: Pipeline, log: FeedbackLog) -> None:
        pipeline._check_fitted()
        if log.num_arms != pipeline.num_items:
            raise ValueError(
                f"the log must be over the {pipeline.num_items} items of the pipeline, got one over {log.num_arms}; open it with "
                "FeedbackLog(folder, items=pipeline.items), to which items may have been added at the end"
            )
        stages = [one for one in pipeline.rerankers.values() if getattr(one, "policy", None) is not None]
        seen = max((getattr(one, "context_size", 0) for one in stages), default=0)
        if log.context_size != seen:
            raise ValueError(
                f"the log must have contexts of {seen} numbers, as the policy of this pipeline sees them, got context_size="
                f"{log.context_size}; open a new one with FeedbackLog(folder, num_arms={log.num_arms}, context_size={seen})"
            )
        self.pipeline, self.log = pipeline, log
        self._next = log.next_request()

    def recommend(
        self, users: Users, k: int, *, times_B: Any = None, exclude: Any = None, allow: Any = None
    ) -> tuple[Staged, np.ndarray]:
        """Return the answer of the pipeline, and int64 [B] numbers of the requests; both are on the disk.

        Args:
            users: as in `Pipeline.recommend`; new users are logged without a row.
            k: length of each list.
            times_B: seconds since 1970.
            exclude: as in `Pipeline.recommend`.
            allow: likewise.

        Raises:
            ValueError: as in `Pipeline.recommend`; a stage after the one that draws.
        """
        requests_B = self._next + np.arange(len(users), dtype=np.int64)
        answer = self.pipeline.recommend(users, k, exclude=exclude, allow=allow, request=requests_B)
        chance, known = answer.chance, isinstance(users, UserState)
        there_BK = answer.items_BK >= 0
        contexts_BF = None if chance is None else chance.contexts_BF
        if self.log.context_size and contexts_BF is None:  # the stage failed and was skipped
            contexts_BF = np.zeros((len(users), self.log.context_size), np.float32)
        self.log.append(
            answer.items_BK,
            there_BK * 1.0 if chance is None else chance.propensities_BK[:, :k],  # type: ignore[index]
            requests_B=requests_B,
            users_B=None if known else np.asarray(users),
            contexts_BF=contexts_BF,
            times_B=times_B,
            joint_B=np.ones(len(users)) if chance is None else chance.joint_B,
            draws=0 if chance is None else chance.draws,
        )
        self._next += len(users)
        return answer, requests_B

    def reward(self, requests_N: Sequence[int] | np.ndarray, items_N: Any, rewards_N: Any, times_N: Any = None) -> None:
        """Write rewards of shown items, now or later; they are on the disk when this returns.

        Raises:
            ValueError: as in `FeedbackLog.reward`.
        """
        self.log.reward(requests_N, items_N, rewards_N, times_N)

    def learn(self) -> int:
        """Let the policies learn from rewards that have become known since the last time; return how many."""
        feedback, position = self.log.since(self.pipeline.feedback_position)
        if len(feedback):
            self.pipeline.update(feedback)
        self.pipeline.feedback_position = position
        return int(np.isfinite(feedback.rewards_RK).sum())
