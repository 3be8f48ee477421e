"""Fine-tuning a run on new interactions, evaluated before and after, and saved as a new run that names its parent.

U users, I items, B users in a batch, K list.
"""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.evaluation import Comparison, Evaluation, compare, evaluate
from recsys_dl.evaluation.rendering import page_width, text_table
from recsys_dl.folders import new_folder
from recsys_dl.protocols import Ranking
from recsys_dl.runs import Run, StageTimer, load_run, logged_to, weights_hash, write_run

OLD, NEW = "old users", "new users"


@dataclass(frozen=True, eq=False)
class Tuned:
    """The result of `fine_tune`. `print` shows the change in quality for old and new users.

    Attributes:
        parent: the original run.
        model: its fine-tuned model.
        known: interactions in the parent's log and the new one, in the model's rows; weight 0 means seen but not
            used for training.
        titles: of the model's items, or None.
        done: description of the fine-tuning, JSON-compatible.
        seconds: per stage.
        before: "old users" (in the parent's training data) and "new users" -> evaluation of the parent; groups without
            test users are left out.
        after: likewise for the fine-tuned model.
        comparisons: likewise, after vs. before over the same users.
        num_unmet: test users in neither log, who are in neither group.
    """

    parent: Run
    model: Any
    known: Interactions
    titles: pl.Series | None
    done: dict[str, Any]
    seconds: dict[str, float]
    before: dict[str, Evaluation] = field(default_factory=dict)
    after: dict[str, Evaluation] = field(default_factory=dict)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    num_unmet: int = 0

    def on(self, test: Dataset, k: int = 10) -> Tuned:
        """Return the same, evaluated on a test set.

        Both models serve their training users by row, and fold in others from their known interactions, which are
        excluded from lists. Items in neither log count as relevant and are always missed.

        Args:
            test: later interactions, or held-out ones; matched by id.
            k: list length.

        Raises:
            ValueError: no test user in either log, or k out of range.
        """
        stages = StageTimer()
        with stages.stage("evaluate"):
            items = self.model.items.grow(test.items.at(np.unique(test.interactions.items_N)))
            users_N = self.model.users.find(test.users.ids)[test.interactions.users_N]
            met_U = _learned(self.known).user_counts_U > 0
            met_N = (users_N >= 0) & met_U[users_N]
            if not met_N.any():
                raise ValueError("test must have a user in the run or the new log (by id), got none")
            items_N = items.find(test.items.ids)[test.interactions.items_N]
            known = _over(self.known, self.known.num_users, len(items))
            asked = Interactions(
                users_N[met_N],
                items_N[met_N],
                test.interactions.weights_N[met_N],
                num_users=known.num_users,
                num_items=known.num_items,
            )
            learned = _learned(known)
            num_unmet = len(np.unique(test.interactions.users_N[~met_N]))
            old_U = _was_known(self.parent.model.user_counts_U, known.num_users)
            found: dict[str, dict[str, Evaluation]] = {"before": {}, "after": {}}
            for group, theirs_N in ((OLD, old_U[asked.users_N]), (NEW, ~old_U[asked.users_N])):
                for when, model in (("before", self.parent.model), ("after", self.model)):
                    if theirs_N.any():
                        found[when][group] = evaluate(
                            _Answers(model, learned),  # type: ignore[arg-type]
                            learned,
                            asked.select(theirs_N),
                            k,
                            exclude=known,
                        )
            pairs = {group: {when: found[when][group] for when in found} for group in found["before"]}
            comparison = {group: compare(pair, f"ndcg@{k}", baseline="before") for group, pair in pairs.items()}
        return replace(
            self,
            before=found["before"],
            after=found["after"],
            comparisons=comparison,
            num_unmet=num_unmet,
            seconds={**self.seconds, **stages.seconds},
        )

    def __str__(self) -> str:
        new = self.done["new"]
        lines = [
            f"{type(self.model).__name__} of {self.parent.folder}, fine-tuned on {new['interactions']:,} interactions of "
            f"{new['users']:,} users ({new['new_users']:,} new) and {new['items']:,} items ({new['new_items']:,} new)"
        ]
        if self.comparisons:
            metric = next(iter(self.comparisons.values())).metric
            rows = []
            for group, comparison in self.comparisons.items():
                apart = comparison.differences["after"]
                cells = [self.before[group].cell(metric), self.after[group].cell(metric)]
                change = f"{apart.value:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]"
                rows.append([group, f"{len(self.before[group].users):,}", *cells, change])
            lines += [
                "",
                text_table([metric, "number", "before", "after", "after minus before"], rows, width=page_width()),
            ]
            lines.append("brackets: 95% confidence, bootstrap over users; losses of old users indicate forgetting")
            if self.num_unmet:
                lines.append(f"left out: {self.num_unmet:,} test users in neither log")
        return "\n".join(lines)

    def save(self, folder: str | os.PathLike[str]) -> Run:
        """Write a run folder, atomically; return the run.

        `load_run`, `recsys-dl recommend` and `recsys-dl export` accept it like any other. Its manifest names the parent (folder and
        SHA-256 of its weights) and what was done; its config is the parent's. `recsys-dl evaluate`, `reproduce` and `index` reject
        it, since no config names the new data.

        Raises:
            FileExistsError: the folder exists.
        """
        parts = {
            f"{group.replace(' ', '_')}_{when}": evaluation
            for when, found in (("before", self.before), ("after", self.after))
            for group, evaluation in found.items()
        }
        weights = weights_hash(self.parent.folder)
        differences = {
            group: {comparison.metric: vars(comparison.differences["after"])}
            for group, comparison in self.comparisons.items()
        }
        parent = {"folder": str(self.parent.folder.resolve()), "model": weights} | self.done
        name = f"{self.parent.manifest['data']['name']} + {self.done['new']['name']}"
        data = Dataset(self.known, self.model.users, self.model.items, item_titles=self.titles, name=name)
        with new_folder(folder) as aside, logged_to(aside / "run.log"):
            write_run(
                aside,
                config=self.parent.config,
                model=self.model,
                seen=self.known,
                data=data,
                evaluations=parts,
                stages=StageTimer(dict(self.seconds)),
                parent=parent | {"differences": differences},
            )
        return load_run(folder)


