"""Networks over pairs of a user and an item, and the model around them.

A pair's score is a function of a user state and an item state, each computed once rather than per pair.

B batch, U users, I items, L candidates, D embedding, E columns of an embedding table, S size of a state, C items sampled
for fold-in.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Unpack

from recsys_dl import losses
from recsys_dl.arguments import Count, NotNegative
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.mapped import MappedInteractions
from recsys_dl.networks.sharded import Sharding, draw, embedding
from recsys_dl.sizes import LogSize, Sizes
from recsys_dl.training.batches import mixed
from recsys_dl.training.pairs import LabeledLists, Negatives, PairExamples
from recsys_dl.training.shards import ShardBatches, ShardPairs, Shards
from recsys_dl.training.shuffled import shuffled_pairs
from recsys_dl.training.surroundings import scoring

from .catalog import CatalogModel
from .histories import newest
from .mapped_tables import mapped_rows
from .network_model import TrainingArguments
from .neural import NeuralModel, check_loss
from .neural_sizes import network_sizes, pair_step, weights_of

FOLD_STEPS = 60  # Adam steps to learn the embedding of a new user
FOLD_RATE = 0.05
FOLD_ITEMS = 512  # sampled negatives for new users, the same for all users of a call
FOLD_USERS = 128  # at a time, so that memory is bounded
HISTORY = 256  # newest interactions of a new user to learn from


class PairNetwork(nn.Module):
    """Embeddings of users and items; a subclass defines how states are computed from them, and how two states are scored.

    Args:
        num_users, num_items: U and I.
        num_columns: E, for both tables.
        widths: of the parts of a state; S is their sum.
        initial_scale: initial standard deviation of the embeddings.
        sparse: whether gradients of the tables contain only the rows in a batch, for "row_adam".
        sharding: which rows of the tables this process holds; None: all.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        num_columns: int,
        widths: Sequence[int],
        *,
        initial_scale: float,
        sparse: bool,
        sharding: Sharding | None = None,
    ) -> None:
        super().__init__()
        self.widths = list(widths)
        self.by_rows = sparse or sharding is not None  # whether whole tables are never used, only the rows in a batch
        self.user_emb, self.item_emb = (
            embedding(num, num_columns, sparse=sparse, sharding=sharding) for num in (num_users, num_items)
        )
        for table in (self.user_emb, self.item_emb):
            draw(table, initial_scale)

    @abstractmethod
    def user_parts(self, user_emb_BE: Tensor) -> tuple[Tensor, ...]:
        """Return the parts of a user's state, each [B, width]."""

    @abstractmethod
    def item_parts(self, item_emb_XE: Tensor) -> tuple[Tensor, ...]:
        """Return the parts of an item's state, each [..., width], for embeddings [..., E]."""

    @abstractmethod
    def interact(self, user_parts: Sequence[Tensor], item_parts: Sequence[Tensor]) -> Tensor:
        """Return scores [B, L] of users' parts [B, width] and items' parts [B, L, width]."""

    @abstractmethod
    def catalog(self, user_state_BS: Tensor, item_state_IS: Tensor) -> Tensor:
        """Return scores [B, I], in memory that does not grow with B times I times S."""

    def user_state(self, user_emb_BE: Tensor) -> Tensor:
        """Return [B, S], the concatenated parts."""
        return _beside(self.user_parts(user_emb_BE))

    def item_state(self, item_emb_XE: Tensor) -> Tensor:
        """Return [..., S], the concatenated parts."""
        return _beside(self.item_parts(item_emb_XE))

    def score_states(self, user_state_BS: Tensor, item_state_BLS: Tensor) -> Tensor:
        """Return scores [B, L]."""
        return self.interact(user_state_BS.split(self.widths, -1), item_state_BLS.split(self.widths, -1))

    def forward(self, users_B: Tensor, items_BL: Tensor) -> Tensor:
        """Return the scores [B, L] of items_BL[b] for users_B[b]."""
        return self.scores_and_squares(users_B, items_BL)[0]

    def scores_and_squares(self, users_B: Tensor, items_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores [B, L], and the mean squared length of the users' and of the items' embeddings, added."""
        user_emb_BE = self.user_emb(users_B)
        table_IE = self.item_emb.weight
        if self.by_rows or items_BL.numel() < len(table_IE):
            item_emb_BLE = self.item_emb(items_BL)
            parts = self.item_parts(item_emb_BLE)
            square = item_emb_BLE.square().sum(-1).mean()
        else:  # more pairs than items: compute each item's state once
            rows = items_BL.flatten()
            parts = tuple(
                part_IS.index_select(0, rows).unflatten(0, items_BL.shape) for part_IS in self.item_parts(table_IE)
            )
            counts_I = torch.bincount(rows, minlength=len(table_IE)).to(table_IE.dtype)
            square = counts_I @ table_IE.square().sum(-1) / len(rows)
        scores_BL = self.interact(self.user_parts(user_emb_BE), parts)
        return scores_BL, user_emb_BE.square().sum(-1).mean() + square


def inner_products(user_BD: Tensor, item_BLD: Tensor) -> Tensor:
    """Return [B, L]; for few items, twice as fast as a batched matrix product."""
    return (item_BLD * user_BD[:, None]).sum(-1)


def _beside(parts: tuple[Tensor, ...]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


class PairArguments(TrainingArguments, total=False):
    """The arguments of `PairModel`."""

    embedding_size: Count
    loss: str
    num_negatives: Count
    negatives: Negatives
    popularity_exponent: float
    regularization: NotNegative
    initial_scale: NotNegative


class PairModel(NeuralModel):
    """A recommender based on a `PairNetwork`, trained on observed pairs against sampled negatives.

    A log larger than memory (`training.shards.Shards`, or the mapped log of `readers.shards.read_shards`) is streamed. New users get an embedding by gradient descent on their history, with
    the network fixed (`fold_in`). A user without interactions gets the most popular items. An item without users, which is at most
    trained as a negative, scores -inf: it is never recommended.

    Args:
        embedding_size: D.
        loss: a function of `recsys_dl.losses` over lists of one pair and its negatives, such as "bce_loss" or "softmax_loss".
        num_negatives: items sampled per pair, anew in each epoch.
        negatives: "uniform", "popularity" or "hard", see `PairExamples`.
        popularity_exponent: for "popularity".
        regularization: weight of the mean squared norm of the embeddings in a batch.
        initial_scale: initial standard deviation of the embeddings.
        training: `epochs`, `batch_size`, `optimizer`, `learning_rate` and the rest of `NeuralModel`.
    """

    network: PairNetwork
    batch_type = LabeledLists
    bounded = True
    shards_tables = True

    def __init__(
        self,
        *,
        embedding_size: Count = 64,
        loss: str = "bce_loss",
        num_negatives: Count = 4,
        negatives: Negatives = "uniform",
        popularity_exponent: float = 0.75,
        regularization: NotNegative = 0.0,
        initial_scale: NotNegative = 0.1,
        **training: Unpack[TrainingArguments],
    ) -> None:
        super().__init__(**training)
        check_loss(loss)
        self.embedding_size = embedding_size
        self.loss = loss
        self.num_negatives = num_negatives
        self.negatives = negatives
        self.popularity_exponent = popularity_exponent
        self.regularization = regularization
        self.initial_scale = initial_scale

    def sizes(self, log: LogSize) -> Sizes:
        """Return what training on a log of that size takes; see `recsys_dl.sizes`."""
        weights = weights_of(self)
        return network_sizes(self, log, weights, pair_step(self, log, weights))

    def _table_options(self) -> dict[str, Any]:
        sparse = self.optimizer == "row_adam"
        return {"initial_scale": self.initial_scale, "sparse": sparse, "sharding": self.sharding}

    def _examples(self, log: Interactions) -> Any:
        return self._pairs(log, log)

    def _tuning_examples(self, fresh: Interactions, replayed: Interactions) -> Any:
        return self._pairs(Interactions.concat([fresh, replayed]), Interactions.from_csr(self.train_UI))

    def _pairs(self, log: Interactions, known: Interactions) -> Any:
        everyone = np.arange(self.num_users)

        def best(num: int) -> np.ndarray:
            self._serve()
            found = CatalogModel.recommend(self, everyone, num, exclude=known).items_BK
            self.network.train()
            return found

        drawing: dict[str, Any] = {
            "num_negatives": self.num_negatives,
            "negatives": self.negatives,
            "popularity_exponent": self.popularity_exponent,
            "best": best,
            "seed": mixed(self.seed, 3),
            "device": self.torch_device,
        }
        if isinstance(log, Shards):
            return ShardPairs(log, log, **drawing)
        if isinstance(log, MappedInteractions):
            return ShardPairs(log, shuffled_pairs(log), **drawing)
        return PairExamples(log, known=known, **drawing)

    def _batches(self, examples: Any, seed: int) -> Any:
        if isinstance(examples, ShardPairs):
            return ShardBatches(examples, self.batch_size, seed=seed)
        return super()._batches(examples, seed)

    def _objective(self, network: nn.Module, batch: LabeledLists) -> Tensor:
        assert isinstance(network, PairNetwork)
        scores_BL, squares = network.scores_and_squares(batch.users_B, batch.items_BL)
        loss = getattr(losses, self.loss)(scores_BL, batch.labels_BL, batch.valid_BL)
        return loss + self.regularization * squares if self.regularization else loss

    def _prepare(self) -> None:
        if self.sharding is not None:
            self.user_state_US = self._mapped(self.network.user_emb, self.network.user_state).numpy()
            self.item_state_IS = self._mapped(self.network.item_emb, self.network.item_state)
            return
        self.user_state_US = self.network.user_state(self.network.user_emb.weight).cpu().numpy()
        self.item_state_IS = self.network.item_state(self.network.item_emb.weight.detach()).contiguous()

    def _mapped(self, table: Any, states: Callable[[Tensor], Tensor]) -> Tensor:
        assert self.sharding is not None
        size = sum(self.network.widths)
        return mapped_rows(table.num_rows, size, self.sharding, lambda start, end: states(table.held(start, end)))

    def _values(self, users_B: np.ndarray) -> np.ndarray:
        return self.user_state_US[users_B]

    def _scores(self, values: np.ndarray) -> np.ndarray:
        with scoring():
            states_BS = torch.from_numpy(values).to(self.torch_device)
            scores_BI = self.network.catalog(states_BS, self.item_state_IS).cpu().numpy()
        bias_I = self._unlisted_bias()
        return scores_BI if bias_I is None else scores_BI + bias_I

    def _pair_scores(self, values: np.ndarray, items_BL: np.ndarray) -> np.ndarray:
        with scoring():
            states_BS = torch.from_numpy(values).to(self.torch_device)
            scores_BL = self.network.score_states(states_BS, self.item_state_IS[self._ints(items_BL)]).cpu().numpy()
        bias_I = self._unlisted_bias()
        return scores_BL if bias_I is None else scores_BL + bias_I[items_BL]

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        """Cosine of the embeddings."""
        return self._cosines(self.network.item_emb.weight.detach().cpu().numpy(), items_B)

    def _fold(self, histories: Interactions) -> np.ndarray:
        """Learn embeddings of new users with everything else fixed: their items against sampled others, with logistic loss.

        In float64: Adam takes gradients that are rounding errors for directions, and a user's answer would depend on who is asked beside them.
        """
        blocks = [
            self._fold_block(histories.of_users(np.arange(start, min(start + FOLD_USERS, histories.num_users))))
            for start in range(0, histories.num_users, FOLD_USERS)
        ]
        size = self.user_state_US.shape[1]
        return np.concatenate(blocks) if blocks else np.empty((0, size), np.float32)

    def _fold_block(self, histories: Interactions) -> np.ndarray:
        by_user, learned = histories.by_user, newest(histories, HISTORY).by_user
        device, tables = self.torch_device, (self.network.user_emb, self.network.item_emb)
        network = copy.deepcopy(self.network, {id(table): nn.Identity() for table in tables}).double()
        counts = np.diff(learned.indptr)
        items_BH = np.zeros((histories.num_users, max(1, counts.max(initial=0))), np.int64)
        valid_BH = np.arange(items_BH.shape[1]) < counts[:, None]
        items_BH[valid_BH] = learned.indices
        rng = torch.Generator().manual_seed(mixed(self.seed, 4))
        drawn_C = torch.randperm(self.num_items, generator=rng)[:FOLD_ITEMS].numpy()
        known_BC = by_user[:, drawn_C].toarray() > 0
        valid_BL = torch.from_numpy(np.concatenate([valid_BH, ~known_BC], axis=1)).to(device)
        labels_BL = torch.zeros(valid_BL.shape, dtype=torch.float64, device=device)
        labels_BL[:, : items_BH.shape[1]] = 1
        # In training, each pair has weight 1 against num_negatives for its sampled items.
        share_BL = valid_BL * torch.where(
            labels_BL > 0,
            1.0,
            self.num_negatives
            * valid_BL[:, : items_BH.shape[1]].sum(1, keepdim=True)
            / valid_BL[:, items_BH.shape[1] :].sum(1, keepdim=True).clamp_min(1),
        )
        share_BL = share_BL.double() / share_BL.sum(1, keepdim=True, dtype=torch.float64).clamp_min(1e-9)
        items_BL = self._ints(np.concatenate([items_BH, np.broadcast_to(drawn_C, known_BC.shape)], axis=1))
        network.requires_grad_(False)
        start = self.network.user_emb.weight.detach()[self._ints(np.flatnonzero(self.user_counts_U))].mean(0).double()
        user_emb_BE = start.repeat(histories.num_users, 1).requires_grad_(True)
        optimizer = torch.optim.Adam([user_emb_BE], lr=FOLD_RATE)
        with torch.enable_grad():
            item_state_BLS = self.item_state_IS[items_BL].double()
            for _ in range(FOLD_STEPS):
                scores_BL = network.score_states(network.user_state(user_emb_BE), item_state_BLS)
                data_loss = F.binary_cross_entropy_with_logits(scores_BL, labels_BL, share_BL, reduction="sum")
                squares = user_emb_BE.square().sum()
                optimizer.zero_grad()
                (data_loss + self.regularization * squares).backward()
                optimizer.step()
        with scoring():
            return network.user_state(user_emb_BE).float().cpu().numpy()
