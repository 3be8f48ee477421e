"""Score every item for a block of users with an MLP whose first layer is a sum of a user and an item part, tile by tile in cache.

B users, I items, H width of the first hidden layer, G of the last, T items per tile. CPU only: on a GPU the layers run in Torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import get_num_threads, njit, prange

from .blas import one_thread_each

TILE = 128  # items; their activations stay in the L2 cache between layers


def perceptron_scores(
    user_part_BH: np.ndarray,
    item_part_IH: np.ndarray,
    weights: Sequence[np.ndarray],
    biases: Sequence[np.ndarray],
    output_G: np.ndarray,
) -> np.ndarray:
    """Return float32 [B, I]: `output . relu(... relu(W relu(user_part + item_part) + b) ...)` of each pair.

    Threads split users, and the tiles of each if there are fewer users than threads: a user gets the same scores alone and in a batch.

    Args:
        user_part_BH: float32.
        item_part_IH: float32; it may be some columns of a wider table, which are read in place.
        weights: of each further hidden layer, float32 [width before, width], C-contiguous; at least one.
        biases: likewise [width].
        output_G: float32, weights of the output layer.
    """
    rows, num_items = len(user_part_BH), len(item_part_IH)
    scores_BI = np.empty((rows, num_items), np.float32)
    parts = min(-(-get_num_threads() // max(rows, 1)), max(1, num_items // TILE))
    widest = max(user_part_BH.shape[1], *(len(bias) for bias in biases))
    items_N, stride = _flat(item_part_IH)
    with one_thread_each():  # each of our threads multiplies its own tile
        _score_cpu(user_part_BH, items_N, stride, parts, tuple(weights), tuple(biases), output_G, widest, scores_BI)
    return scores_BI


def _flat(table_IH: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the numbers of a table, or of some columns of a wider one, from the first to the last, and how far rows are apart."""
    size, width = table_IH.shape
    if table_IH.strides[1] != table_IH.itemsize or table_IH.strides[0] < width * table_IH.itemsize:
        table_IH = np.ascontiguousarray(table_IH)
    stride = table_IH.strides[0] // table_IH.itemsize
    extent = (size - 1) * stride + width if table_IH.size else 0
    return np.lib.stride_tricks.as_strided(table_IH, (extent,), (table_IH.itemsize,), writeable=False), stride


@njit(cache=True, nogil=True, parallel=True)
def _score_cpu(user_part_BH, items_N, stride, parts, weights, biases, output_G, widest, scores_BI):
    rows, num_items = scores_BI.shape
    tiles = (num_items + TILE - 1) // TILE
    for task in prange(rows * parts):
        b, part = task // parts, task % parts
        begin = tiles * part // parts * TILE
        end = min(num_items, tiles * (part + 1) // parts * TILE)
        _score_user(user_part_BH[b], items_N, stride, begin, end, weights, biases, output_G, widest, scores_BI[b])


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _score_user(user_H, items_N, stride, begin, end, weights, biases, output_G, widest, scores_I):
    one = np.zeros(TILE * widest, np.float32)
    other = np.zeros(TILE * widest, np.float32)
    width = len(user_H)
    for first in range(begin, end, TILE):
        size = min(TILE, end - first)
        units = one[: TILE * width].reshape((TILE, width))
        for t in range(size):
            item_H = items_N[(first + t) * stride : (first + t) * stride + width]
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
