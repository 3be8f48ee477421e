"""Kernels of bandits against plain NumPy in float64, and propensities against enumeration and simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from recsys_dl.bandits.logistic_thompson import posterior_mode
from recsys_dl.bandits.random_order import Betas, Gumbels, Normals, Order
from recsys_dl.kernels.bandits import linear
from recsys_dl.kernels.bandits.choosing import best_first, epsilon_chances, epsilon_greedy, first_chances, tie_chances
from recsys_dl.kernels.bandits.drawing import best_normal_draws, beta_draws, gumbel_draws, normal_draws, normals
from recsys_dl.kernels.bandits.moments import moments
from recsys_dl.kernels.random import stream_key

KEY = stream_key(3)


def orders_of(scores, epsilon):
    """Return each order of all candidates with its chance, by the definition of epsilon-greedy."""
    found = {}
    for order in itertools.permutations(range(len(scores))):
        chance, left = 1.0, list(range(len(scores)))
        for arm in order:
            best = [one for one in left if scores[one] == max(scores[other] for other in left)]
            chance *= epsilon / len(left) + (1 - epsilon) * (arm in best) / len(best)
            left.remove(arm)
        found[order] = chance
    return found


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    "scores", [[0.5, 0.2, 0.9, 0.1], [0.5, 0.5, 0.9, 0.5, 0.1], [0.0, 0.0, 0.0], [np.inf, 0.1, np.inf, 0.1]]
)
def test_epsilon_greedy_has_the_chances_of_an_enumeration(scores, epsilon):
    orders = orders_of(scores, epsilon)
    scores_RL, arms_RL = np.array([scores]), np.arange(len(scores), dtype=np.int32)[None]
    for k in (1, 2, len(scores)):
        places_BK = np.array(sorted({order[:k] for order, chance in orders.items() if chance > 0}), np.int32)
        chances_BK, joint_B = np.empty(places_BK.shape), np.empty(len(places_BK))
        epsilon_chances(scores_RL, arms_RL, epsilon, places_BK, chances_BK, joint_B)
        for b, slate in enumerate(places_BK):
            assert joint_B[b] == pytest.approx(
                sum(chance for order, chance in orders.items() if order[:k] == tuple(slate)), abs=1e-12
            )
            for place in range(k):
                wanted = sum(chance for order, chance in orders.items() if order[place] == slate[place])
                assert chances_BK[b, place] == pytest.approx(wanted, abs=1e-12)
        if epsilon == 0:
            alone_BK, alone_B = np.empty(places_BK.shape), np.empty(len(places_BK))
            tie_chances(scores_RL, arms_RL, places_BK, alone_BK, alone_B)
            np.testing.assert_allclose(alone_BK, chances_BK, atol=1e-12)
            np.testing.assert_allclose(alone_B, joint_B, atol=1e-12)
    first_RL = np.empty(scores_RL.shape)
    first_chances(scores_RL, arms_RL, epsilon, first_RL)
    wanted = [sum(chance for order, chance in orders.items() if order[0] == arm) for arm in range(len(scores))]
    np.testing.assert_allclose(first_RL[0], wanted, atol=1e-12)


def test_epsilon_greedy_draws_what_its_chances_say():
    scores_RL, arms_RL = np.array([[0.5, 0.5, 0.9, 0.1]]), np.array([[7, 2, 9, 4]], np.int32)
    places_BK = np.empty((40_000, 3), np.int32)
    epsilon_greedy(scores_RL, arms_RL, 0.4, KEY, np.arange(40_000, dtype=np.uint64), places_BK)
    orders = orders_of(scores_RL[0], 0.4)
    for order, chance in orders.items():
        share = (places_BK == order[:3]).all(1).mean()
        assert share == pytest.approx(chance, abs=5 * (chance * (1 - chance) / 40_000) ** 0.5)


def test_ties_are_shared_evenly_and_the_best_come_first():
    rng = np.random.default_rng(0)
    scores_BL = rng.integers(0, 5, (300, 20)).astype(np.float64)
    arms_BL = np.tile(np.arange(20, dtype=np.int32), (300, 1))
    arms_BL[rng.random((300, 20)) < 0.2] = -1
    places_BK = np.empty((300, 6), np.int32)
    best_first(scores_BL, arms_BL, KEY, np.arange(300, dtype=np.uint64), places_BK)
    for b in range(300):
        there = np.flatnonzero(arms_BL[b] >= 0)
        assert sorted(scores_BL[b, places_BK[b]], reverse=True) == sorted(scores_BL[b, there], reverse=True)[:6]
        assert (np.diff(scores_BL[b, places_BK[b]]) <= 0).all()
        assert set(places_BK[b]) <= set(there)
    places_BK = np.empty((30_000, 2), np.int32)
    best_first(np.zeros((1, 4)), np.arange(4, dtype=np.int32)[None], KEY, np.arange(30_000, dtype=np.uint64), places_BK)
    for place in range(2):
        assert np.bincount(places_BK[:, place]) / 30_000 == pytest.approx([0.25] * 4, abs=0.0125)  # 5 deviations


@pytest.mark.parametrize(("won", "lost"), [(0.02, 5.0), (0.5, 0.5), (1.0, 1.0), (3.0, 200.0), (4000.0, 100.0)])
def test_beta_draws(won, lost):
    arms_RL = np.arange(1, dtype=np.int32)[None]
    draws_BL = np.empty((20_000, 1))
    beta_draws(np.array([won]), np.array([lost]), arms_RL, KEY, np.arange(20_000, dtype=np.uint64), draws_BL)
    assert stats.kstest(1 / (1 + np.exp(-draws_BL[:, 0])), stats.beta(won, lost).cdf).pvalue > 1e-4


def test_normal_and_gumbel_draws():
    arms_RL, requests_B = np.arange(2, dtype=np.int32)[None], np.arange(20_000, dtype=np.uint64)
    draws_BL = np.empty((20_000, 2))
    normal_draws(np.array([[1.0, -2.0]]), np.array([[0.5, 3.0]]), arms_RL, KEY, requests_B, draws_BL)
    for place, (mean, width) in enumerate([(1, 0.5), (-2, 3)]):
        assert stats.kstest(draws_BL[:, place], stats.norm(mean, width).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(draws_BL.T)[0, 1]) < 0.035  # 5 deviations
    gumbel_draws(np.array([[1.0, -2.0]]), arms_RL, KEY, requests_B, draws_BL)
    assert stats.kstest(draws_BL[:, 1], stats.gumbel_r(-2).cdf).pvalue > 1e-4
    numbers_BN = np.empty((10_000, 3))
    normals(KEY, requests_B[:10_000], numbers_BN)
    assert stats.kstest(numbers_BN.ravel(), stats.norm.cdf).pvalue > 1e-4
    assert np.abs(np.corrcoef(numbers_BN.T) - np.eye(3)).max() < 0.05


def plackett_luce(weights):
    found = {}
    for order in itertools.permutations(range(len(weights))):
        chance, left = 1.0, sum(weights)
        for arm in order:
            chance *= weights[arm] / left
            left -= weights[arm]
        found[order] = chance
    return found


def test_chances_of_a_plackett_luce_order_are_those_of_an_enumeration():
    """Gumbel scores have a closed form, so the quadrature is judged without any simulation."""
    logits = np.array([2.0, 0.0, -1.0, 0.5, 5.0])
    orders = plackett_luce(np.exp(logits))
    for slate in ([4], [4, 0], [0, 3, 2], [2, 1, 0, 3, 4]):
        found_K, joint = Order.of(Gumbels(logits), len(slate)).of_shown(np.array(slate))
        assert joint == pytest.approx(
            sum(chance for order, chance in orders.items() if list(order[: len(slate)]) == slate), rel=1e-8
        )
        for place, arm in enumerate(slate):
            wanted = sum(chance for order, chance in orders.items() if order[place] == arm)
            assert found_K[place] == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize(
    ("scores", "draw"),
    [
        (
            Betas(np.array([0.3, 5.0, 300.0, 40.0]), np.array([2.0, 4.0, 300.0, 35.0])),
            lambda rng, n: rng.beta([0.3, 5, 300, 40], [2, 4, 300, 35], (n, 4)),
        ),
        (
            Normals(np.array([0.0, 0.5, 0.4, -3.0]), np.array([1.0, 0.01, 0.3, 2.0])),
            lambda rng, n: rng.normal([0, 0.5, 0.4, -3], [1, 0.01, 0.3, 2], (n, 4)),
        ),
    ],
)
def test_chances_of_posteriors_are_frequencies(scores, draw):
    trials = 200_000
    orders = np.argsort(-draw(np.random.default_rng(0), trials), axis=1)
    order = Order.of(scores, 3)
    slate = np.array([2, 1, 0])
    found_K, joint = order.of_shown(slate)
    for place, arm in enumerate(slate):
        assert found_K[place] == pytest.approx((orders[:, place] == arm).mean(), abs=0.0055)  # 5 deviations
    assert joint == pytest.approx((orders[:, :3] == slate).all(1).mean(), abs=0.0055)
    first = Order.of(scores, 1).first()
    assert first == pytest.approx(np.bincount(orders[:, 0], minlength=4) / trials, abs=0.0055)
    assert first.sum() == pytest.approx(1, abs=1e-9)
    every = sum(order.of_shown(np.array([arm, *(set(range(3)) - {arm})]))[0][0] for arm in range(3))
    every += order.of_shown(np.array([3, 0, 1]))[0][0]
    assert every == pytest.approx(1, abs=1e-8)  # some arm is first


def test_beta_against_beta_has_the_known_chance():
    """P(Beta(a, 1) > Beta(1, 1)) = a / (a + 1), also where the densities are far from smooth."""
    for a in (0.01, 1.0, 7.0, 5000.0):
        assert Order.of(Betas(np.array([a, 1.0]), np.array([1.0, 1.0])), 1).first()[0] == pytest.approx(
            a / (a + 1), rel=1e-8
        )


def start_of(models, size, regularization):
    factors_MT = np.zeros((models, linear.packed_size(size)))
    at_D = np.arange(size)
    factors_MT[:, at_D * (at_D + 3) // 2] = 1 / regularization
    return factors_MT


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 64, 65])
def test_linear_models_are_those_of_a_float64_solve(size):
    """Rank-one updates, means, widths, precisions and factors, for sizes around the unrolled loop's steps."""
    rng = np.random.default_rng(size)
    models, rows = 5, 300
    factors_MT, prior_MD = start_of(models, size, 2.0), rng.normal(size=(models, size))
    theta_MD = prior_MD.copy()
    x_ND, rewards_N, weights_N = rng.normal(size=(rows, size)), rng.normal(size=rows), rng.random(rows) + 0.1
    models_N = rng.integers(0, models - 1, rows)  # the last has none
    order_N, models_G, starts_G1 = linear.grouped(models_N)
    linear.learn(factors_MT, theta_MD, models_G, starts_G1, order_N, x_ND, rewards_N, weights_N)
    query_BD = rng.normal(size=(75, size)).astype(np.float32)
    means_BL, widths_BL = moments(factors_MT, theta_MD, query_BD, models_L=np.arange(models))
    precision_MT, again_MT = np.empty_like(factors_MT), np.empty_like(factors_MT)
    linear.precisions(factors_MT, size, precision_MT)
    linear.factors_of(precision_MT, size, again_MT)
    np.testing.assert_allclose(again_MT, factors_MT, rtol=1e-9, atol=1e-12)
    product_MD, back_MD = np.empty_like(theta_MD), np.empty_like(theta_MD)
    linear.times(precision_MT, theta_MD, product_MD)
    linear.covariance_times(factors_MT, product_MD, back_MD)
    np.testing.assert_allclose(back_MD, theta_MD, rtol=1e-9, atol=1e-11)
    for model in range(models):
        mine = models_N == model
        precision_DD = 2 * np.eye(size) + (x_ND[mine].T * weights_N[mine]) @ x_ND[mine]
        moment_D = 2 * prior_MD[model] + (x_ND[mine].T * weights_N[mine]) @ rewards_N[mine]
        np.testing.assert_allclose(theta_MD[model], np.linalg.solve(precision_DD, moment_D), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(precision_MT[model], precision_DD[np.tril_indices(size)], rtol=1e-9, atol=1e-10)
        widths_B = np.sqrt((query_BD * np.linalg.solve(precision_DD, query_BD.T.astype(np.float64)).T).sum(1))
        np.testing.assert_allclose(widths_BL[:, model], widths_B, rtol=3e-6)  # float32 sums over D
        terms_B = np.abs(query_BD) @ np.abs(theta_MD[model])
        assert (np.abs(means_BL[:, model] - query_BD @ theta_MD[model]) <= 1e-6 * terms_B + 1e-7).all()


def test_means_and_widths_do_not_depend_on_the_batch():
    rng = np.random.default_rng(0)
    factors_MT, theta_MD = start_of(40, 19, 1.0), rng.normal(size=(40, 19))
    x_ND = rng.normal(size=(200, 19))
    order_N, models_G, starts_G1 = linear.grouped(rng.integers(0, 40, 200))
    linear.learn(factors_MT, theta_MD, models_G, starts_G1, order_N, x_ND, rng.normal(size=200), np.ones(200))
    query_BD = rng.normal(size=(133, 19)).astype(np.float32)
    whole = moments(factors_MT, theta_MD, query_BD, models_L=np.arange(40))
    for part in (slice(5, 6), slice(70, 133)):
        for one, all_of_it in zip(
            moments(factors_MT, theta_MD, query_BD[part], models_L=np.arange(40)), whole, strict=True
        ):
            np.testing.assert_array_equal(one, all_of_it[part])
    candidates_BL = np.argsort(rng.random((133, 40)), axis=1)[:, :7]
    candidates_BL[::3, 2] = -1
    rows_B1 = np.arange(133)[:, None]
    for some, all_of_it in zip(moments(factors_MT, theta_MD, query_BD, models_L=candidates_BL), whole, strict=True):
        np.testing.assert_array_equal(some, np.where(candidates_BL >= 0, all_of_it[rows_B1, candidates_BL], 0))


def test_a_hundred_thousand_updates_do_not_drift():
    """Against one float64 solve, with contexts of very unequal scales, which make the covariance ill-conditioned (10^8)."""
    rng = np.random.default_rng(0)
    size, rows = 16, 100_000
    scale_D = np.logspace(0, -4, size)
    x_ND = rng.normal(size=(rows, size)) * scale_D
    rewards_N = x_ND @ rng.normal(size=size) + rng.normal(size=rows)
    factors_MT, theta_MD = start_of(1, size, 1e-3), np.zeros((1, size))
    linear.learn(
        factors_MT,
        theta_MD,
        np.zeros(1, np.int64),
        np.array([0, rows]),
        np.arange(rows),
        x_ND,
        rewards_N,
        np.ones(rows),
    )
    precision_DD = 1e-3 * np.eye(size) + x_ND.T @ x_ND
    assert np.linalg.cond(precision_DD) > 1e7
    np.testing.assert_allclose(theta_MD[0], np.linalg.solve(precision_DD, x_ND.T @ rewards_N), rtol=1e-7, atol=1e-9)
    precision_MT = np.empty_like(factors_MT)
    linear.precisions(factors_MT, size, precision_MT)
    root_D = np.sqrt(np.diag(precision_DD))
    relative_T = ((precision_DD / root_D) / root_D[:, None])[np.tril_indices(size)]
    np.testing.assert_allclose(precision_MT[0] / np.outer(root_D, root_D)[np.tril_indices(size)], relative_T, atol=1e-9)


def test_the_mode_of_a_logistic_posterior_has_no_gradient():
    rng = np.random.default_rng(0)
    x_ND = rng.normal(size=(400, 3)) * [1, 30, 0.01]
    rewards_N = (rng.random(400) < 1 / (1 + np.exp(-x_ND @ [1.0, 0.2, 5.0]))).astype(np.float64)
    weights_N = rng.random(400)
    theta_D, precision_DD = posterior_mode(x_ND, rewards_N, weights_N, 0.5)
    chances_N = 1 / (1 + np.exp(-x_ND @ theta_D))
    gradient_D = x_ND.T @ (weights_N * (chances_N - rewards_N)) + 0.5 * theta_D
    np.testing.assert_allclose(gradient_D, 0, atol=1e-7)
    hessian_DD = (x_ND.T * (weights_N * chances_N * (1 - chances_N))) @ x_ND + 0.5 * np.eye(3)
    np.testing.assert_allclose(precision_DD, hessian_DD, rtol=1e-9)
    separable, _ = posterior_mode(np.array([[1000.0], [-1000.0]]), np.array([1.0, 0.0]), np.ones(2), 1e-6)
    assert np.isfinite(separable).all()


@pytest.mark.parametrize("k", [1, 3, 40])
def test_the_best_normal_draws_are_those_of_all(k):
    """Bits included: with a prior alone (equal means), with learned means, without width, and with padding."""
    rng = np.random.default_rng(k)
    requests, arms = 300, 40
    for means, widths in ((0.0, 1.0), (1.0, 0.3), (1.0, 0.0), (0.0, 0.0)):
        means_RL = (means * rng.normal(size=(requests, arms))).astype(np.float32)
        widths_RL = (widths * rng.random((requests, arms))).astype(np.float32)
        arms_RL = np.argsort(rng.random((requests, arms)), axis=1).astype(np.int32)
        arms_RL[::2, 5:9] = -1
        keys_B = np.arange(requests, dtype=np.uint64)
        all_BL, some_BL = np.empty((requests, arms)), np.empty((requests, arms))
        places_BK, found_BK = np.empty((requests, k), np.int32), np.empty((requests, k), np.int32)
        normal_draws(means_RL.astype(float), 0.7 * widths_RL.astype(float), arms_RL, KEY, keys_B, all_BL)
        best_first(all_BL, arms_RL, KEY, keys_B, places_BK)
        best_normal_draws(means_RL, widths_RL, 0.7, arms_RL, KEY, keys_B, some_BL, found_BK)
        np.testing.assert_array_equal(found_BK, places_BK)
        drawn_BL = some_BL > -np.inf
        np.testing.assert_array_equal(some_BL[drawn_BL], all_BL[drawn_BL])
        shown_BK = places_BK >= 0
        rows_B1 = np.arange(requests)[:, None]
        assert drawn_BL[rows_B1, found_BK][shown_BK].all()
