"""Texts as dense vectors: TF-IDF, projected on its first singular vectors (Deerwester et al. 1990, "Latent Semantic Analysis").

R texts, W words, T vector size.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
import scipy.sparse as sp
from typing_extensions import Self

WORD = r"\b\w\w+\b"  # at least two word characters
LEAST_TEXTS, LARGEST_SHARE = 2, 0.5  # bounds on a word's document frequency: minimum count, maximum share
MOST_WORDS = 20_000  # the most frequent of the rest
OVERSAMPLING, PASSES = 10, 5  # of the randomized SVD
NUM_ARRAYS = 4


class TextVectors:
    """TF-IDF + truncated SVD (LSA) text vectors; `fit` learns them, `transform` applies them to any texts.

    A word's weight is (1 + ln count) * (ln((1 + R) / (1 + texts with it)) + 1), normalized to unit length per text (Salton
    and Buckley 1988). Words in only one text, in more than half of them, or beyond the 20,000 most frequent are dropped. The first T right
    singular vectors of this matrix are computed (randomized SVD: Halko et al. 2011, algorithm 4.4), projections are
    centered, and one number scales them so that the mean square of an entry is 1. A missing text, or one without a known
    word, is a zero vector.

    Args:
        size: T; fewer if the matrix has a lower rank.
        seed: for the randomized SVD.

    Attributes:
        words: the W words, sorted.
        idf_W: float32.
        components_WT: float32, orthonormal columns, scaled.
        mean_T: float32, subtracted from the scaled projection.
    """

    words: pl.Series
    idf_W: np.ndarray
    components_WT: np.ndarray
    mean_T: np.ndarray

    def __init__(self, *, size: int = 64, seed: int = 7) -> None:
        self.size = size
        self.seed = seed

    def fit(self, texts: pl.Series) -> Self:
        """Learn words and components. If no word remains, vectors have size 0.

        Args:
            texts: one per row; null where missing.
        """
        counts = _counted(texts).group_by("word").len("texts")
        num_texts = len(texts) - texts.null_count()
        counts = counts.filter(pl.col("texts") >= LEAST_TEXTS, pl.col("texts") <= LARGEST_SHARE * num_texts)
        counts = counts.sort("texts", "word", descending=[True, False]).head(MOST_WORDS).sort("word")
        self.words = counts["word"]
        self.idf_W = (np.log((1 + num_texts) / (1 + counts["texts"].to_numpy())) + 1).astype(np.float32)
        matrix = self._matrix(texts)
        components_WT = _right_singular_vectors(matrix, min(self.size, *matrix.shape), np.random.default_rng(self.seed))
        projected_RT = matrix @ components_WT
        mean_T = projected_RT.mean(axis=0, where=_filled(matrix)[:, None]) if matrix.nnz else np.zeros(0)
        scale = np.sqrt(np.mean((projected_RT[_filled(matrix)] - mean_T) ** 2)) if matrix.nnz else 0.0
        scale = max(float(scale), 1e-6)  # all texts identical
        self.components_WT = (components_WT / scale).astype(np.float32)
        self.mean_T = (mean_T / scale).astype(np.float32)
        return self

    def transform(self, texts: pl.Series) -> np.ndarray:
        """Return float32 [R, T]."""
        matrix = self._matrix(texts).astype(np.float32)
        vectors_RT = matrix @ self.components_WT - self.mean_T
        vectors_RT[~_filled(matrix)] = 0
        return vectors_RT

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the learned arrays; words as UTF-8 text, one per line."""
        words = np.frombuffer("\n".join(self.words).encode(), np.uint8)
        return {"words": words, "idf_W": self.idf_W, "components_WT": self.components_WT, "mean_T": self.mean_T}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Restore from `arrays`."""
        vectors = cls(size=arrays["components_WT"].shape[1])
        words = arrays["words"].tobytes().decode()
        vectors.words = pl.Series("word", words.split("\n") if words else [], dtype=pl.String)
        vectors.idf_W, vectors.components_WT = arrays["idf_W"], arrays["components_WT"]
        vectors.mean_T = arrays["mean_T"]
        return vectors

    def _matrix(self, texts: pl.Series) -> sp.csr_matrix:
        """Return float64 CSR [R, W] with rows of length 1, or 0 if no word is known."""
        known = pl.DataFrame({"word": self.words, "at": np.arange(len(self.words))})
        pairs = _counted(texts).join(known, on="word", how="inner", maintain_order="left")
        at, rows = pairs["at"].to_numpy(), pairs["row"].to_numpy()
        values = (1 + np.log(pairs["count"].to_numpy())) * self.idf_W[at]
        matrix = sp.csr_matrix((values, (rows, at)), shape=(len(texts), len(self.words)))
        lengths_R = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
        return (sp.diags(1 / np.maximum(lengths_R, 1e-12)) @ matrix).tocsr()


def _counted(texts: pl.Series) -> pl.DataFrame:
    """Return each text's words and their counts, sorted."""
    words = pl.col("text").str.to_lowercase().str.extract_all(WORD).alias("word")
    frame = texts.cast(pl.String).alias("text").to_frame().with_row_index("row").select("row", words)
    return frame.explode("word").drop_nulls().group_by("row", "word").len("count").sort("row", "word")


def _filled(matrix: sp.csr_matrix) -> np.ndarray:
    return np.diff(matrix.indptr) > 0


def _right_singular_vectors(matrix: sp.csr_matrix, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the right vectors [W, T] of the largest singular values, the largest entry of each positive.

    T is `size` or the rank, whichever is less.
    """
    vectors_WS = rng.normal(size=(matrix.shape[1], min(size + OVERSAMPLING, *matrix.shape)))
    for _ in range(PASSES):
        left_RS, _ = np.linalg.qr(matrix @ vectors_WS)
        vectors_WS, _ = np.linalg.qr(matrix.T @ left_RS)
    _, values_S, rotation_SS = np.linalg.svd(matrix @ vectors_WS, full_matrices=False)
    size = min(size, int((values_S > 1e-6 * values_S.max(initial=0)).sum()))
    vectors_WT = (vectors_WS @ rotation_SS.T)[:, :size]
    largest_T = np.abs(vectors_WT).argmax(axis=0) if size else np.zeros(0, np.int64)
    return vectors_WT * np.sign(vectors_WT[largest_T, np.arange(size)])
