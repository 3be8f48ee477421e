"""What every index promises, against brute force: k results, filters, items that come and go."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.retrieval import HNSW, IVF, IVFPQ, Exact, Flat, faiss_index
from recsys_dl.retrieval.budget import recall
from recsys_dl.retrieval.index import Index

NUM_ITEMS, SIZE = 1200, 9
EXACT = {"exact", "flat", "blind", "all lists", "cosine"}


class Blind(Flat):
    """As FAISS is on a GPU: it cannot pass over items, and returns few at once."""

    filters = False
    longest = 40


KINDS = {
    "exact": lambda: Exact(device="cpu"),
    "cosine": lambda: Exact(measure="cosine", device="cpu"),
    "flat": Flat,
    "blind": Blind,
    "all lists": lambda: IVF(num_lists=20, num_probes=20),
    "ivf": lambda: IVF(num_lists=60, num_probes=1),
    "ivf_pq": lambda: IVFPQ(num_lists=20, num_probes=2, num_subvectors=4),
    "codes": lambda: IVFPQ(num_lists=20, num_probes=2, rescore=0),
    "hnsw": lambda: HNSW(num_links=8, ef_construction=20, ef_search=8),
}


def vectors(num_items: int = NUM_ITEMS, seed: int = 0) -> np.ndarray:
    """Whole numbers, so that sums are exact in float32 and ties are many; lengths are unlike, as popular items' are."""
    rng = np.random.default_rng(seed)
    directions = rng.integers(-3, 4, (num_items, SIZE))
    return (directions * rng.integers(1, 4, (num_items, 1))).astype(np.float32)


@pytest.fixture(scope="module", params=list(KINDS))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def stored(name):
    return KINDS[name]().build(vectors()).arrays()


@pytest.fixture(scope="module")
def built(name, stored):
    return revived(name, stored)


def revived(name, stored):
    index = KINDS[name]()
    index.restore({key: np.array(value) for key, value in stored.items()})
    return index


def held(name, index, items, emb):
    """Return the vectors that an index should score by, in float64: those given, or what their codes decode to."""
    if name == "codes":
        return index.vectors(items).astype(np.float64)
    emb = emb.astype(np.float64)
    return unit(emb) if name == "cosine" else emb


def unit(emb):
    return emb / np.maximum(np.linalg.norm(emb, axis=1, keepdims=True), 1e-30)


requests = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1000),
        "k": st.sampled_from([1, 3, 10, 50, 300, NUM_ITEMS]),
        "exclude": st.sampled_from([None, "every fourth", 5, 60, NUM_ITEMS]),
        "allow": st.sampled_from([None, "none", "few", "every fourth", "most", 3, 40, NUM_ITEMS]),
        "changes": st.integers(0, 3),
    }
)
SHARED = {
    "none": [],
    "few": range(7, NUM_ITEMS, 150),
    "every fourth": range(0, NUM_ITEMS, 4),
    "most": range(5, NUM_ITEMS),
}


def asked(kind, seed, num_queries):
    """Return a filter as the index takes it, and as a set for each query. A number draws lists of up to that length."""
    if kind is None:
        return None, [None] * num_queries
    if kind in SHARED:
        return np.array(SHARED[kind], np.int64), [set(SHARED[kind])] * num_queries
    rng = np.random.default_rng(seed)
    lists = [rng.choice(NUM_ITEMS, rng.integers(0, kind + 1), replace=False).tolist() for _ in range(num_queries)]
    return Interactions.from_histories(lists, num_items=NUM_ITEMS), [set(items) for items in lists]


