"""Requests by id to answers by id, several at a time.

B lists, K list.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.data.interactions import Interactions
from recsys_dl.data.messages import shorten
from recsys_dl.data.vocabulary import Vocabulary, as_text
from recsys_dl.protocols import Ranking, Reranked, Staged
from recsys_dl.run_lists import NEW
from recsys_dl.run_requests import NOTHING_LEFT, Requests
from recsys_dl.runs import Run

from .batches import Job
from .errors import Refused, away_for_now
from .explaining import adjusted, entries, explanation
from .live import Current, Live
from .messages import ForWhom, Recommend, Score, Similar
from .recorder import Recorder
from .store import Shown, StoreError
from .tracing import Mark


@dataclass(frozen=True)
class Wanted:
    """A request.

    Attributes:
        body: of it.
        request: its id.
        explain: whether the list of a `Recommend` is to be explained.
        variant: which of two runs answers.
        marks: what was done for it, and when.
    """

    body: Recommend | Score | Similar
    request: str
    explain: bool = False
    variant: str = "a"
    marks: list[Mark] = field(default_factory=list)


@dataclass(frozen=True)
class Whom:
    """For whom a list is.

    Attributes:
        name: the user's id as text.
        user: likewise; None for an unnamed user.
        row: of a user whom the model answers by row; None for one who is folded in.
        known: row in the run, None for others.
        items, weights: of one who is folded in.
        tastes: stated ones.
    """

    name: str
    user: str | None
    row: int | None
    known: int | None = None
    items: Any = ()
    weights: Any = ()
    tastes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Asked:
    """A list that was found to be in order."""

    job: Job
    whom: Whom
    k: int
    within: np.ndarray | None
    seed: int
    run: Run

    def kind(self) -> Hashable:
        """Return what the lists of one batch have in common."""
        alone = self.whom.tastes is not None or self.within is not None or self.job.body.body.adjustments()
        return self.whom.row is None, self.k, id(self) if alone else None


class Answers:
    """Answers batches of jobs whose bodies are `Wanted`.

    Args:
        current: has the run.
        recorder: keeps answers and has histories.
        max_k: length of a list, at most.
        variant: name of the run among two.
    """

    def __init__(self, current: Current, recorder: Recorder, *, max_k: int, variant: str = "a") -> None:
        self.current, self.recorder, self.max_k, self.variant = current, recorder, max_k, variant

    def process(self, jobs: Sequence[Job]) -> None:
        """Set the result of each job."""
        live = self.current.live
        lists: dict[Hashable, list[Asked]] = {}
        for job in jobs:
            job.body.marks.append(Mark("queue", job.queued, time.time_ns()))
            try:
                if isinstance(job.body.body, Recommend) and not job.body.explain:
                    asked = self._asked(live, job)
                    lists.setdefault(asked.kind(), []).append(asked)
                else:
                    answer = self._single(live, job)
                    mark = Mark("model", job.body.marks[-1].end, time.time_ns())
                    job.body.marks.append(mark)
                    job.result.set_result(answer)
            except Exception as error:
                job.result.set_exception(refusal(error))
        for group in lists.values():
            self._answer(live, group)

    # Internal

    def _answer(self, live: Live, group: list[Asked]) -> None:
        """Answer lists that are computed together; if that fails, each alone, so that none spoils the others."""
        try:
            first, seeds_B, begin = group[0], np.array([asked.seed for asked in group]), time.time_ns()
            ranking = first.run.answer(requests_of(live, group), first.k, first.within, request=seeds_B)
            mark = marked(ranking, begin, len(group))
            for asked in group:
                asked.job.body.marks.append(mark)
            chance, known = chance_of(ranking)
            written = [self._written(live, ranking, chance, known, b, asked) for b, asked in enumerate(group)]
        except Exception as error:
            if len(group) > 1:
                for asked in group:
                    self._answer(live, [asked])
            else:
                group[0].job.result.set_exception(refusal(error))
            return
        for asked, (answer, shown) in zip(group, written, strict=True):
            try:
                if shown is not None:
                    self.recorder.shown(shown)
                asked.job.result.set_result(answer)
            except Refused as error:
                asked.job.result.set_exception(error)

    def _written(
        self, live: Live, ranking: Ranking, chance: Reranked | None, known: bool, b: int, asked: Asked
    ) -> tuple[dict[str, Any], Shown | None]:
        """Return list b as it is sent, and as it is kept: None if it is empty or its propensities are not known."""
        rows = ranking.items_BK[b][ranking.items_BK[b] >= 0]
        notes = ranking.notes(b) if isinstance(ranking, Staged) else []
        if not len(rows):
            notes = [*notes, NOTHING_LEFT]
        if not known:
            notes = [
                *notes,
                "a stage after a random one reorders the list: propensities are not known, and the list is not logged",
            ]
        chances = None if chance is None else np.asarray(chance.propensities_BK)[b, : len(rows)].tolist()
        request, whom = asked.job.body.request, asked.whom
        answer = {
            "request_id": request,
            "items": entries(live, rows, ranking.scores_BK[b, : len(rows)]),
            "propensities": chances,
            "notes": notes,
            "seed": asked.seed,
            "variant": self.variant,
        }
        if not len(rows) or not known:
            return answer, None
        arms = dict(zip(live.run.items.at(rows).to_list(), rows.tolist(), strict=True))
        shown = Shown(
            request, live.log, whom.user, arms, int(time.time()), whom.known, tuple(chances or [1.0] * len(rows))
        )
        if chance is None:
            return answer, shown
        seen = None if chance.contexts_BF is None else tuple(chance.contexts_BF[b].tolist())
        joint = None if chance.joint_B is None else float(chance.joint_B[b])
        return answer, replace(shown, joint=joint, draws=chance.draws, context=seen)

    def _single(self, live: Live, job: Job) -> dict[str, Any]:
        body, head = job.body.body, {"request_id": job.body.request}
        if isinstance(body, Similar):
            rows = found(live.run.items, body.items)
            ranking = live.run.model.similar_items(rows, self._length(live, body.k))
            lists = [
                (items[items >= 0], scores) for items, scores in zip(ranking.items_BK, ranking.scores_BK, strict=True)
            ]
            return head | {"similar": [entries(live, items, scores[: len(items)]) for items, scores in lists]}
        if isinstance(body, Score):
            rows = found(live.run.items, body.items)
            asked = Asked(job, self._whom(live, job.body), 1, None, 0, live.run)
            scores_BL = live.run.model.score(live.run.users_of(requests_of(live, [asked])), rows[None])
            return head | {"items": entries(live, rows, scores_BL[0])}
        asked = self._asked(live, job)
        requests = requests_of(live, [asked])
        why = explanation(live, asked.run, requests, asked.k, asked.within, asked.seed)
        return head | why | {"seed": asked.seed, "variant": self.variant}

    def _asked(self, live: Live, job: Job) -> Asked:
        body = job.body.body
        for ids in filter(None, (body.allow, body.exclude)):
            found(live.run.items, ids)
        seed = secrets.randbelow(2**53) if body.seed is None else body.seed
        whom, k = self._whom(live, job.body), self._length(live, body.k)
        return Asked(
            job, whom, k, live.run.allowed(body.allow, body.exclude), seed, adjusted(live.run, k, body.adjustments())
        )

    def _length(self, live: Live, k: int) -> int:
        most = min(self.max_k, len(live.run.items))
        if k > most:
            raise Refused(422, f"k must be between 1 and {most:,}, got {shorten(str(k))}")
        return k

    def _whom(self, live: Live, wanted: Wanted) -> Whom:
        run, body = live.run, wanted.body
        assert isinstance(body, ForWhom)
        tastes = None if body.tastes is None else tuple(body.tastes)
        if tastes is not None:
            run.check_tastes()
        if body.user is None:
            items = found(run.items, body.history or [])
            return Whom(NEW, None, None, None, items, np.ones(len(items), np.float32), tastes)
        name = as_text([body.user])[0]
        row, begin = int(run.users.find([name])[0]), time.time_ns()
        events = self.recorder.histories.of(name)
        wanted.marks.append(Mark("store", begin, time.time_ns()))
        fresh = run.items.find([item for item, _ in events]) if events else np.zeros(0, np.int32)
        kept = fresh >= 0
        if row < 0 and not kept.any():
            raise unknown(run.users, name, "For a new user, send history in place of user")
        seen = run.seen.by_user
        if not kept.any() and (run.model.user_counts_U[row] or seen.indptr[row] == seen.indptr[row + 1]):
            return Whom(name, name, row, row)
        mine = slice(0, 0) if row < 0 else slice(seen.indptr[row], seen.indptr[row + 1])
        rewards = np.maximum(np.array([reward for _, reward in events], np.float32), 0)
        items, weights = (
            np.concatenate(two) for two in ((seen.indices[mine], fresh[kept]), (seen.data[mine], rewards[kept]))
        )
        return Whom(name, name, None, row if row >= 0 else None, items, weights)


def variant_of(wanted: Wanted, share: float) -> str:
    """Return which of two runs answers: the same one for all requests of a user; drawn anew for unnamed users."""
    user = getattr(wanted.body, "user", None)
    name = f"request {wanted.request}" if user is None else f"user {as_text([user])[0]}"
    drawn = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return "b" if drawn < share else "a"


def requests_of(live: Live, group: Sequence[Asked]) -> Requests:
    """Return requests of one kind for the run."""
    names = pl.Series([asked.whom.name for asked in group], dtype=pl.String)
    if group[0].whom.row is not None:
        return Requests(names, np.array([asked.whom.row for asked in group], np.int32), None)
    users = np.repeat(np.arange(len(group)), [len(asked.whom.items) for asked in group])
    items, weights = (np.concatenate([getattr(asked.whom, name) for asked in group]) for name in ("items", "weights"))
    histories = Interactions(users, items, weights, num_users=len(group), num_items=len(live.run.items))
    return Requests(names, None, histories, group[0].whom.tastes)


def marked(ranking: Ranking, begin: int, size: int) -> Mark:
    """Return that a model answered a batch until now, and its stages, one after another."""
    mark, at = Mark("model", begin, time.time_ns(), {"recsys.batch": size}), begin
    for stage in ranking.stages if isinstance(ranking, Staged) else ():
        begin, at = at, at + int(1e9 * stage.seconds)
        mark.parts.append(Mark(f"{stage.kind} {stage.name}", begin, at))
    return mark


def chance_of(ranking: Ranking) -> tuple[Reranked | None, bool]:
    """Return the stage that has the lists' propensities, None if nothing is random; and whether they are known."""
    if not isinstance(ranking, Staged):
        return None, True
    try:
        return ranking.chance, True
    except ValueError:  # another stage follows the random one
        return None, False


def found(vocabulary: Vocabulary, ids: Sequence[Any]) -> np.ndarray:
    """Return the rows of ids.

    Raises:
        Refused: one is unknown.
    """
    rows = vocabulary.find(ids)
    if (rows < 0).any():
        name = as_text([ids[int(np.argmax(rows < 0))]])[0]
        raise unknown(vocabulary, name, "Items added after training are unknown to the model", int((rows < 0).sum()))
    return rows


def unknown(vocabulary: Vocabulary, name: str, advice: str, count: int = 1) -> Refused:
    """Return the answer to an id that the run does not know; unlike `Vocabulary.rows`, it looks for no similar ones, which takes long."""
    known = ", ".join(repr(shorten(one, 40)) for one in vocabulary.ids.head(3))
    noun = vocabulary.noun
    return Refused(
        404,
        f"{noun} {shorten(name)!r} is not among the {len(vocabulary):,} known {noun}s, such as {known} ({count:,} unknown in total). {advice}.",
    )


def refusal(error: Exception) -> Exception:
    """Return an error of a computation as the client sees it."""
    if isinstance(error, StoreError):
        return away_for_now(error)
    return Refused(422, shorten(str(error), 1000)) if isinstance(error, ValueError) else error
