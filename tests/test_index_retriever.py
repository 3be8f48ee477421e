"""A model's lists from an index of its vectors are the model's own."""

import copy
import inspect
import sys

import numpy as np
import pytest

from recsys_dl import evaluate
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.models import ALS, BPR, SVD, FunkSVD, ItemKNN, Popularity
from recsys_dl.protocols import Recommender
from recsys_dl.retrieval import HNSW, IVF, IVFPQ, Exact, Flat, Retriever

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
        with pytest.raises(ValueError, match=words + r".*\.build\(\), again after each fit or fine_tune"):
            Retriever(model, Exact(device="cpu").build(other)).recommend([3], 5)
    with pytest.raises(ValueError, match="holds nothing yet"):
        Retriever(model, Exact()).recommend([3], 5)
    saved = Retriever(model, Exact(measure="cosine", device="cpu").build(vectors_ID))
    assert saved.recommend([3], 5).items_BK.shape == (1, 5)


def test_an_index_is_out_of_date_once_the_model_learned_on():
    model = BPR(embedding_size=8, epochs=5, device="cpu").fit(log())
    retriever = Retriever(model, Exact(device="cpu")).build()
    retriever.recommend([3], 5)
    model.fine_tune(log(), epochs=2)
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


def large() -> Interactions:
    """Of 1500 items, more than FAISS is passed over for; nothing is known of user 99."""
    rng = np.random.default_rng(1)
    lists = [rng.choice(1400, rng.integers(5, 15), replace=False) for _ in range(99)]
    return Interactions.from_histories([*map(list, lists), []], num_items=1500)


def fresh(index: str, **arguments) -> Retriever:
    kinds = {"hnsw": HNSW, "ivf": IVF, "flat": Flat, "ivf_pq": IVFPQ, "exact": Exact}
    return Retriever(ALS(embedding_size=8, epochs=3, device="cpu"), kinds[index](**arguments))


@pytest.mark.parametrize("index", ["hnsw", "ivf", "flat", "ivf_pq", "exact"])
def test_fitted_as_one_it_answers_much_as_the_model(index):
    train = large()
    retriever = fresh(index)
    assert retriever.fit(train) is retriever
    assert isinstance(retriever, Recommender)
    users = np.arange(100)
    mine, its = (one.recommend(users, 10, exclude=train) for one in (retriever, retriever.model))
    shared = [len({*a} & {*b}) for a, b in zip(mine.items_BK, its.items_BK, strict=True)]
    assert np.mean(shared) >= (9.9 if index in ("flat", "exact") else 8)  # near ties
    assert (mine.items_BK[99] == its.items_BK[99]).all()  # by popularity
    state = retriever.fold_in(Interactions([0, 0, 2], [1, 5, 7], num_users=3, num_items=1500))
    asked = retriever.recommend(state, 10, exclude=Interactions([0, 1], [3, 4], num_users=3, num_items=1500))
    assert 4 not in asked.items_BK[1]
    assert (asked.items_BK >= 0).all()
    full = retriever.recommend([0], 1500, exclude=train).items_BK[0]
    assert len({*full[full >= 0]}) == 1500 - int(train.user_counts_U[0])  # padded only where nothing is left


