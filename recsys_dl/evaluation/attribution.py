"""Attributing a pipeline's quality to its stages: their lists evaluated like a model's, recall ceilings, and latencies.

B users of a block, U test users, K list, L candidates.
"""

from __future__ import annotations

import textwrap
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.metrics import ranking
from recsys_dl.metrics.intervals import Difference, Sample, check_resampling, paired_differences
from recsys_dl.progress import track
from recsys_dl.protocols import Ranking, Recommender, Stage, Staged

from .evaluate import METRICS, RATING_METRICS, block_size, blocks, evaluate, lengths
from .notes import trained_otherwise
from .questions import Questions, answer
from .rendering import WIDEST, html_table, page_width, text_table
from .scorecard import Evaluation, conventions_text
from .ties import with_ties


@dataclass(frozen=True, eq=False)
class StageFigures:
    """The figures of one stage.

    Attributes:
        name: as configured.
        kind: retriever, merge, ranker or reranker.
        evaluation: of its first K items.
        ceiling: mean recall of all items it kept, an upper bound for later stages at any list length.
        kept: mean number of items it kept.
        change: in NDCG, relative to the best retriever for a merge, and to the previous stage for later ones; None for a retriever.
        ms: median and 99th percentile of its latency for one user, in milliseconds.
    """

    name: str
    kind: str
    evaluation: Evaluation
    ceiling: float
    kept: float
    change: Difference | None
    ms: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Attribution:
    """The contribution of each stage of a pipeline. `print` shows a table with its conventions.

    Attributes:
        stages: in the order in which they ran.
        k: list length of the table and the changes.
        whole_ms: median and 99th percentile of the total latency for one user, in milliseconds.
        num_timed: number of users timed.
        left_out: names of stages that were skipped for some users and therefore have no figures.
        notes: caveats, such as that a retriever was fitted on another part of the log.

    Examples:
        >>> from recsys_dl import Interactions, attribute
        >>> from recsys_dl.models import Popularity
        >>> from recsys_dl.pipeline import Pipeline
        >>> train, test = Interactions([0, 0, 1, 1, 2], [0, 1, 0, 1, 0]), Interactions([2], [1])
        >>> attribution = attribute(Pipeline({"popular": Popularity()}).fit(train), train, test, k=1)
        >>> attribution.k, attribution.num_timed, attribution.left_out
        (1, 1, ())
    """

    stages: tuple[StageFigures, ...]
    k: int
    whole_ms: tuple[float, float]
    num_timed: int
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text(page_width())

    def text(self, width: int | None = None) -> str:
        """Return the table with its conventions, split into stacked parts if it exceeds `width`."""
        header, rows = self._table()
        return f"{text_table(header, rows, width=width)}\n{self._below(width or WIDEST)}"

    def _repr_html_(self) -> str:
        """Return HTML for notebooks."""
        return html_table(*self._table(), self._below())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        k = self.k
        header = ["stage", f"NDCG@{k}", "change", "recall of all kept", "kept", f"coverage@{k}", f"diversity@{k}"]
        rows = [
            [
                stage.name if stage.name == stage.kind else f"{stage.name} ({stage.kind})",
                stage.evaluation.cell(f"ndcg@{k}"),
                "" if (apart := stage.change) is None else f"{apart.value:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]",
                f"{stage.ceiling:.4f}",
                f"{stage.kept:.1f}",
                f"{stage.evaluation.values[f'coverage@{k}']:.4f}",
                f"{stage.evaluation.values[f'diversity@{k}']:.4f}",
                *(f"{ms:.2f}" for ms in stage.ms),
            ]
            for stage in self.stages
        ]
        return [*header, "ms p50", "ms p99"], [*rows, ["whole", *[""] * 6, *(f"{ms:.2f}" for ms in self.whole_ms)]]

    def _below(self, width: int = WIDEST) -> str:
        lines = [
            f"change: in NDCG@{self.k}, paired; a merge vs. the best retriever, later stages vs. the row above | "
            f"times: one user at a time, {self.num_timed:,} users",
        ]
        if self.left_out:
            lines.append(
                f"no figures for stages that were skipped for some users: {', '.join(self.left_out)}; if that includes the "
                "last stage, the last row is not the whole pipeline"
            )
        last = self.stages[-1].evaluation
        wrapped = [part for line in lines for part in textwrap.wrap(line, width)]
        return "\n".join([*wrapped, conventions_text(last.conventions, last.confidence, width, self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Return everything except per-user values in JSON-compatible form."""
        return {
            "k": self.k,
            "stages": [
                {
                    "name": stage.name,
                    "kind": stage.kind,
                    "evaluation": stage.evaluation.to_dict(),
                    "ceiling": stage.ceiling,
                    "kept": stage.kept,
                    "change": None
                    if (apart := stage.change) is None
                    else {"value": apart.value, "interval": [apart.low, apart.high], "p_value": apart.p_value},
                    "ms": list(stage.ms),
                }
                for stage in self.stages
            ],
            "whole_ms": list(self.whole_ms),
            "num_timed": self.num_timed,
            "left_out": list(self.left_out),
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Attribution:
        """Build an attribution, without per-user values, from `to_dict`.

        Raises:
            ValueError: a part is missing or invalid.
        """
        try:
            stages = tuple(
                StageFigures(
                    name=stage["name"],
                    kind=stage["kind"],
                    evaluation=Evaluation.from_dict(stage["evaluation"]),
                    ceiling=stage["ceiling"],
                    kept=stage["kept"],
                    change=None
                    if (apart := stage["change"]) is None
                    else Difference(apart["value"], apart["interval"][0], apart["interval"][1], apart["p_value"]),
                    ms=tuple(stage["ms"]),
                )
                for stage in stored["stages"]
            )
            whole, left_out = tuple(stored["whole_ms"]), tuple(stored["left_out"])
            notes = tuple(stored.get("notes", ()))
            return cls(stages, int(stored["k"]), whole, int(stored["num_timed"]), left_out, notes)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"these are not the figures of a pipeline's stages ({error!r}); rerun the evaluation"
            ) from error


def attribute(
    model: Recommender,
    train: Dataset | Interactions,
    test: Dataset | Interactions,
    k: int | Sequence[int] = 10,
    *,
    exclude: Dataset | Interactions | None = None,
    relevant_from: float | None = None,
    num_timed: int = 200,
    memory: str | int = "1GiB",
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Attribution:
    """Return the contribution of each stage of a fitted pipeline to the lists of test users.

    Users, excluded items and figures are the same as in `evaluate`; the last stage's evaluation is the pipeline's.
    All test users are queried once for the figures, and some again one at a time for the latencies.

    Args:
        model: a pipeline fitted on `train`, whose answers are `protocols.Staged`.
        train: its training data.
        test: over the same user and item rows.
        k: list length or lengths; changes and the table are for the first.
        exclude: further interactions to exclude from lists, such as the validation part.
        relevant_from: minimum weight of a relevant test item; 0 takes every interaction, None depends on the log, see `evaluate`.
        num_timed: number of random test users to time; at most all of them.
        memory: limit for one block of users.
        confidence: of the intervals.
        num_resamples: of the bootstrap.
        seed: for the bootstrap and the choice of timed users.

    Raises:
        ValueError: the model is not a pipeline, or as in `evaluate`.

    Examples:
        >>> from recsys_dl import Interactions, attribute
        >>> from recsys_dl.models import ItemKNN, Popularity
        >>> from recsys_dl.pipeline import Pipeline
        >>> train, test = Interactions([0, 0, 1, 1, 2], [0, 1, 0, 1, 0]), Interactions([2], [1])
        >>> pipeline = Pipeline({"knn": ItemKNN(device="cpu"), "popular": Popularity()}).fit(train)
        >>> [stage.name for stage in attribute(pipeline, train, test, k=1).stages]
        ['knn', 'popular', 'merge']
    """
    check_resampling(confidence, num_resamples)
    if num_timed < 1:
        raise ValueError(f"num_timed must be at least 1, got {num_timed}")
    questions = Questions.of(model, train, test, exclude, relevant_from)
    ks = lengths(k, questions.known.num_items)
    first = int(k) if isinstance(k, int | np.integer) else int(k[0])
    walked, left_out = _walk(model, questions, ks[-1], memory)
    own_ms, whole_ms = _times(model, questions, ks[-1], num_timed, seed)
    metrics = [name for name in METRICS if name not in RATING_METRICS]
    stages: list[StageFigures] = []
    for (name, kind), parts in walked.items():
        tops, recalls, kepts = zip(*parts, strict=True)
        recall_U, kept_U = np.concatenate(recalls), np.concatenate(kepts)
        evaluation = evaluate(
            _Replay(questions, name, kind, _beneath(tops, ks[-1])),  # type: ignore[arg-type]
            train,
            test,
            ks,
            metrics=metrics,
            exclude=exclude,
            relevant_from=relevant_from,
            memory=memory,
            confidence=confidence,
            num_resamples=num_resamples,
            seed=seed,
        )
        sample, change = evaluation.sample(f"ndcg@{first}"), None
        if (against := _against(stages, kind, f"ndcg@{first}")) is not None:
            resampling = {"confidence": confidence, "num_resamples": num_resamples, "seed": seed}
            (change,) = paired_differences([sample], against, **resampling)  # type: ignore[arg-type]
        ceiling, kept = Sample(recall_U).value, float(kept_U.mean())
        stages.append(StageFigures(name, kind, evaluation, ceiling, kept, change, _percentiles(own_ms[name, kind])))
    timed, notes = min(num_timed, len(questions.users)), tuple(trained_otherwise(model, questions))
    return Attribution(tuple(stages), first, _percentiles(whole_ms), timed, tuple(left_out), notes)


NO_NOTES = np.zeros((0, 2), np.int32)
Key = tuple[str, str]  # name and kind of a stage
Part = tuple[Ranking, np.ndarray, np.ndarray]  # of a block: first items, recall of all kept [B], number kept [B]


def _walk(
    model: Recommender, questions: Questions, k: int, memory: str | int
) -> tuple[dict[Key, list[Part]], list[str]]:
    """Return the stages that ran in every block, and the names of those that did not."""
    users = questions.users
    widths = [stage.ranking.items_BK.shape[1] for stage in _staged(model, questions.request(users[:1]), k).stages]
    # in addition to two scores per item: an item and a score per candidate and stage, and 200 bytes per rank to judge one stage
    size = block_size(memory, questions.known.num_items + sum(widths) + 25 * max(widths), k)
    found: dict[Key, list[Part]] = defaultdict(list)
    steps = blocks(len(users), size)
    for block in track(steps, "attribute"):
        for stage in _staged(model, questions.request(users[block]), k).stages:
            items_BL = stage.ranking.items_BK
            judged = ranking.judge(items_BL, questions.relevant[block])
            length = items_BL.shape[1]
            recall = ranking.per_user(judged, ["recall"], [length])[f"recall@{length}"]
            top = with_ties(
                Staged(items_BL, stage.ranking.scores_BK, (stage,), NO_NOTES, ()), k, questions.known.num_items
            )
            kept = ranking.with_whole_ties(ranking.first_tied(top.scores_BK, top.items_BK >= 0), k)
            top = Ranking(top.items_BK[:, :kept], top.scores_BK[:, :kept])
            found[stage.name, stage.kind].append((top, recall, (items_BL >= 0).sum(axis=1)))
    whole = {key: parts for key, parts in found.items() if len(parts) == len(steps)}
    return whole, [name for name, kind in found if (name, kind) not in whole]


def _times(
    model: Recommender, questions: Questions, k: int, num_timed: int, seed: int
) -> tuple[dict[Key, list[float]], list[float]]:
    """Return milliseconds per stage and in total, for one user at a time."""
    users = np.random.default_rng(seed).permutation(questions.users)[:num_timed]
    own: dict[Key, list[float]] = defaultdict(list)
    whole = []
    _staged(model, questions.request(users[:1]), k)  # warm up: compilation and caches
    for at in track(range(len(users)), "time"):
        request = questions.request(users[at : at + 1])
        start = time.perf_counter()
        staged = _staged(model, request, k)
        whole.append(1e3 * (time.perf_counter() - start))
        for stage in staged.stages:
            own[stage.name, stage.kind].append(1e3 * stage.seconds)
    return own, whole


def _staged(model: Recommender, request: tuple[np.ndarray | Interactions, Interactions], k: int) -> Staged:
    given = answer(model, *request, k)
    if not isinstance(given, Staged) or not given.stages:
        raise ValueError(f"attribution needs a pipeline, whose answers have stages; got {type(model).__name__}")
    return given


def _against(stages: Sequence[StageFigures], kind: str, metric: str) -> Sample | None:
    """Return the baseline of a stage: the best retriever for a merge, else the previous stage."""
    if kind == "retriever" or not stages:
        return None
    above = stages if kind == "merge" else stages[-1:]
    return max((stage.evaluation.sample(metric) for stage in above), key=lambda sample: sample.value)


def _percentiles(ms: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(ms, [0.5, 0.99]) if len(ms) else (np.nan, np.nan)
    return float(low), float(high)


def _beneath(parts: Sequence[Ranking], least: int) -> Ranking:
    """Stack the lists of all blocks, padded to the longest and at least to `least`."""
    width = max(least, *(part.items_BK.shape[1] for part in parts))
    items, scores = [], []
    for part in parts:
        more = ((0, 0), (0, width - part.items_BK.shape[1]))
        items.append(np.pad(part.items_BK, more, constant_values=-1))
        scores.append(np.pad(part.scores_BK, more, constant_values=-np.inf))
    return Ranking(np.concatenate(items), np.concatenate(scores))


class _Replay:
    """A recommender that replays stored lists for the test users in order."""

    staged = True

    def __init__(self, questions: Questions, name: str, kind: str, lists: Ranking) -> None:
        self.questions, self.name, self.lists, self.at = questions, name, lists, 0
        # incomplete ties were already removed
        self.kind: Literal["ranker", "reranker"] = "reranker" if kind == "reranker" else "ranker"

    def fold_in(self, histories: Interactions) -> Interactions:
        return histories

    def recommend(self, users: np.ndarray | Interactions, k: int, *, exclude: Interactions) -> Staged:
        size = users.num_users if isinstance(users, Interactions) else len(users)
        block = slice(self.at, self.at + size)
        self.at += size
        expected, _ = self.questions.request(self.questions.users[block])
        one, two = (part.items_N if isinstance(part, Interactions) else part for part in (users, expected))
        if not np.array_equal(one, two):
            raise RuntimeError("evaluate requested different users than attribute did")
        lists = Ranking(self.lists.items_BK[block], self.lists.scores_BK[block])
        stage = Stage(self.name, self.kind, lists, 0.0)
        return Staged(lists.items_BK[:, :k], lists.scores_BK[:, :k], (stage,), NO_NOTES, ())
