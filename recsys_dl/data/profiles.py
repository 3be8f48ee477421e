"""What items are about, as sparse vectors of terms and dense vectors beside them. B, R rows, T terms, E entries of dense vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class Profiles:
    """Rows of items or users, encoded.

    Attributes:
        terms_RT: CSR float32.
        dense_RE: float32.
    """

    terms_RT: sp.csr_matrix
    dense_RE: np.ndarray

    def __len__(self) -> int:
        return self.terms_RT.shape[0]

    @property
    def known_R(self) -> np.ndarray:
        """Bool [R], whether anything is known of a row."""
        return (np.diff(self.terms_RT.indptr) > 0) | self.dense_RE.any(axis=1)

    def times(self, weights_BR: sp.csr_matrix) -> Profiles:
        """Return weighted sums of rows."""
        return Profiles((weights_BR @ self.terms_RT).tocsr(), np.asarray(weights_BR @ self.dense_RE, np.float32))

    def unit(self) -> Profiles:
        """Return rows of length 1; those of length 0 stay."""
        squares_R = np.asarray(self.terms_RT.multiply(self.terms_RT).sum(axis=1), np.float64).ravel()
        squares_R += np.einsum("re,re->r", self.dense_RE, self.dense_RE, dtype=np.float64)
        scale_R = np.divide(1.0, np.sqrt(squares_R), out=np.zeros(len(squares_R)), where=squares_R > 0)
        terms_RT = (sp.diags(scale_R) @ self.terms_RT).tocsr().astype(np.float32)
        terms_RT.eliminate_zeros()
        terms_RT.sort_indices()
        return Profiles(terms_RT, (self.dense_RE * scale_R[:, None]).astype(np.float32))

    def rows(self, rows: np.ndarray) -> Profiles:
        """Return some rows."""
        return Profiles(self.terms_RT[rows], self.dense_RE[rows])
