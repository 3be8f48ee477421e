"""Watch history and context through an MLP, and a softmax over items."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from recsys_dl.arguments import Count, Counts
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.choice import choice_loss
from recsys_dl.families.histories import Histories, SplitExamples, Splits
from recsys_dl.families.towers import TowerArguments, TowerModel
from recsys_dl.networks.encoders import ItemEncoder, PooledUser, TowerNetwork
from recsys_dl.sizes import LogSize


class YouTubeDNN(TowerModel):
    """score(u, i) = <MLP(mean of u's newest items' input vectors; u's features; example age), i's output vector>.

    Covington, Adams, Sargin 2016, "Deep Neural Networks for YouTube Recommendations", section 3: items have separate input
    (history) and output (target) embeddings; targets are later than the history; the number of examples per user is
    capped; and the example age lets the MLP model popularity over time, and is set to "now" for serving.
    Unlike there, item features are used.

    Args:
        hidden_sizes: of the MLP.
        num_targets: T, number of items after the history that are targets.
        examples_per_user: positions drawn per user and epoch; users with fewer items use all.
        shuffle: shuffle each user's items in each epoch; for logs whose order is meaningless.
        tower: `embedding_size`, `history_size`, `features`, `softmax` and the rest of `TowerModel`.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import YouTubeDNN
        >>> train = Interactions([0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 2], times_N=[10, 20, 10, 30, 10, 15])
        >>> model = YouTubeDNN(embedding_size=4, epochs=1, device="cpu").fit(train)
        >>> model.recommend([0], k=2, exclude=train).items_BK.shape
        (1, 2)
    """

    batch_type = Splits
    extra_dense = 1  # the example's age: 0 for the newest time in training, and for serving; 1 for the oldest

    def __init__(
        self,
        *,
        hidden_sizes: Counts = (256, 128),
        num_targets: Count = 1,
        examples_per_user: Count = 50,
        shuffle: bool = False,
        **tower: Unpack[TowerArguments],
    ) -> None:
        super().__init__(**tower)
        self.hidden_sizes = list(hidden_sizes)
        self.num_targets = num_targets
        self.examples_per_user = examples_per_user
        self.shuffle = shuffle

    def _user_net(self, num_values: int, num_dense: int) -> PooledUser:
        return PooledUser(
            self.embedding_size,
            self.history_size,
            num_values=num_values,
            num_dense=num_dense,
            hidden_sizes=self.hidden_sizes,
            dropout=self.dropout,
        )

    def _input_net(self) -> ItemEncoder:
        return self._item_net()

    def _vectors(self, log: LogSize) -> tuple[float, float, int]:
        return log.num_users * min(log.history, self.examples_per_user), 1.0, self.num_targets

    def _examples(self, log: Interactions) -> SplitExamples:
        return SplitExamples(
            Histories.of(log),
            self.history_size,
            self.num_items,
            num_targets=self.num_targets,
            per_user=self.examples_per_user,
            shuffled=self.shuffle,
            **self._example_options(),
        )

    def _objective(self, network: nn.Module, batch: Splits) -> Tensor:
        assert isinstance(network, TowerNetwork)
        assert network.inputs is not None
        distinct_N, history_BH = torch.unique(batch.history_BH, return_inverse=True)
        raw_ND, (targets_BT,), places_C = self._encoded(network, [batch.targets_BT], batch.candidates)
        codes, weights, dense_BF = self._profiles(batch.users_B)
        if batch.ages_B is not None:
            dense_BF = torch.cat([dense_BF[:, :-1], batch.ages_B[:, None]], dim=1)
        inputs_ND = network.inputs(distinct_N)
        users_BD = network(inputs_ND, history_BH, batch.history_valid_BH, codes, weights, dense_BF)
        return choice_loss(
            users_BD,
            network.towers(raw_ND, of_users=False),
            targets_BT,
            batch.valid_BT,
            candidates=batch.candidates,
            places_C=places_C,
            owners_B=batch.users_B,
        )
