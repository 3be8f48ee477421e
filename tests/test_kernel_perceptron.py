"""The perceptron over the whole catalog against plain NumPy in float64, and alone as in a batch."""

from itertools import pairwise

import numpy as np
import pytest
from numba import config, set_num_threads

from recsys_dl.kernels.perceptron import perceptron_scores


@pytest.mark.parametrize("num_items", [1, 127, 128, 129, 300])
@pytest.mark.parametrize("widths", [(8, 4), (5, 16, 3), (1, 1)])
def test_scores_of_every_pair(num_items, widths):
    rng = np.random.default_rng(num_items)
    users, items = (rng.standard_normal((size, widths[0])).astype(np.float32) for size in (7, num_items))
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in pairwise(widths)]
    biases = [rng.standard_normal(width).astype(np.float32) for width in widths[1:]]
    output = rng.standard_normal(widths[-1]).astype(np.float32)
    scores = perceptron_scores(users, items, weights, biases, output)
    units = np.maximum(users[:, None].astype(np.float64) + items[None], 0)
    for weight, bias in zip(weights, biases, strict=True):
        units = np.maximum(units @ weight.astype(np.float64) + bias, 0)
    assert scores.dtype == np.float32
    # float32 sums of up to 16 products of numbers of order 1 to 10
    np.testing.assert_allclose(scores, units @ output.astype(np.float64), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(scores[2:3], perceptron_scores(users[2:3], items, weights, biases, output))


def test_no_users():
    nobody = np.empty((0, 4), np.float32)
    ones = np.ones((4, 2), np.float32)
    assert perceptron_scores(nobody, np.ones((3, 4), np.float32), [ones], [ones[0]], ones[0]).shape == (0, 3)


@pytest.mark.parametrize("rows", [1, 3])
def test_columns_of_a_wider_table_and_threads_change_nothing(rows):
    """Columns are read in place; the tiles of one user may be split among threads."""
    rng = np.random.default_rng(rows)
    users, wide = (rng.standard_normal((size, 11)).astype(np.float32) for size in (rows, 700))
    weights, biases = [rng.standard_normal((5, 4)).astype(np.float32)], [np.ones(4, np.float32)]
    output = rng.standard_normal(4).astype(np.float32)
    expected = perceptron_scores(users[:, 6:].copy(), wide[:, 6:].copy(), weights, biases, output)
    wide.flags.writeable = False
    set_num_threads(1)
    try:
        alone = perceptron_scores(users[:, 6:].copy(), wide[:, 6:], weights, biases, output)
    finally:
        set_num_threads(config.NUMBA_NUM_THREADS)
    np.testing.assert_array_equal(alone, expected)
    np.testing.assert_array_equal(
        perceptron_scores(users[:, 6:].copy(), wide[:, 6:], weights, biases, output), expected
    )
    backwards = np.asfortranarray(wide[:, 6:])  # neither rows nor columns of a table in row order
    np.testing.assert_array_equal(perceptron_scores(users[:, 6:].copy(), backwards, weights, biases, output), expected)
