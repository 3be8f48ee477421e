"""RP3beta is the product of transition matrices that it says it is."""

import numpy as np
import pytest
from test_item_knn import ratings

from recsys_dl.models.rp3beta import RP3beta


def walks(matrix_UI: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """Scores [U, I] over all walks, without a walk back to the same item."""
    totals_I = np.maximum(matrix_UI.sum(axis=0), 1e-30)
    to_items = (matrix_UI / np.maximum(matrix_UI.sum(axis=1, keepdims=True), 1e-30)) ** alpha * (matrix_UI > 0)
    to_users = (matrix_UI / totals_I).T ** alpha * (matrix_UI.T > 0)
    steps_II = to_users @ to_items / totals_I**beta
    np.fill_diagonal(steps_II, 0)
    return to_items @ np.where(matrix_UI.sum(axis=0) > 0, steps_II, 0)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.7, 0.5)])
def test_scores_are_walks(device, alpha, beta):
    log = ratings(num=90, num_users=14, num_items=11)
    model = RP3beta(num_neighbors=11, alpha=alpha, beta=beta, device=device).fit(log)
    matrix = log.by_user.toarray().astype(np.float64)
    scores = model.score(np.arange(14), np.tile(np.arange(11), (14, 1)))
    known = matrix.sum(axis=1) > 0
    np.testing.assert_allclose(scores[known], walks(matrix, alpha, beta)[known], rtol=1e-5)  # float32 powers
    folded = model.fold_in(log)
    np.testing.assert_array_equal(model.score(folded, np.tile(np.arange(11), (14, 1)))[known], scores[known])


def test_only_the_strongest_walks_to_an_item_are_kept():
    log = ratings(num=90, num_users=14, num_items=11)
    every, few = (RP3beta(num_neighbors=k, device="cpu").fit(log).neighbors_II for k in (11, 3))
    for item in range(11):
        np.testing.assert_array_equal(few[item].indices, every[item].indices[:3])
        assert (np.diff(every[item].data) <= 0).all()


def test_beta_takes_from_the_popular():
    log = ratings(num=400)
    users = np.arange(60)
    shares = []
    for beta in (0.0, 0.4, 0.8):
        top = RP3beta(beta=beta, device="cpu").fit(log).recommend(users, k=5, exclude=log).items_BK
        shares.append(log.item_counts_I[top].mean())
    assert shares[0] > shares[1] > shares[2]


def test_wrong_arguments():
    with pytest.raises(ValueError, match="num_neighbors must be a whole number of at least 1"):
        RP3beta(num_neighbors=0)
    with pytest.raises(ValueError, match="alpha must be a finite number at least 0, got -1"):
        RP3beta(alpha=-1)
