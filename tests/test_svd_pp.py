"""SVD++ learns from which items were rated; test_kernel_rating_sgd.py has its steps."""

import numpy as np
import pytest
from test_funk_svd import rated, rmse

from recsys_dl.data.interactions import Interactions
from recsys_dl.models import FunkSVD, SVDpp


def test_the_error_falls():
    train, held = rated()
    errors = [
        rmse(SVDpp(embedding_size=8, epochs=epochs, learning_rate=0.02).fit(train), train) for epochs in (1, 10, 60)
    ]
    assert errors[0] > errors[1] > errors[2]
    plain = SVDpp(embedding_size=8, epochs=60, learning_rate=0.02, regularization=10.0).fit(train)
    assert rmse(SVDpp(embedding_size=8, epochs=60, learning_rate=0.02).fit(train), held) < 0.6 * rmse(plain, held)


def test_it_learns_from_what_was_rated_where_ratings_say_little():
    """Users rate the items of their own half, but what they say of them is noise; all like the other half by half."""
    rng = np.random.default_rng(0)
    users, items, ratings = [], [], []
    for user in range(200):
        half = user % 2
        chosen = np.append(rng.choice(np.arange(half * 20, half * 20 + 20), 6, replace=False), rng.choice([40, 41]))
        users += [user] * 7
        items += chosen.tolist()
        ratings += [*rng.uniform(2, 4, 6), 5.0 if (chosen[-1] == 40) == (half == 0) else 1.0]
    train = Interactions(users, items, ratings, num_items=42)
    asked = np.array([40 if 41 in items[7 * u : 7 * u + 7] else 41 for u in range(200)])
    truth = np.where((asked == 40) == (np.arange(200) % 2 == 0), 5.0, 1.0)

    def error(model: FunkSVD) -> float:
        return float(np.sqrt(np.mean((model.fit(train).predict(np.arange(200), asked) - truth) ** 2)))

    settings = {"embedding_size": 8, "epochs": 100, "learning_rate": 0.02, "regularization": 0.02}
    assert error(SVDpp(**settings)) < 0.7 * error(FunkSVD(**settings))


def test_fold_in_rates_as_the_trained_user():
    train, held = rated()
    model = SVDpp(embedding_size=8, epochs=100, learning_rate=0.02, regularization=0.02).fit(train)
    state = model.fold_in(train.of_users(np.arange(80)))
    everything = np.tile(np.arange(50), (80, 1))
    apart = model.score(state, everything) - model.score(np.arange(80), everything)
    # The descent is near its minimum, not at it; the planted ratings spread by 1.1.
    assert np.sqrt(np.mean(apart**2)) < 0.1
    folded = np.clip(model.score(state, everything)[held.users_N, held.items_N], 1, 5)
    assert np.sqrt(np.mean((folded - held.weights_N) ** 2)) < 1.1 * rmse(model, held)


def test_who_and_what_was_never_rated():
    train, _ = rated()
    wider = Interactions(train.users_N, train.items_N, train.weights_N, num_users=81, num_items=51)
    model = SVDpp(epochs=10).fit(wider)
    assert model.predict([80], [4]) == pytest.approx(model.mean + model.bias_I[4])
    assert model.predict([4], [50]) == pytest.approx(model.mean + model.bias_U[4])
    np.testing.assert_array_equal(
        model.recommend(model.fold_in([[]]), k=5).items_BK, model.recommend([80], k=5).items_BK
    )


def test_same_seed_same_bits():
    train, _ = rated()
    first, second = (SVDpp(epochs=5).fit(train) for _ in range(2))
    np.testing.assert_array_equal(first.implicit_emb_ID, second.implicit_emb_ID)
