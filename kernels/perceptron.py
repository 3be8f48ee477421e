"""Score every item for a block of users with an MLP whose first layer is a sum of a user and an item part, tile by tile in cache.

B users, I items, H width of the first hidden layer, G of the last, T items per tile. CPU only: on a GPU the layers run in Torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  (np.dot in a kernel calls its BLAS, which must be loaded before its threads are limited)
from numba import njit, prange
from threadpoolctl import threadpool_limits

TILE = 128  # items; their activations stay in the L2 cache between layers


def perceptron_scores(
    user_part_BH: np.ndarray,
    item_part_IH: np.ndarray,
    weights: Sequence[np.ndarray],
    biases: Sequence[np.ndarray],
    output_G: np.ndarray,
) -> np.ndarray:
    """Return float32 [B, I]: `output . relu(... relu(W relu(user_part + item_part) + b) ...)` of each pair.

    Threads split the users, so a user gets the same scores alone and in a batch.

    Args:
        user_part_BH: float32.
        item_part_IH: float32.
        weights: of each further hidden layer, float32 [width before, width], C-contiguous; at least one.
        biases: likewise [width].
        output_G: float32, weights of the output layer.
    """
    scores_BI = np.empty((len(user_part_BH), len(item_part_IH)), np.float32)
    widest = max(user_part_BH.shape[1], *(len(bias) for bias in biases))
    with threadpool_limits(1, user_api="blas"):  # each of our threads multiplies its own tile
        _score_cpu(user_part_BH, item_part_IH, tuple(weights), tuple(biases), output_G, widest, scores_BI)
    return scores_BI


@njit(cache=True, nogil=True, parallel=True)
def _score_cpu(user_part_BH, item_part_IH, weights, biases, output_G, widest, scores_BI):
    for b in prange(len(user_part_BH)):
        _score_user(user_part_BH[b], item_part_IH, weights, biases, output_G, widest, scores_BI[b])


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _score_user(user_H, item_part_IH, weights, biases, output_G, widest, scores_I):
    one = np.zeros(TILE * widest, np.float32)
    other = np.zeros(TILE * widest, np.float32)
    width = len(user_H)
    for first in range(0, len(item_part_IH), TILE):
        size = min(TILE, len(item_part_IH) - first)
        units = one[: TILE * width].reshape((TILE, width))
        for t in range(size):
            item_H = item_part_IH[first + t]
            row = units[t]
            for h in range(width):
                row[h] = max(item_H[h] + user_H[h], np.float32(0))
        into = other
        spare = one
        for n in range(len(weights)):
            wider = weights[n].shape[1]
            made = into[: TILE * wider].reshape((TILE, wider))
            np.dot(units, weights[n], made)
            bias = biases[n]
            for t in range(size):
                row = made[t]
                for g in range(wider):
                    row[g] = max(row[g] + bias[g], np.float32(0))
            units = made
            into, spare = spare, into
        for t in range(size):
            row = units[t]
            total = np.float32(0)
            for g in range(len(output_G)):
                total += row[g] * output_G[g]
            scores_I[first + t] = total
