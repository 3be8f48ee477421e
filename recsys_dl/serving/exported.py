"""An exported folder in the place of a run: the TorchScript files of `recsys-dl export` answer, without the model's own code.

B users, K list, H length of a history, I items, S size of a state, D size of a vector.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from recsys_dl.data.dataset import Dataset, as_interactions
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.requests import check_item_rows, item_lists, item_table, list_length, user_rows
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.folders import sha256
from recsys_dl.protocols import Ranking, Users, UserState
from recsys_dl.runs import Run
from recsys_dl.trust import check_links

FILES = ("recommender.pt", "user_tower.pt", "scorer.pt", "users.json", "items.json")
VECTORS, TITLES = "item_embeddings.npy", "titles.json"
WEIGHTS = "weights_BH"  # the input of towers that count how much each item was liked


class ExportedModel:
    """A `Recommender` by compiled modules, as saved; it cannot be fitted.

    Args:
        folder: of the export.
        inputs: names of the tower's inputs, besides users and histories.
        users: ids of the user rows.
        items: ids of the item rows.

    Attributes:
        user_counts_U: int64, 1 for users with a state of their own, else 0.
        seen: what is never recommended to known users.
    """

    def __init__(self, folder: Path, inputs: Sequence[str], users: Vocabulary, items: Vocabulary) -> None:
        self.whole, self.tower, self.scorer = (torch.jit.load(folder / name) for name in FILES[:3])
        self.inputs, self.users, self.items = tuple(inputs), users, items
        self.num_users, self.num_items = len(users), len(items)
        state = {name: buffer.numpy() for name, buffer in self.whole.named_buffers()}
        self.user_counts_U = state["catalog.users.known_U"].astype(np.int64)
        self.popularity_I = state.get("catalog.popularity_I")
        rows_N = columns_N = np.zeros(0, np.int64)
        if "catalog.seen.starts_U1" in state:
            starts_U1 = state["catalog.seen.starts_U1"]
            rows_N = np.repeat(np.arange(len(starts_U1) - 1), np.diff(starts_U1))
            columns_N = state["catalog.seen.columns_N"][: len(rows_N)]
        self.seen = Interactions(rows_N, columns_N, num_users=self.num_users, num_items=self.num_items)
        self.vectors_ID = np.load(folder / VECTORS, allow_pickle=False) if (folder / VECTORS).is_file() else None

    def fit(self, train: Dataset | Interactions) -> None:
        """Refuse.

        Raises:
            ValueError: always.
        """
        raise ValueError("an export cannot be fitted; train a run and export it again")

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Refuse.

        Raises:
            ValueError: always.
        """
        raise ValueError("an export is a folder already; copy that")

    def recommend(
        self,
        users: Users,
        k: int,
        *,
        exclude: Dataset | Interactions | None = None,
        allow: np.ndarray | Sequence[int] | None = None,
    ) -> Ranking:
        """Return the top k items of each user; arguments as in a model's `recommend`."""
        k = list_length(k, self.num_items)
        rows_B, history_BH, extra = self._asked(users)
        out = None
        if exclude is not None and exclude is not self.seen:
            at_B = np.arange(len(users)) if isinstance(users, UserState) else rows_B
            out = _table(*item_lists(exclude, at_B, num_items=self.num_items, name="exclude"))
        within = None
        if allow is not None:
            allowed_A = item_lists(allow, np.zeros(1, np.int64), num_items=self.num_items, name="allow")[2]
            within = torch.from_numpy(allowed_A.astype(np.int64))
        items_BK, scores_BK = self.whole(torch.from_numpy(rows_B), history_BH, out, within, k, extra)
        return Ranking(items_BK.numpy(), scores_BK.numpy())

    def score(self, users: Users, items_BL: np.ndarray) -> np.ndarray:
        """Return float32 [B, L]: the scores of items; -inf where the item is -1."""
        rows_B, history_BH, extra = self._asked(users)
        items_BL = item_table(items_BL, len(rows_B))
        check_item_rows(items_BL, self.num_items, lowest=-1)
        scores_BI = self.scorer(self.tower(torch.from_numpy(rows_B), history_BH, extra)).numpy()
        if self.popularity_I is not None:
            nobody_B = (rows_B < 0) & (history_BH.numpy() < 0).all(axis=1)
            scores_BI = np.where(nobody_B[:, None], self.popularity_I, scores_BI)
        scores_BL = np.take_along_axis(scores_BI, np.maximum(items_BL, 0), axis=1)
        return np.where(items_BL >= 0, scores_BL, -np.inf).astype(np.float32)

    def similar_items(self, items: np.ndarray | Sequence[int], k: int) -> Ranking:
        """Return the k items with the largest cosine of their vectors.

        Raises:
            ValueError: the export has no vectors.
        """
        if self.vectors_ID is None:
            raise ValueError("this export has no item vectors, so that no items are similar; serve the run itself")
        rows = np.atleast_1d(np.asarray(items))
        check_item_rows(rows, self.num_items)
        k = list_length(k, self.num_items)
        lengths_I1 = np.linalg.norm(self.vectors_ID, axis=1, keepdims=True)
        unit_ID = self.vectors_ID / np.maximum(lengths_I1, 1e-30)
        scores_BI = unit_ID[rows] @ unit_ID.T
        scores_BI[:, lengths_I1[:, 0] == 0] = -np.inf
        scores_BI[np.arange(len(rows)), rows] = -np.inf
        items_BK = np.argsort(-scores_BI, axis=1, kind="stable")[:, :k].astype(np.int32)
        scores_BK = np.take_along_axis(scores_BI, items_BK, axis=1).astype(np.float32)
        return Ranking(np.where(np.isfinite(scores_BK), items_BK, -1), scores_BK)

    def fold_in(self, histories: Dataset | Interactions | Sequence[Sequence[int]]) -> UserState:
        """Return new users by their histories, which the compiled tower reads when they are asked for."""
        log = (
            as_interactions(histories)
            if isinstance(histories, Dataset | Interactions)
            else Interactions.from_histories(histories, num_items=self.num_items)
        )
        return UserState(None, log, self)

    def item_vectors(self) -> np.ndarray | None:
        """Return float32 [I, D]; None if the score is not an inner product."""
        return self.vectors_ID

    def _asked(self, users: Users) -> tuple[np.ndarray, torch.Tensor, dict[str, torch.Tensor]]:
        """Return rows (-1 for new users), histories padded with -1, and the other inputs."""
        if not isinstance(users, UserState):
            rows_B = user_rows(users, self.num_users)
            return rows_B, torch.full((len(rows_B), 1), -1), {}
        log = users.histories
        order_N, starts_B1 = log.sequences
        history_BH = _table(starts_B1[:-1], starts_B1[1:], log.items_N[order_N])
        extra = {}
        if WEIGHTS in self.inputs:
            extra[WEIGHTS] = _table(starts_B1[:-1], starts_B1[1:], log.weights_N[order_N], 0.0)
        return np.full(len(users), -1), history_BH, extra