def fine_tune(
    run: Run | str | os.PathLike[str],
    new: Dataset,
    *,
    epochs: int | None = None,
    freeze: Sequence[str] | None = None,
    learning_rate: float | None = None,
    replay: float | None = None,
    test: Dataset | None = None,
    k: int = 10,
) -> Tuned:
    """Fine-tune a run's model on new interactions; the run itself is not changed.

    Args:
        run: from `load_run`, or its folder.
        new: interactions of known and new users and items, later than those of the run; matched by id. Weights are used
            unchanged: apply the same weighting and filters as the run's config.
        epochs: None means the model's default.
        freeze: weights to freeze, see `NeuralModel.fine_tune`; neural models only.
        learning_rate: None means the model's; neural models only.
        replay: old interactions to train on per new one; neural models only.
        test: test set for the run and the fine-tuned model, see `Tuned.on`; None for no evaluation.
        k: list length.

    Raises:
        TypeError: `new` or `test` is not a Dataset.
        ValueError: a model that cannot be fine-tuned, an option that it does not take, nothing new, features
            missing or of another type than in training.

    Examples:
        >>> import subprocess
        >>> from recsys_dl import fine_tune, load_run, read_log
        >>> command = "recsys-dl train data=generated model=als model.epochs=2 run=runs/als"
        >>> _ = subprocess.run(command.split(), check=True, capture_output=True)
        >>> new = read_log({"user": ["u1", "ann"], "item": ["i1", "i2"], "time": [1_700_000_000, 1_700_000_060]})
        >>> len(load_run("runs/als").users), len(fine_tune("runs/als", new).model.users)
        (2000, 2001)
    """
    run = run if isinstance(run, Run) else load_run(run)
    for name, data in (("new", new), ("test", test)):
        if not isinstance(data, Dataset) and (name == "new" or data is not None):
            raise TypeError(
                f"{name} must be a Dataset, which has user and item ids, got {type(data).__name__}; use read_log()"
            )
    if not len(new):
        raise ValueError("new must have at least one interaction to learn from, got an empty log")
    model: Any = copy.deepcopy(run.model)
    learn = getattr(model, "fine_tune", None)
    if learn is None:
        raise ValueError(
            f"{type(model).__name__} cannot be fine-tuned: {run.folder} has to be trained again on all data. Models that can: neural "
            "models, ALS, BPR, FeatureMF, ItemKNN, UserKNN."
        )
    options = {"epochs": epochs, "freeze": freeze, "learning_rate": learning_rate, "replay": replay}
    given = {name: value for name, value in options.items() if value is not None}
    parameters = inspect.signature(learn).parameters
    if foreign := [name for name in given if name not in parameters]:
        raise ValueError(
            f"{type(model).__name__} is fine-tuned without {', '.join(foreign)}; leave {'it' if len(foreign) == 1 else 'them'} out"
        )
    stages = StageTimer()
    with stages.stage("fine-tune"):
        learn(new, **given)
    seen = _in_rows_of(model, new)
    later = _learned(seen)
    taken = {name: parameters[name].default for name in options if name in parameters} | given
    done = {name: list(value) if name == "freeze" else value for name, value in taken.items()}
    done["new"] = {
        "name": new.name,
        "hash": new.content_hash,
        "interactions": len(new),
        **_counts("users", later.user_counts_U, run.model.user_counts_U),
        **_counts("items", later.item_counts_I, run.model.item_counts_I),
    }
    again_N = np.asarray(later.by_user[run.seen.users_N, run.seen.items_N]).ravel() > 0
    known = Interactions.concat([run.seen.select(~again_N), seen])  # for pairs in both logs, the newer weight
    tuned = Tuned(run, model, known, _titles(run, model, new), done, stages.seconds)
    return tuned if test is None else tuned.on(test, k)


