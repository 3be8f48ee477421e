"""A pipeline as one folder.

config.yaml       class, arguments, which stages there are
arrays.npz        counts       users.parquet, items.parquet   the vocabularies
retrievers/NAME   each as it saves itself; likewise features, ranker, rerankers/NAME
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_dl import __version__
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.folders import load_arrays, load_saved, new_folder, read_config, save_arrays, write_config
from recsys_dl.protocols import Recommender, Reranker

from .parts import MISSING

if TYPE_CHECKING:
    from .pipeline import Pipeline


def save_pipeline(pipeline: Pipeline, folder: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Write all stages to a folder that appears whole or not at all."""
    with new_folder(folder, overwrite=overwrite) as aside:
        for kind, parts in (("retrievers", pipeline.retrievers), ("rerankers", pipeline.rerankers)):
            for name, part in parts.items():
                part.save(aside / kind / name)
        if pipeline.ranker is not None:
            pipeline.features.save(aside / "features")
            pipeline.ranker.save(aside / "ranker")
        shape_UI = np.array([pipeline.num_users, pipeline.num_items])
        save_arrays(aside / "arrays.npz", {"user_counts_U": pipeline.user_counts_U, "shape_UI": shape_UI})
        for noun in ("users", "items"):
            if (vocabulary := getattr(pipeline, noun)) is not None:
                vocabulary.save(aside / f"{noun}.parquet")
        stages = {
            "retrievers": list(pipeline.retrievers),
            "ranker": pipeline.ranker is not None,
            "rerankers": list(pipeline.rerankers),
            "returned_ranks": pipeline.returned_ranks,
        }
        write_config(aside, pipeline, version=__version__, stages=stages)


def load_pipeline(cls: type[Any], folder: str | os.PathLike[str]) -> Any:
    """Read what `save_pipeline` wrote; a stage that may be skipped and cannot be read is noted in `broken`."""
    found, config = read_config(folder, cls, noun="pipeline")
    path, arguments, stages = Path(folder), config["arguments"], config["stages"]
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
        parts[kind] = {name: loaded(name, kind, path / f"{kind}s" / name, promise) for name in stages[f"{kind}s"]}
    features = ranker = None
    if stages["ranker"]:
        features, ranker = (loaded("ranker", part, path / part) for part in ("features", "ranker"))
    pipeline = found(
        parts["retriever"],
        **arguments,
        features=None if MISSING in (features, ranker) else features,
        ranker=None if MISSING in (features, ranker) else ranker,
        rerankers=parts["reranker"],
    )
    arrays = load_arrays(path / "arrays.npz")
    pipeline.num_users, pipeline.num_items = map(int, arrays["shape_UI"])
    pipeline.user_counts_U = arrays["user_counts_U"]
    for noun, singular in (("users", "user"), ("items", "item")):
        file = path / f"{noun}.parquet"
        setattr(pipeline, noun, Vocabulary.load(file, noun=singular) if file.name in config["sha256"] else None)
    pipeline.broken = broken
    pipeline.returned_ranks = stages.get("returned_ranks", False)
    return pipeline