@pytest.mark.parametrize("index", ["hnsw", "ivf", "flat", "ivf_pq", "exact"])
def test_copied_saved_and_loaded(index, tmp_path):
    retriever = fresh(index).fit(large())
    before = retriever.recommend(np.arange(100), 7)
    retriever.save(tmp_path / "saved")
    for twin in (copy.deepcopy(retriever), Retriever.load(tmp_path / "saved")):
        np.testing.assert_array_equal(twin.recommend(np.arange(100), 7).items_BK, before.items_BK)
        twin.fit(Interactions([0, 1, 2] * 200, np.arange(600) % 300, num_items=300))
        assert twin.num_items == twin.index.num_items == 300
    np.testing.assert_array_equal(retriever.recommend(np.arange(100), 7).items_BK, before.items_BK)
    with pytest.raises(FileExistsError, match="exists already"):
        retriever.save(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["config.yaml", "index", "model"]


def test_learning_on_rebuilds_the_index():
    retriever = fresh("hnsw").fit(large())
    assert list(inspect.signature(retriever.fine_tune).parameters) == ["new", "epochs"]
    assert (
        retriever.fine_tune(Interactions([100, 100], [1500, 3], num_users=101, num_items=1501), epochs=1) is retriever
    )
    assert retriever.index.num_items == 1501
    retriever.recommend([100], 5)
    funk = Retriever(FunkSVD(embedding_size=4, epochs=2), Exact(device="cpu")).fit(log())
    assert not hasattr(funk, "fine_tune")
    assert funk.predict([0], [1]).shape == (1,)


def test_what_fails_leaves_model_and_index_as_they_were(monkeypatch):
    retriever = fresh("ivf").fit(large())
    before = retriever.recommend(np.arange(100), 5)

    def broken(self, emb_ID):
        raise RuntimeError("no memory")

    monkeypatch.setattr(IVF, "_build", broken)
    for learn in (lambda: retriever.fit(log()), lambda: retriever.fine_tune(large())):
        with pytest.raises(RuntimeError, match="no memory"):
            learn()
    np.testing.assert_array_equal(retriever.recommend(np.arange(100), 5).items_BK, before.items_BK)


def test_what_cannot_be_served_is_refused_before_a_fit(monkeypatch):
    monkeypatch.setattr(ALS, "fit", lambda self, train: pytest.fail("it was fitted"))
    with pytest.raises(ValueError, match="num_lists must be at most the 1,500 vectors there are, got 2000"):
        fresh("ivf", num_lists=2000).fit(large())
    with pytest.raises(ValueError, match="ivf_pq learns 256 codes and needs as many vectors, got 45"):
        fresh("ivf_pq").fit(log())
    with pytest.raises(ValueError, match="ALS is fitted without trainer"):
        fresh("exact").fit(log(), trainer=object())
    with pytest.raises(TypeError, match="expected a Dataset or Interactions"):
        fresh("exact").fit([[1, 2]])
    for model in (ItemKNN(), Popularity()):
        with pytest.raises(ValueError, match="are not inner products of vectors"):
            Retriever(model, HNSW())
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"pip install 'recsys_dl\[cpu\]'"):
        fresh("hnsw").fit(log())


def test_someone_unknown_is_not_offered_what_was_removed():
    train = large()
    retriever = fresh("flat").fit(train)
    best = retriever.recommend([99], 3).items_BK[0]
    retriever.index.remove(best)
    for users in ([99], retriever.fold_in([[]])):
        for allow in (None, [*best.tolist(), 0, 1], Interactions([99, 0], best[:2], num_users=100, num_items=1500)):
            assert not {*best} & {*retriever.recommend(users, 5, allow=allow).items_BK[0]}


def test_an_evaluation_says_what_the_index_loses():
    train = large()
    test = Interactions(np.arange(99), np.arange(99) + 1, num_users=100, num_items=1500)
    exact = fresh("exact").fit(train)
    short = Retriever(exact.model, HNSW(num_links=4, ef_construction=4, ef_search=1)).build()
    whole = evaluate(exact, train, test, 10)
    *others, note = evaluate(short, train, test, 10).notes
    assert tuple(others) == whole.notes
    assert whole.values == evaluate(exact.model, train, test, 10).values
    mine, its = (one.recommend(np.arange(99), 11, exclude=train).items_BK[:, :10] for one in (short, exact))
    share = np.mean([len({*a} & {*b}) / 10 for a, b in zip(mine, its, strict=True)])
    assert share < 1
    assert f"(asked for 11 at once): {share:.2%} of exact search's first 10 are among its first 10" in note
    turned = Retriever(exact.model, Exact(measure="cosine", device="cpu")).build()
    assert "lists are found by Exact" in evaluate(turned, train, test, 10).notes[-1]
