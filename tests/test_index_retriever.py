"""A model's lists from an index of its vectors are the model's own."""

import numpy as np
import pytest

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
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
    query_BD = model.query_vectors(users)
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
    with pytest.raises(ValueError, match="scores of ItemKNN are not inner products"):
        Retriever(model, Exact()).build()
    with pytest.raises(ValueError, match="scores of ItemKNN are not inner products"):
        model.query_vectors([0])
    with pytest.raises(ValueError, match="has not been fitted"):
        ALS().item_vectors()


def named(interactions: Interactions, *, reverse: bool = False) -> Dataset:
    order = -1 if reverse else 1
    users, items = ([f"{noun}{row}" for row in range(size)][::order] for noun, size in (("u", 60), ("i", 45)))
    return Dataset(interactions, Vocabulary(users), Vocabulary(items))


def test_a_dataset_numbered_otherwise_is_refused_as_by_the_model():
    model = ALS(embedding_size=8, epochs=2, device="cpu").fit(named(log()))
    retriever = Retriever(model, Exact(device="cpu")).build()
    assert retriever.recommend([3], 5, exclude=named(log())).items_BK.shape == (1, 5)
    for argument in ("exclude", "allow"):
        for one in (retriever, model):
            with pytest.raises(ValueError, match="numbers its users differently"):
                one.recommend([3], 5, **{argument: named(log(), reverse=True)})


def test_an_index_of_other_vectors_is_refused(model):
    vectors_ID = model.item_vectors()
    rng = np.random.default_rng(0)
    for other, words in (
        (vectors_ID[:40], "must hold the vectors of this model's 45 items"),
        (np.pad(vectors_ID, ((0, 0), (0, 1))), r"\d+ numbers each, got 45 of \d+"),
        (rng.standard_normal(vectors_ID.shape), "holds other vectors than this model's"),
    ):
        with pytest.raises(ValueError, match=words + r".*\.build\(\), again after each fit or partial_fit"):
            Retriever(model, Exact(device="cpu").build(other)).recommend([3], 5)
    with pytest.raises(ValueError, match="holds nothing yet"):
        Retriever(model, Exact()).recommend([3], 5)
    saved = Retriever(model, Exact(measure="cosine", device="cpu").build(vectors_ID))
    assert saved.recommend([3], 5).items_BK.shape == (1, 5)


def test_an_index_is_out_of_date_once_the_model_learned_on():
    model = BPR(embedding_size=8, epochs=5, device="cpu").fit(log())
    retriever = Retriever(model, Exact(device="cpu")).build()
    retriever.recommend([3], 5)
    model.partial_fit(log(), epochs=2)
    with pytest.raises(ValueError, match="other vectors than this model's, of another fit"):
        retriever.recommend([3], 5)
    ranking = retriever.build().recommend([3], 5)
    np.testing.assert_array_equal(ranking.items_BK, model.recommend([3], 5).items_BK)


def test_the_lines_that_anyone_would_write(model):
    index = Exact(device="cpu").build(model.item_vectors())
    found = index.search(model.query_vectors([3, 0]), k=5)
    np.testing.assert_array_equal(found.items_BK, model.recommend([3, 0], 5).items_BK)
    if model.popularity_fallback:
        with pytest.raises(
            ValueError,
            match=r"users without interactions have no vector.* position 1: leave them out, or use Retriever",
        ):
            model.query_vectors([3, 59])


def test_a_state_is_taken_by_the_model_that_made_it():
    one, two = (ALS(embedding_size=8, epochs=2, seed=seed, device="cpu").fit(log()) for seed in (1, 2))
    state = one.fold_in([[1, 2, 3]])
    assert one.recommend(state, 3).items_BK.shape == (1, 3)
    for answer in (lambda: two.recommend(state, 3), lambda: two.score(state, [[1]]), lambda: two.query_vectors(state)):
        with pytest.raises(ValueError, match=r"created by another model \(ALS\): call fold_in"):
            answer()