@given(wanted=requests)
@settings(max_examples=40, deadline=None)
def test_k_of_the_permitted_whatever_is_asked(name, stored, wanted):
    index = revived(name, stored)
    rng = np.random.default_rng(wanted["seed"])
    rows = held(name, index, np.arange(NUM_ITEMS), vectors())
    present = np.ones(NUM_ITEMS, bool)
    for _ in range(wanted["changes"]):
        gone = rng.choice(np.flatnonzero(present), 150, replace=False)
        back, fresh = gone[:60], vectors(60, seed=int(rng.integers(1000)))
        index.remove(gone).add(fresh, back)
        present[gone[60:]] = False
        rows[back] = held(name, index, back, fresh)
    query_BD = rng.integers(-3, 4, (4, SIZE)).astype(np.float32)
    exclude, out = asked(wanted["exclude"], wanted["seed"], len(query_BD))
    allow, within = asked(wanted["allow"], wanted["seed"] + 1, len(query_BD))
    ranking = index.search(query_BD, wanted["k"], exclude=exclude, allow=allow)
    assert ranking.items_BK.shape == ranking.scores_BK.shape == (4, wanted["k"])
    assert (ranking.items_BK.dtype, ranking.scores_BK.dtype) == (np.int32, np.float32)
    assert len(index) == present.sum()
    queries = unit(query_BD.astype(np.float64)) if name == "cosine" else query_BD.astype(np.float64)
    for b, query in enumerate(queries):
        scores = rows @ query
        permitted = [
            item
            for item in np.flatnonzero(present).tolist()
            if item not in (out[b] or ()) and (within[b] is None or item in within[b])
        ]
        count = min(wanted["k"], len(permitted))
        assert (ranking.items_BK[b, count:] == -1).all()
        assert np.isneginf(ranking.scores_BK[b, count:]).all()
        items, found = ranking.items_BK[b, :count].tolist(), ranking.scores_BK[b, :count].tolist()
        assert len(set(items)) == count
        assert set(items) <= set(permitted)
        np.testing.assert_allclose(found, scores[items], rtol=1e-4, atol=1e-4)  # FAISS adds codes in another order
        assert sorted(zip((-score for score in found), items, strict=True)) == [
            (-score, item) for score, item in zip(found, items, strict=True)
        ]
        best = sorted(permitted, key=lambda item: (-scores[item], item))[:count]
        if name in EXACT:
            np.testing.assert_allclose(found, scores[best], rtol=1e-5, atol=1e-5)
        if name == "exact":
            assert items == best


def test_an_index_keeps_the_protocol(name, built):
    assert isinstance(built, Index)
    assert f"of {NUM_ITEMS:,} items" in repr(built)
    assert "not built" in repr(KINDS[name]())


def test_alone_as_in_a_batch(name, built):
    query_BD = np.random.default_rng(5).integers(-3, 4, (40, SIZE)).astype(np.float32)
    lists = Interactions.from_histories([range(b, b + 3 * b) for b in range(40)], num_items=NUM_ITEMS)
    together = built.search(query_BD, 7, exclude=lists)
    for b in range(0, 40, 7):
        alone = built.search(query_BD[b : b + 1], 7, exclude=lists.of_users([b]))
        np.testing.assert_allclose(alone.scores_BK[0], together.scores_BK[b], rtol=1e-5, atol=1e-5)
        if name == "exact":
            np.testing.assert_array_equal(alone.items_BK[0], together.items_BK[b])


def test_filters_in_every_form_say_the_same(name, built):
    query_BD = np.random.default_rng(6).integers(-3, 4, (3, SIZE)).astype(np.float32)
    items = np.arange(100, 400, dtype=np.int32)
    forms = [items, items.tolist(), items[::-1], ItemLists(np.zeros(3, np.int64), np.full(3, 300), items)]
    if name in EXACT:  # lists of each query's own go another way, and may be answered better
        forms.append(Interactions.from_histories([items] * 3, num_items=NUM_ITEMS))
    for argument in ("exclude", "allow"):
        first, *others = (built.search(query_BD, 5, **{argument: form}) for form in forms)
        for other in others:
            np.testing.assert_allclose(other.scores_BK, first.scores_BK, rtol=1e-5)


def test_no_query_is_no_answer(built):
    ranking = built.search(np.empty((0, SIZE), np.float32), 4)
    assert ranking.items_BK.shape == ranking.scores_BK.shape == (0, 4)


