"""Texts as dense vectors: TF-IDF, projected on its first singular vectors (Deerwester et al. 1990, "Latent Semantic Analysis").

R texts, W words, T vector size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import scipy.sparse as sp
from typing_extensions import Self

from .words import learned_words, restored_words, word_matrix

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

LIMITS = {"min_df": 2, "max_df": 0.5, "max_features": 20_000}  # number of texts, share of the texts, number of words
OVERSAMPLING, PASSES = 10, 5  # of the randomized SVD


class TextVectors:
    """TF-IDF + truncated SVD (LSA) text vectors; `fit` learns them, `transform` applies them to any texts.

    A word's weight is (1 + ln count) * (ln((1 + R) / (1 + texts with it)) + 1), normalized to unit length per text (Salton
    and Buckley 1988; scikit-learn's `TfidfVectorizer`). Words in only one text, in more than half of them, or beyond the 20,000 most
    frequent are dropped. The first T right singular vectors of this matrix are computed (scikit-learn's `randomized_svd`), projections are
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
        learned = learned_words(texts, dtype=np.float64, **LIMITS)
        if learned is None:
            self.words, self.idf_W = pl.Series("word", [], dtype=pl.String), np.zeros(0, np.float32)
        else:
            self.words = pl.Series("word", learned.get_feature_names_out())
            self.idf_W = learned.idf_.astype(np.float32)
        self._restore_words()
        matrix = self._matrix(texts)
        components_WT = _right_singular_vectors(matrix, min(self.size, *matrix.shape), self.seed)
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
        vectors._restore_words()
        return vectors

    def _restore_words(self) -> None:
        """Make the vectorizer anew from words and weights, as loading does."""
        self._vectorizer: TfidfVectorizer | None = None
        if len(self.words):
            self._vectorizer = restored_words(self.words.to_list(), self.idf_W.astype(np.float64), dtype=np.float64)

    def _matrix(self, texts: pl.Series) -> sp.csr_matrix:
        """Return float64 CSR [R, W] with rows of length 1, or 0 if no word is known."""
        if self._vectorizer is None:
            return sp.csr_matrix((len(texts), 0))
        return word_matrix(self._vectorizer, texts)


def _filled(matrix: sp.csr_matrix) -> np.ndarray:
    return np.diff(matrix.indptr) > 0


def _right_singular_vectors(matrix: sp.csr_matrix, size: int, seed: int) -> np.ndarray:
    """Return the right vectors [W, T] of the largest singular values, the largest entry of each positive.

    T is `size` or the rank, whichever is less.
    """
    from sklearn.utils.extmath import randomized_svd

    if not size or not matrix.nnz:
        return np.zeros((matrix.shape[1], 0))
    how = {"n_oversamples": OVERSAMPLING, "n_iter": PASSES, "power_iteration_normalizer": "QR", "random_state": seed}
    _, values_S, vectors_SW = randomized_svd(matrix, size, **how)
    vectors_WT = vectors_SW[values_S > 1e-6 * values_S.max()].T
    largest_T = np.abs(vectors_WT).argmax(axis=0)
    return vectors_WT * np.sign(vectors_WT[largest_T, np.arange(vectors_WT.shape[1])])
