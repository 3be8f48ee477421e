"""A learned map from item profiles to vectors. R items, T terms, K content dimensions, D columns of the vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.data.profiles import Profiles

PENALTIES = np.logspace(-3, 3, 13)  # of the ridge, of which leave-one-out chooses
DAMPING = 10.0  # users; an item of n users weighs n / (n + DAMPING)


class ContentMapping:
    """Profiles, projected on their first `size` singular vectors, to vectors: by ridge regression or a perceptron.

    Args:
        how: "ridge", whose penalty minimizes the leave-one-out error; "network", scikit-learn's `MLPRegressor` with early
            stopping on a tenth of the items.
        size: K, at most; all terms as they are if there are no more.
        hidden_sizes: of the network.
        seed: of the SVD and the network.

    Attributes:
        components_TK: float32, the projection.
        layers: weights and biases, one pair a layer.
    """

    components_TK: np.ndarray
    layers: list[tuple[np.ndarray, np.ndarray]]

    def __init__(self, how: Literal["ridge", "network"], size: int, hidden_sizes: Sequence[int], seed: int) -> None:
        self.how, self.size, self.hidden_sizes, self.seed = how, size, list(hidden_sizes), seed

    def fit(self, profiles: Profiles, vectors_RD: np.ndarray, counts_R: np.ndarray) -> Self:
        """Learn from items with vectors, each weighted by its number of users; of a single item, that its vector is everyone's.

        Raises:
            ValueError: no item.
        """
        from sklearn.decomposition import TruncatedSVD
        from sklearn.linear_model import RidgeCV
        from sklearn.neural_network import MLPRegressor

        if not len(profiles):
            raise ValueError("an item must have both interactions and content to learn from, and none has")
        matrix = _together(profiles)
        if min(matrix.shape) > self.size:
            svd = TruncatedSVD(self.size, random_state=self.seed).fit(matrix)
            self.components_TK = np.ascontiguousarray(svd.components_.T, np.float32)
        else:
            self.components_TK = np.eye(matrix.shape[1], dtype=np.float32)
        content_RK = np.asarray(matrix @ self.components_TK, np.float64)
        if len(profiles) == 1:
            layers = [(np.zeros((content_RK.shape[1], vectors_RD.shape[1])), vectors_RD[0])]
        elif self.how == "ridge":
            ridge = RidgeCV(alphas=PENALTIES).fit(content_RK, vectors_RD, sample_weight=counts_R / (counts_R + DAMPING))
            layers = [
                (ridge.coef_.reshape(vectors_RD.shape[1], -1).T, np.broadcast_to(ridge.intercept_, vectors_RD.shape[1]))
            ]
        else:
            spread = max(float(vectors_RD.std()), 1e-12)
            network = MLPRegressor(
                hidden_layer_sizes=self.hidden_sizes, early_stopping=len(profiles) >= 20, random_state=self.seed
            )
            network.fit(content_RK, vectors_RD / spread)
            layers = list(zip(network.coefs_, network.intercepts_, strict=True))
            layers[-1] = (layers[-1][0] * spread, layers[-1][1] * spread)
        self.layers = [(np.asarray(w, np.float32), np.asarray(b, np.float32)) for w, b in layers]
        return self

    def predict(self, profiles: Profiles) -> np.ndarray:
        """Return float32 [R, D]."""
        values = np.asarray(_together(profiles) @ self.components_TK, np.float32)
        for depth, (weights, bias) in enumerate(self.layers, start=1):
            values = values @ weights + bias
            if depth < len(self.layers):
                values = np.maximum(values, 0)
        return values

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what was learned by name; no name contains a dot."""
        arrays = {"components_TK": self.components_TK}
        for depth, (weights, bias) in enumerate(self.layers):
            arrays |= {f"weights_{depth}": weights, f"bias_{depth}": bias}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Restore from `arrays`, to predict."""
        mapping = cls("ridge", arrays["components_TK"].shape[1], (), 0)
        mapping.components_TK = arrays["components_TK"]
        depth = sum(name.startswith("weights_") for name in arrays)
        mapping.layers = [(arrays[f"weights_{at}"], arrays[f"bias_{at}"]) for at in range(depth)]
        return mapping


def _together(profiles: Profiles) -> sp.csr_matrix:
    return sp.hstack([profiles.terms_RT, sp.csr_matrix(profiles.dense_RE)], format="csr")
