"""torchmetrics classes over the functions in this package: sums that accumulate over batches and processes.

Each process adds its own users; a sampler that repeats users to balance processes counts them twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from . import catalog, ranking, rating


class RankingMetrics(Metric):
    """Means over users of ranking metrics, under names such as "ndcg@10".

    Args:
        metrics: of `ranking.METRICS`; None takes all.
        k: list length or lengths.
        gains: gain of a grade in NDCG.
        blank_users: value for users without a relevant item.
        **kwargs: passed to torchmetrics' `Metric`.

    Raises:
        ValueError: an unknown metric or convention.

    Examples:
        >>> from recsys_dl.metrics.ranking import judge_scores
        >>> from recsys_dl.metrics.torch_metrics import RankingMetrics
        >>> metric = RankingMetrics(["recall", "mrr"], k=2)
        >>> metric.update(judge_scores([[0.9, 0.7, 0.1]], [[0, 1, 1]], k=2))
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'recall@2': 0.5, 'mrr@2': 0.5}
    """

    full_state_update = False
    value_sums: Tensor
    num_users: Tensor

    def __init__(
        self,
        metrics: Sequence[str] | None = None,
        k: int | Sequence[int] = 10,
        *,
        gains: ranking.Gains = "binary",
        blank_users: ranking.BlankUsers = "left_out",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.metrics = list(ranking.METRICS if metrics is None else metrics)
        self.ks = [k] if isinstance(k, int) else list(k)
        self.gains, self.blank_users = gains, blank_users
        nobody = ranking.Judged(np.zeros((0, max(self.ks))), np.zeros((0, max(self.ks))), np.zeros(0, np.int64))
        self.names = list(self._columns(nobody))
        self.add_state("value_sums", torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_users", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, judged: ranking.Judged) -> None:
        """Add users, judged by `judge(items_BK, relevant)` or `judge_scores(scores_BL, labels_BL, valid_BL, k=...)`."""
        columns = np.stack(list(self._columns(judged).values()))
        counted = ~np.isnan(columns[0])
        self.value_sums += torch.from_numpy(columns[:, counted].sum(axis=1)).to(self.value_sums.device)
        self.num_users += int(counted.sum())

    def compute(self) -> dict[str, Tensor]:
        """Return the mean of each metric; 0 if no user counts."""
        means = self.value_sums / self.num_users.clamp(min=1)
        return dict(zip(self.names, means, strict=True))

    def _columns(self, judged: ranking.Judged) -> dict[str, np.ndarray]:
        return ranking.per_user(judged, self.metrics, self.ks, gains=self.gains, blank_users=self.blank_users)


class CatalogMetrics(Metric):
    """Coverage and Gini index over all lists, as "coverage@10" and "gini@10".

    Args:
        num_items: size of the catalog.
        k: list length.
        **kwargs: passed to torchmetrics' `Metric`.

    Examples:
        >>> from recsys_dl.metrics.torch_metrics import CatalogMetrics
        >>> metric = CatalogMetrics(num_items=4, k=2)
        >>> metric.update([[0, 1], [0, 1]])
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'coverage@2': 0.5, 'gini@2': 0.5}
    """

    full_state_update = False
    exposures_I: Tensor

    def __init__(self, num_items: int, k: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_items, self.k = num_items, k
        self.add_state("exposures_I", torch.zeros(num_items, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, items_BK: Any) -> None:
        """Add lists of item rows, padded with -1."""
        shown_I = catalog.exposures(np.asarray(torch.as_tensor(items_BK).cpu()), self.k, self.num_items)
        self.exposures_I += torch.from_numpy(shown_I).to(self.exposures_I.device)

    def compute(self) -> dict[str, Tensor]:
        """Return both figures."""
        exposures_I = self.exposures_I.cpu().numpy()
        figures = {"coverage": catalog.coverage(exposures_I), "gini": catalog.gini(exposures_I)}
        return {f"{name}@{self.k}": torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}


class RatingMetrics(Metric):
    """RMSE and MAE over all pairs, as "rmse" and "mae".

    Examples:
        >>> from recsys_dl.metrics.torch_metrics import RatingMetrics
        >>> metric = RatingMetrics()
        >>> metric.update([4.0, 2.0], [5.0, 2.0])
        >>> {name: round(value.item(), 3) for name, value in metric.compute().items()}
        {'rmse': 0.707, 'mae': 0.5}
    """

    full_state_update = False
    error_sums: Tensor
    num_pairs: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("error_sums", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_pairs", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted_P: Any, ratings_P: Any) -> None:
        """Add pairs of a prediction and a rating."""
        errors_P = rating.errors(torch.as_tensor(predicted_P).cpu().numpy(), torch.as_tensor(ratings_P).cpu().numpy())
        sums = torch.tensor([np.square(errors_P).sum(), np.abs(errors_P).sum()], dtype=torch.float64)
        self.error_sums += sums.to(self.error_sums.device)
        self.num_pairs += len(errors_P)

    def compute(self) -> dict[str, Tensor]:
        """Return both figures; 0 if there are no pairs."""
        squared, absolute = self.error_sums / self.num_pairs.clamp(min=1)
        return {"rmse": squared.sqrt(), "mae": absolute}
