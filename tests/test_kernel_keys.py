"""The largest keys come to the front, whatever their number and order."""

import numpy as np
import pytest

from recsys_dl.kernels.keys import best_first

ORDERS = {
    "random": lambda keys: keys,
    "ascending": np.sort,
    "descending": lambda keys: np.sort(keys)[::-1].copy(),
    "above 2^63": lambda keys: keys + np.uint64(1 << 63),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 16, 17, 63, 228, 5000])
def test_the_largest_are_in_front(count, order):
    keys = ORDERS[order](np.random.default_rng(count).permutation(10 * count)[:count].astype(np.uint64))
    for k in {1, 2, count // 2, count - 1, count, 100}:
        if 1 <= k <= count:
            found = keys.copy()
            best_first(found, k)
            assert set(found[:k]) == set(np.sort(keys)[count - k :])
            np.testing.assert_array_equal(np.sort(found), np.sort(keys))
