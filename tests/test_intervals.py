"""Intervals hold the truth as often as they say, tests reject as seldom as they say, and the same seed gives the same."""

import numpy as np
import pytest

from recsys_dl.metrics import intervals as module
from recsys_dl.metrics.intervals import Sample, holm, intervals, paired_differences, resampled


def skewed(rng, size):
    """Like the NDCG of users: mostly 0, now and then large."""
    return rng.random(size) ** 2 * (rng.random(size) < 0.3)


@pytest.mark.parametrize("size", [30, 200])
def test_intervals_hold_the_truth_as_often_as_they_say(size):
    rng = np.random.default_rng(0)
    truth, trials = 0.3 / 3, 600
    samples = [Sample(skewed(rng, size)) for _ in range(trials)]
    ends = intervals(samples, confidence=0.9, num_resamples=400, seed=1)
    held = ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()
    # 600 trials of 0.9 have a standard error of 0.012; at 30 skewed users the bootstrap itself falls short by some points
    assert (0.84 if size == 30 else 0.87) < held < 0.94


def test_intervals_of_a_weighted_root_mean_square_hold_the_truth():
    rng = np.random.default_rng(2)
    trials, size = 400, 100
    pairs = rng.integers(1, 20, (trials, size))
    users = np.sqrt(rng.chisquare(pairs) / pairs)  # root mean square of so many errors of variance 1
    ends = intervals([Sample(v, w, power=2) for v, w in zip(users, pairs, strict=True)], num_resamples=400, seed=3)
    held = ((ends[:, 0] <= 1) & (ends[:, 1] >= 1)).mean()
    assert 0.91 < held < 0.98  # 400 trials of 0.95: standard error 0.011


def test_close_to_the_normal_interval_where_that_is_right():
    values = np.random.default_rng(4).normal(5, 2, 2000)
    (ends,) = intervals([Sample(values)], num_resamples=4000, seed=5)
    half = 1.95996 * values.std() / np.sqrt(2000)
    # an end is a quantile of 4,000 draws: 3% of the half width is its standard error
    np.testing.assert_allclose(ends, [values.mean() - half, values.mean() + half], atol=0.12 * half)


def test_equal_to_scipy_bca():
    from scipy.stats import bootstrap

    values = skewed(np.random.default_rng(6), 80)
    (ours,) = intervals([Sample(values)], num_resamples=20_000, seed=7)
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=8).confidence_interval
    # both draw at random: an end moves by about 2% of the width between seeds
    np.testing.assert_allclose(ours, [theirs.low, theirs.high], atol=0.05 * (ours[1] - ours[0]))


def test_users_who_do_not_count_change_nothing_but_the_draws():
    values = skewed(np.random.default_rng(9), 300)
    with_others = np.concatenate([values, np.full(50, np.nan)])
    weights = np.concatenate([np.ones(300), np.zeros(50)])
    assert Sample(with_others).value == pytest.approx(values.mean(), rel=1e-14)
    assert Sample(np.nan_to_num(with_others), weights).value == pytest.approx(values.mean(), rel=1e-14)
    plain, other = (intervals([Sample(v)], num_resamples=4000)[0] for v in (values, with_others))
    np.testing.assert_allclose(plain, other, atol=0.1 * (plain[1] - plain[0]))  # other draws, the same law


def test_nothing_to_vary_gives_the_value_itself():
    for values in (np.full(50, 0.1), np.zeros(50), np.array([0.3])):
        (ends,) = intervals([Sample(values)])
        np.testing.assert_allclose(ends, values[0], rtol=1e-15)
    assert Sample(np.full(3, np.nan)).value == 0


def test_the_same_seed_gives_the_same_whatever_the_chunk(monkeypatch):
    samples = [Sample(skewed(np.random.default_rng(seed), 129)) for seed in range(3)]
    once = resampled(samples, 200, seed=11)
    monkeypatch.setattr(module, "CHUNK_BYTES", 7 * 8 * 129)  # seven resamples at a time
    # the same draws; a matrix product of another shape may add in another order
    np.testing.assert_allclose(resampled(samples, 200, seed=11), once, rtol=1e-13)
    assert not np.allclose(resampled(samples, 200, seed=12), once)


def test_all_figures_share_their_draws():
    values = skewed(np.random.default_rng(13), 127)
    figures = resampled([Sample(values), Sample(values + 1)], 100, seed=0)
    np.testing.assert_allclose(figures[:, 1] - figures[:, 0], 1, rtol=1e-13)


def test_a_paired_test_rejects_as_seldom_as_it_says_where_nothing_differs():
    rng = np.random.default_rng(14)
    p_values = []
    for trial in range(400):
        shared, apart = skewed(rng, 100), rng.normal(0, 0.05, (2, 100))
        (found,) = paired_differences(
            [Sample(shared + apart[0])], Sample(shared + apart[1]), num_resamples=200, seed=trial
        )
        p_values.append(found.p_value)
    assert 0.02 < np.mean(np.array(p_values) <= 0.05) < 0.09  # 400 trials of 0.05: standard error 0.011
    assert 0.45 < np.mean(np.array(p_values) <= 0.5) < 0.57


def test_pairing_finds_what_two_intervals_cannot():
    rng = np.random.default_rng(15)
    hard = rng.random(200)  # users differ far more than models
    one, two = Sample(hard + 0.02 + rng.normal(0, 0.02, 200)), Sample(hard)
    ends = intervals([one, two])
    assert ends[0, 0] < ends[1, 1]  # they overlap
    (found,) = paired_differences([one], two)
    assert found.value == pytest.approx(one.value - two.value, rel=1e-14)
    assert 0 < found.low < found.value < found.high
    assert found.p_value == 1 / 2001


def test_equal_models_do_not_differ():
    values = skewed(np.random.default_rng(16), 100)
    (found,) = paired_differences([Sample(values)], Sample(values.copy()))
    assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_holm_by_hand():
    # sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, and never below the one before
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06], rtol=1e-15)
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"confidence": 95}, "between 0 and 1, such as 0.95, got 95"), ({"num_resamples": 10}, "at least 100, got 10")],
)
def test_bad_input_is_named(arguments, message):
    sample = Sample(np.arange(5.0))
    with pytest.raises(ValueError, match=message):
        intervals([sample], **arguments)
    with pytest.raises(ValueError, match=message):
        paired_differences([sample], sample, **arguments)


def test_a_paired_test_needs_the_same_users():
    with pytest.raises(ValueError, match="same users on both sides"):
        paired_differences([Sample(np.zeros(3))], Sample(np.zeros(4)))
