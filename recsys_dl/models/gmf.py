"""Generalized matrix factorization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recsys_dl.data.interactions import Interactions
from recsys_dl.families.pair_network import PairModel, PairNetwork, inner_products
from recsys_dl.kernels.device import Device
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.topk import top_k_dot
from recsys_dl.protocols import Served


class GMFNetwork(PairNetwork):
    """score(u, i) = w . (p_u * q_i)."""

    def __init__(self, num_users: int, num_items: int, embedding_size: int, **table: Any) -> None:
        super().__init__(num_users, num_items, embedding_size, [embedding_size], **table)
        self.axis_weights = nn.Parameter(torch.ones(embedding_size))

    def user_parts(self, user_emb_BE: Tensor) -> tuple[Tensor, ...]:
        """Return w * p_u."""
        return (user_emb_BE * self.axis_weights,)

    def item_parts(self, item_emb_XE: Tensor) -> tuple[Tensor, ...]:
        """Return q_i."""
        return (item_emb_XE,)

    def interact(self, user_parts: Sequence[Tensor], item_parts: Sequence[Tensor]) -> Tensor:
        """Return inner products."""
        return inner_products(user_parts[0], item_parts[0])

    def catalog(self, user_state_BS: Tensor, item_state_IS: Tensor) -> Tensor:
        """Return scores as one matrix product."""
        return user_state_BS @ item_state_IS.T


class GMF(PairModel):
    """score(u, i) = w . (p_u * q_i): an inner product whose axes have learned weights.

    He, Liao, Zhang, Nie, Hu, Chua 2017, "Neural Collaborative Filtering", section 3.2. See `PairModel` for the arguments.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import GMF
        >>> train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
        >>> model = GMF(embedding_size=4, epochs=1, device="cpu").fit(train)
        >>> model.recommend([0], k=2, exclude=train).items_BK.shape
        (1, 2)
    """

    def _build(self) -> GMFNetwork:
        return GMFNetwork(self.num_users, self.num_items, self.embedding_size, **self._table_options())

    def item_vectors(self) -> np.ndarray:
        """Return the item embeddings."""
        self._check_fitted()
        return self.item_state_IS.cpu().numpy()

    def _queries(self, values: np.ndarray) -> np.ndarray:
        return values

    def _top_k(
        self, values: np.ndarray, k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        device: Device = "cuda" if self.torch_device.type == "cuda" else "cpu"
        return top_k_dot(
            values,
            self.item_vectors(),
            k,
            item_bias_I=self._unlisted_bias(),
            exclude=exclude,
            allow=allow,
            device=device,
        )

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`."""
        from recsys_dl.families.served import inner_product, stored

        return inner_product(self, seen, stored(self, seen), self.item_vectors())
