"""A model's lists from an index of its vectors are the model's own."""

import numpy as np
import pytest

from recsys_dl.data.interactions import Interactions
from recsys_dl.models import ALS, BPR, SVD, FunkSVD, ItemKNN
from recsys_dl.retrieval import IVF, Exact, Retriever

MODELS = {
    "als": lambda: ALS(embedding_size=8, epochs=3, device="cpu"),
    "bpr": lambda: BPR(embedding_size=8, epochs=5, device="cpu"),
    "svd": lambda: SVD(embedding_size=8, device="cpu"),
    "funk_svd": lambda: FunkSVD(embedding_size=8, epochs=3),
}


def log() -> Interactions:
    """Users 0 to 58; nothing is known of 59."""
    rng = np.random.default_rng(0)
    lists = [rng.choice(40, rng.integers(2, 12), replace=False) for _ in range(59)]
    users = np.repeat(np.arange(59), [len(items) for items in lists])
    items = np.concatenate(lists)
    return Interactions(users, items, rng.integers(1, 6, len(items)), num_users=60, num_items=45)


@pytest.fixture(scope="module", params=list(MODELS))
def model(request):
    return MODELS[request.param]().fit(log())


def test_inner_products_of_the_vectors_are_the_scores(model):
    users = np.arange(59)
    query_BD, otherwise_B = model.query_vectors(users)
    assert not otherwise_B.any()
    products_BI = query_BD @ model.item_vectors().T
    scores_BI = model.score(users, np.tile(np.arange(45), (59, 1)))
    np.testing.assert_allclose(products_BI, scores_BI, rtol=1e-4, atol=1e-5)


def test_the_index_answers_as_the_model(model):
    retriever = Retriever(model, Exact(device="cpu")).build()
    users = np.array([3, 59, 0, 58])
    for arguments in ({}, {"exclude": log()}, {"exclude": log(), "allow": np.arange(0, 45, 3)}):
        mine, its = retriever.recommend(users, 6, **arguments), model.recommend(users, 6, **arguments)
        np.testing.assert_array_equal(mine.items_BK, its.items_BK)
        np.testing.assert_allclose(mine.scores_BK, its.scores_BK, rtol=1e-4, atol=1e-5)
    histories = Interactions([0, 0, 2], [1, 5, 7], [5, 4, 5], num_users=3, num_items=45)
    state = retriever.fold_in(histories)
    mine, its = (one.recommend(state, 6, exclude=histories) for one in (retriever, model))
    np.testing.assert_array_equal(mine.items_BK, its.items_BK)


def test_the_index_may_grow_and_shrink_beside_the_model(model):
    retriever = Retriever(model, IVF(num_lists=2, num_probes=2)).build()
    best = retriever.recommend([3], 1).items_BK[0]
    retriever.index.remove(best)
    assert best[0] not in retriever.recommend([3], 44).items_BK


def test_a_model_without_vectors():
    model = ItemKNN(device="cpu").fit(log())
    assert model.item_vectors() is None
    with pytest.raises(ValueError, match="scores of ItemKNN are no inner products"):
        Retriever(model, Exact()).build()
    with pytest.raises(ValueError, match="scores of ItemKNN are no inner products"):
        model.query_vectors([0])
    with pytest.raises(ValueError, match="has not been fitted"):
        ALS().item_vectors()
