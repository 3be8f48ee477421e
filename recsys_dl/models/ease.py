"""EASE: item-item weights in closed form (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data")."""

from __future__ import annotations

import numpy as np
import psutil
import scipy.sparse as sp
import torch
from typing_extensions import Self

from recsys_dl.arguments import Positive
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.families.evidence import without_evidence
from recsys_dl.kernels.device import Device
from recsys_dl.progress import track, waiting
from recsys_dl.protocols import Served
from recsys_dl.sizes import LogSize, Part, Sizes, Work
from recsys_dl.training.devices import torch_device

BLOCK = 1024  # rows or columns of a product densified at a time


class EASE(CatalogModel):
    """score(u, .) = x_u B, where B with a diagonal of zeros minimizes |X - X B|^2 + penalty |B|^2.

    B = I - P diag(1 / diag P) with P = (X^T X + penalty I)^-1 (Steck 2019, equation 8). If there are more items
    than users, P is computed on the user side, (I - X^T (X X^T + penalty I)^-1 X) / penalty: identical, but cheaper.

    A user without interactions gets the most popular items; an item without users scores 0. The inverse is LAPACK's: its
    rounding depends on the number of threads.

    Args:
        regularization: in interactions: the penalty is this times the mean squared weight, so that ratings and binary weights
            need about the same value. A few hundred suit logs like MovieLens.
        device: where to invert: "cuda" through torch.

    Attributes:
        histories: float32 CSR [U, I], the training weights.
        weights_II: float32, B.

    Raises:
        ValueError: regularization that is not positive, or too small for float32; or interactions whose weights are all 0.
        MemoryError: the items x items matrices do not fit; the message says how much they need and how much is free.
        RuntimeError: device "cuda" if torch finds no GPU.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import EASE
        >>> train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
        >>> EASE(regularization=1, device="cpu").fit(train).recommend([0], k=1, exclude=train).items_BK
        array([[2]], dtype=int32)
    """

    fitted = ("histories", "weights_II")
    histories: sp.csr_matrix
    weights_II: np.ndarray

    def __init__(self, *, regularization: Positive = 300.0, device: Device = "auto") -> None:
        self.regularization = regularization
        self.device = device

    def fit(self, train: Dataset | Interactions) -> Self:
        """Invert on the smaller side, in float32."""
        matrix = self._begin(train).by_user
        mean_square = float(np.mean(np.square(matrix.data, dtype=np.float64)))
        with np.errstate(over="ignore", under="ignore"):
            penalty = np.float32(self.regularization * mean_square)
        if not np.finfo(np.float32).tiny < penalty < np.inf:
            raise ValueError(
                f"regularization times the mean squared weight must be finite in float32, got {self.regularization} times "
                f"{mean_square:g}: scale the weights (weights=scaled or log)"
            )
        where = torch_device(self.device).type
        num_users, num_items = matrix.shape
        smaller = min(num_users, num_items)
        self._check_memory(4 * (num_items**2 + smaller**2), psutil.virtual_memory().available, "memory")
        if where == "cuda":
            self._check_memory(8 * smaller**2, torch.cuda.mem_get_info()[0], "GPU memory")
        by_item = matrix.T.tocsr()
        if num_items <= num_users:
            weights_II = _inverse_gram(by_item, penalty, where)
            weights_II /= -weights_II.diagonal()
        else:
            weights_II = np.empty((num_items, num_items), np.float32)
            inverse_UU = _inverse_gram(matrix, penalty, where)
            for start in track(range(0, num_items, BLOCK), "EASE: items"):
                some = slice(start, start + BLOCK)
                block_IB = by_item @ np.ascontiguousarray((by_item[some] @ inverse_UU).T)  # I - penalty * P
                weights_II[:, some] = block_IB / (1 - block_IB[some].diagonal())
        np.fill_diagonal(weights_II, 0)
        self.histories, self.weights_II = matrix, weights_II
        return self

    def sizes(self, log: LogSize) -> Sizes:
        """Return what training takes: see `recsys_dl.sizes`."""
        num_users, num_items, num = log.num_users, log.num_items, log.num_interactions
        by_item = num_items <= num_users
        smaller = min(num_users, num_items)
        square = 4.0 * num_items**2
        work = [
            Work("products", 2.0 * (log.pairs_by_user if by_item else log.pairs_by_item), 4.0 * smaller**2),
            Work("inverse", float(smaller) ** 3, 24.0 * smaller**2),
        ]
        if not by_item:
            work.append(Work("weights", 2.0 * num * (num_users + num_items), 8.0 * num_items * num_users))
        return Sizes(
            [
                Part("tables", "weights_II", square, None, saved=True),
                Part("work", "factor and inverse", 4.0 * smaller**2 * (1 if by_item else 2), None, when="epoch"),
                Part("interactions", "by user", 8.0 * num + 4 * num_users, "interactions", saved=True),
                Part("interactions", "by item", 8.0 * num + 4 * num_items, "interactions", when="epoch"),
            ],
            work=work,
        )

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`."""
        from recsys_dl.families.served import Weights, item_to_item

        return item_to_item(self, seen, Weights(self.weights_II))

    def _check_memory(self, needed: int, free: int, noun: str) -> None:
        if needed > free:
            raise MemoryError(
                f"EASE over {self.num_items:,} items needs {needed:,} bytes of {noun}, and {free:,} are free. "
                "Filter out rare items (k-core), or use ItemKNN, which keeps only the nearest neighbors."
            )

    def _values(self, users_B: np.ndarray) -> sp.csr_matrix:
        return self.histories[users_B]

    def _fold(self, histories: Interactions) -> sp.csr_matrix:
        return histories.by_user

    def _influential_items(self) -> np.ndarray:
        """Return bool [I]: interacted with beside another item. A pass over the log, made once for the histories of a fit."""
        histories, influential_I = self.__dict__.get("_influence", (None, np.zeros(0, bool)))
        if histories is not self.histories:
            several_U = np.diff(self.histories.indptr) > 1
            influential_I = (abs(self.histories).T @ several_U) > 0
            self._influence = self.histories, influential_I
        return influential_I

    def _without_evidence(self, values: sp.csr_matrix) -> np.ndarray:
        return without_evidence(values, self._influential_items())

    def _scores(self, values: sp.csr_matrix) -> np.ndarray:
        return values @ self.weights_II

    def _pair_scores(self, values: sp.csr_matrix, items_BL: np.ndarray) -> np.ndarray:
        scores_BL = np.empty(items_BL.shape, np.float32)
        for b, items_L in enumerate(items_BL):
            row = slice(values.indptr[b], values.indptr[b + 1])
            scores_BL[b] = values.data[row] @ self.weights_II[np.ix_(values.indices[row], items_L)]
        return scores_BL

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        """Weight of the item in the score of every other."""
        return np.where(self.weights_II[items_B] == 0, np.float32(-np.inf), self.weights_II[items_B])


def _inverse_gram(rows: sp.csr_matrix, penalty: np.float32, where: str) -> np.ndarray:
    """Return (A A^T + penalty I)^-1 for a sparse A."""
    size = rows.shape[0]
    gram = np.empty((size, size), np.float32)
    for start in track(range(0, size, BLOCK), "EASE: products"):
        gram[start : start + BLOCK] = (rows[start : start + BLOCK] @ rows.T).toarray()
    gram.flat[:: size + 1] += penalty
    with waiting("EASE: inverse"):
        factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(gram).to(where))
        if failed:
            raise ValueError(
                f"regularization must be larger for this log: the products of its rows plus {penalty} on their diagonal are "
                "not positive definite in float32"
            )
        del gram
        inverse = torch.cholesky_inverse(factor).cpu().numpy()
        return inverse if inverse.flags.c_contiguous else inverse.T  # symmetric; avoids a copy by SciPy
