"""A learned map from item profiles to vectors. R items, T terms, K content dimensions, D columns of the vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.data.profiles import Profiles

PENALTIES = np.logspace(-3, 3, 13)  # of the ridge, of which the error on other items chooses
MANY_TERMS = 512  # beyond, the ridge is solved on sparse profiles, and its penalty chosen on held-out items
NETWORK_SIZE = 256  # K of a network, unless given
SOLVED = 1e-3  # relative residual of a sparse ridge
HELD_OUT = 10  # one item in so many chooses the penalty of a sparse ridge
FOLDS = 5  # of the items, for vectors made by maps of other items
NEIGHBORS = 20  # items whose vectors are averaged
AT_ONCE = 256  # rows
DAMPING = 10.0  # users; an item of n users weighs n / (n + DAMPING)

Mapped = Literal["ridge", "neighbors", "network"]


class ContentMapping:
    """Profiles to vectors: by ridge regression, or by a perceptron on the first singular vectors of the profiles.

    Args:
        how: "ridge", whose penalty minimizes the leave-one-out error or, of more than 512 terms, that on a tenth of the items;
            "neighbors", the mean of the vectors of the 20 most similar items, weighted by similarity;
            "network", scikit-learn's `MLPRegressor` with early stopping on a tenth of the items.
        size: K, the singular vectors that profiles are projected on; all terms as they are if there are no more. None: all terms
            for the ridge, 256 for the network.
        hidden_sizes: of the network.
        seed: of the SVD and the network.

    Attributes:
        components_TK: float32, the projection; None where the first layer takes the terms as they are.
        layers: weights and biases, one pair a layer.
        penalty: chosen for the ridge; None for a network.
    """

    components_TK: np.ndarray | None
    layers: list[tuple[np.ndarray, np.ndarray]]
    penalty: float | None = None
    neighbors: tuple[Any, np.ndarray] | None = None

    def __init__(self, how: Mapped, size: int | None, hidden_sizes: Sequence[int], seed: int) -> None:
        self.how, self.size, self.hidden_sizes, self.seed = how, size, list(hidden_sizes), seed

    def fit(self, profiles: Profiles, vectors_RD: np.ndarray, counts_R: np.ndarray) -> Self:
        """Learn from items with vectors, each weighted by its number of users; of a single item, that its vector is everyone's.

        Raises:
            ValueError: no item.
        """
        from sklearn.decomposition import TruncatedSVD
        from sklearn.neural_network import MLPRegressor

        if not len(profiles):
            raise ValueError("an item must have both interactions and content to learn from, and none has")
        matrix = _together(profiles)
        size = NETWORK_SIZE if self.size is None and self.how == "network" else self.size
        self.components_TK = None
        if size is not None and min(matrix.shape) > size:
            svd = TruncatedSVD(size, random_state=self.seed).fit(matrix)
            self.components_TK = np.ascontiguousarray(svd.components_.T, np.float32)
        content_RK = self._content(profiles)
        self.neighbors = None
        layers: list[tuple[np.ndarray, np.ndarray]] = []
        if self.how == "neighbors":
            weights_R1 = (counts_R / (counts_R + DAMPING))[:, None]
            self.neighbors = content_RK, np.hstack([vectors_RD * weights_R1, weights_R1]).astype(np.float32)
        elif len(profiles) == 1:
            layers = [(np.zeros((content_RK.shape[1], vectors_RD.shape[1])), vectors_RD[0])]
        elif self.how == "ridge":
            weights_R = counts_R / (counts_R + DAMPING)
            if self.penalty is None:
                self.penalty = _best_penalty(content_RK, vectors_RD, weights_R, self.seed)
            layers = [_ridge(content_RK, vectors_RD, weights_R, self.penalty)]
        else:
            spread = max(float(vectors_RD.std()), 1e-12)
            network = MLPRegressor(
                hidden_layer_sizes=self.hidden_sizes, early_stopping=len(profiles) >= 20, random_state=self.seed
            )
            network.fit(_dense(content_RK), vectors_RD / spread)
            layers = list(zip(network.coefs_, network.intercepts_, strict=True))
            layers[-1] = (layers[-1][0] * spread, layers[-1][1] * spread)
        self.layers = [(np.asarray(w, np.float32), np.asarray(b, np.float32)) for w, b in layers]
        return self

    def predict(self, profiles: Profiles) -> np.ndarray:
        """Return float32 [R, D]."""
        values: Any = self._content(profiles)
        if self.neighbors is not None:
            return _mean_of_nearest(values, *self.neighbors)
        for depth, (weights, bias) in enumerate(self.layers, start=1):
            values = np.asarray(values @ weights, np.float32) + bias
            if depth < len(self.layers):
                values = np.maximum(values, 0)
        return values

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what was learned by name; no name contains a dot."""
        arrays = {} if self.components_TK is None else {"components_TK": self.components_TK}
        for depth, (weights, bias) in enumerate(self.layers):
            arrays |= {f"weights_{depth}": weights, f"bias_{depth}": bias}
        if self.neighbors is not None:
            arrays |= {"neighbors_RK": self.neighbors[0], "neighbors_RD": self.neighbors[1]}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Restore from `arrays`, to predict."""
        mapping = cls("ridge", None, (), 0)
        mapping.components_TK = arrays.get("components_TK")
        depth = sum(name.startswith("weights_") for name in arrays)
        mapping.layers = [(arrays[f"weights_{at}"], arrays[f"bias_{at}"]) for at in range(depth)]
        if "neighbors_RD" in arrays:
            mapping.neighbors = arrays["neighbors_RK"], arrays["neighbors_RD"]
        return mapping

    def _content(self, profiles: Profiles) -> Any:
        """Return CSR [R, T], or dense [R, K] where projected."""
        matrix = _together(profiles)
        return matrix if self.components_TK is None else np.asarray(matrix @ self.components_TK)


def _mean_of_nearest(content_BK: Any, neighbors_RK: Any, neighbors_RD: np.ndarray) -> np.ndarray:
    """Return float32 [B, D]: the weighted mean of the vectors of each row's most similar neighbors; 0 without any."""
    made_BD = np.zeros((content_BK.shape[0], neighbors_RD.shape[1] - 1), np.float32)
    count = min(NEIGHBORS, len(neighbors_RD))
    for start in range(0, len(made_BD), AT_ONCE):
        block = slice(start, start + AT_ONCE)
        near_BR = np.maximum(_dense(content_BK[block] @ neighbors_RK.T), 0)
        best_BN = np.argpartition(-near_BR, count - 1, axis=1)[:, :count]
        near_BN = np.take_along_axis(near_BR, best_BN, axis=1)
        sums_BD = np.einsum("bn,bnd->bd", near_BN, neighbors_RD[best_BN])
        made_BD[block] = sums_BD[:, :-1] / np.maximum(sums_BD[:, -1:], 1e-12)
    return made_BD