class _Answers:
    """A model's recommendations for users of a larger log: training users by row, others folded in.

    Args:
        model: its rows are the first rows of the log.
        known: the log.
    """

    def __init__(self, model: Any, known: Interactions) -> None:
        self.model, self.known = model, known

    def recommend(self, users_B: np.ndarray, k: int, *, exclude: Interactions, allow: None = None) -> Ranking:
        """Return the best k of the model's items for rows of the log; -1 beyond the last of them."""
        model, asked = self.model, min(k, self.model.num_items)
        trained_B = users_B < model.num_users
        trained_B[trained_B] = model.user_counts_U[users_B[trained_B]] > 0
        items_BK = np.full((len(users_B), k), -1, np.int32)
        scores_BK = np.full((len(users_B), k), -np.inf, np.float32)
        for asked_B, by_row in ((trained_B, True), (~trained_B, False)):
            if asked_B.any():
                rows = users_B[asked_B]
                out = self._mine(exclude.of_users(rows))
                state = rows if by_row else model.fold_in(self._mine(self.known.of_users(rows)))
                if by_row:  # exclude uses the model's rows
                    out = Interactions(
                        rows[out.users_N], out.items_N, num_users=model.num_users, num_items=model.num_items
                    )
                ranking = model.recommend(state, asked, exclude=out)
                items_BK[asked_B, :asked], scores_BK[asked_B, :asked] = ranking.items_BK, ranking.scores_BK
        return Ranking(items_BK, scores_BK)

    def _mine(self, log: Interactions) -> Interactions:
        """Return the interactions with the model's items."""
        return _over(log.select(log.items_N < self.model.num_items), log.num_users, self.model.num_items)


def _in_rows_of(model: Any, new: Dataset) -> Interactions:
    """Return the interactions in `new` of users and items known to a model, in its rows."""
    users_N = model.users.find(new.users.ids)[new.seen.users_N]
    items_N = model.items.find(new.items.ids)[new.seen.items_N]
    known_N = (users_N >= 0) & (items_N >= 0)
    columns = (users_N[known_N], items_N[known_N], new.seen.weights_N[known_N])
    return Interactions(*columns, num_users=model.num_users, num_items=model.num_items)


def _learned(log: Interactions) -> Interactions:
    """Return the interactions used for training: all with nonzero weight."""
    learned_N = log.weights_N > 0
    return log if learned_N.all() else log.select(learned_N)


def _over(log: Interactions, num_users: int, num_items: int) -> Interactions:
    """Return the same interactions over other numbers of rows."""
    return Interactions(log.users_N, log.items_N, log.weights_N, num_users=num_users, num_items=num_items)


def _was_known(counts_X: np.ndarray, size: int) -> np.ndarray:
    """Return bool [size]: rows with previous interactions."""
    return np.pad(counts_X, (0, size - len(counts_X))) > 0


def _counts(noun: str, new_X: np.ndarray, old_X: np.ndarray) -> dict[str, int]:
    met_X = new_X > 0
    return {noun: int(met_X.sum()), f"new_{noun}": int((met_X & ~_was_known(old_X, len(met_X))).sum())}


def _titles(run: Run, model: Any, new: Dataset) -> pl.Series | None:
    """Return titles of the model's items: the run's, and those of `new` for the items that it brought."""
    if run.titles is None and new.item_titles is None:
        return None
    num_old = len(run.items)
    old = pl.Series([None] * num_old, dtype=pl.String) if run.titles is None else run.titles
    brought = new.items.rows(model.items.ids[num_old:])
    fresh = (
        pl.Series([None] * len(brought), dtype=pl.String)
        if new.item_titles is None
        else new.item_titles.gather(brought)
    )
    return pl.concat([old.rename("title"), fresh.rename("title")])
