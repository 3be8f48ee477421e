"""SVD++ takes the steps of Koren's equation 15, and learns from which items were rated."""

import numpy as np
import pytest
from test_funk_svd import rated, rmse

from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.rating_sgd import svdpp_epoch
from recsys_dl.models import FunkSVD, SVDpp


@pytest.mark.parametrize("size", [1, 16, 127, 128, 129])
def test_an_epoch_is_the_sequence_of_steps(size):
    """The reference changes every y_j at every rating, which the kernel must equal without doing so."""
    rng = np.random.default_rng(size)
    counts = np.array([3, 0, 11, 1, 6])
    starts = np.concatenate([[0], np.cumsum(counts)])
    items = np.concatenate([rng.permutation(11)[:count] for count in counts])
    ratings = rng.uniform(1, 5, len(items))
    order = rng.permutation(5)
    arrays = [rng.normal(0, 0.1, shape) for shape in [(5,), (11,), (5, size), (11, size), (11, size)]]
    ours = [array.astype(np.float32) for array in arrays]
    rate, penalty, bias_penalty, mean = 0.03, 0.1, 0.05, 3.1
    error = svdpp_epoch(
        order,
        starts,
        items.astype(np.int32),
        ratings.astype(np.float32),
        mean,
        *ours,
        learning_rate=rate,
        regularization=penalty,
        bias_regularization=bias_penalty,
    )
    bias_U, bias_I, p_UD, q_ID, y_ID = arrays
    squares = 0.0
    for u in order:
        mine = items[starts[u] : starts[u + 1]]
        for n in range(starts[u], starts[u + 1]):
            i = items[n]
            q_D = q_ID[i].copy()
            whole_D = p_UD[u] + y_ID[mine].sum(axis=0) / np.sqrt(len(mine))
            e = ratings[n] - (mean + bias_U[u] + bias_I[i] + q_D @ whole_D)
            squares += e * e
            bias_U[u] += rate * (e - bias_penalty * bias_U[u])
            bias_I[i] += rate * (e - bias_penalty * bias_I[i])
            p_UD[u] += rate * (e * q_D - penalty * p_UD[u])
            q_ID[i] += rate * (e * whole_D - penalty * q_D)
            y_ID[mine] += rate * (e * q_D / np.sqrt(len(mine)) - penalty * y_ID[mine])
    for array, reference in zip(ours, arrays, strict=True):
        np.testing.assert_allclose(array, reference, atol=1e-5)  # float32 over 21 dependent steps on numbers near 1
    assert error == pytest.approx(squares / len(items), rel=1e-4)


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
