"""Two towers: users by their pooled history and features, items by their own embedding and features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from typing_extensions import Unpack

from recsys_dl.arguments import Count
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.choice import choice_loss
from recsys_dl.families.histories import Histories, SplitExamples, Splits
from recsys_dl.families.towers import TowerArguments, TowerModel
from recsys_dl.networks.encoders import PooledUser, TowerNetwork
from recsys_dl.sizes import LogSize


class TwoTower(TowerModel):
    """score(u, i) = <pooled vectors of u's newest items + u's feature vector, i's own embedding + i's feature vector>.

    Trained on positions in users' histories: the items before one are the history, the next `num_targets` items the targets
    (Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations").

    Args:
        pooling: "mean", or "attention" with learned weights, see `Pooling`.
        user_sizes: hidden layers over the sum of pooled history and features; empty means none.
        num_targets: T.
        examples_per_user: positions drawn per user and epoch; users with fewer items use all.
        shuffle: shuffle each user's items in each epoch; for logs whose order is meaningless.
        tower: `embedding_size`, `history_size`, `features`, `softmax` and the rest of `TowerModel`.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import TwoTower
        >>> train = Interactions([0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 2], times_N=[10, 20, 10, 30, 10, 15])
        >>> model = TwoTower(embedding_size=4, epochs=1, device="cpu").fit(train)
        >>> model.recommend([0], k=2, exclude=train).items_BK.shape
        (1, 2)
    """

    batch_type = Splits

    def __init__(
        self,
        *,
        pooling: Literal["mean", "attention"] = "mean",
        user_sizes: Sequence[Count] | None = None,
        num_targets: Count = 10,
        examples_per_user: Count = 20,
        shuffle: bool = False,
        **tower: Unpack[TowerArguments],
    ) -> None:
        super().__init__(**tower)
        self.pooling = pooling
        self.user_sizes = list(user_sizes or ())
        self.num_targets = num_targets
        self.examples_per_user = examples_per_user
        self.shuffle = shuffle

    def _user_net(self, num_values: int, num_dense: int) -> PooledUser:
        return PooledUser(
            self.embedding_size,
            self.history_size,
            attention=self.pooling == "attention",
            num_values=num_values,
            num_dense=num_dense,
            hidden_sizes=self.user_sizes,
            dropout=self.dropout,
        )

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
        rows = [batch.history_BH, batch.targets_BT]
        raw_ND, (history_BH, targets_BT), places_C = self._encoded(network, rows, batch.candidates)
        users_BD = network(raw_ND, history_BH, batch.history_valid_BH, *self._profiles(batch.users_B))
        return choice_loss(
            users_BD,
            network.towers(raw_ND, of_users=False),
            targets_BT,
            batch.valid_BT,
            candidates=batch.candidates,
            places_C=places_C,
            owners_B=batch.users_B,
        )
