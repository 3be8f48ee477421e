"""Neural matrix factorization."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from recsys_dl.arguments import Counts, Share, ShareBelowOne
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.families.pair_network import PairArguments, PairModel, PairNetwork, inner_products
from recsys_dl.fitted_on import num_beyond
from recsys_dl.names import with_article
from recsys_dl.networks.sharded import own_rows
from recsys_dl.protocols import Served
from recsys_dl.training.surroundings import scoring

from .gmf import GMF
from .mlp import MLP, Layers

log = logging.getLogger(__name__)


class NeuMFNetwork(PairNetwork):
    """score(u, i) = w . (p_u * q_i) + perceptron([p'_u; q'_i]); a table's first D columns are p or q, its others p' or q'."""

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_size: int,
        hidden_sizes: Sequence[int],
        dropout: float,
        **table: Any,
    ) -> None:
        super().__init__(num_users, num_items, 2 * embedding_size, [embedding_size, hidden_sizes[0]], **table)
        self.embedding_size = embedding_size
        self.axis_weights = nn.Parameter(torch.ones(embedding_size))
        self.layers = Layers(embedding_size, hidden_sizes, dropout)

    def user_parts(self, user_emb_BE: Tensor) -> tuple[Tensor, ...]:
        """Return w * p_u, and the user's part of the first layer."""
        size = self.embedding_size
        return user_emb_BE[..., :size] * self.axis_weights, self.layers.user_part(user_emb_BE[..., size:])

    def item_parts(self, item_emb_XE: Tensor) -> tuple[Tensor, ...]:
        """Return q_i, and the item's part of the first layer."""
        size = self.embedding_size
        return item_emb_XE[..., :size], self.layers.item_part(item_emb_XE[..., size:])

    def interact(self, user_parts: Sequence[Tensor], item_parts: Sequence[Tensor]) -> Tensor:
        """Return both parts' sum."""
        return inner_products(user_parts[0], item_parts[0]) + self.layers(user_parts[1], item_parts[1])

    def catalog(self, user_state_BS: Tensor, item_state_IS: Tensor) -> Tensor:
        """Return the scores of all items."""
        size = self.embedding_size
        scores_BI = self.layers.catalog(user_state_BS[:, size:], item_state_IS[:, size:])
        return scores_BI.addmm_(user_state_BS[:, :size], item_state_IS[:, :size].T)


class NeuMF(PairModel):
    """score(u, i) = w . (p_u * q_i) + perceptron([p'_u; q'_i]): the sum of GMF and MLP, each with its own embeddings.

    He, Liao, Zhang, Nie, Hu, Chua 2017, "Neural Collaborative Filtering", section 3.4; with `gmf` and `mlp` it is
    initialized from pretrained models, as in section 3.4.1.

    Args:
        hidden_sizes: widths of the hidden layers.
        dropout: dropout rate of the hidden layers.
        gmf: folder of a run or a saved GMF to initialize from, with the same data and embedding_size; None for random initialization.
        mlp: likewise an MLP, also with the same hidden_sizes. Both or neither.
        mix: initial weight of the GMF in the score; the MLP has the rest.
        pair: `embedding_size`, `loss`, `num_negatives` and the rest of `PairModel`.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import NeuMF
        >>> train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
        >>> model = NeuMF(embedding_size=4, epochs=1, device="cpu").fit(train)
        >>> model.recommend([0], k=2, exclude=train).items_BK.shape
        (1, 2)
    """

    network: NeuMFNetwork

    def __init__(
        self,
        *,
        hidden_sizes: Counts = (128, 64),
        dropout: ShareBelowOne = 0.0,
        gmf: str | os.PathLike[str] | None = None,
        mlp: str | os.PathLike[str] | None = None,
        mix: Share = 0.5,
        **pair: Unpack[PairArguments],
    ) -> None:
        super().__init__(**pair)
        if (gmf is None) != (mlp is None):
            raise ValueError("NeuMF is initialized from both a GMF and an MLP, or from neither: set both gmf and mlp")
        self.hidden_sizes, self.dropout = list(hidden_sizes), dropout
        self.gmf = None if gmf is None else str(gmf)
        self.mlp = None if mlp is None else str(mlp)
        self.mix = mix

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`."""
        from recsys_dl.families.served import perceptron

        items_IT, widths = self.item_state_IS.cpu().numpy(), self.hidden_sizes
        return perceptron(self, seen, self.network.layers, items_IT, widths, products=self.embedding_size)

    def _build(self) -> NeuMFNetwork:
        return NeuMFNetwork(
            self.num_users,
            self.num_items,
            self.embedding_size,
            self.hidden_sizes,
            self.dropout,
            **self._table_options(),
        )

    def _start(self) -> None:
        """Copy the weights of the pretrained GMF and MLP."""
        if self.gmf is None or self.mlp is None:
            return
        gmf: Any = self._pretrained(self.gmf, GMF).network
        mlp: Any = self._pretrained(self.mlp, MLP).network
        with scoring():
            for table in ("user_emb", "item_emb"):
                mine = getattr(self.network, table)
                both = [own_rows(mine, getattr(one, table).weight) for one in (gmf, mlp)]
                mine.weight.copy_(torch.cat(both, dim=1))
            self.network.axis_weights.copy_(self.mix * gmf.axis_weights)
            self.network.layers.load_state_dict(mlp.layers.state_dict())
            self.network.layers.output.weight.mul_(1 - self.mix)

    def _pretrained(self, folder: str, cls: type[PairModel]) -> PairModel:
        path = Path(folder)
        model = CatalogModel.load(path / "model" if (path / "model").is_dir() else path)
        if not isinstance(model, cls):
            raise ValueError(
                f"{folder} must hold {with_article(cls.__name__)} to initialize from, got {with_article(type(model).__name__)}"
            )
        for noun in ("users", "items"):
            mine, theirs = getattr(self, noun), getattr(model, noun)
            if mine is not None and theirs is not None and mine.content_hash != theirs.content_hash:
                raise ValueError(
                    f"{folder} was trained on different {noun}, or numbers them differently; train it on this data"
                )
        for name in ("num_users", "num_items", "embedding_size", *(("hidden_sizes",) if cls is MLP else ())):
            mine, theirs = getattr(self, name), getattr(model, name)
            if mine != theirs:
                raise ValueError(f"{folder} must have the same {name} as this NeuMF, {mine}, got {theirs}")
        if more := num_beyond(model, self):
            log.warning(
                "%s was fitted on at least %s pairs of users and items that are not in this log: what it has seen of validation or test makes "
                "figures too high; train it on this data",
                *(folder, f"{more:,}"),
            )
        return model
