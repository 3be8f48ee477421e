"""Truncated SVD of the interaction matrix: PureSVD (Cremonesi et al. 2010, section 3.2) and its scaled form."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.arguments import Count, Seed
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.families.neighborhood import as_vectors
from recsys_dl.kernels.device import Device
from recsys_dl.kernels.eigenvectors import gram_eigenvectors
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.pair_dots import pair_dots
from recsys_dl.kernels.row_sums import row_sums
from recsys_dl.kernels.topk import top_k_dot
from recsys_dl.progress import waiting
from recsys_dl.protocols import Served

DENSE = 10  # with fewer users or items for each singular vector a full decomposition is cheaper than an iterative one
FEWEST = 128  # users and items for an iterative one


class SVD(CatalogModel):
    """score(u, .) = x_u Q Q^T: u's interactions, projected on the first right singular vectors of the (scaled) matrix.

    The matrix holds the weights, users by items. Before the decomposition, the column of item i is multiplied by
    |x_i|^(item_exponent - 1), which down-weights popular items (Nikolakopoulos et al. 2019, "EigenRec", section 3);
    x_u itself is not scaled. With item_exponent = 1 this is PureSVD.

    A user without interactions gets the most popular items; an item without users scores 0.

    Args:
        embedding_size: number of singular vectors. At most a quarter of the users or items, whichever are fewer,
            and at most the rank; keeping all would reproduce x_u itself.
        item_exponent: see above.
        seed: for the vectors that the iteration on large data starts from; it affects the result only by rounding.
        device: where the top k are computed.

    Attributes:
        singular_values_D: float32, largest first, of the scaled matrix.
        user_emb_UD: float32, x_u Q.
        item_emb_ID: float32, Q: orthonormal columns, the largest entry of each positive.

    Raises:
        ValueError: an embedding size below 1, or interactions whose weights are all 0.
        RuntimeError: the iteration does not converge, see `kernels.eigenvectors`.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import SVD
        >>> train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
        >>> SVD(embedding_size=2, device="cpu").fit(train).recommend([0], k=1, exclude=train).items_BK
        array([[2]], dtype=int32)
    """

    fitted = ("singular_values_D", "user_emb_UD", "item_emb_ID")
    item_parameters: ClassVar[tuple[str, ...]] = ("item_emb_ID",)
    singular_values_D: np.ndarray
    user_emb_UD: np.ndarray
    item_emb_ID: np.ndarray

    def __init__(
        self, *, embedding_size: Count = 50, item_exponent: float = 0.8, seed: Seed = 7, device: Device = "auto"
    ) -> None:
        self.embedding_size = embedding_size
        self.item_exponent = item_exponent
        self.seed = seed
        self.device = device

    def fit(self, train: Dataset | Interactions) -> Self:
        """Compute the singular vectors, in float64."""
        log = self._begin(train)
        weights_UI = log.by_user
        if not weights_UI.data.any():
            raise ValueError(
                "SVD needs an interaction with a weight above 0: a zero matrix has no meaningful singular vectors"
            )
        squares_N = np.square(weights_UI.data, dtype=np.float64)
        norms_I = np.sqrt(np.bincount(weights_UI.indices, squares_N, self.num_items))
        scale_I = np.power(norms_I, self.item_exponent - 1, out=np.zeros_like(norms_I), where=norms_I > 0)
        size = min(self.embedding_size, max(1, min(weights_UI.shape) // 4))
        with waiting("SVD"):
            values_D, emb_ID = _right_singular_vectors(log, scale_I, size, self.seed)
            self.user_emb_UD = row_sums(as_vectors(weights_UI), emb_ID).astype(np.float32)
        self.singular_values_D = values_D.astype(np.float32)
        self.item_emb_ID = np.ascontiguousarray(emb_ID, np.float32)
        return self

    def _bytes_needed(self) -> int:
        return super()._bytes_needed() // self.embedding_size * min(self.embedding_size, self.num_users, self.num_items)

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`."""
        from recsys_dl.families.served import Projection, inner_product, stored

        return inner_product(self, seen, stored(self, seen), self.item_emb_ID, Projection(self.item_emb_ID))

    def item_vectors(self) -> np.ndarray:
        """Return the item embeddings: scores are inner products with them."""
        self._check_fitted()
        return self.item_emb_ID

    def _values(self, users_B: np.ndarray) -> np.ndarray:
        return self.user_emb_UD[users_B]

    def _queries(self, values: np.ndarray) -> np.ndarray:
        return values

    def _fold(self, histories: Interactions) -> np.ndarray:
        return histories.by_user @ self.item_emb_ID

    def _scores(self, values: np.ndarray) -> np.ndarray:
        return values @ self.item_emb_ID.T

    def _top_k(
        self, values: np.ndarray, k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        return top_k_dot(values, self.item_emb_ID, k, exclude=exclude, allow=allow, device=self.device)

    def _pair_scores(self, values: np.ndarray, items_BL: np.ndarray) -> np.ndarray:
        return pair_dots(values, self.item_emb_ID, items_BL)

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        """Cosine of the items in the space of the singular vectors, scaled by the singular values."""
        return self._cosines(self.item_emb_ID * self.singular_values_D, items_B)


def _right_singular_vectors(
    log: Interactions, scale_I: np.ndarray, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest singular values [D] of the scaled matrix and their right vectors [I, D], D at most `size` and the rank."""
    smaller = min(log.by_user.shape)
    of_items = log.num_items == smaller
    if smaller < max(DENSE * size, FEWEST):
        matrix = log.by_user.astype(np.float64) @ sp.diags(scale_I)
        gram = (matrix.T @ matrix if of_items else matrix @ matrix.T).toarray()
        squares_D, vectors = scipy.linalg.eigh(gram, subset_by_index=[smaller - size, smaller - 1])
        squares_D, vectors = squares_D[::-1], vectors[:, ::-1]
    elif of_items:
        ones_U = np.ones(log.num_users)
        squares_D, vectors = gram_eigenvectors(as_vectors(log.by_user), ones_U, scale_I, size, seed=seed)
    else:
        ones_U = np.ones(log.num_users)
        squares_D, vectors = gram_eigenvectors(as_vectors(log.by_item), scale_I**2, ones_U, size, seed=seed)
    values_D = np.sqrt(np.maximum(squares_D, 0))
    keep_D = values_D > 1e-6 * values_D[0]  # smaller ones are square roots of rounding errors
    values_D, vectors = values_D[keep_D], vectors[:, keep_D]
    emb_ID = vectors if of_items else row_sums(as_vectors(log.by_item), vectors) * scale_I[:, None] / values_D
    largest_D = np.abs(emb_ID).argmax(axis=0)
    return values_D, emb_ID * np.sign(emb_ID[largest_D, np.arange(emb_ID.shape[1])])