def test_added_at_the_end_or_far_beyond(name, stored):
    index = revived(name, stored)
    best = np.full((1, SIZE), 60, np.float32)
    index.add(best)
    index.add(2 * best, [NUM_ITEMS + 50])
    assert (index.num_items, len(index)) == (NUM_ITEMS + 51, NUM_ITEMS + 2)
    items = index.search(np.ones((1, SIZE), np.float32), 2).items_BK[0].tolist()
    assert sorted(items) == [NUM_ITEMS, NUM_ITEMS + 50]
    everything = index.search(np.ones((1, SIZE), np.float32), NUM_ITEMS + 51).items_BK[0]
    assert (everything >= 0).sum() == NUM_ITEMS + 2
    assert index.add(np.empty((0, SIZE))) is index
    assert index.remove([]) is index


def test_everything_removed(name, stored):
    index = revived(name, stored)
    index.remove(np.arange(NUM_ITEMS))
    assert len(index) == 0
    ranking = index.search(np.ones((2, SIZE), np.float32), 3)
    assert (ranking.items_BK == -1).all()
    index.add(np.ones((1, SIZE), np.float32), [4])
    assert index.search(np.ones((2, SIZE), np.float32), 3).items_BK[:, 0].tolist() == [4, 4]


def test_built_anew(stored):
    index = revived("flat", Flat().build(vectors()).arrays())
    index.remove([3])
    index.build(vectors(50))
    assert (index.num_items, len(index)) == (50, 50)


@pytest.mark.parametrize("name", ["ivf", "ivf_pq", "hnsw", "flat"], indirect=True)
def test_faiss_answers_what_it_can(name, built, monkeypatch):
    """Short lists with short filters come from FAISS: nothing is scored by brute force."""
    monkeypatch.setattr(faiss_index, "best_permitted", None)
    query_BD = vectors(30, seed=9)[:, ::-1].copy()
    lists = Interactions.from_histories([range(b) for b in range(30)], num_items=NUM_ITEMS)
    ranking = built.search(query_BD, 1, exclude=lists)
    assert (ranking.items_BK >= 0).all()
    assert (built.search(query_BD, 1, allow=np.arange(0, NUM_ITEMS, 2)).items_BK % 2 == 0).all()


def test_beyond_what_a_gpu_returns():
    emb_ID = np.random.default_rng(1).standard_normal((5000, 4)).astype(np.float32)
    query_BD = emb_ID[:2]
    best = np.argsort(-(query_BD @ emb_ID.T), axis=1, kind="stable")[:, :4000]
    for index in (Exact(device="cpu"), Flat(), Blind(), IVF(), HNSW(num_links=8, ef_construction=16)):
        found = index.build(emb_ID).search(query_BD, 4000)
        assert recall(found.items_BK, best) > 0.9995, index  # rounding may exchange the last


def test_more_effort_finds_more():
    rng = np.random.default_rng(2)
    emb_ID = rng.standard_normal((4000, 16)).astype(np.float32)
    query_BD = rng.standard_normal((100, 16)).astype(np.float32)
    true = Exact(device="cpu").build(emb_ID).search(query_BD, 10).items_BK
    ivf = IVF(num_lists=50).build(emb_ID)
    hnsw = HNSW(num_links=8, ef_construction=30).build(emb_ID)
    for index, argument, values in ((ivf, "num_probes", (1, 8, 50)), (hnsw, "ef_search", (10, 40, 400))):
        assert argument in index.tunable
        found = []
        for value in values:
            setattr(index, argument, value)
            found.append(recall(index.search(query_BD, 10).items_BK, true))
        assert found[0] < found[1] < found[2]
        assert found[0] < 0.9
        assert found[2] > 0.99
    coded, rescored = (IVFPQ(num_lists=4, num_probes=4, rescore=rescore).build(emb_ID) for rescore in (0, 10))
    by_code, by_both = (recall(index.search(query_BD, 10).items_BK, true) for index in (coded, rescored))
    assert by_code < 0.9 < by_both
    assert coded.num_bytes < rescored.num_bytes / 2


