"""Factorization with features by Adagrad: a user's or item's vector is the sum of the vectors of its features, its id among them.

Kula 2015, "Metadata Embeddings for User and Item Cold-start Recommendations". A vector is the embedding, the bias and a constant
1, arranged so that a score is one inner product: <(p_u, b_u, 1), (q_i, 1, b_i)>. Each pair (u, i) of the log is compared with
items j that u did not interact with:

- "bpr": one j, ln(1 + exp(s_j - s_i)) (Rendle et al. 2009).
- "warp": j is drawn up to `max_sampled` times, until s_j > s_i - 1; at the k-th draw the rank of i is about
  r = floor(others / k), and the loss is (1 + 1/2 + ... + 1/r) (1 - s_i + s_j) (Weston, Bengio, Usunier 2011, "WSABIE: Scaling Up
  To Large Vocabulary Image Annotation", eq. 4 to 8). Without such a j the pair changes nothing.
- "logistic": one j, ln(1 + exp(-s_i)) + ln(1 + exp(s_j)).

An epoch takes the pairs in random order in batches (`batch_pairs`). A batch computes all vectors, then the gradients of its pairs,
summed for each feature, and takes one step for each feature (Duchi, Hazan, Singer 2011, "Adaptive Subgradient Methods for Online
Learning and Stochastic Optimization": coordinates have their own step size, rate / sqrt(1 + sum of squared gradients)).
Threads share vectors and pairs, and after that the coordinates, whose sums are taken in the order of the pairs: an epoch is
bitwise identical on any number of threads. There is no CUDA twin yet.

U users, I items, N pairs, P pairs of a batch, B users and S items in it, W = D + 2.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange

from .draws import NO_WEIGHTS, ItemWeights, bisect, nth_other, rank_among_all
from .feature_sides import START, Side, descend_side, ends_without_ids, features_of, numbered, vectors_up_to
from .random import random_below, random_bits, stream_key

LOSSES = ("bpr", "warp", "logistic")
LEAST_COLUMNS = 8  # of a thread
LEAST_BATCHES = 64  # in an epoch
LEAST_PAIRS = 16  # in a batch
ITEMS_A_PAIR = 8  # vectors of the catalog that are computed for one pair of a batch
REORDER = {"reassoc", "contract", "nsz", "arcp"}  # sums may be vectorized; exp may overflow to inf


def batch_pairs(num_items: int, num_pairs: int) -> int:
    """Return P: enough pairs that computing all items costs no more than the pairs do, but several batches in an epoch."""
    return max(LEAST_PAIRS, min(num_items // ITEMS_A_PAIR, num_pairs // LEAST_BATCHES))


def feature_epoch(
    indptr_U1: np.ndarray,
    indices_N: np.ndarray,
    users: Side,
    items: Side,
    *,
    loss: str,
    max_sampled: int,
    learning_rate: float,
    regularization: float,
    id_dropout: float,
    seed: int,
    epoch: int,
    weights: ItemWeights | None = None,
    batch: int | None = None,
) -> None:
    """Take each pair once, changing `emb_VW` and `squares_VW` of both sides in place.

    Args:
        indptr_U1: int64 [U + 1]; with `indices_N` a CSR of the pairs.
        indices_N: int32, ascending and distinct within a user.
        users: features of the users.
        items: features of the items; all of them are compared with.
        loss: one of `LOSSES`.
        max_sampled: most draws of j for a pair; "warp" only.
        learning_rate: of Adagrad.
        regularization: penalty on each feature's vector, for every pair that it takes part in.
        id_dropout: share of the items with features whose id is left out of a batch.
        seed: for order, draws and what is left out.
        epoch: each epoch gets others.
        weights: from `negatives.item_weights`: j is drawn in proportion to them, by "bpr" and "logistic"; None draws uniformly.
        batch: P; None means `batch_pairs`.
    """
    num_pairs, num_items = len(indices_N), len(items.indptr_R1) - 1
    key = stream_key(seed, epoch)
    with np.errstate(over="ignore"):
        order_N = np.argsort(random_bits(~key, np.arange(num_pairs, dtype=np.uint64)), kind="stable")
    users_N = np.repeat(np.arange(len(indptr_U1) - 1, dtype=np.int32), np.diff(indptr_U1))
    log = (users_N, indptr_U1, indices_N)
    size = batch or batch_pairs(num_items, num_pairs)
    draws = _draws(loss, max_sampled, num_items, weights)
    rate, penalty = np.float32(learning_rate), np.float32(regularization)
    slots = [np.full(len(of), -1, np.int32) for side in (users, items) for of in (side.indptr_R1, side.emb_VW)]
    everything_I = np.arange(num_items, dtype=np.int32)
    threads = max(1, min(get_num_threads(), users.emb_VW.shape[1] // LEAST_COLUMNS))
    for number, start in enumerate(range(0, num_pairs, size)):
        pairs_P = order_N[start : start + size]
        ends_U, ends_I = users.indptr_R1[1:], ends_without_ids(items, stream_key(int(key), number), id_dropout)
        some_B, places_P = numbered(users_N[pairs_P], slots[0])
        users_BW, items_IW = vectors_up_to(users, ends_U, some_B), vectors_up_to(items, ends_I, everything_I)
        compared = _compare_cpu(pairs_P, *log, places_P, users_BW, items_IW, *draws, key)
        _descend(
            places_P, some_B, compared, users_BW, items_IW, users, ends_U, items, ends_I, slots, rate, penalty, threads
        )


def fold_users(
    indptr_B1: np.ndarray,
    indices_N: np.ndarray,
    start_BW: np.ndarray,
    item_vecs_IW: np.ndarray,
    *,
    loss: str,
    max_sampled: int,
    epochs: int,
    learning_rate: float,
    regularization: float,
    seed: int,
    weights: ItemWeights | None = None,
) -> np.ndarray:
    """Return vectors of users who were not in training: the same steps, pair by pair, with the items and users' features fixed.

    A user's own embedding starts at 0 and takes `epochs` passes over their pairs, with a learning rate that decays linearly to 0.

    Args:
        indptr_B1: int64 [B + 1]; with `indices_N` a CSR of these users' pairs.
        indices_N: int32, ascending and distinct within a user.
        start_BW: float32, the users' vectors by their features alone.
        item_vecs_IW: float32, C-contiguous.
        loss: as in `feature_epoch`, likewise the rest.
        max_sampled: most draws of j for a pair.
        epochs: passes over a user's pairs.
        learning_rate: in the first pass.
        regularization: penalty on the user's own embedding.
        seed: for the draws.
        weights: from `negatives.item_weights`, of these users' pairs.

    Returns:
        float32 [B, W]. A row depends on that user's pairs and start alone.
    """
    vectors_BW = np.array(start_BW, np.float32, order="C")
    draws = _draws(loss, max_sampled, len(item_vecs_IW), weights)
    rates = (np.float32(learning_rate), np.float32(regularization), np.float32(START))
    _fold_cpu(indptr_B1, indices_N, item_vecs_IW, *draws, stream_key(seed), epochs, *rates, vectors_BW)
    return vectors_BW


def _draws(loss: str, max_sampled: int, num_items: int, weights: ItemWeights | None) -> tuple:
    """Return what `_compared` takes about losses and draws."""
    harmonic_I1 = np.concatenate([[0], np.cumsum(1 / np.arange(1, num_items + 1))]).astype(np.float32)
    weighted = weights is not None and loss != "warp"
    return LOSSES.index(loss), max_sampled, *(weights or NO_WEIGHTS), weighted, harmonic_I1


def _descend(
    places_P, some_B, compared, users_BW, items_IW, users, ends_U, items, ends_I, slots, rate, penalty, threads
):
    """Take the step of a batch."""
    own_P, other_P, *slopes = compared
    touched_S, places_2P = numbered(np.concatenate([own_P, other_P]), slots[2])
    pairs = (places_P, own_P, other_P, *places_2P.reshape(2, -1), *slopes)
    both = []
    for side, ends_R, rows, slot_V, at in (
        (users, ends_U, some_B, slots[1], places_P[own_P >= 0]),
        (items, ends_I, touched_S, slots[3], places_2P[places_2P >= 0]),
    ):
        counts = np.bincount(at, minlength=len(rows))
        codes_T, counts_T = features_of(rows, counts, side.indptr_R1, ends_R, side.codes_M, slot_V)
        both += [
            rows,
            side.indptr_R1,
            ends_R,
            side.codes_M,
            side.weights_M,
            side.constant,
            side.emb_VW,
            side.squares_VW,
        ]
        both += [codes_T, counts_T, slot_V]
    _descend_cpu(threads, *pairs, users_BW, items_IW, *both, rate, penalty)
    slots[1][both[8]] = slots[3][both[19]] = -1


_bits = njit(random_bits, inline="always")
_below = njit(random_below, inline="always")
_nth_other = njit(nth_other)
_rank_among_all = njit(rank_among_all)
_bisect = njit(bisect)


@njit(cache=True, nogil=True, fastmath=REORDER)
def _dot(a_BW, b, c_IW, i):
    total = np.float32(0.0)
    for d in range(np.uint64(a_BW.shape[1])):
        total += a_BW[b, d] * c_IW[i, d]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _compared(
    users_BW, b, own, start, end, items_IW, indices, loss, max_sampled, below, seen, weighted, harmonic, key, position
):
    """Return j, or -1 if nothing follows from the pair, and the slopes of the loss in s_i and s_j."""
    num_items = np.int64(len(items_IW))
    none = (np.int32(-1), np.float32(0.0), np.float32(0.0))
    free = below[num_items] - (seen[end] - seen[start]) if weighted else np.uint64(num_items - (end - start))
    if free == np.uint64(0):
        return none
    one = np.float32(1.0)
    score = _dot(users_BW, np.uint64(b), items_IW, np.uint64(own))
    for draw in range(max_sampled if loss == 1 else 1):
        rank = _below(_bits(key, np.uint64(position) * np.uint64(max_sampled) + np.uint64(draw)), free)
        if weighted:
            place = _rank_among_all(indices, start, end, below, seen, rank)
            other = _bisect(below, np.int64(0), num_items, place)
        else:
            other = _nth_other(indices, start, end, np.int64(rank))
        another = _dot(users_BW, np.uint64(b), items_IW, np.uint64(other))
        if loss == 0:
            slope = one / (one + np.exp(score - another))
            return np.int32(other), -slope, slope
        if loss == 2:
            return np.int32(other), -one / (one + np.exp(score)), one / (one + np.exp(-another))
        if another > score - one:
            slope = harmonic[np.int64(free) // (draw + 1)]
            return (np.int32(other), -slope, slope) if slope > 0 else none
    return none


@njit(cache=True, nogil=True, parallel=True)
def _compare_cpu(
    pairs_P,
    users_N,
    indptr,
    indices,
    places_P,
    users_BW,
    items_IW,
    loss,
    max_sampled,
    below,
    seen,
    weighted,
    harmonic,
    key,
):
    """Return i and j of each pair, -1 if nothing follows from it, and the slopes of the loss in their scores."""
    size = len(pairs_P)
    own_P, other_P = np.empty(size, np.int32), np.empty(size, np.int32)
    slope_P, other_slope_P = np.empty(size, np.float32), np.empty(size, np.float32)
    for p in prange(size):
        n = pairs_P[p]
        start, end = indptr[users_N[n]], indptr[users_N[n] + 1]
        draws = (indices, loss, max_sampled, below, seen, weighted, harmonic, key, n)
        other_P[p], slope_P[p], other_slope_P[p] = _compared(
            users_BW, np.int64(places_P[p]), indices[n], start, end, items_IW, *draws
        )
        own_P[p] = indices[n] if other_P[p] >= 0 else -1
    return own_P, other_P, slope_P, other_slope_P


@njit(cache=True, nogil=True, parallel=True)
def _descend_cpu(
    threads, places_P, own_P, other_P, own_place_P, other_place_P, slope_P, other_slope_P, users_BW, items_IW,
    rows_B, indptr_U, ends_U, codes_U, weights_U, constant_U, emb_U, squares_U, codes_TU, counts_TU, slots_U,
    rows_S, indptr_I, ends_I, codes_I, weights_I, constant_I, emb_I, squares_I, codes_TI, counts_TI, slots_I,
    rate, penalty,
):  # fmt: skip
    for thread in prange(threads):
        first = emb_U.shape[1] * thread // threads
        last = emb_U.shape[1] * (thread + 1) // threads
        column = np.uint64(first)
        of_users = np.zeros((len(rows_B), last - first), np.float32)
        of_items = np.zeros((len(rows_S), last - first), np.float32)
        for p in range(len(places_P)):
            if own_P[p] < 0:
                continue
            u, i, j = np.uint64(places_P[p]), np.uint64(own_P[p]), np.uint64(other_P[p])
            at, other_at = np.uint64(own_place_P[p]), np.uint64(other_place_P[p])
            slope, other_slope = slope_P[p], other_slope_P[p]
            for d in range(np.uint64(last - first)):
                of_users[u, d] += slope * items_IW[i, column + d] + other_slope * items_IW[j, column + d]
                of_items[at, d] += slope * users_BW[u, column + d]
                of_items[other_at, d] += other_slope * users_BW[u, column + d]
        descend_side(first, last, of_users, rows_B, indptr_U, ends_U, codes_U, weights_U, constant_U, emb_U, squares_U,
                      codes_TU, counts_TU, slots_U, rate, penalty)  # fmt: skip
        descend_side(first, last, of_items, rows_S, indptr_I, ends_I, codes_I, weights_I, constant_I, emb_I, squares_I,
                      codes_TI, counts_TI, slots_I, rate, penalty)  # fmt: skip


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _fold_cpu(
    indptr,
    indices,
    items_IW,
    loss,
    max_sampled,
    below,
    seen,
    weighted,
    harmonic,
    key,
    epochs,
    rate,
    penalty,
    begin,
    vectors_BW,
):
    size = np.uint64(items_IW.shape[1])
    for b in prange(len(vectors_BW)):
        start, end = indptr[b], indptr[b + 1]
        own = np.zeros(items_IW.shape[1], np.float32)
        squares = np.full(items_IW.shape[1], begin, np.float32)
        for epoch in range(epochs):
            now = rate * np.float32(epochs - epoch) / np.float32(epochs)
            for n in range(start, end):
                draws = (
                    indices,
                    loss,
                    max_sampled,
                    below,
                    seen,
                    weighted,
                    harmonic,
                    key,
                    epoch * (end - start) + n - start,
                )
                other, slope, other_slope = _compared(vectors_BW, np.int64(b), indices[n], start, end, items_IW, *draws)
                if other < 0:
                    continue
                i, j = np.uint64(indices[n]), np.uint64(other)
                for d in range(size - np.uint64(1)):  # the last column is the constant
                    whole = slope * items_IW[i, d] + other_slope * items_IW[j, d] + penalty * own[d]
                    squares[d] += whole * whole
                    step = now * whole / np.sqrt(squares[d])
                    own[d] -= step
                    vectors_BW[b, d] -= step
