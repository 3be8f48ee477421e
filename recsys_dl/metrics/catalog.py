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


def vector_similarity(items_BK: np.ndarray, item_vectors_ID: np.ndarray) -> np.ndarray:
    """Return float64 [B, K]: for each rank, the sum of its item's cosines with the items ranked above it.

    The cosines of an item with a zero vector are 0.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.catalog import vector_similarity
        >>> vector_similarity(np.array([[0, 1, 2]]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        array([[0., 1., 0.]])
    """
    vectors = np.asarray(item_vectors_ID, np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    above_BD = np.zeros((len(items_BK), vectors.shape[1]))
    similarity_BK = np.zeros(items_BK.shape)
    for rank, items_B in enumerate(items_BK.T):
        here_BD = np.where(items_B[:, None] >= 0, unit[np.maximum(items_B, 0)], 0.0)
        similarity_BK[:, rank] = (here_BD * above_BD).sum(axis=1)
        above_BD += here_BD
    return similarity_BK


def cooccurrence_similarity(items_BK: np.ndarray, users_of_items: sp.csr_matrix) -> np.ndarray:
    """Return the same as `vector_similarity` for the cosine of the items' user sets.

    |U_i and U_j| / sqrt(|U_i| |U_j|). Memory is 24 bytes per pair of ranks in the lists, never I x I; each pair
    of items is computed once, regardless of the number of lists it occurs in.

    Args:
        items_BK: lists.
        users_of_items: CSR [I, U], one row per item (`Interactions.by_item`).

    Examples:
        >>> import numpy as np
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.metrics.catalog import cooccurrence_similarity
        >>> cooccurrence_similarity(np.array([[0, 1, 2]]), Interactions([0, 0, 1], [0, 1, 2]).by_item)
        array([[0., 1., 0.]])
    """
    lists, ranks = items_BK.shape
    later, earlier = np.tril_indices(ranks, -1)
    first, second = items_BK[:, later].astype(np.int64), items_BK[:, earlier].astype(np.int64)
    counts_I = np.diff(users_of_items.indptr)
    there = (first >= 0) & (second >= 0)
    swap = counts_I[first] < counts_I[second]  # the more popular one first: mark its users, look up the other's
    codes = np.where(swap, second, first) * len(counts_I) + np.where(swap, first, second)
    pairs, position = np.unique(codes[there], return_inverse=True)
    left, right = np.divmod(pairs, len(counts_I))
    starts = np.flatnonzero(np.diff(left, prepend=-1))
    shared = _shared_users(
        np.append(starts, len(left)),
        left,
        right,
        users_of_items.indptr,
        users_of_items.indices,
        users_of_items.shape[1],
    )
    cosines = np.zeros(there.shape)
    cosines[there] = (shared / np.sqrt(np.maximum(1.0 * counts_I[left] * counts_I[right], 1.0)))[position]
    similarity_BK = np.zeros((lists, ranks))
    for rank in range(1, ranks):
        similarity_BK[:, rank] = cosines[:, later == rank].sum(axis=1)
    return similarity_BK


def diversity(similarity_BK: np.ndarray, items_BK: np.ndarray, k: int) -> np.ndarray:
    """Return float64 [B]: one minus the mean similarity over all pairs of the top k items; 0 for fewer than two.

    Intra-list distance (Zhang and Hurley 2008, "Avoiding Monotony"; the complement of Ziegler et al. 2005's similarity).

    Args:
        similarity_BK: from `vector_similarity` or `cooccurrence_similarity` over the same lists.
        items_BK: the lists.
        k: ranks counted.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.catalog import diversity, vector_similarity
        >>> items = np.array([[0, 1, 2]])
        >>> similarity = vector_similarity(items, np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        >>> diversity(similarity, items, k=3).round(3)
        array([0.667])
    """
    length_B = (items_BK[:, :k] >= 0).sum(axis=1)
    pairs_B = length_B * (length_B - 1) / 2
    return np.where(pairs_B > 0, 1 - similarity_BK[:, :k].sum(axis=1) / np.maximum(pairs_B, 1), 0.0)


@njit(cache=True, nogil=True, parallel=True)
def _shared_users(starts, left, right, indptr, indices, num_users):
    """Count common users of the pairs (left, right), which are grouped by `left`: group g is starts[g]:starts[g + 1]."""
    shared = np.zeros(len(left), np.int64)
    groups = len(starts) - 1
    parts = min(groups, 64)
    for part in prange(parts):
        marked = np.full(num_users, -1, np.int64)
        for g in range(part, groups, parts):
            item = left[starts[g]]
            for at in range(indptr[item], indptr[item + 1]):
                marked[indices[at]] = item
            for pair in range(starts[g], starts[g + 1]):
                other = right[pair]
                count = 0
                for at in range(indptr[other], indptr[other + 1]):
                    count += marked[indices[at]] == item
                shared[pair] = count
    return shared