def is_export(folder: Path) -> bool:
    """Return whether a folder was written by `recsys-dl export`."""
    return (folder / "manifest.json").is_file() and not (folder / "config.yaml").is_file()  # which a run has


def load_export(folder: Path) -> Run:
    """Return an exported folder as a run without figures, after its files were verified.

    Raises:
        ValueError: another format than torchscript, or a file that is missing or was changed.
    """
    check_links(folder)
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        format, files = manifest["format"], manifest["files"]
        if format != "torchscript":
            raise ValueError(
                f"{folder} is an export in format={format}, which cannot be served: recsys-dl export run=… format=torchscript"
            )
        _verify(folder, files)
        users, items = (
            Vocabulary(json.loads((folder / f"{noun}s.json").read_text()), noun=noun) for noun in ("user", "item")
        )
        inputs = files["recommender.pt"]["inputs"]
        model = ExportedModel(folder, inputs, users, items)
        titles = (
            pl.Series("title", json.loads((folder / TITLES).read_text()), dtype=pl.String) if TITLES in files else None
        )
    except (KeyError, TypeError, AttributeError, RuntimeError, json.JSONDecodeError, OSError) as error:
        raise ValueError(f"{folder} is damaged ({str(error)[:200]}); export the run again") from error
    known = {"data": manifest.get("about", {}).get("data", {})}
    return Run(folder, {}, {}, known, model, users, items, model.seen, titles)


def _verify(folder: Path, files: Mapping[str, Any]) -> None:
    for name in (*FILES, *(name for name in (VECTORS, TITLES) if name in files)):
        if not (folder / name).is_file() or sha256(folder / name) != files[name]["sha256"]:
            raise ValueError(f"{folder / name} is missing or was changed since it was exported; export the run again")


def _table(starts_B: np.ndarray, ends_B: np.ndarray, values_N: np.ndarray, blank: float = -1) -> torch.Tensor:
    """Return lists as a table [B, the longest], padded at the end; at least one column."""
    longest = max(1, int((ends_B - starts_B).max(initial=0)))
    places_BH = starts_B[:, None] + np.arange(longest)
    there_BH = places_BH < ends_B[:, None]
    padded_N = np.append(values_N, blank)
    table_BH = np.where(there_BH, padded_N[np.where(there_BH, places_BH, len(values_N))], blank)
    return torch.from_numpy(table_BH.astype(np.int64 if blank == -1 else np.float32))
