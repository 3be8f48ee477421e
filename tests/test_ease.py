"""EASE is the closed form of its paper, from the items' side and from the users'."""

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.profile_encoder import ProfileEncoder
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.models import EASE, ease


def log(num_users: int, num_items: int) -> Interactions:
    """Ratings with a user who has nothing, one who has all but the last item, and an item that nobody has."""
    rng = np.random.default_rng(0)
    ratings_UI = rng.integers(1, 6, (num_users, num_items)) * (rng.random((num_users, num_items)) < 0.3)
    ratings_UI[0] = 0
    ratings_UI[1] = 3
    ratings_UI[:, -1] = 0
    return Interactions.from_csr(sp.csr_matrix(ratings_UI))


def reference(train: Interactions, regularization: float) -> np.ndarray:
    matrix_UI = train.by_user.toarray().astype(np.float64)
    penalty = regularization * np.mean(matrix_UI[matrix_UI > 0] ** 2)
    inverse_II = np.linalg.inv(matrix_UI.T @ matrix_UI + penalty * np.eye(train.num_items))
    weights_II = -inverse_II / np.diag(inverse_II)
    np.fill_diagonal(weights_II, 0)
    return weights_II


@pytest.mark.parametrize("shape", [(200, 129), (129, 129), (128, 129), (40, 200), (5, 127), (127, 5), (3, 1), (1, 3)])
@pytest.mark.parametrize("regularization", [1.0, 300.0])
def test_weights_are_those_of_a_float64_inverse(shape, regularization, monkeypatch):
    monkeypatch.setattr(ease, "BLOCK", 50)  # several blocks, the last one short
    train = log(*shape) if min(shape) > 1 else Interactions.from_csr(sp.csr_matrix(np.ones(shape)))
    model = EASE(regularization=regularization, device="cpu").fit(train)
    # float32 Cholesky: at worst 1e-7 times the condition number, which is 1,300 over the regularization.
    np.testing.assert_allclose(model.weights_II, reference(train, regularization), atol=1e-4 / regularization + 1e-6)
    assert (model.weights_II.diagonal() == 0).all()


def test_users_side_and_items_side_agree_and_minimise_the_objective():
    train = log(50, 60)
    wide = EASE(regularization=20.0, device="cpu").fit(train).weights_II
    idle = Interactions(train.users_N, train.items_N, train.weights_N, num_users=70, num_items=60)
    tall = EASE(regularization=20.0, device="cpu").fit(idle).weights_II  # idle users change nothing but the side
    np.testing.assert_allclose(wide, tall, atol=1e-5)  # float32
    matrix_UI = train.by_user.toarray().astype(np.float64)
    penalty = 20 * np.mean(matrix_UI[matrix_UI > 0] ** 2)
    gradient_II = matrix_UI.T @ (matrix_UI @ wide - matrix_UI) + penalty * wide
    np.fill_diagonal(gradient_II, 0)  # the diagonal is held at zero
    assert np.abs(gradient_II).max() < 1e-2  # terms of the sum are up to 700


def test_larger_weights_change_nothing():
    train = log(50, 60)
    twice = train.with_weights(train.weights_N * 2)
    np.testing.assert_allclose(
        EASE(device="cpu").fit(train).weights_II, EASE(device="cpu").fit(twice).weights_II, atol=1e-6
    )


def test_scores_fold_in_and_similar_items():
    train = log(50, 60)
    model = EASE(regularization=20.0, device="cpu").fit(train)
    scores_UI = train.by_user.toarray() @ model.weights_II
    rows = np.arange(1, 50)
    everything = np.tile(np.arange(60), (49, 1))
    np.testing.assert_allclose(model.score(rows, everything), scores_UI[1:], atol=1e-4)
    folded = model.fold_in(train.of_users(rows))
    np.testing.assert_array_equal(model.recommend(folded, 5).items_BK, model.recommend(rows, 5).items_BK)
    near = model.similar_items([7, 59], 3)
    np.testing.assert_array_equal(near.items_BK[0], np.argsort(-model.weights_II[7], kind="stable")[:3])
    assert (near.items_BK[1] == -1).all()  # nobody had it


def test_too_many_items_are_refused_before_anything_is_allocated():
    train = Interactions([0, 1], [0, 2_000_000 - 1])
    with pytest.raises(
        MemoryError, match=r"2,000,000 items needs 16,000,000,000,016 bytes of memory, and [\d,]+ are free"
    ):
        EASE(device="cpu").fit(train)


def test_what_makes_no_sense():
    with pytest.raises(ValueError, match="regularization must be a finite number above 0, got 0"):
        EASE(regularization=0)
    with pytest.raises(ValueError, match="regularization must be larger"):
        EASE(regularization=1e-12, device="cpu").fit(Interactions([0, 0], [0, 1], [100, 100], num_users=2))
    with pytest.raises(ValueError, match="all weights are 0"):
        EASE(device="cpu").fit(Interactions([0, 1], [0, 1], [0, 0]))


def test_a_second_fit_forgets_which_items_the_first_knew_about():
    """Which items influence scores is found once per fit, not once per request."""
    alone = Interactions([0, 1, 1], [0, 1, 2], num_users=2, num_items=3)  # item 0 occurs alone
    joined = Interactions([0, 0, 1, 1], [0, 1, 1, 2], num_users=2, num_items=3)
    model = EASE(regularization=1, device="cpu").fit(alone)
    assert model.user_sources(model.fold_in([[0]])).tolist() == ["popularity"]
    assert model.fit(joined).user_sources(model.fold_in([[0]])).tolist() == ["history"]


