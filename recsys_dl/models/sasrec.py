"""A two-tower model whose user tower is self-attention over the user's item sequence."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from recsys_dl.arguments import Count
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.choice import choice_loss
from recsys_dl.families.histories import Histories, WindowExamples, Windows
from recsys_dl.families.towers import TowerArguments, TowerModel
from recsys_dl.networks.encoders import TowerNetwork
from recsys_dl.networks.sequence import SequenceUser
from recsys_dl.sizes import LogSize

GROUPS = 4  # number of length buckets per batch, each padded to its longest sequence


class SASRec(TowerModel):
    """score(u, i) = <state after u's newest item, i's vector>, with states from causal self-attention over the items in order.

    Kang and McAuley 2018, "Self-Attentive Sequential Recommendation": every item of a sequence is a target of those before it,
    all in one pass. Unlike there, the loss is a softmax (Klenitskiy and Vasilev 2023, "Turning Dross Into Gold Loss"), and a
    sequence starts with an extra position that holds the user's features.

    Args:
        num_blocks: number of attention blocks.
        num_heads: attention heads per block; must divide `embedding_size`.
        tower: `embedding_size`, `history_size`, `features`, `softmax` and the rest of `TowerModel`.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import SASRec
        >>> train = Interactions([0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 2], times_N=[10, 20, 10, 30, 10, 15])
        >>> model = SASRec(embedding_size=4, epochs=1, device="cpu").fit(train)
        >>> model.recommend([0], k=2, exclude=train).items_BK.shape
        (1, 2)
    """

    batch_type = Windows

    def __init__(self, *, num_blocks: Count = 2, num_heads: Count = 2, **tower: Unpack[TowerArguments]) -> None:
        super().__init__(**tower)
        if self.embedding_size % num_heads:
            raise ValueError(f"num_heads must divide embedding_size={self.embedding_size}, got {num_heads}")
        self.num_blocks = num_blocks
        self.num_heads = num_heads

    def _user_net(self, num_values: int, num_dense: int) -> SequenceUser:
        return SequenceUser(
            self.embedding_size,
            self.history_size,
            num_blocks=self.num_blocks,
            num_heads=self.num_heads,
            num_values=num_values,
            num_dense=num_dense,
            dropout=self.dropout,
        )

    def _vectors(self, log: LogSize) -> tuple[float, float, int]:
        windows = max(1.0, log.history / (1 + self.history_size))
        return log.num_users * windows, log.history / windows, 1

    def _examples(self, log: Interactions) -> WindowExamples:
        return WindowExamples(Histories.of(log), 1 + self.history_size, self.num_items, **self._example_options())

    def _objective(self, network: nn.Module, batch: Windows) -> Tensor:
        assert isinstance(network, TowerNetwork)
        raw_ND, (places_BJ,), places_C = self._encoded(network, [batch.items_BH], batch.candidates)
        lengths_B = batch.valid_BH.sum(1)
        states, targets, owners = [], [], []
        for some in lengths_B.argsort(stable=True).chunk(GROUPS):
            length = int(lengths_B[some].max())
            valid_bj, places_bj = batch.valid_BH[some, :length], places_BJ[some, :length]
            states_bjd = network.user.states(raw_ND, places_bj[:, :-1], *self._profiles(batch.users_B[some]))
            states.append(states_bjd[valid_bj])
            targets.append(places_bj[valid_bj])
            owners.append(batch.users_B[some, None].expand_as(valid_bj)[valid_bj])
        targets_P1 = torch.cat(targets)[:, None]
        loss = choice_loss(
            network.towers(torch.cat(states), of_users=True),
            network.towers(raw_ND, of_users=False),
            targets_P1,
            torch.ones_like(targets_P1, dtype=torch.bool),
            candidates=batch.candidates,
            places_C=places_C,
            owners_B=torch.cat(owners),
        )
        # a mean over the items of the whole batch, of which this process has a share
        return loss * len(targets_P1) / (len(lengths_B) * batch.mean_length)
