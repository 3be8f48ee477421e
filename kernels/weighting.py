"""TF-IDF and BM25 weights of entries before vectors are compared. R rows (documents), C columns (terms), N stored entries.

Both down-weight columns that many rows share (for items, users with long histories).
"""

from __future__ import annotations

import numpy as np

from .comparison import Vectors

SATURATION = 1.2  # BM25's k1: how soon a larger value stops counting
LENGTH_SHARE = 0.75  # BM25's b: how strongly long rows are discounted


def tfidf(vectors: Vectors, learned: Vectors) -> Vectors:
    """Return x * (ln((1 + R) / (1 + n_c)) + 1), where n_c of the R training rows have an entry in column c.

    Salton and Buckley 1988, "Term-Weighting Approaches in Automatic Text Retrieval", with both counts raised by one
    row that has an entry in every column, so that no weight is 0.
    """
    counts_C = np.bincount(learned.indices_N, minlength=learned.num_columns)
    idf_C = np.log(len(learned.indptr_R1) / (1.0 + counts_C)) + 1.0
    return vectors._replace(values_N=(vectors.values_N * idf_C[vectors.indices_N]).astype(np.float32))


def bm25(vectors: Vectors, learned: Vectors) -> Vectors:
    """Return idf_c * x (k1 + 1) / (x + k1 (1 - b + b length / mean length)), idf_c = ln(1 + (R - n_c + 1/2) / (n_c + 1/2)).

    Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", section 3; the length of a row is the sum of
    its values, and the 1 in the logarithm keeps weights above 0.
    """
    num_rows = len(learned.indptr_R1) - 1
    counts_C = np.bincount(learned.indices_N, minlength=learned.num_columns)
    idf_C = np.log1p((num_rows - counts_C + 0.5) / (counts_C + 0.5))
    mean_length = max(float(np.sum(learned.values_N, dtype=np.float64)) / max(num_rows, 1), 1e-12)
    sizes = np.diff(vectors.indptr_R1)
    rows_N = np.repeat(np.arange(len(sizes)), sizes)
    lengths_R = np.bincount(rows_N, vectors.values_N, len(sizes))
    slack_R = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * lengths_R / mean_length)
    values = vectors.values_N * (SATURATION + 1) / (vectors.values_N + slack_R[rows_N])
    return vectors._replace(values_N=(values * idf_C[vectors.indices_N]).astype(np.float32))
