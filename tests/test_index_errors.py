"""What an index answers to bad input, each in the words a user needs."""

import sys
import types

import numpy as np
import pytest

from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.processes import _CURRENT, Group
from recsys_dl.retrieval import CAGRA, HNSW, IVF, IVFPQ, Exact, Flat

FAISS = (Flat, IVF, IVFPQ, HNSW)
EMB = np.random.default_rng(0).standard_normal((400, 6)).astype(np.float32)
QUERY = np.ones((2, 6), np.float32)


@pytest.fixture(scope="module", params=[Exact, *FAISS], ids=lambda cls: cls.__name__)
def index(request):
    return request.param().build(EMB)


def with_nan(row, value=np.nan):
    emb = EMB.copy()
    emb[row, 2] = value
    return emb


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (with_nan(7), r"item vectors must be finite, got NaN or infinity in row 7 \(1 rows in all\)"),
        (with_nan(9, np.inf), "NaN or infinity in row 9"),
        (EMB.astype(np.float64) * 1e60, "NaN or infinity in row 0"),
        (EMB[0], r"item vectors must be numbers of shape \[N, D\], got float32 of shape \(6,\)"),
        ([["a", "b"]], "item vectors must be numbers"),
        (EMB[:0], r"at least one vector of at least one number, got shape \(0, 6\)"),
        (EMB[:, :0], "at least one number"),
    ],
)
def test_vectors_that_cannot_be_indexed(index, vectors, message):
    with pytest.raises(ValueError, match=message):
        type(index)().build(vectors)


@pytest.mark.parametrize(
    ("query", "k", "arguments", "message"),
    [
        (QUERY[:, :5], 3, {}, "queries must have the embedding size 6 of the index, got 5"),
        (QUERY[0], 3, {}, r"queries must be numbers of shape \[N, D\]"),
        (QUERY * np.nan, 3, {}, r"queries must be finite, got NaN or infinity in row 0 \(2 rows in all\)"),
        (QUERY, 0, {}, "k must be between 1 and the 400 items of the index, got 0"),
        (QUERY, 401, {}, "got 401"),
        (QUERY, 2.5, {}, "got 2.5"),
        (QUERY, True, {}, "got True"),
        (QUERY, 3, {"exclude": [400]}, "exclude must hold rows of the 400 known items, got item row 400"),
        (QUERY, 3, {"allow": [-1]}, "allow must hold rows of the 400 known items, got item row -1"),
        (QUERY, 3, {"allow": [0.5]}, "item rows must be integers, got float64"),
        (QUERY, 3, {"exclude": [[1], [2]]}, r"pass Interactions.from_histories\(lists, num_items=400\)"),
        (QUERY, 3, {"exclude": Interactions([0], [1], num_items=400)}, "exclude must cover the requested users"),
        (QUERY, 3, {"allow": Interactions([0, 1], [1, 400])}, "at most 400 items, got 2 users and 401 items"),
        (
            QUERY,
            3,
            {"allow": ItemLists(np.zeros(1), np.ones(1), np.zeros(1, np.int32))},
            "one list for each of 2 queries",
        ),
        (QUERY, 3, {"allow": ItemLists(np.zeros(2), np.ones(2), np.array([400]))}, "rows of the 400 items"),
    ],
)
def test_requests_that_cannot_be_answered(index, query, k, arguments, message):
    with pytest.raises(ValueError, match=message):
        index.search(query, k, **arguments)


def test_nothing_built_yet(index, tmp_path):
    fresh = type(index)()
    for call in (
        lambda: fresh.search(QUERY, 1),
        lambda: fresh.add(EMB),
        lambda: fresh.remove([1]),
        lambda: fresh.save(tmp_path / "index"),
    ):
        with pytest.raises(ValueError, match=r"holds nothing yet; call build\(item_emb_ID\) first"):
            call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda index: index.add(EMB[:2], [400, 5]), "item row 5 is in the index already; remove it first"),
        (lambda index: index.add(EMB[:2], [400, 400]), "items must be given once each"),
        (lambda index: index.add(EMB[:2], [400]), "one row for each of 2 vectors, got 1"),
        (lambda index: index.add(EMB[:1], [-1]), r"item rows must be in \[0, 2147483647\), got -1"),
        (lambda index: index.add(EMB[:1], [2**31]), "item rows must be in"),
        (lambda index: index.add(EMB[:1], ["a"]), "items must be rows, integers"),
        (lambda index: index.add(EMB[:1, :3]), "embedding size 6 of the index, got 3"),
        (lambda index: index.add(with_nan(7)), "item vectors must be finite, got NaN or infinity in row 7"),
        (lambda index: index.remove([400]), "item row 400 is not in the index, so it cannot be removed"),
        (lambda index: index.remove([3, 3]), "given once each"),
        (lambda index: index.remove([0.5]), "integers"),
    ],
)
def test_changes_that_cannot_be_made_change_nothing(index, call, message):
    before = index.search(QUERY, 5)
    with pytest.raises(ValueError, match=message):
        call(index)
    after = index.search(QUERY, 5)
    np.testing.assert_array_equal(after.items_BK, before.items_BK)
    assert (len(index), index.num_items) == (400, 400)


