"""Means and widths of linear models against float64, of one row and of many, with the same bits in any batch and on any threads."""

import numba
import numpy as np
import pytest

from recsys_dl.kernels.bandits.linear import packed_size
from recsys_dl.kernels.bandits.moments import FEW, TOGETHER, moments
from recsys_dl.kernels.register_tile import NUM_LANES

MODELS = TOGETHER + 3  # a full group, and one that is not


def some_models(size, rows, seed=0):
    """Return factors of covariances, weights and rows of random numbers."""
    rng = np.random.default_rng([seed, size])
    factors_MT = rng.normal(size=(MODELS, packed_size(size))) / np.sqrt(size)
    at_D = np.arange(size)
    factors_MT[:, at_D * (at_D + 3) // 2] = rng.random((MODELS, size)) + 0.01
    x_ND = rng.normal(size=(rows, size)).astype(np.float32)
    return factors_MT, rng.normal(size=(MODELS, size)), x_ND


def expected(factors_MT, theta_MD, x_ND, unit):
    """Return means, widths and sums of the absolute terms of both, float64 [N, M]."""
    size = theta_MD.shape[1]
    triangles_MDD = np.zeros((len(theta_MD), size, size))
    triangles_MDD[:, np.tri(size, dtype=bool)] = factors_MT
    if unit:
        roots_MD = np.sqrt(np.einsum("mdd->md", triangles_MDD))
        np.einsum("mdd->md", triangles_MDD)[:] = 1
        triangles_MDD *= roots_MD[:, :, None]
    rows_ND = x_ND.astype(np.float64)
    turned_NMD = np.einsum("mde,ne->nmd", triangles_MDD, rows_ND)
    terms_NMD = np.einsum("mde,ne->nmd", np.abs(triangles_MDD), np.abs(rows_ND))
    widths_NM, reach_NM = (np.linalg.norm(one_NMD, axis=2) for one_NMD in (turned_NMD, terms_NMD))
    return rows_ND @ theta_MD.T, widths_NM, np.abs(rows_ND) @ np.abs(theta_MD).T, reach_NM


@pytest.mark.parametrize("unit", [True, False])
def test_means_and_widths_are_those_of_float64(unit):
    """All sizes around panels of eight rows and tiles of four; rows one by one, in a block that is not full, and in several."""
    for size in range(1, 71):
        rows = (1, FEW, FEW + 1, NUM_LANES - 1, NUM_LANES, NUM_LANES + 1, 3 * NUM_LANES + FEW + 1)[size % 7]
        factors_MT, theta_MD, x_ND = some_models(size, rows)
        means_NM, widths_NM, reach_NM, reach_of_widths_NM = expected(factors_MT, theta_MD, x_ND, unit)
        found = moments(factors_MT, theta_MD, x_ND, models_L=np.arange(MODELS), unit=unit)
        # float32: each of D sums loses at most D / 2 roundings of 6e-8 of its terms, usually far fewer
        assert (np.abs(found[0] - means_NM) <= 1e-6 * reach_NM).all(), size
        assert (np.abs(found[1] - widths_NM) <= 1e-6 * reach_of_widths_NM).all(), size
        np.testing.assert_allclose(found[1], widths_NM, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 4, 5, 8, 12, 19, 64, 67])
def test_each_row_has_the_same_bits_in_any_batch_and_on_any_threads(size):
    rows = 2 * NUM_LANES + FEW
    factors_MT, theta_MD, x_ND = some_models(size, rows, seed=1)
    models_M = np.arange(MODELS)
    whole = moments(factors_MT, theta_MD, x_ND, models_L=models_M)
    rng = np.random.default_rng(0)
    for count in (1, FEW, FEW + 1, NUM_LANES, NUM_LANES + FEW, rows):
        some_N = rng.permutation(rows)[:count]
        own_NM = np.tile(rng.permutation(MODELS)[: MODELS - 1], (count, 1))
        own_NM[::3, 1] = -1
        by_rows = moments(factors_MT, theta_MD, x_ND[some_N], models_L=models_M)
        by_pairs = moments(factors_MT, theta_MD, x_ND[some_N], models_L=own_NM)
        alone = moments(factors_MT, theta_MD, x_ND[some_N], models_L=models_M[4:5])
        for one_NM, rows_NM, pairs_NL, alone_N1 in zip(whole, by_rows, by_pairs, alone, strict=True):
            np.testing.assert_array_equal(rows_NM, one_NM[some_N])
            np.testing.assert_array_equal(
                pairs_NL, np.where(own_NM >= 0, np.take_along_axis(one_NM[some_N], own_NM, 1), 0)
            )
            np.testing.assert_array_equal(alone_N1, one_NM[some_N][:, 4:5])
    before = numba.get_num_threads()
    try:
        for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(threads)
            for again_NM, one_NM in zip(moments(factors_MT, theta_MD, x_ND, models_L=models_M), whole, strict=True):
                np.testing.assert_array_equal(again_NM, one_NM)
    finally:
        numba.set_num_threads(before)


def test_without_rows_models_or_widths():
    factors_MT, theta_MD, x_ND = some_models(9, 5)
    models_M = np.arange(MODELS)
    for rows_ND, models in (
        (x_ND[:0], models_M),
        (x_ND, models_M[:0]),
        (x_ND, np.full((5, 2), -1)),
        (x_ND[:0], np.zeros((0, 2), int)),
    ):
        means_NL, widths_NL = moments(factors_MT, theta_MD, rows_ND, models_L=models)
        assert means_NL.shape == widths_NL.shape == (len(rows_ND), models.shape[-1])
        assert not means_NL.any()
        assert not widths_NL.any()
    whole_NM, _ = moments(factors_MT, theta_MD, x_ND, models_L=models_M)
    for models in (models_M, np.tile(models_M, (5, 1))):
        means_NM, none_N0 = moments(np.zeros((MODELS, 0)), theta_MD, x_ND, models_L=models, widths=False)
        assert none_N0.shape == (5, 0)
        np.testing.assert_array_equal(means_NM, whole_NM)
