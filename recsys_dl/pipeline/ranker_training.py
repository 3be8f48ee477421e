"""Collecting the training data of a pipeline's ranker. B users, L candidates, F features."""

from __future__ import annotations

import copy
import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from recsys_dl.data.dataset import Dataset, as_interactions, seen_of
from recsys_dl.data.groups import BLOCK_BYTES, Groups
from recsys_dl.data.interactions import Interactions
from recsys_dl.learning import fit_takes
from recsys_dl.progress import SIGN
from recsys_dl.protocols import Ranking

from .evidence import Evidence, features_of
from .examples import relevant
from .stages import Stages

log = logging.getLogger(__name__)


def gathered(pipeline: Stages, train: Dataset | Interactions, trainer: Any) -> tuple[Groups, Groups]:
    """Return training and validation candidates from copies of the retrievers that saw no labels.

    Users without a relevant item among the candidates are dropped: there is no order to learn from them.

    Raises:
        ValueError: the log cannot be split, or no candidates remain.
    """
    examples = pipeline.examples
    learned: list[Groups] = []
    held: list[Groups] = []
    for number, (seen, asked) in enumerate(examples.cut(train)):
        retrievers = {name: copy.deepcopy(one) for name, one in pipeline.retrievers.items()}
        for name, one in retrievers.items():
            fit_retriever(name, one, seen, trainer, f"lesson-{number + 1}")
        features = copy.deepcopy(pipeline.features).fit(seen, retrievers=list(retrievers))
        users = examples.users(asked, number)
        known, found = seen_of(seen), 0
        size = max(1, BLOCK_BYTES // (4 * pipeline.num_candidates * len(features.names)))
        for start in range(0, len(users), size):
            block = users[start : start + size]
            count = min(pipeline.num_retrieved, known.num_items)
            lists = {name: one.recommend(block, count, exclude=known) for name, one in retrievers.items()}
            items_BL = pipeline.merged(lists, min(pipeline.num_candidates, known.num_items)).items_BK
            labels_BL = relevant(asked, block, items_BL)
            found += int(labels_BL.sum())
            some_B = labels_BL.any(axis=1)
            block, items_BL, labels_BL = block[some_B], items_BL[some_B], labels_BL[some_B]
            lists = {name: Ranking(one.items_BK[some_B], one.scores_BK[some_B]) for name, one in lists.items()}
            evidence = Evidence.of(retrievers, lists, dict.fromkeys(retrievers, block), items_BL)
            features_BLF = features_of(pipeline, features, block, items_BL, evidence)
            back_B = examples.held_out(block)
            for into, mine_B in ((learned, ~back_B), (held, back_B)):
                if mine_B.any():
                    ids = [f"{number}:{user}" for user in block[mine_B]]
                    parts = (features_BLF[mine_B], labels_BL[mine_B], items_BL[mine_B] >= 0)
                    into.append(Groups.from_padded(*parts, group_ids=ids, names=features.names))
        wanted = int((asked.weights_N[np.isin(asked.users_N, users)] > 0).sum())
        log.info(
            "training examples, round %d: retrievers saw %d interactions; of the next %d of %d users, %d are among the candidates",
            number + 1,
            len(known),
            wanted,
            len(users),
            found,
        )
    if not learned or not held:
        raise ValueError(
            "the ranker needs users with relevant items among the candidates, for training and for validation; got "
            f"{sum(map(len, learned))} and {sum(map(len, held))} lists. Retrieve more, hold out more (examples), or leave the "
            "ranker out"
        )
    return Groups.concat(learned), Groups.concat(held)


def fit_retriever(name: str, retriever: Any, train: Dataset | Interactions, trainer: Any, when: str) -> None:
    """Fit one retriever, with the trainer if it takes one; log the seconds. Each fit has its own checkpoints."""
    start = time.perf_counter()
    more = {}
    if trainer is not None and fit_takes(retriever, "trainer"):
        if trainer.checkpoint is not None:
            trainer = dataclasses.replace(trainer, checkpoint=str(Path(trainer.checkpoint) / name / when))
        more = {"trainer": trainer}
    retriever.fit(train, **more)
    log.info("%s fitted on %d interactions: %.1f s", name, len(train), time.perf_counter() - start, extra=SIGN)


def try_out(pipeline: Stages, train: Dataset | Interactions) -> None:
    """Fit copies of the cheap stages on the log, so that a missing column is reported up front, not after hours of training."""
    for retriever in pipeline.retrievers.values():
        if hasattr(retriever, "check_fit"):
            retriever.check_fit(train)
    nothing_I1 = np.zeros((as_interactions(train).num_items, 1), np.float32)
    for reranker in pipeline.rerankers.values():
        copy.deepcopy(reranker).prepare(train, item_vectors_ID=nothing_I1)
    if pipeline.features is not None:
        features = copy.deepcopy(pipeline.features).fit(train, retrievers=list(pipeline.retrievers))
        if hasattr(pipeline.ranker, "check_features"):
            pipeline.ranker.check_features(features.names)
