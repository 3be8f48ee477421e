"""A run's recommendations by external ids: for its users, for new users, and similar items.

B lists, K list.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary, as_text
from recsys_dl.pipeline.explanation import explained, taken_out
from recsys_dl.protocols import Ranking, Staged, Users, UserState
from recsys_dl.run_requests import Requests, counted_lists, flattened, requests_of_log

log = logging.getLogger(__name__)

NEW = "new"  # name of the user of a bare history
History = Sequence[Any] | Mapping[Any, Sequence[Any]] | Dataset


class RunLists:
    """A run's recommendations. Subclasses provide the attributes.

    Attributes:
        folder: of the run.
        model: fitted: a `CatalogModel` or a `Pipeline`.
        users, items: the vocabularies; rows of `model`.
        seen: each user's interactions; weight 0 means seen but not used for training.
        titles: of the items, or None.
    """

    folder: Path
    model: Any
    users: Vocabulary
    items: Vocabulary
    seen: Interactions
    titles: pl.Series | None

    def recommend(
        self,
        user_ids: Sequence[Any] | None = None,
        k: int = 10,
        *,
        history: History | None = None,
        tastes: Sequence[str] | None = None,
        allow: Sequence[Any] | None = None,
        exclude: Sequence[Any] | None = None,
    ) -> pl.DataFrame:
        """Return the best k unseen items by external id: columns user_id, rank, item_id, title, score.

        `title` is null where the data has none; users with too few candidates have fewer than k rows; of users without any row a warning says why.

        Args:
            user_ids: known users; or else
            history: of a new user: item ids, oldest first (user id "new" in the output); a mapping of user ids to such lists;
                or a Dataset with such users, as from `read_log`. Its items are never recommended.
            tastes: of a new user, without or beside the history of one: terms of the items' content, such as ["heist", "1970s"]; for content
                models.
            k: length of each list, between 1 and the number of items.
            allow: ids of the only items that may be recommended; None allows all.
            exclude: ids of items that must not be recommended, in addition to seen ones.

        Raises:
            ValueError: an unknown id, k out of range, none or more than one of `user_ids`, `history` and `tastes`, or tastes that the model does not take.
        """
        requests = self._requests(user_ids, history, tastes)
        return next(counted_lists(requests, [self._listed(requests, k, self.allowed(allow, exclude))]))

    def recommend_all(
        self,
        k: int = 10,
        *,
        user_ids: Sequence[Any] | None = None,
        history: History | None = None,
        tastes: Sequence[str] | None = None,
        allow: Sequence[Any] | None = None,
        exclude: Sequence[Any] | None = None,
        users_at_once: int = 1024,
    ) -> Iterator[pl.DataFrame]:
        """Yield the result of `recommend` in blocks of users: for every known user if neither `user_ids` nor `history` is given.

        Raises:
            ValueError: as in `recommend`, before anything is yielded; or `users_at_once` below 1.
        """
        requests = self.requested(user_ids=user_ids, history=history, tastes=tastes)
        return self.lists_in_blocks(requests, k, allow=allow, exclude=exclude, users_at_once=users_at_once)

    def requested(
        self,
        *,
        user_ids: Sequence[Any] | None = None,
        history: History | None = None,
        tastes: Sequence[str] | None = None,
    ) -> Requests:
        """Return the requests for `lists_in_blocks`, as in `recommend_all`; `part` of them is some of them."""
        if user_ids is None and history is None and tastes is None:
            return Requests(self.users.ids, np.arange(len(self.users)), None)
        return self._requests(user_ids, history, tastes)

    def lists_in_blocks(
        self,
        requests: Requests,
        k: int = 10,
        *,
        allow: Sequence[Any] | None = None,
        exclude: Sequence[Any] | None = None,
        users_at_once: int = 1024,
    ) -> Iterator[pl.DataFrame]:
        """Yield the result of `recommend` for requests, in blocks; see `recommend_all`."""
        if users_at_once < 1:
            raise ValueError(f"users_at_once must be at least 1, got {users_at_once}")
        within = self.allowed(allow, exclude)
        starts = range(0, len(requests), users_at_once)
        parts = (requests.part(slice(start, start + users_at_once)) for start in starts)
        first = self._listed(next(parts), k, within)  # raises here if k is out of range
        return counted_lists(requests, _and_then(first, (self._listed(part, k, within) for part in parts)))

    def explain(
        self,
        user_ids: Sequence[Any] | None = None,
        k: int = 10,
        *,
        history: History | None = None,
        tastes: Sequence[str] | None = None,
        allow: Sequence[Any] | None = None,
        exclude: Sequence[Any] | None = None,
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Explain the lists of a pipeline, and the items removed from them; or those of a content model, in words.

        Returns:
            The lists of `recommend`, with `found_by` (retrievers and the item's rank in each), a rank after every further
            stage under its name, and `moved_by` (re-rankers' reasons). And the items that a re-ranker removed from
            within the list: user_id, item_id, title, rank (before), stage, reason. For a content model: the lists with `because`, such
            as "you liked Dumbo: Animation, 1940s", and nothing else; for a hybrid likewise, such as "als + content rank it; you liked
            Dumbo: Animation" with a content model as a part, or "als + ease rank it".

        Raises:
            ValueError: as in `recommend`, or a run whose model is no pipeline, content model or hybrid.
        """
        return self.explained(self._requests(user_ids, history, tastes), k, self.allowed(allow, exclude))

    def explained(
        self, requests: Requests, k: int, within: np.ndarray | None, *, request: int = 0
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the result of `explain` for requests; the other arguments are those of `answer`."""
        if any(callable(getattr(self.model, method, None)) for method in ("reasons", "answered_by")):
            return self._with_reasons(requests, k, within), pl.DataFrame()
        answers = []
        for b in range(len(requests)):
            answer = self.answer(requests.part(slice(b, b + 1)), k, within, request=request)
            if not isinstance(answer, Staged):
                raise ValueError(
                    f"only pipelines, content models and hybrids explain their lists, and the model of {self.folder} is "
                    f"{type(self.model).__name__}; train one: recsys-dl train pipeline=three_stage, or model=content"
                )
            answers.append(answer)
        return self.explained_answers(requests.names, answers)

    def explained_answers(self, names: pl.Series, answers: Sequence[Staged]) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the result of `explain` for a pipeline's answers, each of one user."""
        lists: list[dict[str, Any]] = []
        out: list[dict[str, Any]] = []
        for name, answer in zip(names, answers, strict=True):
            lists += [{"user": name, "rank": rank, **how} for rank, how in enumerate(explained(answer, 0), start=1)]
            out += [{"user": name, **how} for how in taken_out(answer, 0)]
        return self._named(lists), self._named(out)

    def history(self, user_ids: Sequence[Any], k: int = 10) -> pl.DataFrame:
        """Return up to k items with the highest weights of each user: user_id, rank, item_id, title, score (the weight).

        Raises:
            ValueError: an unknown id, or k below 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        rows = self.users.rows(user_ids)
        parts = []
        for row in rows:
            mine = self.seen.by_user[row]
            best = np.argsort(-mine.data, kind="stable")[: min(k, int((mine.data > 0).sum()))]
            names = self.users.at(np.full(len(best), row))
            parts.append(self._table(names, mine.indices[best], np.arange(1, len(best) + 1), mine.data[best]))
        return pl.concat(parts)

    def similar_items(self, item_ids: Sequence[Any], k: int = 10) -> pl.DataFrame:
        """Return the k items most similar to each item: columns item_id, rank, similar_item_id, title (of the similar one), score.

        Raises:
            ValueError: an unknown id, or k out of range.
        """
        rows = self.items.rows(item_ids)
        ranking = self.model.similar_items(rows, k)
        empty = rows[(ranking.items_BK < 0).all(axis=1)]
        if len(empty):
            log.warning(
                "nothing is similar to %d of %d items, such as %r: nobody interacted with them in training, or with others beside them, "
                "and the model uses no features of theirs",
                *(len(empty), len(rows), self.items.ids[int(empty[0])]),
            )
        flat = flattened(ranking)
        table = self._table(self.items.at(rows[flat.lists]), flat.items, flat.ranks, flat.scores)
        return table.rename({"user_id": "item_id", "item_id": "similar_item_id"})

    def allowed(self, allow: Sequence[Any] | None, exclude: Sequence[Any] | None) -> np.ndarray | None:
        """Return the item rows that may be recommended, None for all."""
        if allow is None and exclude is None:
            return None
        within = np.arange(len(self.items)) if allow is None else np.unique(self.items.rows(allow))
        if exclude is not None:
            within = np.setdiff1d(within, self.items.rows(exclude))
        if not len(within):
            raise ValueError(
                "allow and exclude must leave at least one item to recommend, got "
                f"{'none allowed' if exclude is None else 'all excluded'}"
            )
        return within

    def answer(
        self, requests: Requests, k: int, within: np.ndarray | None = None, *, request: int | np.ndarray = 0
    ) -> Ranking:
        """Rank items, by row, for requests: training users by row, the others folded in.

        Args:
            requests: for whom.
            k: length of each list, between 1 and the number of items.
            within: the only item rows that may be recommended; None for all.
            request: of a pipeline: its number, or one for each request, for random re-rankers.
        """
        more: dict[str, Any] = {} if within is None else {"allow": within}
        if self.draws:
            more["request"] = np.broadcast_to(request, len(requests))
        if requests.histories is not None:
            return self._folded(requests.histories, k, more, requests.tastes)
        rows = requests.rows_B
        assert rows is not None
        unseen = (self.model.user_counts_U[rows] == 0) & (self.seen.user_counts_U[rows] > 0)
        if not unseen.any():
            return self._ranked(rows, k, exclude=self.seen, **more)
        histories = self.seen.of_users(rows[unseen])
        if unseen.all():
            return self._folded(histories, k, more)
        ranking = self._ranked(rows, k, exclude=self.seen, **more)
        if self.draws:
            more["request"] = more["request"][unseen]
        folded = self._folded(histories, k, more)
        ranking.items_BK[unseen], ranking.scores_BK[unseen] = folded.items_BK, folded.scores_BK
        return ranking

    def check_tastes(self) -> None:
        """Raise a ValueError if the model takes no stated tastes."""
        if "tastes" not in inspect.signature(self.model.fold_in).parameters:
            raise ValueError(
                f"tastes are for models of the items' content, and the model of {self.folder} is {type(self.model).__name__}; train one: "
                "recsys-dl train model=content"
            )

    @cached_property
    def draws(self) -> bool:
        """Whether answers may depend on the number of the request."""
        return "request" in inspect.signature(self.model.recommend).parameters

    def users_of(self, requests: Requests) -> Users:
        """Return what the model calls the users of requests of one kind: rows of training users, or the state of others."""
        if requests.rows_B is not None and self.model.user_counts_U[requests.rows_B].all():
            return requests.rows_B
        seen = requests.histories if requests.rows_B is None else self.seen.of_users(requests.rows_B)
        assert seen is not None
        return self._state(seen, requests.tastes)

    # Internal

    def _requests(
        self, user_ids: Sequence[Any] | None, history: History | None, tastes: Sequence[str] | None = None
    ) -> Requests:
        if (user_ids is None) == (history is None and tastes is None):
            raise ValueError(
                "set either user_ids, for known users, or history, for a new user; got "
                + ("neither" if user_ids is None else "both")
            )
        if tastes is not None:
            return self._requests_of_tastes(history, tastes)
        if user_ids is not None:
            rows = self.users.rows(user_ids)
            if not len(rows):
                raise ValueError("user_ids must name at least one user, got none")
            return Requests(self.users.at(rows), rows, None)
        if isinstance(history, Dataset):
            return requests_of_log(history, self.items, self.folder)
        named = history if isinstance(history, Mapping) else {NEW: history}
        if not named:
            raise ValueError("history must hold the items of at least one user, got none")
        lists = [self.items.rows(items).tolist() for items in named.values()]  # type: ignore[arg-type]
        return Requests(as_text(list(named)), None, Interactions.from_histories(lists, num_items=len(self.items)))

    def _requests_of_tastes(self, history: History | None, tastes: Sequence[str]) -> Requests:
        self.check_tastes()
        one = self._requests(None, {NEW: []} if history is None else history)
        if len(one) != 1:
            raise ValueError(f"tastes are of one new user, got histories of {len(one)}")
        return Requests(one.names, None, one.histories, tastes)

    def _listed(self, requests: Requests, k: int, allow: np.ndarray | None) -> pl.DataFrame:
        flat = flattened(self.answer(requests, k, allow))
        return self._table(requests.names.gather(flat.lists), flat.items, flat.ranks, flat.scores)

    def _folded(
        self, seen: Interactions, k: int, more: Mapping[str, Any], tastes: Sequence[str] | None = None
    ) -> Ranking:
        """Rank for users folded in from their interactions, which are excluded from lists."""
        return self._ranked(self._state(seen, tastes), k, exclude=seen, **more)

    def _state(self, seen: Interactions, tastes: Sequence[str] | None = None) -> UserState:
        """Fold in users from their interactions of weight above 0, and from stated tastes."""
        stated = {} if tastes is None else {"tastes": tastes}
        state: UserState = self.model.fold_in(seen.select(seen.weights_N > 0), **stated)
        return state

    def _with_reasons(self, requests: Requests, k: int, allow: np.ndarray | None) -> pl.DataFrame:
        """Return lists with a column `because`, in words, of a content model or a hybrid."""
        parts = []
        for b in range(len(requests)):
            one = requests.part(slice(b, b + 1))
            flat = flattened(self.answer(one, k, allow))
            users = self.users_of(one)
            if hasattr(self.model, "reasons"):
                words = [self._in_words(reason) for reason in self.model.reasons(users, flat.items[None])[0]]
            else:
                named = self.model.answered_by(users, flat.items[None])[0]
                why = self.model.reasons_of_parts(users, flat.items[None])[0]
                words = [
                    _ranked_by(names) + ("" if reason is None else f"; {self._in_words(reason)}")
                    for names, reason in zip(named, why, strict=True)
                ]
            table = self._table(one.names.gather(flat.lists), flat.items, flat.ranks, flat.scores)
            parts.append(table.hstack([pl.Series("because", words, dtype=pl.String)]))
        return pl.concat(parts)

    def _in_words(self, reason: Any) -> str:
        if reason is None:
            return "many users interacted with it; no liked item has content in common with it"
        terms = ", ".join(reason.terms)
        if reason.item < 0:
            return f"you asked for {terms}"
        title = None if self.titles is None else self.titles[reason.item]
        return f"you liked {title or self.items.at(np.array([reason.item]))[0]}" + (f": {terms}" if terms else "")

    def _ranked(self, users: Users, k: int, **lists: Any) -> Ranking:
        """Return the model's answer; log its notes."""
        ranking: Ranking = self.model.recommend(users, k, **lists)
        if isinstance(ranking, Staged):
            for at, message in enumerate(ranking.messages):
                rows = ranking.notes_N2[ranking.notes_N2[:, 1] == at, 0]
                log.warning("%s%s", message, "" if (rows == -1).any() else f" ({len(rows)} of {len(ranking)} lists)")
        return ranking

    def _named(self, rows: list[dict[str, Any]]) -> pl.DataFrame:
        """Return rows with ids and titles instead of `user` and `item`."""
        if not rows:
            return pl.DataFrame()
        items, ranks = (np.array([row[name] for row in rows]) for name in ("item", "rank"))
        head = self._table(pl.Series([row["user"] for row in rows]), items, ranks, np.zeros(len(rows))).drop("score")
        rest = [{name: value for name, value in row.items() if name not in ("user", "item", "rank")} for row in rows]
        return head.hstack(pl.DataFrame(rest, infer_schema_length=None))

    def _table(self, names: pl.Series, items: np.ndarray, rank: np.ndarray, score: np.ndarray) -> pl.DataFrame:
        titles = pl.Series([None] * len(items), dtype=pl.String) if self.titles is None else self.titles.gather(items)
        return pl.DataFrame(
            {
                "user_id": names.cast(pl.String),
                "rank": pl.Series(rank, dtype=pl.Int32),
                "item_id": self.items.at(items),
                "title": titles,
                "score": pl.Series(score, dtype=pl.Float32),
            }
        )


def _ranked_by(parts: str) -> str:
    """Return in words which parts of a hybrid a position rests on."""
    if parts in ("", "popularity"):
        return "many users interacted with it" if parts else "no part of the model knows it, and nothing better is left"
    return f"{parts} rank{'' if ' + ' in parts else 's'} it"


def _and_then(first: pl.DataFrame, rest: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    yield first
    yield from rest
