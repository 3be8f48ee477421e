"""The stages of a pipeline: validated, run one by one, saved and loaded.

B users, K list, L candidates.

config.yaml       class, arguments, list of stages
arrays.npz        counts       users.parquet, items.parquet   the vocabularies
described.parquet item features, titles and texts, if the log had any: what stages learn of items that are added
retrievers/NAME   each in its own format; likewise features, ranker, rerankers/NAME
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from typing_extensions import Self

from recsys_dl.data.requests import user_rows
from recsys_dl.data.saved_tables import read_saved_table
from recsys_dl.data.vocabulary import Vocabulary, load_vocabularies, save_vocabularies
from recsys_dl.earlier import pipeline_arguments
from recsys_dl.protocols import Ranking, Recommender, Reranker, Users, UserState
from recsys_dl.saving import Saved, load_arrays, load_saved, save_arrays

from .examples import RankerExamples
from .merging import MERGES, check_merge
from .notes import Notes
from .parts import MISSING, check_ranker, named, plain

log = logging.getLogger(__name__)

Failure = Literal["raise", "skip"]
MERGE, RANKER = "merge", "ranker"
DESCRIBED = "described.parquet"


class Stages(Saved):
    """The stages of a pipeline; see `Pipeline`, whose arguments and attributes these are."""

    noun = "pipeline"
    num_users: int
    num_items: int
    users: Vocabulary | None
    items: Vocabulary | None
    user_counts_U: np.ndarray
    described: pl.DataFrame | None = None  # item features, titles and texts, see `growing`
    num_learned: int | None = None  # items of the log in `fit`; None if saved by an earlier version
    feedback_position = 0  # in a feedback log: what its policies have learned, see `LoggedPipeline`
    staged = True  # its answers are `Staged`
    returned_ranks = (
        True  # False if saved by an earlier version, whose ranker was trained on ranks by score among all candidates
    )

    def __init__(
        self,
        retrievers: Mapping[str, Any],
        *,
        num_retrieved: int = 100,
        merge: str = "reciprocal_rank",
        merge_arguments: Mapping[str, Any] | None = None,
        num_candidates: int = 200,
        features: Any = None,
        ranker: Any = None,
        examples: RankerExamples | Mapping[str, Any] | None = None,
        rerankers: Mapping[str, Any] | None = None,
        on_failure: Mapping[str, Failure] | None = None,
    ) -> None:
        self.retrievers: dict[str, Recommender] = named("retrievers", retrievers, ("fit", "recommend", "score"))
        self.rerankers: dict[str, Reranker] = named("rerankers", rerankers or {}, ("prepare", "rerank"))
        self.features, self.ranker = features, ranker
        self.num_retrieved, self.num_candidates = num_retrieved, num_candidates
        self.merge, self.merge_arguments = merge, plain(merge_arguments or {})
        self.examples = examples if isinstance(examples, RankerExamples) else RankerExamples.of(examples or {})
        self.on_failure: dict[str, Failure] = dict(on_failure or {})
        self.broken: dict[str, str] = {}  # stages that could not be loaded, and why
        if not self.retrievers:
            raise ValueError("a pipeline needs at least one retriever, got none")
        names = [*self.retrievers, MERGE, RANKER, *self.rerankers]
        if len(set(names)) < len(names):
            twice = next(name for at, name in enumerate(names) if name in names[:at])
            raise ValueError(f"every stage needs its own name, but two are called {twice!r}")
        if wrong := [name for name in names if not name.replace("_", "").replace("-", "").isalnum()]:
            raise ValueError(f"names of stages must be letters, digits, _ and -, got {wrong[0]!r}")
        for name, count in (("num_retrieved", num_retrieved), ("num_candidates", num_candidates)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {count!r}")
        check_ranker(ranker, features)
        check_merge(merge, self.merge_arguments, self.retrievers)
        for name, what in self.on_failure.items():
            if name not in names or name == MERGE or what not in ("raise", "skip"):
                stages = ", ".join(one for one in names if one != MERGE)
                raise ValueError(f"on_failure must be raise or skip for one of {stages}, got {name}: {what}")

    # Saving

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments except the stages."""
        return {
            "num_retrieved": self.num_retrieved,
            "merge": self.merge,
            "merge_arguments": self.merge_arguments,
            "num_candidates": self.num_candidates,
            "examples": dataclasses.asdict(self.examples),
            "on_failure": dict(self.on_failure),
        }

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state of all stages, by stage and array name."""
        stages: dict[str, Any] = {**self.retrievers, RANKER: self.ranker, "features": self.features, **self.rerankers}
        return {
            f"{name}.{key}": array
            for name, stage in stages.items()
            if stage is not None
            for key, array in stage.arrays().items()
        }

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the pipeline's own state; each stage restores itself."""
        self.num_users, self.num_items = map(int, arrays["shape_UI"])
        self.user_counts_U = arrays["user_counts_U"]

    def _write(self, folder: Path) -> dict[str, Any]:
        if self.broken:
            raise ValueError(f"this pipeline was loaded without {', '.join(self.broken)}: saving it would lose them")
        for kind, parts in (("retrievers", self.retrievers), ("rerankers", self.rerankers)):
            for name, part in parts.items():
                part.save(folder / kind / name)
        if self.ranker is not None:
            self.features.save(folder / "features")
            self.ranker.save(folder / "ranker")
        shape_UI = np.array([self.num_users, self.num_items])
        save_arrays(folder / "arrays.npz", {"user_counts_U": self.user_counts_U, "shape_UI": shape_UI})
        save_vocabularies(folder, self.users, self.items)
        if self.described is not None:
            self.described.write_parquet(folder / DESCRIBED)
        stages = {
            "retrievers": list(self.retrievers),
            "ranker": self.ranker is not None,
            "rerankers": list(self.rerankers),
            "returned_ranks": self.returned_ranks,
            "feedback_position": self.feedback_position,
            "num_learned": self.num_learned,
        }
        return {"stages": stages}

    @classmethod
    def _read(cls, folder: Path, config: dict[str, Any]) -> Self:
        """Return the pipeline; a stage that cannot be read is an error, or, if `on_failure` is "skip", noted in `broken`."""
        arguments, stages = pipeline_arguments(config["arguments"]), config["stages"]
        broken: dict[str, str] = {}

        def loaded(name: str, kind: str, where: Path, promise: type[Any] = object) -> Any:
            try:
                return load_saved(where, promise, noun=kind)
            except Exception as error:
                if arguments["on_failure"].get(name, "raise") == "raise":
                    raise
                broken[name] = f"{kind} {name}: {type(error).__name__}: {error}"
                return MISSING

        parts: dict[str, dict[str, Any]] = {}
        for kind, promise in (("retriever", Recommender), ("reranker", Reranker)):
            parts[kind] = {name: loaded(name, kind, folder / f"{kind}s" / name, promise) for name in stages[f"{kind}s"]}
        features = ranker = None
        if stages["ranker"]:
            features, ranker = (loaded("ranker", part, folder / part) for part in ("features", "ranker"))
        pipeline = cls(
            parts["retriever"],
            **arguments,
            features=None if MISSING in (features, ranker) else features,
            ranker=None if MISSING in (features, ranker) else ranker,
            rerankers=parts["reranker"],
        )
        pipeline.restore(load_arrays(folder / "arrays.npz"))
        pipeline.users, pipeline.items = load_vocabularies(folder, config["sha256"])
        pipeline.broken = broken
        pipeline.returned_ranks = stages.get("returned_ranks", False)
        pipeline.feedback_position = stages.get("feedback_position", 0)
        pipeline.num_learned = stages.get("num_learned")
        if (folder / DESCRIBED).is_file():
            pipeline.described = read_saved_table(folder / DESCRIBED)
        return pipeline

    # Running

    @property
    def _alive(self) -> dict[str, Recommender]:
        """Retrievers that were loaded."""
        return {name: retriever for name, retriever in self.retrievers.items() if name not in self.broken}

    def _run(self, name: str, notes: Notes, stage: Callable[..., Any] | None, **more: Any) -> tuple[Any, float] | None:
        """Return a stage's result and its seconds; None if it is missing, or fails and may be skipped."""
        start = time.perf_counter()
        if stage is None or name in self.broken:
            notes.all(f"{name} is missing ({self.broken[name]}) and was skipped")
            return None
        try:
            return stage(**more), time.perf_counter() - start
        except Exception as error:
            if self.on_failure.get(name, "raise") == "raise":
                raise
            log.warning("%s failed and was skipped", name, exc_info=True)
            notes.all(f"{name} failed ({type(error).__name__}: {error}) and was skipped")
            return None

    def merged(self, lists: Mapping[str, Ranking], length: int) -> Ranking:
        """Merge the retrievers' lists into one list of candidates."""
        return MERGES[self.merge](lists, length, **self.merge_arguments)

    def _rows_of(self, users: Users) -> tuple[np.ndarray, np.ndarray]:
        """Return rows into exclude / allow, and which users have no interactions."""
        self._check_fitted()
        if isinstance(users, UserState):
            return np.arange(len(users)), users.histories.user_counts_U == 0
        rows = user_rows(users, self.num_users)
        return rows, self.user_counts_U[rows] == 0

    def _check_fitted(self) -> None:
        if not hasattr(self, "num_items"):
            raise ValueError("this Pipeline has not been fitted; call fit(train) first")
