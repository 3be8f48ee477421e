"""EASE: item-item weights in closed form (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data"), also of what items are about."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import psutil
import scipy.sparse as sp
import torch
from typing_extensions import Self

from recsys_dl.arguments import NotNegative, Positive
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.item_content import content_of, content_of_new, only_items
from recsys_dl.data.profile_encoder import ProfileEncoder
from recsys_dl.data.profiles import Profiles
from recsys_dl.families.based import beginning
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.families.evidence import without_evidence
from recsys_dl.families.rows import rows_of
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

    With `content_weight`, B also predicts the items' features and texts from each other: rows of a term for all items are added to X, as
    if they were users (collective EASE: Jeunen, Van Balen and Goethals 2020, "Closed-Form Models for Collaborative Filtering with
    Side-Information"). Items without users then have weights too, and new ones enter by `grow(new)`, without a fit.

    A user without interactions gets the most popular items; an item without users scores 0. The inverse is LAPACK's: its
    rounding depends on the number of threads.

    Args:
        regularization: in interactions: the penalty is this times the mean squared weight, so that ratings and binary weights
            need about the same value. A few hundred suit logs like MovieLens.
        content_weight: interactions that an item's profile (`data.profile_encoder.ProfileEncoder`, of length 1) counts as; 0: not used.
        device: where to invert: "cuda" through torch.

    Attributes:
        histories: float32 CSR [U, I], the training weights.
        weights_II: float32, B.
        content_known_I: bool, items of which something besides interactions was used; None without `content_weight`, like the rest.
        encoder: of the items' profiles.
        profiles_IT: CSR float32, the profiles.
        diagonal_F: float32, of P, of the F items of the fit.
        scales_2: float64, the weight of a profile, and the penalty.

    Raises:
        ValueError: regularization that is not positive, or too small for float32; interactions whose weights are all 0; `content_weight`
            for a log without item features or texts.
        MemoryError: the items x items matrices do not fit; the message says how much they need and how much is free.
        RuntimeError: device "cuda" if torch finds no GPU.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import EASE
        >>> train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
        >>> EASE(regularization=1, device="cpu").fit(train).recommend([0], k=1, exclude=train).items_BK
        array([[2]], dtype=int32)
    """

    fitted = ("histories", "weights_II", "content_known_I", "profiles_IT", "diagonal_F", "scales_2")
    histories: sp.csr_matrix
    weights_II: np.ndarray
    content_known_I: np.ndarray | None
    profiles_IT: sp.csr_matrix | None
    diagonal_F: np.ndarray | None
    scales_2: np.ndarray | None
    encoder: ProfileEncoder | None = None

    def __init__(
        self, *, regularization: Positive = 300.0, content_weight: NotNegative = 0.0, device: Device = "auto"
    ) -> None:
        self.regularization = regularization
        self.content_weight = content_weight
        self.device = device

    def fit(self, train: Dataset | Interactions) -> Self:
        """Invert on the smaller side, in float32."""
        histories = matrix = self._begin(train).by_user
        mean_square = float(np.mean(np.square(matrix.data, dtype=np.float64)))
        with np.errstate(over="ignore", under="ignore"):
            penalty = np.float32(self.regularization * mean_square)
        if not np.finfo(np.float32).tiny < penalty < np.inf:
            raise ValueError(
                f"regularization times the mean squared weight must be finite in float32, got {self.regularization} times "
                f"{mean_square:g}: scale the weights (weights=scaled or log)"
            )
        encoder = profiles_IT = None
        if self.content_weight:
            content = content_of(train)
            encoder = ProfileEncoder().fit(*content)
            profiles_IT = _matrix(encoder.transform(*content))
            rows_TI = profiles_IT.T * np.float32(np.sqrt(self.content_weight * mean_square))
            matrix = sp.vstack([matrix, rows_TI], format="csr").astype(np.float32)
        where = torch_device(self.device).type
        num_users, num_items = matrix.shape
        smaller = min(num_users, num_items)
        self._check_memory(4 * (num_items**2 + smaller**2), psutil.virtual_memory().available, "memory")
        if where == "cuda":
            self._check_memory(8 * smaller**2, torch.cuda.mem_get_info()[0], "GPU memory")
        by_item = matrix.T.tocsr()
        if num_items <= num_users:
            weights_II = _inverse_gram(by_item, penalty, where)
            diagonal_F = weights_II.diagonal().copy()
            weights_II /= -diagonal_F
        else:
            weights_II = np.empty((num_items, num_items), np.float32)
            diagonal_F = np.empty(num_items, np.float32)
            inverse_UU = _inverse_gram(matrix, penalty, where)
            for start in track(range(0, num_items, BLOCK), "EASE: items"):
                some = slice(start, start + BLOCK)
                block_IB = by_item @ np.ascontiguousarray((by_item[some] @ inverse_UU).T)  # I - penalty * P
                left_B = 1 - block_IB[some].diagonal()
                weights_II[:, some], diagonal_F[some] = block_IB / left_B, left_B / penalty
        np.fill_diagonal(weights_II, 0)
        self.histories, self.weights_II, self.encoder = histories, weights_II, encoder
        self._know(profiles_IT, diagonal_F, np.array([self.content_weight * mean_square, penalty]))
        return self

    def grow(self, new: Dataset | Interactions) -> Self:
        """Add the items of `new` by their features and texts; return self. On an error all is as it was.

        Their weights, to and from all items, are those of a fit with them; weights among the items of the fit stay.

        Raises:
            ValueError: a model without `content_weight`, interactions, features of other columns or types than in training, or no ids.
        """
        self._check_fitted()
        if self.encoder is None or self.profiles_IT is None or self.diagonal_F is None or self.scales_2 is None:
            raise ValueError(
                "EASE knows items only by their interactions unless it is fitted with content_weight above 0"
            )
        new = only_items(new)
        known, grown = self.num_items, copy.copy(self)
        added = grown._aligned(new)
        content = content_of_new(new, grown.items, known)
        if content is None:
            return self
        profiles_IT = sp.vstack([self.profiles_IT, _matrix(self.encoder.transform(*content))], format="csr")
        num_fitted = len(self.diagonal_F)
        fitted_II, profiles_NT = self.weights_II[:num_fitted, :num_fitted], profiles_IT[num_fitted:]
        weight, penalty = self.scales_2
        shared_FN = (profiles_IT[:num_fitted] @ profiles_NT.T).toarray() * weight
        scaled_FN = self.diagonal_F[:, None] * shared_FN
        through_FN = scaled_FN - fitted_II @ scaled_FN.astype(np.float32)  # P shared, since P = (I - B) diag P
        own_NN = (profiles_NT @ profiles_NT.T).toarray() * weight + penalty * np.eye(profiles_NT.shape[0])
        inverse_NN = np.linalg.inv(own_NN - shared_FN.T @ through_FN)
        mixed_FN = through_FN @ inverse_NN
        diagonal_N = inverse_NN.diagonal()
        later_F = self.diagonal_F + np.einsum("fn,fn->f", mixed_FN, through_FN)  # of P with the new items
        weights_II = np.zeros((added.num_items, added.num_items), np.float32)
        weights_II[:num_fitted, :num_fitted] = fitted_II
        weights_II[:num_fitted, num_fitted:] = mixed_FN / diagonal_N
        weights_II[num_fitted:, :num_fitted] = (mixed_FN / later_F[:, None]).T
        weights_II[num_fitted:, num_fitted:] = -inverse_NN / diagonal_N
        np.fill_diagonal(weights_II, 0)
        grown.num_users, grown.num_items, grown.weights_II = added.num_users, added.num_items, weights_II
        grown.user_counts_U = np.pad(self.user_counts_U, (0, added.num_users - self.num_users))
        grown.item_counts_I = np.pad(self.item_counts_I, (0, added.num_items - known))
        grown.histories = self.histories.copy()
        grown.histories.resize(added.num_users, added.num_items)
        grown._know(profiles_IT, self.diagonal_F, self.scales_2)
        self.__dict__ = vars(grown)
        return self

    def _know(self, profiles_IT: sp.csr_matrix | None, diagonal_F: np.ndarray, scales_2: np.ndarray) -> None:
        """Keep what `grow` needs, where there is content."""
        there = profiles_IT is not None
        self.content_known_I = np.diff(profiles_IT.indptr) > 0 if profiles_IT is not None else None
        self.profiles_IT = profiles_IT
        self.diagonal_F, self.scales_2 = (diagonal_F, scales_2) if there else (None, None)

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state by name, with that of the encoder."""
        encoder = {} if self.encoder is None else self.encoder.arrays()
        return super().arrays() | {f"encoder_{name}": array for name, array in encoder.items()}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the fitted state that `arrays` returned, in place of `fit`."""
        super().restore(arrays)
        encoder = beginning("encoder_", arrays)
        self.encoder = ProfileEncoder.from_arrays(encoder) if encoder else None

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

    def item_sources(self) -> np.ndarray:
        """Return text [I], what the scores of each item rest on: "interactions", "features" or "nothing"."""
        sources_I = super().item_sources()
        return np.where((sources_I == "nothing") & self._known_items(), "features", sources_I)

    def _known_items(self) -> np.ndarray:
        known_I = super()._known_items()
        return known_I if self.content_known_I is None else known_I | self.content_known_I

    def _values(self, users_B: np.ndarray) -> sp.csr_matrix:
        return rows_of(self.histories, users_B)

    def _fold(self, histories: Interactions) -> sp.csr_matrix:
        return histories.by_user

    def _influential_items(self) -> np.ndarray:
        """Return bool [I]: interacted with beside another item, or with content. A pass over the log, made once for the histories of a fit."""
        histories, influential_I = self.__dict__.get("_influence", (None, np.zeros(0, bool)))
        if histories is not self.histories:
            several_U = np.diff(self.histories.indptr) > 1
            influential_I = (abs(self.histories).T @ several_U) > 0
            if self.content_known_I is not None:
                influential_I |= self.content_known_I
            self._influence = self.histories, influential_I
        return influential_I

    def _without_evidence(self, values: sp.csr_matrix) -> np.ndarray:
        return without_evidence(values, self._influential_items()[values.indices])

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


def _matrix(profiles: Profiles) -> sp.csr_matrix:
    """Return profiles as CSR float32 [R, T], in rows of length 1 or 0."""
    return sp.hstack([profiles.terms_RT, sp.csr_matrix(profiles.dense_RE)], format="csr")


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