def test_rare_neighbors_are_refilled():
    """A query whose nearest list holds fewer than k: the next lists are visited, and in the end all."""
    rng = np.random.default_rng(3)
    near = np.eye(1, 8) * 10 + 0.01 * rng.standard_normal((5, 8))
    far = -np.eye(1, 8) * 10 + rng.standard_normal((2000, 8))
    index = IVF(num_lists=20, num_probes=1).build(np.vstack([near, far]).astype(np.float32))
    found = index.search(np.eye(1, 8, dtype=np.float32), 60)
    assert (found.items_BK >= 0).all()
    assert set(found.items_BK[0, :5]) == set(range(5))


@pytest.mark.parametrize("kind", ["flat", "ivf", "codes", "ivf_pq", "hnsw", "exact"])
def test_bytes_are_those_that_are_kept(kind):
    index = KINDS[kind]().build(np.random.default_rng(4).standard_normal((3000, 32)).astype(np.float32))
    stored = sum(np.asarray(array).nbytes for array in index.arrays().values())
    assert abs(index.num_bytes - stored) < 0.15 * stored
    assert abs(index.num_bytes - index.bytes_needed(3000, 32)) < 0.15 * stored


def test_vectors_are_copied_and_tensors_are_taken():
    torch = pytest.importorskip("torch")
    emb_ID = vectors(300)
    for index in (Exact(device="cpu"), Flat()):
        given_ID = emb_ID.copy()
        index.build(torch.from_numpy(given_ID))
        given_ID[:] = 0
        found = index.search(torch.ones((1, SIZE), requires_grad=True), 3)
        np.testing.assert_allclose(found.scores_BK[0], np.sort(emb_ID.sum(axis=1))[::-1][:3])


def test_exact_on_either_device(device):
    rng = np.random.default_rng(8)
    emb_ID = rng.integers(-3, 4, (37, 5)).astype(np.float32)
    index = Exact(device=device).build(emb_ID).remove([0, 36]).add(emb_ID[:1] + 1, [40])
    query_BD = rng.integers(-3, 4, (3, 5)).astype(np.float32)
    lists = Interactions.from_histories([[1, 2], [], range(41)], num_items=41)
    rows = np.vstack([emb_ID, np.zeros((3, 5)), emb_ID[:1] + 1])
    scores = query_BD @ rows.T
    scores[:, [0, 36, 37, 38, 39]] = -np.inf
    scores[lists.users_N, lists.items_N] = -np.inf
    for allow in (None, np.arange(0, 41, 3)):
        wanted = scores.copy()
        if allow is not None:
            wanted[:, np.setdiff1d(np.arange(41), allow)] = -np.inf
        found = index.search(query_BD, 12, exclude=lists, allow=allow)
        np.testing.assert_array_equal(found.scores_BK, -np.sort(-wanted, axis=1)[:, :12])
        assert (found.items_BK[2] == -1).all()


def test_block_sizes_change_nothing(name, built, monkeypatch):
    query_BD = np.random.default_rng(7).integers(-3, 4, (5, SIZE)).astype(np.float32)
    exclude = Interactions.from_histories([range(0, 900, b + 1) for b in range(5)], num_items=NUM_ITEMS)
    allows = [np.arange(50), Interactions.from_histories([range(b, 1000, 40) for b in range(5)], num_items=NUM_ITEMS)]
    for allow in (None, *allows):
        whole = built.search(query_BD, 700 if allow is None else 9, exclude=exclude, allow=allow)
        with monkeypatch.context() as patch:
            patch.setattr("recsys_dl.retrieval.scoring.BLOCK_BYTES", 1000)
            patch.setattr("recsys_dl.retrieval.faiss_index.CANDIDATES", 100)
            parts = built.search(query_BD, 700 if allow is None else 9, exclude=exclude, allow=allow)
        np.testing.assert_allclose(parts.scores_BK, whole.scores_BK, rtol=1e-5, atol=1e-5)
