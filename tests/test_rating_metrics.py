"""Errors of predicted ratings: by hand, against scikit-learn, and from users' shares."""

import numpy as np
import pytest

from recsys_dl.metrics import rating


def test_values_by_hand():
    assert rating.rmse(np.array([3, 5]), np.array([4, 2])) == pytest.approx(np.sqrt(5), rel=1e-15)
    assert rating.mae(np.array([3, 5]), np.array([4, 2])) == 2


def test_equal_to_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")
    rng = np.random.default_rng(0)
    predicted, given = rng.normal(3, 1, (2, 1000))
    assert rating.rmse(predicted, given) == pytest.approx(metrics.root_mean_squared_error(given, predicted), rel=1e-13)
    assert rating.mae(predicted, given) == pytest.approx(metrics.mean_absolute_error(given, predicted), rel=1e-13)


def test_users_weighted_by_their_pairs_give_the_error_of_all_pairs():
    rng = np.random.default_rng(1)
    predicted, given = rng.normal(3, 1, (2, 500))
    owner = rng.integers(0, 20, 500)
    owner[owner == 7] = 8  # a user without a pair
    users = rating.errors_per_user(predicted, given, owner, 20)
    pairs = np.bincount(owner, minlength=20)
    there = pairs > 0
    assert np.isnan(users["rmse"][7])
    assert np.isnan(users["mae"][7])
    squared = np.average(users["rmse"][there] ** 2, weights=pairs[there])
    assert np.sqrt(squared) == pytest.approx(rating.rmse(predicted, given), rel=1e-13)
    assert np.average(users["mae"][there], weights=pairs[there]) == pytest.approx(
        rating.mae(predicted, given), rel=1e-13
    )


@pytest.mark.parametrize(
    ("predicted", "given", "message"), [([1, 2], [1], r"shapes \(2,\) and \(1,\)"), ([], [], "at least one rating")]
)
def test_bad_input_is_named(predicted, given, message):
    with pytest.raises(ValueError, match=message):
        rating.rmse(np.array(predicted), np.array(given))
