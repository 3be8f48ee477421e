"""FAISS on a GPU: the same promises. Skipped where there is none; see docs/retrieval.md."""

import numpy as np
import pytest

from recsys_dl.data.interactions import Interactions
from recsys_dl.retrieval import CAGRA, IVF, IVFPQ, Exact, Flat, load_index
from recsys_dl.retrieval.budget import recall

pytestmark = pytest.mark.gpu

KINDS = {
    "flat": lambda: Flat(device="cuda"),
    "ivf": lambda: IVF(num_lists=32, num_probes=16, device="cuda"),
    "ivf_pq": lambda: IVFPQ(num_lists=32, num_probes=16, num_subvectors=8, device="cuda"),
    "cagra": lambda: CAGRA(num_links=32),
}


@pytest.mark.parametrize("kind", KINDS)
def test_as_on_the_cpu(kind, tmp_path):
    faiss = pytest.importorskip("faiss")
    if not faiss.get_num_gpus():
        pytest.skip("needs an NVIDIA GPU and faiss-gpu or faiss-gpu-cuvs")
    if kind == "cagra" and not hasattr(faiss, "GpuIndexCagra"):
        pytest.skip("needs faiss-gpu-cuvs")
    rng = np.random.default_rng(0)
    emb_ID = rng.standard_normal((6000, 32)).astype(np.float32)
    query_BD = rng.standard_normal((50, 32)).astype(np.float32)
    lists = [rng.choice(6000, b * 10, replace=False) for b in range(50)]
    exclude = Interactions.from_histories(lists, num_items=6000)
    index, exact = KINDS[kind]().build(emb_ID), Exact(device="cpu").build(emb_ID)
    gone = np.arange(0, 6000, 3)
    for one in (index, exact):
        one.remove(gone)
    if kind != "cagra":
        for one in (index, exact):
            one.add(emb_ID[gone[:100]], gone[:100])
    index.save(tmp_path / "index")
    for one in (index, load_index(tmp_path / "index")):
        for k, allow in ((10, None), (3000, None), (10, np.arange(0, 6000, 2)), (10, np.arange(50))):
            found, true = (each.search(query_BD, k, exclude=exclude, allow=allow) for each in (one, exact))
            np.testing.assert_array_equal(found.items_BK >= 0, true.items_BK >= 0)
            assert recall(found.items_BK, true.items_BK) > (0.999 if kind == "flat" else 0.8)