def described(train: Interactions) -> Dataset:
    """The log, with tags of most of its items; nothing is known of the first."""
    rng = np.random.default_rng(1)
    tags = [
        [] if item == 0 else [f"t{tag}" for tag in rng.choice(6, 2, replace=False)] for item in range(train.num_items)
    ]
    users, items = (Vocabulary(np.arange(size).tolist()) for size in (train.num_users, train.num_items))
    return Dataset(train, users, items, item_features=pl.DataFrame({"tags": tags}))


@pytest.mark.parametrize("shape", [(200, 60), (40, 120)])
def test_content_is_rows_of_terms(shape):
    data = described(log(*shape))
    model = EASE(regularization=20.0, content_weight=50.0, device="cpu").fit(data)
    profiles = ProfileEncoder().fit(data.item_features).transform(data.item_features).terms_RT.toarray()
    matrix_UI = data.interactions.by_user.toarray().astype(np.float64)
    mean_square = np.mean(matrix_UI[matrix_UI > 0] ** 2)
    gram_II = matrix_UI.T @ matrix_UI + mean_square * (50 * profiles @ profiles.T + 20 * np.eye(shape[1]))
    inverse_II = np.linalg.inv(gram_II)
    wanted_II = -inverse_II / np.diag(inverse_II)
    np.fill_diagonal(wanted_II, 0)
    np.testing.assert_allclose(model.weights_II, wanted_II, atol=1e-5)
    assert model.item_sources()[[0, 1, -1]].tolist() == ["interactions", "interactions", "features"]
    assert EASE(device="cpu").fit(data).item_sources()[-1] == "nothing"


def test_items_without_users_are_ranked_by_content_and_kept_on_disk(tmp_path):
    train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 2, 3, 0, 2], num_users=5, num_items=6)
    tags = [["war"], ["war"], ["love"], ["love"], ["war"], ["love"]]
    ids = [Vocabulary(np.arange(size).tolist()) for size in (5, 6)]
    data = Dataset(train, *ids, item_features=pl.DataFrame({"tags": tags}))
    model = EASE(regularization=1, content_weight=5, device="cpu").fit(data)
    assert model.recommend([2, 3], 1, allow=[4, 5]).items_BK.tolist() == [[4], [5]]
    assert model.recommend(model.fold_in([[4], [5]]), 1, allow=[1, 3]).items_BK.tolist() == [[1], [3]]
    model.save(tmp_path / "ease")
    again = EASE.load(tmp_path / "ease")
    np.testing.assert_array_equal(again.recommend([2, 3], 6).items_BK, model.recommend([2, 3], 6).items_BK)
    assert again.item_sources().tolist() == model.item_sources().tolist()


def test_content_weight_needs_content():
    with pytest.raises(ValueError, match="item features or texts are needed"):
        EASE(content_weight=1, device="cpu").fit(log(20, 10))
    with pytest.raises(ValueError, match="content_weight"):
        EASE(content_weight=-1)


def test_grown_items_have_the_weights_of_a_fit_with_them(tmp_path):
    everything = described(log(60, 40))
    few = everything.interactions.select(everything.interactions.items_N < 34)
    few = Interactions(few.users_N, few.items_N, few.weights_N, num_users=60, num_items=34)
    first = Dataset(
        few, everything.users, Vocabulary(everything.items.ids[:34]), item_features=everything.item_features[:34]
    )
    model = EASE(regularization=20.0, content_weight=50.0, device="cpu").fit(first)
    before = model.weights_II.copy()
    for some in (slice(34, 37), slice(37, 40)):
        nobody = Interactions([], [], num_users=60, num_items=3)
        model.grow(
            Dataset(
                nobody,
                everything.users,
                Vocabulary(everything.items.ids[some]),
                item_features=everything.item_features[some],
            )
        )
    assert (model.num_items, model.weights_II.shape, model.histories.shape) == (40, (40, 40), (60, 40))
    np.testing.assert_array_equal(model.weights_II[:34, :34], before)
    profiles = model.profiles_IT.toarray().astype(np.float64)
    matrix_UI = few.by_user.toarray().astype(np.float64)
    mean_square = np.mean(matrix_UI[matrix_UI > 0] ** 2)
    wide_UI = np.pad(matrix_UI, ((0, 0), (0, 6)))
    gram_II = wide_UI.T @ wide_UI + mean_square * (50 * profiles @ profiles.T + 20 * np.eye(40))
    inverse_II = np.linalg.inv(gram_II)
    wanted_II = -inverse_II / np.diag(inverse_II)
    np.fill_diagonal(wanted_II, 0)
    np.testing.assert_allclose(model.weights_II[:, 34:], wanted_II[:, 34:], atol=2e-5)
    np.testing.assert_allclose(model.weights_II[34:], wanted_II[34:], atol=2e-5)
    assert (model.item_sources()[34:] == "features").all()
    model.save(tmp_path / "ease")
    again = EASE.load(tmp_path / "ease")
    np.testing.assert_array_equal(
        again.recommend(np.arange(9), 40).items_BK, model.recommend(np.arange(9), 40).items_BK
    )
    more = Dataset(
        Interactions([], [], num_users=60, num_items=1),
        everything.users,
        Vocabulary(["new"]),
        item_features=everything.item_features[:1],
    )
    assert again.grow(more).num_items == 41
    with pytest.raises(ValueError, match="content_weight above 0"):
        EASE(device="cpu").fit(first).grow(more)
    with pytest.raises(ValueError, match="learns from no interaction"):
        again.grow(first)
    assert again.num_items == 41
