"""Inner products of queries with items named for each."""

import numpy as np
import pytest

from recsys_dl.kernels import pair_dots as module
from recsys_dl.kernels.pair_dots import pair_dots


@pytest.mark.parametrize("size", [1, 7, 16, 33, 64])
@pytest.mark.parametrize(("queries", "listed"), [(0, 3), (1, 0), (1, 1), (1, 200), (9, 5)])
@pytest.mark.parametrize("least", [0, 1 << 18])
def test_inner_products_of_pairs(size, queries, listed, least, monkeypatch):
    """On one thread and on several; an item may be named twice."""
    monkeypatch.setattr(module, "LEAST", least)
    rng = np.random.default_rng(size)
    query_BD = rng.normal(size=(queries, size)).astype(np.float32)
    items_ID = rng.normal(size=(40, size)).astype(np.float32)
    items_BL = rng.integers(0, 40, (queries, listed)).astype(np.int32)
    found_BL = pair_dots(query_BD, items_ID, items_BL)
    assert found_BL.dtype == np.float32
    expected_BL = np.einsum("bd,bld->bl", query_BD.astype(float), items_ID.astype(float)[items_BL])
    np.testing.assert_allclose(found_BL, expected_BL, rtol=1e-5, atol=1e-5)


def test_a_pair_has_the_same_bits_in_any_batch(monkeypatch):
    rng = np.random.default_rng(3)
    query_BD, items_ID = rng.normal(size=(20, 48)).astype(np.float32), rng.normal(size=(90, 48)).astype(np.float32)
    items_BL = rng.integers(0, 90, (20, 60))
    together_BL = pair_dots(query_BD, items_ID, items_BL)
    monkeypatch.setattr(module, "LEAST", 0)
    np.testing.assert_array_equal(pair_dots(query_BD, items_ID, items_BL), together_BL)
    for b in range(20):
        np.testing.assert_array_equal(
            pair_dots(query_BD[b : b + 1], items_ID, items_BL[b : b + 1, 30:]), together_BL[b : b + 1, 30:]
        )


def test_rows_that_are_not_contiguous():
    """Transposed tables, and every second row."""
    query_BD = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    items_ID = np.arange(24, dtype=np.float32).reshape(8, 3)[::2]
    items_BL = np.array([[0, 3], [1, 1]])
    np.testing.assert_array_equal(
        pair_dots(query_BD, items_ID, items_BL), np.einsum("bd,bld->bl", query_BD, items_ID[items_BL])
    )
