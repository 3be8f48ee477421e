"""The gradient of `lambdarank_loss` is LightGBM's own lambda, and its curvature LightGBM's own hessian.

LightGBM does not hand out the gradients of its objectives. But `refit` lets any objective fill the leaves of a given tree: with
one item a leaf, a leaf holds -lambda / (hessian + lambda_l2).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_svmlight_file

from recsys_dl.losses import lambdarank_loss

lightgbm = pytest.importorskip("lightgbm")

SIZES = [5, 8, 1, 12, 3, 40]


def leaves_of_lightgbm(scores_N, labels_N, sizes=SIZES, *, lambda_l2, **objective) -> np.ndarray:
    """Return float64 [N]: -lambda / (hessian + lambda_l2) of each item at these scores, as LightGBM computes it."""
    rows_N1 = np.arange(len(scores_N), dtype=np.float64)[:, None]
    growing = {
        "num_leaves": len(scores_N),
        "min_data_in_leaf": 1,
        "min_sum_hessian_in_leaf": 0,
        "min_data_in_bin": 1,
        "max_bin": len(scores_N) + 1,
        "learning_rate": 1.0,
        "num_threads": 1,
        "verbose": -1,
    }
    targets_N = np.arange(len(scores_N)) ** 1.5  # any that no two items share: squared error then splits them all
    data = lightgbm.Dataset(rows_N1, label=targets_N, params=growing)
    booster = lightgbm.Booster({**growing, "objective": "regression"}, data)
    booster.update()
    assert len(np.unique(booster.predict(rows_N1, pred_leaf=True))) == len(scores_N)
    booster.params = {
        **growing,
        "objective": "lambdarank",
        "lambdarank_norm": False,  # Burges's lambda has no such factor
        "label_gain": [2**grade - 1 for grade in range(5)],
        "lambda_l2": lambda_l2,
        **objective,
    }
    refitted = booster.refit(rows_N1, labels_N, decay_rate=0.0, group=sizes, init_score=scores_N)
    return refitted.predict(rows_N1, raw_score=True)


def derivatives(scores_N, labels_N, sizes=SIZES, **options) -> tuple[np.ndarray, np.ndarray]:
    """First and second derivative of the loss of each list, summed over lists, with respect to each item's score."""
    firsts, seconds = [], []
    by_list = (torch.from_numpy(array).split(sizes) for array in (scores_N, labels_N))
    for scores_L, labels_L in zip(*by_list, strict=True):
        scores_BL = scores_L[None].clone().requires_grad_()
        loss = lambdarank_loss(scores_BL, labels_L[None], **options)
        (first_BL,) = torch.autograd.grad(loss, scores_BL, create_graph=True)
        firsts.append(first_BL[0].detach())
        rows = [torch.autograd.grad(first, scores_BL, retain_graph=True)[0][0] for first in first_BL[0]]
        seconds.append(torch.stack(rows).diagonal())
    return torch.cat(firsts).numpy(), torch.cat(seconds).numpy()


@pytest.fixture(params=["apart", "some equal", "all equal"])
def lists(request) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    scores_N, labels_N = rng.normal(size=sum(SIZES)) * 2, rng.integers(0, 5, sum(SIZES))
    labels_N[:5] = 1  # a list that has nothing to order
    if request.param == "some equal":
        scores_N = scores_N.round()
    if request.param == "all equal":
        scores_N[:] = 0.0
    return scores_N, labels_N


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("k", [1, 3, 10, 30, 1000])
def test_lambdas(lists, sigma, k):
    strong = 1e8  # beside which no hessian counts, so that the leaf times it is -lambda
    leaves_N = leaves_of_lightgbm(*lists, lambda_l2=strong, sigmoid=sigma, lambdarank_truncation_level=k)
    lambdas_N, _ = derivatives(*lists, sigma=sigma, k=k)
    assert np.abs(lambdas_N).max() > 0.1
    # LightGBM reads the sigmoid of each pair from a table whose entries are up to 50 / 2^20 / 4 = 1.2e-5 apart, and sums in float32
    np.testing.assert_allclose(-strong * leaves_N, lambdas_N, rtol=3e-5, atol=3e-5 * np.abs(lambdas_N).max())


def test_newton_steps(lists):
    lambdas_N, hessians_N = derivatives(*lists)
    with_hessian = hessians_N > 1e-3  # LightGBM adds its epsilon to each
    leaves_N = leaves_of_lightgbm(*lists, lambda_l2=0.0, sigmoid=1.0, lambdarank_truncation_level=1000)
    assert with_hessian.sum() > 40
    steps_N = -lambdas_N[with_hessian] / hessians_N[with_hessian]
    np.testing.assert_allclose(leaves_N[with_hessian], steps_N, rtol=1e-3)


def test_lambdas_on_real_lists(shared_data):
    features, labels_N, queries_N = load_svmlight_file(str(shared_data / "mq2008/S4.txt"), query_id=True)
    begins = np.flatnonzero(np.diff(queries_N[:1000], prepend=-1))
    sizes = np.diff(begins).tolist()  # without the last query, which may have been cut
    scores_N = features[: sum(sizes), 24].toarray().ravel() * 4  # one of its features, with many equal values
    lists = scores_N, labels_N[: sum(sizes)].astype(np.int64)
    leaves_N = leaves_of_lightgbm(*lists, sizes, lambda_l2=1e8, sigmoid=1.0, lambdarank_truncation_level=10)
    lambdas_N, _ = derivatives(*lists, sizes, k=10)
    assert len(sizes) > 30
    assert (lambdas_N != 0).sum() > 200
    np.testing.assert_allclose(-1e8 * leaves_N, lambdas_N, rtol=3e-5, atol=3e-5 * np.abs(lambdas_N).max())
