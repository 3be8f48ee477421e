"""The base of re-rankers that may ask a policy: its state, what it sees, and what it learns.

B lists, U users, I items, C categories, F numbers of a context.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.data.dataset import Dataset, as_interactions
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.random import random_bits, stream_keys
from recsys_dl.kernels.rerank.explore import digests
from recsys_dl.protocols import Decisions, Policy, UserState
from recsys_dl.saving import Saved, load_saved, save_arrays

from .attributes import categories, column
from .list_reranker import ListReranker, RerankBatch


class PolicyStage(ListReranker):
    """A re-ranker with a policy, whose arms are the item rows.

    `prepare` starts the policy, or, if it has been started, adds arms for items that are new at the end of the vocabulary; it keeps what
    it has learned, unless it sees contexts and the items' vectors have changed, as after another fit.

    Args:
        policy: a `Policy`, or None.
        contexts: whether the policy sees the user: 1 and the mean of the item vectors of the user's history (those of the first retriever
            that has any), of length 1.
        content: a column of item features whose categories are the arms' features; None: the arms have none.
        seed: of the numbers of requests that the policy sees.

    Attributes:
        item_vectors_ID: float32, for contexts; [I, 0] without.
        user_contexts_UF: float32, of the users in training; [U, 0] without.
        context_size: F, 0 without contexts.
        names: categories of `content`, in the order of the features.
    """

    policy: Any
    contexts: bool
    content: str | None
    seed: int
    item_vectors_ID: np.ndarray
    user_contexts_UF: np.ndarray
    names: list[str]

    @property
    def context_size(self) -> int:
        """F, 0 without contexts."""
        return int(self.user_contexts_UF.shape[1])

    def update(self, feedback: BanditFeedback) -> Self:
        """Let the policy learn from rewards of what it showed, and return self; arms are item rows, columns are positions.

        Raises:
            ValueError: not prepared, or rewards that the policy does not take.
        """
        self._check_fitted()
        if self.policy is not None:
            self.policy.update(feedback)
        return self

    # Saving

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments except the policy, which is saved separately."""
        return {name: value for name, value in super().arguments().items() if name != "policy"}

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state by name."""
        state = {} if self.policy is None else self.policy.arrays()
        return super().arrays() | {f"policy.{name}": array for name, array in state.items()}

    def _write(self, folder: Path) -> dict[str, Any]:
        save_arrays(folder / "arrays.npz", super().arrays())
        if self.policy is None:
            return {}
        self.policy.save(folder / "policy")
        return {"names": self.names}

    @classmethod
    def _read(cls, folder: Path, config: dict[str, Any]) -> Self:
        with_policy = (folder / "policy").is_dir()
        more = {"policy": load_saved(folder / "policy", Saved, noun="policy")} if with_policy else {}
        stage = super()._read(folder, {**config, "arguments": config["arguments"] | more})
        stage.names = list(config.get("names", []))
        return stage

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the state that `arrays` returned, in place of `prepare`."""
        empty = np.zeros((0, 0), np.float32)  # of folders of earlier versions
        super().restore({"item_vectors_ID": empty, "user_contexts_UF": empty} | arrays)

    # For re-rankers

    def _learn(self, train: Dataset | Interactions, item_vectors_ID: np.ndarray | None) -> None:
        interactions = as_interactions(train)
        before_ID = getattr(self, "item_vectors_ID", None)
        self.item_vectors_ID = np.zeros((self.num_items, 0), np.float32)
        self.user_contexts_UF = np.zeros((self.num_users, 0), np.float32)
        self.names = getattr(self, "names", [])
        if self.policy is None:
            return
        if self.contexts:
            if item_vectors_ID is None:
                raise ValueError(
                    "contexts=true needs item vectors, and no retriever has any; als, bpr or two_tower would"
                )
            self.item_vectors_ID = np.nan_to_num(np.asarray(item_vectors_ID, np.float32))
            self.user_contexts_UF = self._of_histories(interactions)
        same = before_ID is not None and np.array_equal(before_ID, self.item_vectors_ID[: len(before_ID)])
        started = hasattr(self.policy, "num_arms") and (same or not self.contexts)
        features_IC = None if self.content is None else self._features(column(train, self.content, "content"), started)
        if not started:
            self.policy.start(self.num_items, context_size=self.context_size, arm_features_AF=features_IC)
            return
        grown = self.num_items - self.policy.num_arms
        if grown < 0:
            raise ValueError(
                f"the policy knows {self.policy.num_arms} items, more than the {self.num_items} of this log: its arms would be others. "
                "Give the pipeline a new policy, and let it learn from its log"
            )
        if grown:
            new = None if features_IC is None else features_IC[-grown:]
            self.policy.add_arms(grown, arm_features_AF=new)

    def _features(self, values: pl.Series, started: bool) -> np.ndarray:
        """Return float32 [I, C]: membership of each item in the categories that the policy was started with."""
        member_IC, found = categories(values)
        if not started:
            self.names = found
        kept = [name for name in self.names if name in found]
        features_IC = np.zeros((self.num_items, len(self.names)), np.float32)
        at = [self.names.index(name) for name in kept]
        features_IC[:, at] = member_IC[:, [found.index(name) for name in kept]].toarray()
        return features_IC

    def _of_histories(self, histories: Interactions) -> np.ndarray:
        seen_BI: sp.csr_matrix = histories.by_user.sign()
        mean_BD = np.asarray(seen_BI @ self.item_vectors_ID, np.float32)
        mean_BD /= np.maximum(np.linalg.norm(mean_BD, axis=1, keepdims=True), 1e-12)
        return np.concatenate([np.ones((len(mean_BD), 1), np.float32), mean_BD], axis=1)

    def _users(self, batch: RerankBatch, by_user: sp.csr_matrix) -> tuple[np.ndarray, sp.csr_matrix, np.ndarray]:
        """Return uint64 [B] that identify users, by row or by history; items by user, and each list's row in them."""
        if not isinstance(batch.users, UserState):
            rows = batch.rows(self.num_users)
            return rows.astype(np.uint64), by_user, rows
        histories = batch.users.histories.by_user
        starts, items = histories.indptr.astype(np.int64), histories.indices.astype(np.int32, copy=False)
        return digests(starts[:-1], starts[1:], items), histories, np.arange(len(batch.users))

    def _decide(
        self, batch: RerankBatch, users_B: np.ndarray, candidates_BL: np.ndarray, k: int
    ) -> tuple[Decisions, Any]:
        """Return the policy's decisions, and the contexts that it saw."""
        contexts_BF = None
        if self.contexts:
            if isinstance(batch.users, UserState):
                contexts_BF = self._of_histories(batch.users.histories)
            else:
                contexts_BF = self.user_contexts_UF[batch.rows(self.num_users)]
        numbers_B = random_bits(stream_keys(self.seed, batch.requests_B), users_B) >> np.uint64(1)
        active_A = getattr(self.policy, "active_A", None)
        if active_A is not None:  # retired arms are not shown
            candidates_BL = np.where((candidates_BL >= 0) & active_A[candidates_BL], candidates_BL, -1)
        k = min(k, candidates_BL.shape[1])
        return (
            self.policy.select(contexts_BF, k, requests_B=numbers_B.astype(np.int64), candidates_BL=candidates_BL),
            contexts_BF,
        )


def check_policy(policy: Any) -> None:
    """Raise ValueError for an object that is not a policy."""
    if policy is not None and (isinstance(policy, type) or (not isinstance(policy, Policy) and not _looks(policy))):
        raise ValueError(f"policy must be a policy such as Thompson() of recsys_dl.bandits, got {policy!r:.200}")


def _looks(policy: Any) -> bool:
    """Return whether an object has the methods of a policy; `num_arms` is only there once it has been started."""
    return all(callable(getattr(policy, name, None)) for name in ("start", "select", "update", "save"))
