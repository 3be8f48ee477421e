"""Beyond-accuracy metrics: coverage, concentration, novelty, popularity lift and diversity of lists.

B users, I items, K ranks, D vector size. Lists are item rows, best first, padded with -1; means over a list are
over its items, and 0 for an empty list.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numba import njit, prange


def exposures(items_BK: np.ndarray, k: int, num_items: int) -> np.ndarray:
    """Return int64 [I]: the number of lists with each item in the top k.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.catalog import exposures
        >>> exposures(np.array([[0, 2], [0, -1]]), k=2, num_items=4)
        array([2, 0, 1, 0])
    """
    shown = items_BK[:, :k]
    return np.bincount(shown[shown >= 0], minlength=num_items)


def coverage(exposures_I: np.ndarray) -> float:
    """Return the share of all items that appear in at least one list (Ge et al. 2010, "Beyond Accuracy", section 2).

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.catalog import coverage
        >>> coverage(np.array([2, 0, 1, 0]))
        0.5
    """
    return float((exposures_I > 0).mean())


def gini(exposures_I: np.ndarray) -> float:
    """Return the Gini index of item exposure: 0 if all are equal, (I - 1) / I if one item takes every position.

    Half the mean absolute difference over the mean (Gini 1912; for recommenders Fleder and Hosanagar 2009, "Blockbuster
    Culture's Next Rise or Fall"), over all items, shown or not; 0 if nothing is shown.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.catalog import gini
        >>> gini(np.array([5, 5, 5, 5])), gini(np.array([20, 0, 0, 0]))
        (0.0, 0.75)
    """
    ordered = np.sort(exposures_I).astype(np.float64)
    total, size = ordered.sum(), len(ordered)
    if not total:
        return 0.0
    return float((2 * np.arange(1, size + 1) - size - 1) @ ordered / (size * total))


def novelty(items_BK: np.ndarray, k: int, item_counts_I: np.ndarray, num_users: int) -> np.ndarray:
    """Return float64 [B]: mean self-information of the first k items, in bits.

    log2(num_users / users of the item), from Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma of
    recommender systems". An item without users counts as having one.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.catalog import novelty
        >>> novelty(np.array([[0, 1]]), k=2, item_counts_I=np.array([4, 1]), num_users=8)
        array([2.])
    """
    bits_I = np.log2(max(num_users, 1) / np.maximum(item_counts_I, 1))
    return list_means(items_BK, k, bits_I)


def popularity_lift(recommended_B: np.ndarray, profile_B: np.ndarray) -> np.ndarray:
    """Return float64 [B]: each user's popularity lift; the mean weighted by `profile_B` is the overall popularity lift.

    (GAP of the lists - GAP of the profiles) / GAP of the profiles, where GAP is the mean over users of the mean popularity of
    the items in their list, or in their profile: Abdollahpouri et al. 2020, "The Connection Between Popularity Bias, Calibration, and Fairness
    in Recommendation", section 3. 0 means as popular as users' profiles, 1 twice as popular. A user without a profile has no
    lift (NaN).

    Args:
        recommended_B: mean popularity of each user's list, from `list_means`.
        profile_B: mean popularity of each user's profile, 0 if empty.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.catalog import popularity_lift
        >>> popularity_lift(np.array([6.0, 2.0]), np.array([3.0, 2.0]))
        array([1., 0.])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(profile_B > 0, recommended_B / profile_B - 1, np.nan)


def profile_means(profiles: sp.csr_matrix, values_I: np.ndarray) -> np.ndarray:
    """Return float64 [B]: the mean of `values_I` over the stored entries of each CSR row, 0 for an empty row.

    Examples:
        >>> import numpy as np, scipy.sparse as sp
        >>> from recsys_dl.metrics.catalog import profile_means
        >>> profile_means(sp.csr_matrix([[1, 0, 1], [0, 0, 0]]), np.array([1.0, 5.0, 3.0]))
        array([2., 0.])
    """
    pattern = sp.csr_matrix((np.ones(profiles.nnz), profiles.indices, profiles.indptr), shape=profiles.shape)
    return (pattern @ np.asarray(values_I, np.float64)) / np.maximum(np.diff(profiles.indptr), 1)


def list_means(items_BK: np.ndarray, k: int, values_I: np.ndarray) -> np.ndarray:
    """Return float64 [B]: the mean of `values_I` over the first k items of each list.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.catalog import list_means
        >>> list_means(np.array([[0, 2], [1, -1]]), k=2, values_I=np.array([1.0, 5.0, 3.0]))
        array([2., 5.])
    """
    shown = items_BK[:, :k]
    there = shown >= 0
    total_B = np.where(there, np.asarray(values_I, np.float64)[np.maximum(shown, 0)], 0.0).sum(axis=1)
    return total_B / np.maximum(there.sum(axis=1), 1)


def unit_rows(item_vectors_ID: np.ndarray) -> np.ndarray:
    """Return float64 [I, D]: the vectors divided by their lengths; zero vectors stay.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.catalog import unit_rows
        >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
        array([[0.6, 0.8],
               [0. , 0. ]])
    """
    vectors = np.asarray(item_vectors_ID, np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def vector_similarity(items_BK: np.ndarray, unit_ID: np.ndarray) -> np.ndarray:
    """Return float64 [B, K]: for each rank, the sum of its item's cosines with the items ranked above it.

    The cosines of an item with a zero vector are 0.

    Args:
        items_BK: lists.
        unit_ID: from `unit_rows`.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.catalog import unit_rows, vector_similarity
        >>> vector_similarity(np.array([[0, 1, 2]]), unit_rows(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])))
        array([[0., 1., 0.]])
    """
    above_BD = np.zeros((len(items_BK), unit_ID.shape[1]))
    similarity_BK = np.zeros(items_BK.shape)
    for rank, items_B in enumerate(items_BK.T):
        here_BD = np.where(items_B[:, None] >= 0, unit_ID[np.maximum(items_B, 0)], 0.0)
        similarity_BK[:, rank] = np.einsum("bd,bd->b", here_BD, above_BD)
        above_BD += here_BD
    return similarity_BK


class CommonUsers:
    """How many users any two items share; packed once, for many lists.

    The users of an item that at least one in 64 interacted with are a row of bits, at most 8 bytes per interaction; two such rows are compared
    64 users at a time.

    Args:
        users_of_items: CSR [I, U], one row per item (`Interactions.by_item`).

    Examples:
        >>> import numpy as np
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.metrics.catalog import CommonUsers
        >>> CommonUsers(Interactions([0, 0, 1], [0, 1, 2]).by_item).similarity(np.array([[0, 1, 2]]))
        array([[0., 1., 0.]])
    """

    def __init__(self, users_of_items: sp.csr_matrix) -> None:
        self.indptr, self.indices = users_of_items.indptr.astype(np.int64), users_of_items.indices
        self.counts_I = np.diff(self.indptr)
        words = -(-users_of_items.shape[1] // 64)
        packed = np.flatnonzero(self.counts_I >= max(words, 1))
        self.place_I = np.full(len(self.counts_I), -1, np.int64)
        self.place_I[packed] = np.arange(len(packed))
        self.bits = np.zeros((len(packed), words), np.uint64)
        _pack(packed, self.indptr, self.indices, self.bits)

    def similarity(self, items_BK: np.ndarray) -> np.ndarray:
        """Return float64 [B, K], as `vector_similarity`, by the cosine of the items' user sets: |U_i and U_j| / sqrt(|U_i| |U_j|).

        Memory is 24 bytes per pair of ranks in the lists, never I x I; each pair of items is computed once, regardless of the number
        of lists it occurs in.

        Args:
            items_BK: lists.
        """
        lists, ranks = items_BK.shape
        later, earlier = np.tril_indices(ranks, -1)
        first, second = items_BK[:, later].astype(np.int64), items_BK[:, earlier].astype(np.int64)
        there = (first >= 0) & (second >= 0)
        swap = self.counts_I[first] < self.counts_I[second]  # the more popular one first
        codes = np.where(swap, second, first) * len(self.counts_I) + np.where(swap, first, second)
        pairs, position = np.unique(codes[there], return_inverse=True)
        left, right = np.divmod(pairs, max(1, len(self.counts_I)))
        shared = _shared_users(left, right, self.place_I, self.bits, self.indptr, self.indices)
        cosines = np.zeros(there.shape)
        both = 1.0 * self.counts_I[left] * self.counts_I[right]
        cosines[there] = (shared / np.sqrt(np.maximum(both, 1.0)))[position]
        similarity_BK = np.zeros((lists, ranks))
        for rank in range(1, ranks):
            similarity_BK[:, rank] = cosines[:, later == rank].sum(axis=1)
        return similarity_BK


def diversity(similarity_BK: np.ndarray, items_BK: np.ndarray, k: int) -> np.ndarray:
    """Return float64 [B]: one minus the mean similarity over all pairs of the top k items; 0 for fewer than two.

    Intra-list distance (Zhang and Hurley 2008, "Avoiding Monotony"; the complement of Ziegler et al. 2005's similarity).

    Args:
        similarity_BK: from `vector_similarity` or `CommonUsers.similarity` over the same lists.
        items_BK: the lists.
        k: ranks counted.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.catalog import diversity, unit_rows, vector_similarity
        >>> items = np.array([[0, 1, 2]])
        >>> similarity = vector_similarity(items, unit_rows(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])))
        >>> diversity(similarity, items, k=3).round(3)
        array([0.667])
    """
    length_B = (items_BK[:, :k] >= 0).sum(axis=1)
    pairs_B = length_B * (length_B - 1) / 2
    return np.where(pairs_B > 0, 1 - similarity_BK[:, :k].sum(axis=1) / np.maximum(pairs_B, 1), 0.0)


@njit(cache=True, nogil=True, parallel=True)
def _pack(items, indptr, indices, bits):
    """Set the bit of each user of the items."""
    for row in prange(len(items)):
        for at in range(indptr[items[row]], indptr[items[row] + 1]):
            user = np.uint64(indices[at])
            bits[row, user >> np.uint64(6)] |= np.uint64(1) << (user & np.uint64(63))


@njit(cache=True, nogil=True)
def _common_bits(left, right):
    """Return how many bits are set in both rows: Warren 2002, "Hacker's Delight", figure 5-2, in each word."""
    total = np.uint64(0)
    for word in range(len(left)):
        x = left[word] & right[word]
        x -= (x >> np.uint64(1)) & np.uint64(0x5555555555555555)
        x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
        x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        x += x >> np.uint64(8)
        x += x >> np.uint64(16)
        total += (x + (x >> np.uint64(32))) & np.uint64(127)
    return total


@njit(cache=True, nogil=True, parallel=True)
def _shared_users(left, right, place, bits, indptr, indices):
    """Count common users of the pairs (left, right), the first of which has no fewer users."""
    shared = np.zeros(len(left), np.int64)
    parts = min(len(left), 64)
    for part in prange(parts):
        for pair in range(part, len(left), parts):
            one, other = place[left[pair]], place[right[pair]]
            at, end = indptr[right[pair]], indptr[right[pair] + 1]
            if other >= 0:
                shared[pair] = _common_bits(bits[one], bits[other])
            elif one >= 0:
                for n in range(at, end):
                    user = np.uint64(indices[n])
                    shared[pair] += (bits[one, user >> np.uint64(6)] >> (user & np.uint64(63))) & np.uint64(1)
            else:
                first, last = indptr[left[pair]], indptr[left[pair] + 1]
                while first < last and at < end:
                    step = indices[first] - indices[at]
                    shared[pair] += step == 0
                    first += step <= 0
                    at += step >= 0
    return shared
