"""FunkSVD predicts ratings, and serves those it never met; test_kernel_rating_sgd.py has its steps."""

import numpy as np
import pytest

from recsys_dl.data.interactions import Interactions
from recsys_dl.models import FunkSVD


def rated(
    seed: int = 0, num_users: int = 80, num_items: int = 50, share: float = 0.5
) -> tuple[Interactions, Interactions]:
    """Ratings from 1 to 5 of a planted biased model with two factors, and the same of pairs held back."""
    rng = np.random.default_rng(seed)
    likes_UI = rng.normal(0, 1, (num_users, 2)) @ rng.normal(0, 0.7, (2, num_items))
    likes_UI += 3 + rng.normal(0, 0.4, num_users)[:, None] + rng.normal(0, 0.4, num_items)
    users, items = np.nonzero(rng.random((num_users, num_items)) < share)
    ratings = np.clip(likes_UI[users, items], 1, 5)
    held = rng.random(len(users)) < 0.1
    whole = Interactions(users, items, ratings, num_users=num_users, num_items=num_items)
    return whole.select(~held), whole.select(held)


def rmse(model: FunkSVD, data: Interactions) -> float:
    return float(np.sqrt(np.mean((model.predict(data.users_N, data.items_N) - data.weights_N) ** 2)))


def test_the_error_falls_and_beats_biases_alone():
    train, held = rated()
    errors = [
        rmse(FunkSVD(embedding_size=8, epochs=epochs, learning_rate=0.02).fit(train), train) for epochs in (1, 10, 60)
    ]
    assert errors[0] > errors[1] > errors[2]
    plain = FunkSVD(embedding_size=8, epochs=60, learning_rate=0.02, regularization=10.0).fit(train)
    assert rmse(FunkSVD(embedding_size=8, epochs=60, learning_rate=0.02).fit(train), held) < 0.6 * rmse(plain, held)


def test_predictions_stay_in_the_range_and_scores_do_not():
    train, _ = rated()
    model = FunkSVD(epochs=60, learning_rate=0.02).fit(train)
    users, items = np.divmod(np.arange(80 * 50), 50)
    ratings = model.predict(users, items)
    assert ratings.dtype == np.float32
    assert ratings.min() == train.weights_N.min()
    assert ratings.max() == train.weights_N.max()
    scores = model.score(np.arange(80), np.tile(np.arange(50), (80, 1))).ravel()
    np.testing.assert_allclose(np.clip(scores, *model.rating_range_2), ratings, atol=1e-5)  # another order of summing
    assert scores.max() > ratings.max()


def test_who_and_what_was_never_rated():
    train, _ = rated()
    wider = Interactions(train.users_N, train.items_N, train.weights_N, num_users=81, num_items=51)
    model = FunkSVD(epochs=10).fit(wider)
    assert model.predict([80], [4]) == pytest.approx(model.mean + model.bias_I[4])
    assert model.predict([-1], [4]) == model.predict([80], [4])
    assert model.predict([4], [50]) == pytest.approx(model.mean + model.bias_U[4])
    assert model.predict([4], [-1]) == model.predict([4], [50])
    assert model.predict([-1], [-1]) == model.mean
    blank = model.recommend(model.fold_in([[]]), k=5)
    np.testing.assert_array_equal(blank.items_BK[0], np.argsort(-model.bias_I, kind="stable")[:5])
    np.testing.assert_array_equal(blank.items_BK, model.recommend([80], k=5).items_BK)


def test_fold_in_rates_as_the_trained_user():
    train, held = rated()
    model = FunkSVD(embedding_size=8, epochs=100, learning_rate=0.02, regularization=0.02).fit(train)
    state = model.fold_in(train.of_users(np.arange(80)))
    everything = np.tile(np.arange(50), (80, 1))
    apart = model.score(state, everything) - model.score(np.arange(80), everything)
    # The descent is near its minimum, not at it; the planted ratings spread by 1.1.
    assert np.sqrt(np.mean(apart**2)) < 0.1
    folded = np.clip(model.score(state, everything)[held.users_N, held.items_N], 1, 5)
    assert np.sqrt(np.mean((folded - held.weights_N) ** 2)) < 1.1 * rmse(model, held)


def test_fold_in_solves_its_least_squares():
    train, _ = rated()
    model = FunkSVD(embedding_size=4, epochs=20, learning_rate=0.02).fit(train)
    items, ratings = np.array([3, 8, 20]), np.array([5.0, 1.0, 4.0])
    bias_B, emb_BD = model.fold_in(Interactions([0, 0, 0], items, ratings, num_items=50)).values

    def loss(bias: float, emb_D: np.ndarray) -> float:
        errors = ratings - model.mean - model.bias_I[items] - bias - model.item_emb_ID[items].astype(np.float64) @ emb_D
        return float(np.sum(errors**2) + 3 * (0.02 * bias**2 + 0.1 * emb_D @ emb_D))

    bias, emb_D = float(bias_B[0]), emb_BD[0].astype(np.float64)
    best = loss(bias, emb_D)
    for step in np.concatenate([np.eye(5), -np.eye(5)]) * 0.01:
        assert loss(bias + step[0], emb_D + step[1:]) > best


def test_histories_without_ratings_are_liked():
    train, _ = rated()
    model = FunkSVD(embedding_size=4, epochs=20).fit(train)
    top = np.full(3, train.weights_N.max())
    named = model.fold_in(Interactions([0, 0, 0], [3, 8, 20], top, num_items=50))
    np.testing.assert_array_equal(model.fold_in([[3, 8, 20]]).values[1], named.values[1])


def test_repeated_ratings_count_as_their_average():
    once = Interactions([0, 0, 1], [0, 1, 1], [4, 2, 5])
    twice = Interactions([0, 0, 0, 1], [0, 1, 0, 1], [5, 2, 3, 5])
    np.testing.assert_array_equal(FunkSVD().fit(once).bias_U, FunkSVD().fit(twice).bias_U)


def test_same_seed_same_bits_another_seed_another_model():
    train, _ = rated()
    first, second, third = (FunkSVD(epochs=5, seed=seed).fit(train) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.user_emb_UD, second.user_emb_UD)
    assert (first.user_emb_UD != third.user_emb_UD).any()


def test_what_makes_no_sense():
    train, _ = rated()
    model = FunkSVD(epochs=1).fit(train)
    with pytest.raises(ValueError, match="two lists of the same length"):
        model.predict([0, 1], [0])
    with pytest.raises(ValueError, match="user row 80 is outside the 80 users"):
        model.predict([80], [0])
    with pytest.raises(ValueError, match="item row 50 is outside"):
        model.predict([0], [50])
    with pytest.raises(ValueError, match="learning_rate must be a finite number above 0, got 0"):
        FunkSVD(learning_rate=0)
    with pytest.raises(ValueError, match="regularization must be a finite number at least 0, got -1"):
        FunkSVD(regularization=-1)
    with pytest.raises(ValueError, match="training diverged.*learning_rate below 0.005"):
        FunkSVD().fit(train.with_weights(train.weights_N * 1000))
