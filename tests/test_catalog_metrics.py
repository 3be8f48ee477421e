"""Metrics beyond accuracy: values by hand, and dense float64 NumPy as the reference."""

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_dl.metrics import catalog

LISTS = np.array([[0, 1, 2], [0, 1, -1], [0, -1, -1], [-1, -1, -1]])


def test_exposures_coverage_and_gini_by_hand():
    shown = catalog.exposures(LISTS, 3, 4)
    np.testing.assert_array_equal(shown, [3, 2, 1, 0])
    np.testing.assert_array_equal(catalog.exposures(LISTS, 1, 4), [3, 0, 0, 0])
    assert catalog.coverage(shown) == 0.75
    # mean absolute difference over all 16 ordered pairs is 20 / 16, the mean is 1.5
    assert catalog.gini(shown) == pytest.approx((20 / 16) / (2 * 1.5), rel=1e-15)


def test_gini_at_its_ends():
    assert catalog.gini(np.full(7, 3)) == 0
    assert catalog.gini(np.array([0, 0, 0, 9])) == 0.75
    assert catalog.gini(np.zeros(4)) == 0
    assert catalog.gini(np.array([5])) == 0


@pytest.mark.parametrize("seed", range(3))
def test_gini_is_half_the_relative_mean_difference(seed):
    shown = np.random.default_rng(seed).poisson(2, 41)
    expected = np.abs(shown[:, None] - shown).mean() / (2 * shown.mean())
    assert catalog.gini(shown) == pytest.approx(expected, rel=1e-13)  # rounding of 41 terms


def test_novelty_by_hand():
    counts = np.array([16, 4, 0])  # of 16 users: 0 bits, 2 bits, and as one user's 4 bits
    np.testing.assert_allclose(catalog.novelty(LISTS, 3, counts, 16), [2, 1, 0, 0], rtol=1e-15)
    np.testing.assert_allclose(catalog.novelty(LISTS, 2, counts, 16), [1, 1, 0, 0], rtol=1e-15)


def test_popularity_lift_by_hand():
    weights = np.array([3.0, 0.0, 2.0, 1.0])  # item 2 was had by user 0, though it weighs nothing
    profiles = sp.csr_matrix((weights, (np.array([0, 0, 1, 1]), np.array([1, 2, 0, 2]))), shape=(3, 3))
    before = catalog.profile_means(profiles, np.array([0.5, 0.2, 0.1]))
    np.testing.assert_allclose(before, [0.15, 0.3, 0], rtol=1e-15)
    lists = catalog.list_means(np.array([[0, 1], [0, -1], [0, 1]]), 2, np.array([0.5, 0.2, 0.1]))
    np.testing.assert_allclose(lists, [0.35, 0.5, 0.35], rtol=1e-15)
    lifts = catalog.popularity_lift(lists, before)
    np.testing.assert_allclose(lifts, [0.35 / 0.15 - 1, 0.5 / 0.3 - 1, np.nan], rtol=1e-14)
    # the weighted mean is the lift of the means, as the source defines it
    counted = before > 0
    whole = lists[counted].mean() / before[counted].mean() - 1
    assert np.average(lifts[counted], weights=before[counted]) == pytest.approx(whole, rel=1e-14)


def pairwise_diversity(items, k, similarity_II):
    """One minus the mean over all pairs, written out."""
    values = []
    for row in items[:, :k]:
        row = row[row >= 0]
        pairs = [similarity_II[i, j] for at, i in enumerate(row) for j in row[:at]]
        values.append(1 - np.mean(pairs) if pairs else 0.0)
    return np.array(values)


def random_lists(rng, num_lists, num_items, k):
    lists = rng.permuted(np.tile(np.arange(num_items), (num_lists, 1)), axis=1)[:, :k]
    return np.where(np.arange(k) < rng.integers(0, k + 1, (num_lists, 1)), lists, -1)


@pytest.mark.parametrize("num_lists", [0, 1, 127, 128, 129])
def test_diversity_of_vectors_equals_the_mean_over_pairs(num_lists):
    rng = np.random.default_rng(num_lists)
    vectors = rng.normal(size=(30, 4)).astype(np.float32)
    vectors[3] = 0
    lists = random_lists(rng, num_lists, 30, 6)
    unit = vectors.astype(np.float64) / np.maximum(np.linalg.norm(vectors.astype(np.float64), axis=1), 1e-300)[:, None]
    summed = catalog.vector_similarity(lists, catalog.unit_rows(vectors))
    for k in (1, 2, 6):
        # sums of at most 15 products of unit vectors
        np.testing.assert_allclose(
            catalog.diversity(summed, lists, k), pairwise_diversity(lists, k, unit @ unit.T), atol=1e-13
        )


@pytest.mark.parametrize("num_lists", [0, 1, 127, 128, 129])
def test_diversity_of_shared_users_equals_the_mean_over_pairs(num_lists):
    rng = np.random.default_rng(num_lists)
    had = rng.random((200, 30)) < rng.random(30)  # users x items
    had[:, 5] = False  # an item without users
    had[:, 6] = True  # and one of all users
    had[3:, 7:12] = False  # and some with fewer users than words of bits
    lists = random_lists(rng, num_lists, 30, 6)
    counts = had.sum(axis=0)
    cosine = (had.T.astype(float) @ had) / np.sqrt(np.maximum(np.outer(counts, counts), 1))
    summed = catalog.CommonUsers(sp.csr_matrix(had.T.astype(np.float32))).similarity(lists)
    for k in (1, 2, 6):
        np.testing.assert_allclose(
            catalog.diversity(summed, lists, k), pairwise_diversity(lists, k, cosine), atol=1e-13
        )


def test_one_set_of_items_all_alike_and_all_apart():
    lists = np.array([[0, 1, 2]])
    alike = catalog.vector_similarity(lists, catalog.unit_rows(np.ones((3, 2))))
    assert catalog.diversity(alike, lists, 3)[0] == pytest.approx(0, abs=1e-15)
    apart = catalog.vector_similarity(lists, np.eye(3))
    assert catalog.diversity(apart, lists, 3)[0] == 1