def vectors_by_others(
    mapping: ContentMapping, profiles: Profiles, vectors_RD: np.ndarray, counts_R: np.ndarray
) -> np.ndarray:
    """Return float32 [R, D]: the vector of each item by a ridge of the items in other folds, with the penalty of a fitted `mapping`.

    They are as far from `vectors_RD` as those of new items will be, so that a network which takes them learns what they are worth. A single
    item has its own vector.
    """
    made_RD = np.asarray(vectors_RD, np.float32).copy()
    folds = min(FOLDS, len(profiles))
    fold_R = np.random.default_rng(mapping.seed).permutation(len(profiles)) % folds
    for fold in range(folds if folds > 1 else 0):
        inside, outside = np.flatnonzero(fold_R != fold), np.flatnonzero(fold_R == fold)
        one = ContentMapping("ridge", mapping.size, (), mapping.seed)
        one.penalty = mapping.penalty
        one.fit(profiles.rows(inside), vectors_RD[inside], counts_R[inside])
        made_RD[outside] = one.predict(profiles.rows(outside))
    return made_RD


def _best_penalty(content_RK: Any, vectors_RD: np.ndarray, weights_R: np.ndarray, seed: int) -> float:
    """Return the penalty that minimizes the weighted squared error on items that the map was not fitted on."""
    from sklearn.linear_model import RidgeCV

    if not _is_sparse(content_RK):
        ridge = RidgeCV(alphas=PENALTIES).fit(_dense(content_RK), vectors_RD, sample_weight=weights_R)
        return float(ridge.alpha_)
    held_R = np.random.default_rng(seed).permutation(len(weights_R)) % HELD_OUT == 0
    best, penalty = np.inf, PENALTIES[-1]
    for candidate in PENALTIES[::-1]:  # solved the faster, the larger
        weights, bias = _ridge(content_RK[~held_R], vectors_RD[~held_R], weights_R[~held_R], candidate)
        error_R = ((content_RK[held_R] @ weights + bias - vectors_RD[held_R]) ** 2).sum(axis=1)
        error = float(weights_R[held_R] @ error_R)
        if error > best:
            break
        best, penalty = error, candidate
    return float(penalty)


def _ridge(
    content_RK: Any, vectors_RD: np.ndarray, weights_R: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights [K, D] and bias [D] of the linear map with the least weighted squared error and penalty."""
    from sklearn.linear_model import Ridge

    if _is_sparse(content_RK):
        ridge = Ridge(penalty, solver="sparse_cg", tol=SOLVED).fit(content_RK, vectors_RD, sample_weight=weights_R)
    else:
        ridge = Ridge(penalty).fit(_dense(content_RK), vectors_RD, sample_weight=weights_R)
    size = vectors_RD.shape[1]
    return ridge.coef_.reshape(size, -1).T, np.broadcast_to(ridge.intercept_, size)


def _is_sparse(content_RK: Any) -> bool:
    """Return whether the ridge is solved on sparse content."""
    return sp.issparse(content_RK) and min(content_RK.shape) > MANY_TERMS


def _dense(content_RK: Any) -> np.ndarray:
    return np.asarray(content_RK.toarray() if sp.issparse(content_RK) else content_RK, np.float64)


def _together(profiles: Profiles) -> sp.csr_matrix:
    return sp.hstack([profiles.terms_RT, sp.csr_matrix(profiles.dense_RE)], format="csr")
