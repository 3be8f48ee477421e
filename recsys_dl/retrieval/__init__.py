"""Vectors -> nearest items: exact, and FAISS on CPU and GPU. One file an index, and one YAML of the same name in `conf/index/`.

`from recsys_dl.retrieval import IVFPQ` finds `ivf_pq.py`, as in `recsys_dl.models`. Nothing is imported before it is used.
"""

from typing import TYPE_CHECKING

from recsys_dl.lazy import from_files

if TYPE_CHECKING:
    from .cagra import CAGRA
    from .exact import Exact
    from .flat import Flat
    from .hnsw import HNSW
    from .ivf import IVF
    from .ivf_pq import IVFPQ
    from .retriever import Retriever
    from .vector_index import load_index

__all__ = [
    "CAGRA",
    "HNSW",
    "IVF",
    "IVFPQ",
    "Exact",
    "Flat",
    "Retriever",
    "load_index",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = from_files(__name__, __all__, {"load_index": "vector_index"})
