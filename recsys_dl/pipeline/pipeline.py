"""Retrievers, a ranker and re-rankers as one recommender.

B users, K list, L candidates, F features.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from typing_extensions import Self

from recsys_dl.arguments import takes_histories
from recsys_dl.data.dataset import Dataset, as_interactions, check_numbering
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.requests import check_item_rows, item_lists, item_table, list_length
from recsys_dl.kernels.threads import at_most
from recsys_dl.progress import SIGN
from recsys_dl.protocols import Ranking, Stage, Staged, Users, UserState

from .adjusting import adjusted, settings_of
from .evidence import of_retriever, ranked, ranks_in
from .growing import described, grown, item_vectors_of
from .notes import Notes
from .ranker_training import fit_retriever, gathered, try_out
from .stages import MERGE, RANKER, Stages

log = logging.getLogger(__name__)


class Pipeline(Stages):
    """Several retrievers find candidates, which are merged, ranked and re-ranked; a `Recommender` itself.

    `fit` splits the log (`examples`), fits copies of the retrievers on the earlier part, trains the ranker to find the later part
    among their candidates, and then fits retrievers and features on the whole log.

    An error in a stage is raised, unless `on_failure` is "skip" for it: then the answer is computed without it, which is
    noted in the answer and logged. Without a retriever, the others' candidates are used; without the ranker, the merged order;
    without a re-ranker, the previous order. If no retriever answers, the error is always raised.

    A user without interactions gets the retrievers' fallback (usually popular items), ranked as for anyone, with a note.
    A list that runs out of items is padded with -1 / -inf, with a note.

    Args:
        retrievers: by name, in merge order. They must support save and load.
        num_retrieved: items requested from each retriever; k if that is larger.
        merge: "reciprocal_rank", "round_robin" or "quota": see `pipeline.merging`.
        merge_arguments: arguments of that function.
        num_candidates: L, length of the merged list; k if that is larger.
        features: the ranker's input for each candidate; required with a ranker.
        ranker: sorts candidates; None keeps the merged order.
        examples: `RankerExamples`, or a mapping of their arguments.
        rerankers: by name, in execution order.
        on_failure: by stage name, "raise" (the default) or "skip".

    Attributes:
        num_users: U, user rows in training.
        num_items: I.
        users: ids of the user rows, or None if fitted on bare Interactions.
        items: ids of the item rows, likewise.
        user_counts_U: int64, distinct items of each user in training.

    Raises:
        ValueError: a repeated name, an argument out of range, or a ranker without features.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import ItemKNN, Popularity
        >>> from recsys_dl.pipeline import Pipeline
        >>> train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
        >>> pipeline = Pipeline({"knn": ItemKNN(device="cpu"), "popular": Popularity()}).fit(train)
        >>> pipeline.recommend([0], k=1, exclude=train).items_BK
        array([[2]], dtype=int32)
    """

    def __repr__(self) -> str:
        stages = [" + ".join(self.retrievers), *([type(self.ranker).__name__] if self.ranker else []), *self.rerankers]
        size = (
            f" of {self.num_users:,} users and {self.num_items:,} items"
            if hasattr(self, "num_items")
            else ", not fitted"
        )
        return f"Pipeline({' > '.join(stages)}){size}"

    # Fitting

    def fit(self, train: Dataset | Interactions, *, trainer: Any = None) -> Self:
        """Train the ranker on lists from retrievers that did not see its labels; then fit every stage on all of `train`.

        Args:
            train: the log.
            trainer: `TrainerOptions` for retrievers that take them; single process only.

        Raises:
            ValueError: an empty log, or one that cannot be split into examples.
        """
        known = as_interactions(train)
        if not len(known):
            raise ValueError("training needs at least one interaction, got an empty log")
        if trainer is not None and getattr(trainer, "world_size", 1) > 1:
            raise ValueError(
                f"a pipeline trains in one process, got a trainer of {trainer.world_size}; set trainer.processes=1 and "
                "trainer.num_nodes=1"
            )
        try_out(self, train)
        if self.ranker is not None:
            learned, held = gathered(self, train, trainer)
            start = time.perf_counter()
            self.ranker.fit(learned, validation=held)
            seconds = time.perf_counter() - start
            log.info("ranker fitted on %d lists, validated on %d: %.1f s", len(learned), len(held), seconds, extra=SIGN)
        for name, retriever in self.retrievers.items():
            fit_retriever(name, retriever, train, trainer, "all")
        if self.features is not None:
            self.features.fit(train, retrievers=list(self.retrievers))
        vectors_ID = item_vectors_of(self.retrievers)
        for name, reranker in self.rerankers.items():
            start = time.perf_counter()
            reranker.prepare(train, item_vectors_ID=vectors_ID)
            log.info("%s prepared: %.1f s", name, time.perf_counter() - start, extra=SIGN)
        self.num_users, self.num_items = known.num_users, known.num_items
        self.user_counts_U = known.user_counts_U
        self.users = train.users if isinstance(train, Dataset) else None
        self.items = train.items if isinstance(train, Dataset) else None
        self.described, self.num_learned = described(train), known.num_items
        self.broken = {}
        return self

    def grow(self, new: Dataset, *, seen: Interactions) -> Self:
        """Add the items of `new` by their features and texts, without a fit; return self: see `growing.grown`."""
        self._check_fitted()
        self.__dict__ = vars(grown(self, new, seen))
        return self

    # Recommending

    def recommend(
        self,
        users: Users,
        k: int,
        *,
        exclude: Dataset | Interactions | None = None,
        allow: np.ndarray | Sequence[int] | Interactions | None = None,
        request: int | np.ndarray = 0,
    ) -> Staged:
        """Return the top k items of each user, with the lists after every stage.

        Memory: 8 bytes per user, candidate and stage.

        Args:
            users: user rows [B], or the state that `fold_in` returned.
            k: length of each list, between 1 and the number of items.
            exclude: interactions whose items are excluded, by user row; for a `fold_in` state by position in it.
            allow: the only item rows that may be recommended, for all users or, as Interactions, per user.
            request: number of the request, or one for each user; random re-rankers draw anew for each.

        Raises:
            ValueError: k, a user row or an item row out of range; exclude or allow over different rows.
        """
        rows, blank_B = self._rows_of(users)
        k = list_length(k, self.num_items)
        for name, given in (("exclude", exclude), ("allow", allow)):
            if isinstance(given, Dataset):
                check_numbering(given, self.users, self.items)
            if given is not None:
                item_lists(given, rows, num_items=self.num_items, name=name)
        notes, stages = Notes(), []
        count = min(max(self.num_retrieved, k), self.num_items)
        lists, alive, asked = {}, {}, {}

        def found(name: str) -> Ranking:
            one, mine = self.retrievers[name], of_retriever(users, name)
            look_up = getattr(
                type(one), "looked_up", None
            )  # of the class: what serves a model hands other attributes on
            asked[name] = mine if look_up is None else look_up(one, mine)
            return one.recommend(asked[name], count, exclude=exclude, allow=allow)

        for name, retriever in self.retrievers.items():
            answer = self._run(name, notes, partial(found, name))
            if answer is not None:
                lists[name], alive[name] = answer[0], retriever
                stages.append(Stage(name, "retriever", *answer))
        if not lists:
            raise RuntimeError(f"no retriever answered: {'; '.join(notes.messages)}")
        with at_most(len(rows)):  # what follows works through lists, one by one
            start = time.perf_counter()
            ranking = self.merged(lists, min(max(self.num_candidates, k), self.num_items))
            stages.append(Stage(MERGE, "merge", ranking, time.perf_counter() - start))
            if self.ranker is not None or RANKER in self.broken:
                answer = self._run(RANKER, notes, partial(ranked, self, users, rows, ranking, lists, alive, asked))
                if answer is not None:
                    ranking = answer[0]
                    stages.append(Stage(RANKER, "ranker", *answer))
            for name in self.rerankers:
                put = partial(self.rerankers[name].rerank, users, ranking, k) if name not in self.broken else None
                answer = self._run(name, notes, put, keep=ranking.items_BK.shape[1], request=request)
                if answer is not None:
                    ranking = answer[0]
                    stages.append(Stage(name, "reranker", *answer))
                    notes.lists(
                        ranking.unmet_N2[:, 0], [f"{name}: {ranking.messages[m]}" for m in ranking.unmet_N2[:, 1]]
                    )
        items_BK, scores_BK = ranking.items_BK[:, :k].copy(), ranking.scores_BK[:, :k].copy()
        notes.lists(np.flatnonzero(blank_B), "this user has no interactions: retrievers gave their fallback")
        short_B = (items_BK < 0).any(axis=1)
        for b in np.flatnonzero(short_B):
            notes.lists([int(b)], f"only {int((items_BK[b] >= 0).sum())} of {k} positions could be filled")
        return Staged(items_BK, scores_BK, tuple(stages), *notes.written())

    def score(
        self,
        users: Users,
        items_BL: np.ndarray,
        *,
        exclude: Dataset | Interactions | None = None,
        allow: np.ndarray | Sequence[int] | Interactions | None = None,
    ) -> np.ndarray:
        """Return float32 [B, L]: scores consistent with the order of `recommend(users, L)`; -inf for items it leaves out.

        This is the ranker's score of a candidate or, without a ranker, the merged list's; with re-rankers, which only define an
        order, 1 / position. Left out are items that no retriever returned, that did not make the merged list, that a re-ranker
        removed, and -1. `exclude` and `allow` change what retrievers return: pass those of the request.

        Raises:
            ValueError: a user or item row out of range, or not one row of items per user; as in `recommend`.
        """
        rows, _ = self._rows_of(users)
        items_BL = item_table(items_BL, len(rows))
        check_item_rows(items_BL, self.num_items, lowest=-1)
        if not items_BL.size:
            return np.zeros(items_BL.shape, np.float32)
        answer = self.recommend(users, min(items_BL.shape[1], self.num_items), exclude=exclude, allow=allow)
        last = answer.stages[-1]
        ranks_BL = ranks_in(last.ranking.items_BK, items_BL)
        if last.kind == "reranker":
            scores_BL = 1 / np.maximum(ranks_BL, 1)
        else:
            scores_BL = np.take_along_axis(last.ranking.scores_BK, np.maximum(ranks_BL - 1, 0), axis=1)
        return np.where(ranks_BL > 0, scores_BL, -np.inf).astype(np.float32)

    def similar_items(self, items: np.ndarray | Sequence[int], k: int) -> Ranking:
        """Return the k items most similar to each item according to the first retriever."""
        self._check_fitted()
        return next(iter(self._alive.values())).similar_items(items, k)

    @takes_histories
    def fold_in(self, histories: Dataset | Interactions | Sequence[Sequence[int]]) -> UserState:
        """Return the state of new users: that of each retriever.

        Raises:
            ValueError: an item row that was not in training.
        """
        self._check_fitted()
        states = {name: retriever.fold_in(histories) for name, retriever in self._alive.items()}
        return UserState(states, next(iter(states.values())).histories)

    def user_sources(self, users: Users) -> np.ndarray:
        """Return text [B]: the most that a retriever's answer to each user rests on; see `protocols.SaysSources`."""
        self._check_fitted()
        alive = [(name, one) for name, one in self._alive.items() if hasattr(one, "user_sources")]
        return _most([one.user_sources(of_retriever(users, name)) for name, one in alive], len(users))

    def item_sources(self) -> np.ndarray:
        """Return text [I]: the most that a retriever's scores of each item rest on."""
        self._check_fitted()
        return _most(
            [one.item_sources() for one in self._alive.values() if hasattr(one, "item_sources")], self.num_items
        )

    def update(self, feedback: BanditFeedback) -> Self:
        """Let the policies of re-rankers learn from what was shown and earned, and return self.

        Args:
            feedback: arms are item rows, columns are positions; rewards that are not known yet are NaN.

        Raises:
            ValueError: not fitted, no re-ranker has a policy, or rewards that a policy does not take.
        """
        self._check_fitted()
        learning: list[Any] = [one for one in self.rerankers.values() if getattr(one, "policy", None) is not None]
        if not learning:
            raise ValueError(
                "no re-ranker of this pipeline has a policy that could learn; add exploration or policy_order"
            )
        for reranker in learning:
            reranker.update(feedback)
        return self

    def settings(self) -> dict[str, float]:
        """Return what one request may change, by name: see `adjusting.settings_of`."""
        return settings_of(self)

    def adjusted(self, k: int, wanted: Mapping[str, float]) -> Self:
        """Return this pipeline with other settings of its re-rankers, for a request: see `adjusting.adjusted`."""
        self._check_fitted()
        return adjusted(self, k, wanted)

    def item_vectors(self) -> None:
        """Return None: a pipeline's scores are not inner products of vectors and cannot be indexed."""


def _most(sources: list[np.ndarray], size: int) -> np.ndarray:
    """Return of each row's words the one that says most; those not in use elsewhere come first; "" without any."""
    least_first = ("nothing", "popularity", "no history", "features", "interactions", "history")
    found = np.full(size, "", dtype=object)
    worth = np.full(size, -1)
    for one in sources:
        mine = np.array([least_first.index(word) if word in least_first else len(least_first) for word in one])
        found = np.where(mine > worth, one, found)
        worth = np.maximum(worth, mine)
    return found
