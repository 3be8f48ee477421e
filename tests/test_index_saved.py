"""Indexes kept in folders: the same answers in a new process; damage is told."""

import subprocess
import sys

import numpy as np
import pytest

from recsys_dl.retrieval import HNSW, IVF, IVFPQ, Exact, Flat, load_index

INDEXES = {
    "exact": Exact(device="cpu"),
    "cosine": Flat(measure="cosine"),
    "ivf": IVF(num_lists=8, num_probes=3),
    "ivf_pq": IVFPQ(num_lists=4, rescore=4),
    "codes": IVFPQ(num_lists=4, rescore=0),
    "hnsw": HNSW(num_links=6, ef_search=20),
}
PROGRAM = """
import sys, numpy as np
from pathlib import Path
from recsys_dl.retrieval import load_index
query_BD, answers = np.load(sys.argv[2]), {}
for folder in Path(sys.argv[1]).iterdir():
    index = load_index(folder)
    ranking = index.search(query_BD, 20, exclude=[1, 2, 3])
    answers[folder.name] = ranking.items_BK
    answers[folder.name + " scores"] = ranking.scores_BK
    index.add(np.ones((1, 10)), [5])
    answers[folder.name + " added"] = index.search(query_BD, 20).items_BK
np.savez(sys.argv[3], **answers)
assert "torch" not in sys.modules
"""


def test_the_same_in_a_new_process(tmp_path):
    emb_ID = np.random.default_rng(0).standard_normal((500, 10)).astype(np.float32)
    query_BD = np.random.default_rng(1).standard_normal((6, 10)).astype(np.float32)
    np.save(tmp_path / "queries.npy", query_BD)
    for name, index in INDEXES.items():
        index.build(emb_ID).remove(np.arange(0, 100, 5)).add(emb_ID[:3], [0, 505, 10])
        index.save(tmp_path / "saved" / name)
    words = [sys.executable, "-c", PROGRAM, tmp_path / "saved", tmp_path / "queries.npy", tmp_path / "answers.npz"]
    subprocess.run(words, check=True)
    answers = np.load(tmp_path / "answers.npz")
    for name, index in INDEXES.items():
        ranking = index.search(query_BD, 20, exclude=[1, 2, 3])
        np.testing.assert_array_equal(answers[name], ranking.items_BK, err_msg=name)
        np.testing.assert_allclose(answers[f"{name} scores"], ranking.scores_BK, rtol=1e-6)
        index.add(np.ones((1, 10)), [5])
        np.testing.assert_array_equal(answers[f"{name} added"], index.search(query_BD, 20).items_BK, err_msg=name)


def test_folders_that_are_no_index(tmp_path):
    folder = tmp_path / "index"
    index = Flat().build(np.eye(4))
    index.save(folder)
    with pytest.raises(FileExistsError, match="exists already"):
        index.save(folder)
    index.save(folder, overwrite=True)
    assert {file.name for file in folder.iterdir()} == {"config.yaml", "arrays.npz"}
    assert repr(load_index(folder)) == repr(index)
    assert isinstance(Flat.load(folder), Flat)
    with pytest.raises(ValueError, match="Flat, which is not an HNSW"):
        HNSW.load(folder)
    with pytest.raises(FileNotFoundError, match="must hold a saved index"):
        load_index(tmp_path)
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("format: 1", "format: 99"))
    with pytest.raises(ValueError, match="has format 99, this version reads format 1"):
        load_index(folder)
    (folder / "config.yaml").write_text(config.replace("retrieval.flat.Flat", "models.als.ALS"))
    with pytest.raises(ValueError, match="ALS, which is not a VectorIndex"):
        load_index(folder)
    (folder / "config.yaml").write_text("{")
    with pytest.raises(ValueError, match=r"config\.yaml is damaged"):
        load_index(folder)
    (folder / "config.yaml").write_text(config)
    data = (folder / "arrays.npz").read_bytes()
    (folder / "arrays.npz").write_bytes(data[:-40])
    with pytest.raises(ValueError, match=r"arrays\.npz is missing or damaged"):
        load_index(folder)


@pytest.mark.parametrize("order", ["limit_threads(1); import faiss", "import faiss; limit_threads(1)"])
def test_faiss_uses_as_many_threads_as_told(order):
    program = f"from recsys_dl.threads import limit_threads; {order}; print(faiss.omp_get_max_threads())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
