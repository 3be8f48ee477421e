"""Classification as a bandit: a row is shown, an arm is a guess of its class. A classes, F features, B requests."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .chance import REQUESTS, uniform
from .world import World


class Labeled(World):
    """Each request is a row of labeled data, drawn at random; the arm that is its class earns 1, the others 0.

    Args:
        source: "digits": the 1,797 images of handwritten digits of scikit-learn, pixels in [0, 1]; "covertype_like": 50,000 rows, generated with
            the number of classes (7), of features (54) and the class frequencies of Covertype (Blackard and Dean 1999), standardized.
        **options: of every world.

    Attributes:
        features_NF: float32; the first is 1.
        labels_N: int64.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.simulation import Labeled
        >>> world = Labeled(source="digits")
        >>> world.num_arms, world.context_size, world.chances(np.arange(2)).sum(1).tolist()
        (10, 65, [1.0, 1.0])
    """

    features_NF: np.ndarray
    labels_N: np.ndarray

    def __init__(self, *, source: Literal["digits", "covertype_like"] = "digits", **options: Any) -> None:
        self.source = source
        features_NX, self.labels_N = _digits() if source == "digits" else _covertype_like()
        self.features_NF = np.concatenate([np.ones((len(features_NX), 1)), features_NX], axis=1).astype(np.float32)
        self.num_arms, self.context_size = int(self.labels_N.max()) + 1, self.features_NF.shape[1]
        super().__init__(**options)

    def _begin(self, rng: np.random.Generator) -> None:
        pass

    def contexts(self, requests_B: np.ndarray) -> np.ndarray:
        """Return float32 [B, F]: 1 and the row's features."""
        return self.features_NF[self._rows(requests_B)]

    def chances(self, requests_B: np.ndarray) -> np.ndarray:
        """Return float64 [B, A]: 1 for the row's class."""
        return np.eye(self.num_arms)[self.labels_N[self._rows(requests_B)]]

    def _rows(self, requests_B: np.ndarray) -> np.ndarray:
        return (uniform(self.seed, REQUESTS, requests_B) * len(self.labels_N)).astype(np.int64)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    features, labels = load_digits(return_X_y=True)
    return features / 16, labels.astype(np.int64)


def _covertype_like() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import make_classification

    features, labels = make_classification(
        50_000,
        54,
        n_informative=12,
        n_redundant=10,
        n_classes=7,
        n_clusters_per_class=2,
        weights=[0.365, 0.488, 0.062, 0.005, 0.016, 0.030, 0.035],
        class_sep=1.5,
        flip_y=0.05,
        random_state=0,
    )
    return (features - features.mean(0)) / features.std(0), labels.astype(np.int64)
