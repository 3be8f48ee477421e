"""SVD is the truncated singular value decomposition, whichever way it is computed."""

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_dl.data.interactions import Interactions
from recsys_dl.models import SVD


def log(num_users: int, num_items: int, seed: int = 0) -> Interactions:
    """Ratings with a user who has nothing, one who has all but the last item, and an item that nobody has."""
    rng = np.random.default_rng(seed)
    ratings_UI = rng.integers(1, 6, (num_users, num_items)) * (rng.random((num_users, num_items)) < 0.3)
    ratings_UI[0] = 0
    ratings_UI[1] = 3
    ratings_UI[:, -1] = 0
    return Interactions.from_csr(sp.csr_matrix(ratings_UI))


def dense_scores(train: Interactions, size: int, item_exponent: float) -> tuple[np.ndarray, np.ndarray]:
    matrix_UI = train.by_user.toarray().astype(np.float64)
    norms_I = np.linalg.norm(matrix_UI, axis=0)
    scale_I = np.where(norms_I > 0, np.where(norms_I > 0, norms_I, 1) ** (item_exponent - 1), 0)
    _, values, rows = np.linalg.svd(matrix_UI * scale_I, full_matrices=False)
    return values[:size], matrix_UI @ rows[:size].T @ rows[:size]


@pytest.mark.parametrize("shape", [(60, 45), (45, 60), (129, 128), (128, 200)])  # decomposed whole; by iteration
@pytest.mark.parametrize("item_exponent", [1.0, 0.8])
def test_scores_are_those_of_the_dense_decomposition(shape, item_exponent):
    train = log(*shape)
    model = SVD(embedding_size=8, item_exponent=item_exponent).fit(train)
    values_D, scores_UI = dense_scores(train, 8, item_exponent)
    np.testing.assert_allclose(model.singular_values_D, values_D, rtol=1e-5)  # float64 inside, kept as float32
    rows = np.arange(shape[0])
    everything = np.tile(np.arange(shape[1]), (shape[0], 1))
    got = model.score(rows, everything)[1:]  # user 0 has nothing and gets the popular items
    np.testing.assert_allclose(got, scores_UI[1:], atol=1e-4)  # float32 dot products of scores up to 6
    np.testing.assert_allclose(model.item_emb_ID.T @ model.item_emb_ID, np.eye(8), atol=1e-5)
    assert (np.take_along_axis(model.item_emb_ID, np.abs(model.item_emb_ID).argmax(axis=0)[None], axis=0) > 0).all()


@pytest.mark.parametrize("shape", [(90, 70), (190, 170)])
def test_the_same_at_every_fit(shape):
    first, second = (SVD(embedding_size=8).fit(log(*shape)) for _ in range(2))
    np.testing.assert_array_equal(first.item_emb_ID, second.item_emb_ID)


def test_fold_in_is_the_row_of_the_same_history():
    train = log(60, 45)
    model = SVD(embedding_size=8).fit(train)
    rows = np.arange(1, 60)
    state = model.fold_in(train.of_users(rows))
    np.testing.assert_allclose(state.values, model.user_emb_UD[rows], atol=1e-5)  # float32 products of float64 vectors


def test_no_more_vectors_than_the_rank_or_a_quarter_of_the_items():
    two_tastes = np.zeros((40, 40))
    two_tastes[:20, :20] = 1
    two_tastes[20:, 20:] = 1
    train = Interactions.from_csr(sp.csr_matrix(two_tastes))
    model = SVD(embedding_size=50, item_exponent=1.0).fit(train)
    assert model.item_emb_ID.shape == (40, 2)
    np.testing.assert_allclose(model.singular_values_D, [20, 20], rtol=1e-6)
    assert SVD(embedding_size=50).fit(log(90, 40)).item_emb_ID.shape == (40, 10)


def test_similar_items_are_by_cosine():
    train = log(60, 45)
    model = SVD(embedding_size=8).fit(train)
    scaled = model.item_emb_ID.astype(np.float64) * model.singular_values_D
    cosines = scaled[4] @ scaled.T / np.linalg.norm(scaled, axis=1).clip(1e-12) / np.linalg.norm(scaled[4])
    near = model.similar_items([4], 3)
    best = np.argsort(-np.where(np.arange(45) == 4, -2, cosines))[:3]
    np.testing.assert_array_equal(near.items_BK[0], best)
    np.testing.assert_allclose(near.scores_BK[0], cosines[best], atol=1e-5)
    assert (model.similar_items([44], 3).items_BK == -1).all()  # nobody had it


def test_what_makes_no_sense():
    with pytest.raises(ValueError, match="embedding_size must be a whole number of at least 1, got 0"):
        SVD(embedding_size=0)
    with pytest.raises(ValueError, match="an interaction with a weight above 0, but all weights are 0"):
        SVD().fit(Interactions([0, 1], [0, 1], [0, 0]))