def test_removed_twice():
    index = Exact(device="cpu").build(EMB).remove([7])
    with pytest.raises(ValueError, match="item row 7 is not in the index"):
        index.remove([7])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IVF(num_lists=401).build(EMB), "num_lists must be at most the 400 vectors there are, got 401; null"),
        (lambda: IVFPQ(num_lists=401).build(EMB), "num_lists must be at most the 400 vectors"),
        (lambda: IVFPQ().build(EMB[:255]), "learns 256 codes and needs as many vectors, got 255"),
        (lambda: IVF(num_lists=0), "num_lists must be a whole number of at least 1"),
        (lambda: IVF(num_probes=0), "num_probes must be a whole number of at least 1"),
        (lambda: IVFPQ(rescore=-1), "rescore must be a whole number of at least 0"),
        (lambda: IVFPQ(num_subvectors=0), "num_subvectors must be a whole number of at least 1"),
        (lambda: HNSW(num_links=1), "num_links must be a whole number of at least 2"),
        (lambda: HNSW(ef_search=0), "ef_search must be a whole number of at least 1"),
        (lambda: CAGRA(num_links=1), "num_links must be a whole number of at least 2"),
        (lambda: Exact(measure="euclid"), "measure must be one of dot, cosine, got 'euclid'"),
        (lambda: Flat(measure="l2"), "measure must be one of dot, cosine"),
        (lambda: Flat(device="gpu").build(EMB), "device must be one of auto, cpu, cuda, got 'gpu'"),
    ],
)
def test_settings_that_cannot_be_met(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("cls", [Exact, *FAISS])
def test_more_than_memory_holds(cls):
    """A billion vectors that take no memory themselves: refused before anything is copied."""
    many = np.broadcast_to(np.zeros((1, 64), np.float32), (10**9, 64))
    with pytest.raises(
        MemoryError, match=r"1,000,000,000 items of embedding size 64 needs about .* bytes of memory, and"
    ):
        cls().build(many)
    index = cls().build(EMB)
    with pytest.raises(MemoryError, match="Take|Lower"):
        index.add(EMB[:1], [2**31 - 2])
    assert len(index) == 400


@pytest.mark.parametrize("cls", FAISS)
def test_faiss_absent_or_half_removed(cls, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"needs FAISS, but importing it says: .* pip install 'recsys_dl\[cpu\]'"):
        cls().build(EMB)
    monkeypatch.setitem(sys.modules, "faiss", types.ModuleType("faiss"))  # what an empty folder imports as
    with pytest.raises(ImportError, match=r"only an empty folder is installed.*pip install --force-reinstall"):
        cls().build(EMB)
    Exact(device="cpu").build(EMB).search(QUERY, 3)  # needs none


def test_a_gpu_asked_for_where_there_is_none():
    faiss = pytest.importorskip("faiss")
    if faiss.get_num_gpus():
        pytest.skip("there is a GPU")
    for index in (Flat(device="cuda"), IVF(device="cuda"), IVFPQ(device="cuda"), CAGRA()):
        with pytest.raises(RuntimeError, match=r'device="cuda" needs a(n| FAISS|n NVIDIA).*GPU'):
            index.build(EMB)
    assert Flat(device="auto").build(EMB).search(QUERY, 1).items_BK.shape == (2, 1)


def test_a_name_that_is_no_index():
    import recsys_dl.retrieval

    with pytest.raises(AttributeError, match="no 'Annoy'; there are CAGRA"):
        getattr(recsys_dl.retrieval, "Annoy")  # noqa: B009


def test_processes_that_build_different_indexes():
    class Two(Group):
        def gather(self, value):
            return [value, "IVF of 90 vectors of 6"]

    token = _CURRENT.set(Two(0, 2))
    try:
        with pytest.raises(ValueError, match="process 0 builds HNSW of 400 vectors of 6, and process 1 IVF of 90"):
            HNSW().build(EMB)
    finally:
        _CURRENT.reset(token)
