"""The base of neural rankers: normalized features, a network trained by Lightning with any loss, weights saved as arrays.

B lists, L candidates, F features, Q groups, N documents, G outputs per candidate.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self, TypedDict

from recsys_dl import losses
from recsys_dl.arguments import Count, NotNegative, Positive, Seed, ShareBelowOne, check_argument, hints_of
from recsys_dl.data.groups import BLOCK_BYTES, Groups
from recsys_dl.kernels.device import Device
from recsys_dl.lazy import importing
from recsys_dl.metrics.ranking import Gains
from recsys_dl.training import TrainerOptions
from recsys_dl.training.batches import Batches, mixed
from recsys_dl.training.devices import torch_device
from recsys_dl.training.optimizers import Schedule
from recsys_dl.training.options import checked
from recsys_dl.training.surroundings import scoring, with_own_settings

from .normalization import Normalization, learn_normalization, normalized
from .ranker import Ranker


class RankerTraining(TypedDict, total=False):
    """The arguments of `NeuralRanker`, for type checkers and editors."""

    loss: str
    loss_arguments: Mapping[str, Any] | None
    normalization: Normalization
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    weight_decay: NotNegative
    schedule: Schedule
    warmup: ShareBelowOne
    gains: Gains
    k: Count
    patience: Count
    propensities: Sequence[Positive] | None
    seed: Seed
    device: Device


class NeuralRanker(Ranker):
    """A ranker whose scores come from a network; a subclass implements `_build`.

    The same seed gives bitwise the same weights, for a given device and number of threads.

    Args:
        loss: name of a function of `recsys_dl.losses`. "ordinal_loss" gives the network one output per grade above 0.
        loss_arguments: arguments of the loss, such as {"temperature": 0.1}.
        normalization: of features: "none", "standard", "log1p" or "quantile", see `learn_normalization`.
        epochs: passes over the groups; fewer with early stopping.
        batch_size: groups per step.
        learning_rate: of Adam.
        weight_decay: of Adam, for all weights.
        schedule: of the learning rate: "constant", "linear" or "cosine".
        warmup: share of the steps during which it increases.
        gains: gain of a grade in the validation NDCG.
        k: of that NDCG.
        patience: training stops after this many epochs without a better validation NDCG@k; the best epoch's weights are kept.
        propensities: of ranks 1, 2, ...: labels are clicks at logged positions, to be corrected for position bias; see `propensity.per_click`.
        seed: for weights, shuffling and dropout.
        device: where to train and score.

    Attributes:
        network: the trained nn.Module.
        losses: mean loss of each epoch.

    Raises:
        ValueError: an argument out of range.
    """

    network: Any
    losses: list[float]

    def __init__(
        self,
        *,
        loss: str = "softmax_loss",
        loss_arguments: Mapping[str, Any] | None = None,
        normalization: Normalization = "standard",
        epochs: Count = 100,
        batch_size: Count = 32,
        learning_rate: Positive = 1e-3,
        weight_decay: NotNegative = 0.0,
        schedule: Schedule = "constant",
        warmup: ShareBelowOne = 0.0,
        gains: Gains = "exponential",
        k: Count = 10,
        patience: Count = 20,
        propensities: Sequence[Positive] | None = None,
        seed: Seed = 7,
        device: Device = "auto",
    ) -> None:
        self.loss, self.loss_arguments = loss, dict(loss_arguments or {})
        _check_loss(loss, self.loss_arguments)
        self.normalization = normalization
        self.epochs, self.batch_size, self.patience = epochs, batch_size, patience
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.schedule, self.warmup = schedule, warmup
        self.gains, self.k = gains, k
        self.propensities = None if propensities is None else list(propensities)
        self.seed, self.device = seed, device

    @abstractmethod
    def _build(self, num_outputs: int) -> nn.Module:
        """Return a new network for `num_features`, called with features_BLF and valid_BL; Torch's random generator is seeded."""

    @with_own_settings
    def fit(self, groups: Groups, *, validation: Groups | None = None, trainer: TrainerOptions | None = None) -> Self:
        """Fit to `groups`; with `validation`, keep the epoch with the highest NDCG@k on it.

        Args:
            groups: training groups.
            validation: with the same features.
            trainer: precision, checkpoints, loggers and the like; its `patience` and `metric` are overridden by the ranker's.

        Raises:
            ValueError: mismatched data, or a checkpoint of another training.
            RuntimeError: device "cuda" without a usable GPU.
        """
        with importing():
            from recsys_dl.training.fitting import fit_scorer
            from recsys_dl.training.scorer import Scorer

        patience = self.patience if validation is not None else None
        options = replace(checked(trainer), patience=patience, smoothing=1, metric=f"ndcg@{self.k}")
        groups, validation = self._begin(groups, validation)
        self.learned = learn_normalization(groups.features_NF, self.normalization)
        self.num_outputs = max(1, int(groups.labels_N.max())) if self.loss == "ordinal_loss" else 1
        device = self.torch_device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mixed(self.seed))
            self.network = self._build(self.num_outputs).to(device)
        examples = _Lists(groups, self._normalized(groups.features_NF), device)
        batches = Batches(examples, self.batch_size, seed=mixed(self.seed, 1))
        batches.batch_size = min(
            self.batch_size, len(groups)
        )  # a list is many examples: small sets are not cut into smaller batches
        scorer = Scorer(
            self.network,
            self._objective,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            warmup=self.warmup,
            num_steps=self.epochs * -(-len(batches) // options.accumulate),
            seed=mixed(self.seed, 2),
        )
        scorer.train()
        course = fit_scorer(
            scorer,
            batches,
            epochs=self.epochs,
            options=options,
            device=device,
            identity={} if options.checkpoint is None else self._identity(groups),
            validate=None if validation is None else _Validation(self, validation).figure,
            name=type(self).__name__,
        )
        self.losses = course.losses
        self.network.to(device).eval()
        self._report(groups)
        return self

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state by name; the network's weights as `network.…`."""
        weights = {f"network.{name}": value.cpu().numpy() for name, value in self.network.state_dict().items()}
        return super().arrays() | self.learned | weights | {"num_outputs": np.int64(self.num_outputs)}

    @with_own_settings
    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the fitted state that `arrays` returned, in place of `fit`."""
        super().restore(arrays)
        self.losses = []
        self.num_outputs = int(arrays["num_outputs"])
        self.learned = {name: arrays[name] for name in ("quantiles_FT", "mean_F", "scale_F") if name in arrays}
        with torch.random.fork_rng(devices=[]):
            self.network = self._build(self.num_outputs).to(self.torch_device)
        weights = {key[len("network.") :]: value for key, value in arrays.items() if key.startswith("network.")}
        self.network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        self.network.eval()

    @property
    def torch_device(self) -> torch.device:
        """The network's device.

        Raises:
            RuntimeError: device "cuda" if Torch finds none.
        """
        return torch_device(self.device)

    def _objective(self, network: nn.Module, batch: _Batch) -> Tensor:
        outputs_BLG = network(batch.features_BLF, batch.valid_BL)
        scores = outputs_BLG if self.loss == "ordinal_loss" else outputs_BLG.squeeze(-1)
        loss = getattr(losses, self.loss)
        return loss(scores, batch.labels_BL, batch.valid_BL, weights_BL=batch.weights_BL, **self.loss_arguments)

    def _scores(self, features_BLF: np.ndarray, valid_BL: np.ndarray) -> np.ndarray:
        return self._network_scores(self._normalized(features_BLF), valid_BL)

    def _network_scores(self, features_BLF: np.ndarray, valid_BL: np.ndarray) -> np.ndarray:
        scores_BL = np.empty(valid_BL.shape, np.float32)
        device = self.torch_device
        size = max(1, BLOCK_BYTES // max(1, self.network.bytes_of(valid_BL.shape[1])))
        with scoring():
            for start in range(0, len(valid_BL), size):
                block = slice(start, start + size)
                features, valid = torch.from_numpy(features_BLF[block]), torch.from_numpy(valid_BL[block])
                outputs_BLG = self.network(features.to(device), valid.to(device)).float()
                several = self.loss == "ordinal_loss"
                scores = losses.expected_grades(outputs_BLG) if several else outputs_BLG.squeeze(-1)
                scores_BL[block] = scores.cpu().numpy()
        return scores_BL

    def _normalized(self, features_NF: np.ndarray) -> np.ndarray:
        return normalized(features_NF, self.learned, self.normalization)

    def _identity(self, groups: Groups) -> dict[str, Any]:
        """Return plain values that a checkpoint must match."""
        arguments = {key: repr(value) for key, value in self.arguments().items() if key != "device"}
        return {"ranker": type(self).__name__, "data": groups.content_hash} | arguments


class _Batch(NamedTuple):
    features_BLF: Tensor
    labels_BL: Tensor
    valid_BL: Tensor
    weights_BL: Tensor | None


class _Lists:
    """Groups as training examples, on the device."""

    def __init__(self, groups: Groups, features_NF: np.ndarray, device: torch.device) -> None:
        self.device = device
        self.features_NF = torch.tensor(features_NF, device=device)
        self.labels_N = torch.tensor(groups.labels_N, device=device)
        self.weights_N = None if groups.weights_N is None else torch.tensor(groups.weights_N, device=device)
        self.starts_Q = torch.tensor(groups.starts_Q, device=device)

    def __len__(self) -> int:
        return len(self.starts_Q) - 1

    def begin(self, epoch: int) -> None:
        """Nothing to prepare."""

    def take(self, chosen_G: Tensor, mine: slice, *, epoch: int, step: int) -> _Batch:
        """Return lists padded to the longest."""
        groups_B = chosen_G[mine]
        starts_B, ends_B = self.starts_Q[groups_B], self.starts_Q[groups_B + 1]
        steps_L = torch.arange(int((ends_B - starts_B).max()), device=self.device)
        rows_BL = starts_B[:, None] + steps_L
        valid_BL = rows_BL < ends_B[:, None]
        rows_BL = rows_BL.where(valid_BL, 0)
        weights_BL = None if self.weights_N is None else self.weights_N[rows_BL]
        return _Batch(self.features_NF[rows_BL], self.labels_N[rows_BL], valid_BL, weights_BL)


class _Validation:
    """NDCG@k on validation, with its lists prepared once."""

    def __init__(self, ranker: NeuralRanker, groups: Groups) -> None:
        self.ranker, self.groups = ranker, groups
        self.parts = [
            (ranker._normalized(part.features_BLF), part.valid_BL, part.rows_BL[part.valid_BL])
            for part in groups.batches()
        ]

    def figure(self) -> float:
        """Return it, and append it to the ranker's history."""
        scores_N = np.empty(self.groups.num_documents, np.float32)
        for features_BLF, valid_BL, rows in self.parts:
            scores_N[rows] = self.ranker._network_scores(features_BLF, valid_BL)[valid_BL]
        self.ranker.history.append(self.ranker._ndcg(scores_N, self.groups))
        return self.ranker.history[-1]


def _check_loss(name: str, arguments: Mapping[str, Any]) -> None:
    known = tuple(one for one in losses.__all__ if one.endswith("_loss"))
    check_argument("loss", name, Literal[known])
    parameters = inspect.signature(getattr(losses, name)).parameters
    own = [key for key, one in parameters.items() if one.kind is one.KEYWORD_ONLY and key != "weights_BL"]
    if wrong := [key for key in arguments if key not in own]:
        raise ValueError(f"loss_arguments of {name} must be among {', '.join(own) or 'none'}, got {wrong[0]!r}")
    hints = hints_of(getattr(losses, name))
    for key in arguments.keys() & hints:
        check_argument(f"loss_arguments.{key}", arguments[key], hints[key])
    if needed := [key for key in own if parameters[key].default is inspect.Parameter.empty]:
        raise ValueError(
            f"{name} needs {', '.join(needed)} with every list, which groups do not have; use another loss"
        )
