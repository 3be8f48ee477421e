"""Off-policy estimators: by hand, unbiased by enumeration of every outcome, intervals that hold the truth as often as they say."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from recsys_dl.metrics import off_policy as op
from recsys_dl.metrics.intervals import Sample, intervals, resampled
from recsys_dl.metrics.off_policy_slates import (
    estimated_pairs,
    independent_pairs,
    position_ips,
    pseudoinverse_weights,
    uniform_pairs,
)

# a world of 2 contexts and 3 arms, all numbers known
SHARES_X = np.array([0.3, 0.7])
LOGGED_XA = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
TARGET_XA = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
CHANCE_XA = np.array([[0.9, 0.2, 0.4], [0.1, 0.5, 0.7]])
MODEL_XA = np.array([[0.1, 0.9, 0.3], [0.8, 0.2, 0.5]])  # a bad one
TRUTH = float((SHARES_X[:, None] * TARGET_XA * CHANCE_XA).sum())
WEIGHTS_XA = TARGET_XA / LOGGED_XA


def outcomes():
    """Every outcome of a round: (probability, x, a, reward)."""
    for x, a, reward in itertools.product(range(2), range(3), (0, 1)):
        chance = CHANCE_XA[x, a] if reward else 1 - CHANCE_XA[x, a]
        yield SHARES_X[x] * LOGGED_XA[x, a] * chance, x, a, float(reward)


def expectation(value_of):
    """The expected term of one round."""
    return sum(chance * value_of(x, a, [reward]) for chance, x, a, reward in outcomes())


def model_columns(x, a):
    return [MODEL_XA[x, a]], [float(TARGET_XA[x] @ MODEL_XA[x])]


def test_ips_and_doubly_robust_are_unbiased_over_every_outcome_of_a_round_whatever_the_model():
    assert expectation(lambda x, a, r: op.ips(r, [WEIGHTS_XA[x, a]]).value) == pytest.approx(TRUTH, rel=1e-12)
    robust = expectation(lambda x, a, r: op.doubly_robust(r, [WEIGHTS_XA[x, a]], *model_columns(x, a)).value)
    assert robust == pytest.approx(TRUTH, rel=1e-12)


def test_the_biased_ones_have_exactly_the_bias_that_their_docstrings_state():
    clipped = expectation(lambda x, a, r: op.clipped_ips(r, [WEIGHTS_XA[x, a]], clip=2.0).value)
    lost = (SHARES_X[:, None] * LOGGED_XA * np.maximum(WEIGHTS_XA - 2, 0) * CHANCE_XA).sum()
    assert clipped == pytest.approx(TRUTH - lost, rel=1e-12)
    switched = expectation(
        lambda x, a, r: op.switch_dr(r, [WEIGHTS_XA[x, a]], *model_columns(x, a), threshold=2.0).value
    )
    wrong = (SHARES_X[:, None] * TARGET_XA * (WEIGHTS_XA > 2) * (MODEL_XA - CHANCE_XA)).sum()
    assert switched == pytest.approx(TRUTH + wrong, rel=1e-12)
    shrunk = expectation(lambda x, a, r: op.shrunk_dr(r, [WEIGHTS_XA[x, a]], *model_columns(x, a), shrinkage=3.0).value)
    kept = 3 / (WEIGHTS_XA**2 + 3)
    wrong = (SHARES_X[:, None] * TARGET_XA * (1 - kept) * (MODEL_XA - CHANCE_XA)).sum()
    assert shrunk == pytest.approx(TRUTH + wrong, rel=1e-12)


def logged(rng, size):
    x = (rng.random(size) < SHARES_X[1]).astype(int)
    a = (rng.random(size)[:, None] > LOGGED_XA[x].cumsum(axis=1)[:, :-1]).sum(axis=1)
    rewards = (rng.random(size) < CHANCE_XA[x, a]).astype(float)
    return rewards, WEIGHTS_XA[x, a], MODEL_XA[x, a], (TARGET_XA * MODEL_XA).sum(axis=1)[x]


def estimates(rewards, weights, predicted, expected):
    return {
        "ips": op.ips(rewards, weights),
        "snips": op.snips(rewards, weights),
        "dr": op.doubly_robust(rewards, weights, predicted, expected),
    }


def test_intervals_hold_the_truth_as_often_as_they_say_and_the_bias_is_within_chance():
    rng = np.random.default_rng(0)
    trials = [estimates(*logged(rng, 400)) for _ in range(500)]
    for name in trials[0]:
        samples = [trial[name] for trial in trials]
        ends = np.array([intervals([sample], num_resamples=300, seed=1, together=True)[0] for sample in samples])
        held = ((ends[:, 0] <= TRUTH) & (ends[:, 1] >= TRUTH)).mean()
        assert 0.92 < held < 0.975, name  # 500 trials of 0.95 have a standard error of 0.01
        values = np.array([sample.value for sample in samples])
        assert abs(values.mean() - TRUTH) < 4 * values.std() / np.sqrt(len(values)), name
        errors = np.array([op.standard_error(sample) for sample in samples])
        assert errors.mean() == pytest.approx(values.std(), rel=0.1), name


def test_rounds_drawn_together_have_the_distribution_of_rounds_drawn_one_by_one():
    samples = list(estimates(*logged(np.random.default_rng(1), 300)).values())
    slow, fast = (resampled(samples, 4000, 2, together=together) for together in (False, True))
    np.testing.assert_allclose(fast.mean(axis=0), slow.mean(axis=0), atol=4 * slow.std(axis=0).max() / 4000**0.5)
    np.testing.assert_allclose(np.cov(fast.T), np.cov(slow.T), rtol=0.15)


def test_bernstein_holds_for_few_and_skewed_values_where_the_bootstrap_cannot():
    rng = np.random.default_rng(2)
    rare = [(rng.random(50) < 0.02).astype(float) for _ in range(400)]
    ends = np.array([op.bernstein(values, 0, 1) for values in rare])
    assert ((ends[:, 0] <= 0.02) & (ends[:, 1] >= 0.02)).mean() >= 0.95
    # by hand: n = 4, variance 1/3, ln(4 / .05)
    level = np.log(80)
    half = np.sqrt(2 / 3 * level / 4) + 7 * 10 * level / 9
    assert op.bernstein([0, 0, 1, 1], -5, 5) == (max(0.5 - half, -5), min(0.5 + half, 5))
    values = np.tile([0.0, 1.0], 50_000)
    low, high = op.bernstein(values, 0, 1)
    half = np.sqrt(2 * values.var(ddof=1) * level / 1e5) + 7 * level / (3 * (1e5 - 1))
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), rel=1e-12)
    with pytest.raises(ValueError, match=r"values must be in \[0, 1\], got 2.0 in round 1"):
        op.bernstein([0.5, 2.0], 0, 1)


def test_limits_of_the_family():
    columns = logged(np.random.default_rng(3), 200)
    rewards, weights, predicted, expected = columns
    robust = op.doubly_robust(*columns).value
    assert op.shrunk_dr(*columns, shrinkage=np.inf).value == robust
    assert op.shrunk_dr(*columns, shrinkage=0).value == pytest.approx(op.direct_method(expected).value, rel=1e-14)
    assert op.shrunk_dr(*columns, shrinkage=1e12).value == pytest.approx(robust, rel=1e-9)
    assert op.switch_dr(*columns, threshold=1e-9).value == pytest.approx(expected.mean(), rel=1e-14)
    assert op.clipped_ips(rewards, weights, clip=np.inf).value == op.ips(rewards, weights).value
    assert op.doubly_robust(rewards, weights, 0 * predicted, 0 * expected).value == op.ips(rewards, weights).value
    assert op.effective_sample_size(np.ones(7)) == pytest.approx(7)
    assert op.effective_sample_size([5.0, 0.0, 0.0]) == pytest.approx(1)
    assert op.snips(rewards, 3 * weights).value == pytest.approx(op.snips(rewards, weights).value, rel=1e-14)


def test_slope_clips_little_when_bias_shows_and_much_when_it_is_lost_in_noise():
    rng = np.random.default_rng(4)
    weights = np.where(rng.random(20_000) < 0.05, 20.0, 0.0)  # all of the policy's arms were rarely logged
    clips = [20.0, 10.0, 5.0, 1.0]
    bad = op.slope([op.clipped_ips(np.ones(20_000), weights, clip=clip) for clip in clips])
    assert clips[bad] == 20.0  # half of the value is lost at 10
    few = (rng.random(200) < 0.5).astype(float)
    weights = np.full(200, 1.0)
    weights[0] = 50.0
    assert clips[op.slope([op.clipped_ips(few, weights, clip=clip) for clip in clips])] == 1.0
    assert op.slope([Sample(np.array([1.0]))]) == 0


def test_slope_errs_less_than_both_ends_over_many_logs():
    rng = np.random.default_rng(5)
    clips = [np.inf, 32.0, 16.0, 8.0, 4.0, 2.0, 1.0, 0.5]
    errors = []
    for _ in range(300):
        rare = rng.random(500) < 0.01  # a few rounds have a weight of 50, and mean 0.5 of all weight
        weights = np.where(rare, 50.0, 0.5 / 0.99)
        rewards = (rng.random(500) < np.where(rare, 0.1, 0.1)).astype(float)
        samples = [op.clipped_ips(rewards, weights, clip=clip) for clip in clips]
        errors.append([(sample.value - 0.1) ** 2 for sample in (samples[0], samples[-1], samples[op.slope(samples)])])
    ips, clipped, chosen = np.sqrt(np.mean(errors, axis=0))
    assert chosen < ips
    assert chosen < 6 * min(ips, clipped)


# slates: 3 arms in 2 positions


def test_the_pseudoinverse_is_unbiased_over_every_slate_if_rewards_are_linear():
    value_KA = np.array([[0.1, 0.5, 0.2], [0.4, 0.3, 0.0]])
    policy_KA = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    truth = float((value_KA * policy_KA).sum())
    slates = np.array(list(itertools.permutations(range(3), 2)))
    rewards = value_KA[[0, 1], slates].sum(axis=1)
    weights = pseudoinverse_weights(slates, policy_KA, uniform_pairs(3, 2))
    assert (weights * rewards).mean() == pytest.approx(truth, rel=1e-9)
    np.testing.assert_allclose(estimated_pairs(slates, 3), uniform_pairs(3, 2), atol=1e-12)
    # another logging policy, over the same slates
    chances = np.array([0.3, 0.1, 0.2, 0.1, 0.2, 0.1])
    pairs = estimated_pairs(slates.repeat((chances * 10).round().astype(int), axis=0), 3)
    assert chances @ (pseudoinverse_weights(slates, policy_KA, pairs) * rewards) == pytest.approx(truth, rel=1e-9)


def test_independent_positions_have_the_closed_form():
    logged_KA = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    policy_KA = np.array([[0.1, 0.1, 0.8], [0.7, 0.2, 0.1]])
    slates = np.array(list(itertools.product(range(3), range(3))))
    weights = pseudoinverse_weights(slates, policy_KA, independent_pairs(logged_KA))
    ratios = (policy_KA / logged_KA)[[0, 1], slates]
    np.testing.assert_allclose(weights, ratios.sum(axis=1) - 1, atol=1e-9)
    # per position, with its own reward
    value_KA = np.array([[0.1, 0.5, 0.2], [0.4, 0.3, 0.0]])
    chances = logged_KA[[0, 1], slates].prod(axis=1)
    terms = position_ips(value_KA[[0, 1], slates], ratios).values_U
    assert chances @ terms == pytest.approx((value_KA * policy_KA).sum(), rel=1e-12)


def test_a_slate_policy_outside_of_what_was_logged_is_refused():
    logged_KA = np.array([[0.5, 0.5, 0.0], [0.2, 0.2, 0.6]])
    policy_KA = np.array([[0.0, 0.0, 1.0], [0.7, 0.2, 0.1]])
    with pytest.raises(ValueError, match="shows arm 2 at position 0 with probability 1, .*missing support"):
        pseudoinverse_weights([[0, 1]], policy_KA, independent_pairs(logged_KA))
    with pytest.raises(ValueError, match="slates must be full"):
        pseudoinverse_weights([[0, -1]], policy_KA, independent_pairs(logged_KA))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: op.importance_weights([0.5], [0.0]), "propensities must be above 0 and at most 1, got 0.0 in round 0"),
        (lambda: op.importance_weights([0.5], [1.5]), "propensities must be above 0 and at most 1, got 1.5"),
        (lambda: op.importance_weights([0.5], [np.nan]), "propensities must be finite, got nan"),
        (lambda: op.importance_weights([0.5, 1.2], [0.1, 0.1]), r"must be in \[0, 1\], got 1.2 in round 1"),
        (lambda: op.importance_weights([0.5], [0.1, 0.1]), "one number a round in each column"),
        (lambda: op.ips([], []), "at least one round"),
        (lambda: op.ips([np.nan], [1.0]), "rewards must be finite, got nan in round 0"),
        (lambda: op.snips([1.0], [-1.0]), "weights must be at least 0"),
        (lambda: op.clipped_ips([1.0], [1.0], clip=0), "clip must be a number above 0"),
        (lambda: op.switch_dr([1.0], [1.0], [1.0], [1.0], threshold=-1), "threshold must be a number above 0"),
        (lambda: op.shrunk_dr([1.0], [1.0], [1.0], [1.0], shrinkage=-1), "shrinkage must be at least 0"),
        (lambda: op.doubly_robust([1.0], [1.0], [np.inf], [1.0]), "predicted must be finite"),
        (lambda: op.clipped_ips([1.0], [1.0], clip="slope"), "clip must be a number above 0"),
        (lambda: op.replay([1.0, 0.0], [0, 0]), "needs a round whose logged arm is the one .* none among 2 rounds"),
        (lambda: op.replay([1.0, 0.0], [0.4, 1]), "matches must be true or false, got 0.4 in round 0"),
        (lambda: op.snips([1.0, 0.0], [0.0, 0.0]), "snips needs a round with a weight above 0, got none among 2"),
        (lambda: op.effective_sample_size([-1.0]), "weights must be at least 0"),
        (lambda: independent_pairs([[0.9, 0.9]]), "propensities must be at least 0 and sum to 1"),
        (lambda: independent_pairs([0.5, 0.5]), r"a table \[positions, arms\], got \(2,\)"),
        (lambda: estimated_pairs([[0, 4]], 2), r"arms in \[0, 2\), got one from 0 to 4"),
        (lambda: estimated_pairs([[0, -1]], 2), r"arms in \[0, 2\), got one from -1 to 0"),
        (lambda: estimated_pairs([], 2), "at least one, got float64"),
        (lambda: op.slope([]), "at least one candidate"),
        (lambda: position_ips([[1.0, np.nan]], [[1.0, 1.0]]), "rewards finite wherever an arm was shown"),
    ],
)
def test_bad_numbers_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_rounds_counted_together_are_those_rounds():
    rewards, weights, predicted, expected = logged(np.random.default_rng(6), 500)
    table, counts = np.unique(np.stack([rewards, weights, predicted, expected]), axis=1, return_counts=True)
    for one, other in zip(
        estimates(rewards, weights, predicted, expected).values(), estimates(*table).values(), strict=True
    ):
        together = replace(other, repeats_U=counts)
        assert together.value == pytest.approx(one.value, rel=1e-12)
        assert op.standard_error(together) == pytest.approx(op.standard_error(one), rel=1e-12)
        slow, fast = (
            intervals(
                [
                    one,
                ],
                num_resamples=4000,
                seed=1,
            ),
            intervals([together], num_resamples=4000, seed=2),
        )
        np.testing.assert_allclose(fast, slow, atol=0.06 * (slow[0, 1] - slow[0, 0]))  # 3% an end at 4,000 resamples
    clips = [np.inf, 6.0, 2.0, 1.0]
    for paired in (True, False):
        chosen = op.slope([op.clipped_ips(rewards, weights, clip=clip) for clip in clips], paired=paired)
        some = [replace(op.clipped_ips(table[0], table[1], clip=clip), repeats_U=counts) for clip in clips]
        assert op.slope(some, paired=paired) == chosen


def test_slope_by_differences_sees_the_bias_that_the_widths_of_estimates_overlook():
    rewards, weights, _, _ = logged(np.random.default_rng(7), 2000)
    clips = [np.inf, 6.0, 4.0, 2.0, 1.0]
    samples = [op.clipped_ips(rewards, weights, clip=clip) for clip in clips]
    bias = [abs(samples[op.slope(samples, paired=paired)].value - TRUTH) for paired in (True, False)]
    assert bias[0] < 0.5 * bias[1]
