"""What each policy does beyond the contract: its formula, its prior, its forgetting, and what bad input gets."""

import numpy as np
import pytest

from recsys_dl import Interactions
from recsys_dl.bandits import (
    KLUCB,
    UCB1,
    Boltzmann,
    Cascading,
    EpsilonGreedy,
    GaussianThompson,
    LinearThompson,
    LinUCB,
    LogisticThompson,
    NeuralLinear,
    PositionBased,
    Thompson,
    examination_of,
)
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.models import ALS, ItemKNN


def log_of(arms, rewards, num_arms, **columns):
    return BanditFeedback(np.array(arms), np.array(rewards, float), None, num_arms=num_arms, **columns)


def test_epsilon_decays_with_rewards():
    policy = EpsilonGreedy(epsilon=0.8, decay=4).start(2)
    assert policy.epsilon_now() == 0.8
    policy.update(log_of([[0], [1], [0], [1]], [[1], [0], [1], [0]], 2))
    assert policy.epsilon_now() == pytest.approx(0.4)
    np.testing.assert_allclose(policy.probabilities(None, num_requests=1), [[0.8, 0.2]])


def test_ucb1_is_its_formula():
    policy = UCB1(exploration=1.5).start(2).update(log_of([[0], [0], [1]], [[1], [0], [0.25]], 2))
    shown = policy.select(None, 2, requests_B=[0])
    wanted = {0: 0.5 + 1.5 * (np.log(3) / 2) ** 0.5, 1: 0.25 + 1.5 * np.log(3) ** 0.5}
    np.testing.assert_allclose(shown.scores_BK[0], [wanted[arm] for arm in shown.arms_BK[0]], rtol=1e-6)
    assert shown.arms_BK[0].tolist() == sorted(wanted, key=wanted.get, reverse=True)
    assert shown.joint_B[0] == 1


def test_kl_ucb_solves_its_equation():
    policy = KLUCB().start(3).update(log_of([[0], [0], [0], [1], [2], [2]], [[1], [0], [0.5], [1], [0], [0]], 3))
    shown = policy.select(None, 3, requests_B=[0])
    for arm, q in zip(shown.arms_BK[0], shown.scores_BK[0].astype(float), strict=True):
        count, mean = {0: (3, 0.5), 1: (1, 1.0), 2: (2, 0.0)}[int(arm)]
        if mean == 1:
            assert q == 1
            continue
        divergence = (mean * np.log(mean / q) if mean else 0) + (1 - mean) * np.log((1 - mean) / (1 - q))
        assert count * divergence == pytest.approx(np.log(6), abs=1e-5)


def test_priors_of_arms_can_be_given():
    policy = Thompson().start(2, prior_means_A=[0.2, 0.9], prior_counts_A=[10, 100])
    np.testing.assert_allclose(np.array(policy.posterior()), [[2, 90], [8, 10]])
    policy.add_arms(1, prior_means_A=[0.5])
    np.testing.assert_allclose(np.array(policy.posterior())[:, 2], [1, 1])


@pytest.mark.parametrize(
    "policy", [Thompson(content_count=20.0), EpsilonGreedy(content_count=20.0), GaussianThompson(content_count=20.0)]
)
def test_new_arms_are_expected_to_be_like_arms_of_similar_content(policy):
    rng = np.random.default_rng(0)
    features = rng.integers(0, 2, (40, 1)).astype(float)
    arms = rng.integers(0, 40, (4000, 1))
    rewards = (rng.random((4000, 1)) < np.where(features[arms[:, 0]] > 0, 0.8, 0.1)).astype(float)
    policy.start(40, arm_features_AF=features).update(log_of(arms, rewards, 40))
    policy.add_arms(2, arm_features_AF=[[1.0], [0.0]])
    assert policy.means()[40:] == pytest.approx([0.8, 0.1], abs=0.05)
    with pytest.raises(ValueError, match="new arms need the 1 features that start.* got none"):
        policy.add_arms(1)


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_new_arms_are_added_while_all_rewards_so_far_are_equal(reward):
    """As in the first hours of most logs: a beta prior of mean 0 or 1 does not exist."""
    policy = Thompson(content_count=20.0).start(4, arm_features_AF=[[0.0], [1.0], [2.0], [3.0]])
    policy.update(log_of(np.array([[0], [1], [2]]), np.full((3, 1), reward), 4))
    policy.add_arms(1, arm_features_AF=[[9.0]])
    assert 0 < policy.means()[4] < 1
    assert (policy.means()[4] < 0.5) == (reward == 0)


def test_new_linear_arms_get_the_weights_of_similar_content():
    rng = np.random.default_rng(0)
    features, contexts = rng.normal(size=(50, 2)), rng.normal(size=(6000, 3))
    weights = features @ np.array([[1.0, 0, -1], [0, 2, 0]])
    arms = rng.integers(0, 50, 6000)
    rewards = (contexts * weights[arms]).sum(1) + 0.1 * rng.normal(size=6000)
    policy = LinUCB().start(50, context_size=3, arm_features_AF=features)
    policy.update(log_of(arms[:, None], rewards[:, None], 50, contexts_RF=contexts))
    policy.add_arms(1, arm_features_AF=[[1.0, 1.0]])
    assert policy.theta_MD[50] == pytest.approx([1, 2, -1], abs=0.1)


def test_shared_weights_know_new_arms_by_their_features():
    rng = np.random.default_rng(0)
    features, contexts, arms = rng.normal(size=(20, 2)), rng.normal(size=(3000, 2)), rng.integers(0, 20, 3000)
    rewards = contexts[:, 0] * features[arms, 1] + 0.1 * rng.normal(size=3000)
    for policy in (LinUCB(sharing="shared", exploration=0.1), LinearThompson(sharing="shared", noise=0.1)):
        policy.start(20, context_size=2, arm_features_AF=features)
        policy.update(log_of(arms[:, None], rewards[:, None], 20, contexts_RF=contexts))
        policy.add_arms(2, arm_features_AF=[[0.0, 5.0], [0.0, -5.0]])
        assert policy.select([[1, 0], [-1, 0]], requests_B=[0, 1]).arms_BK.tolist() == [[20], [21]]


@pytest.mark.parametrize(
    "policy",
    [LinUCB(sharing="shared"), LinUCB(sharing="shared", features="product"), LinUCB(), LinUCB(regularization=0.1)],
)
def test_linucb_is_its_formula(policy):
    rng = np.random.default_rng(1)
    features, contexts = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(60, 3)).astype(np.float32)
    arms, rewards = rng.integers(0, 5, (60, 1)), rng.normal(size=(60, 1))
    policy.start(5, context_size=3, arm_features_AF=features).update(log_of(arms, rewards, 5, contexts_RF=contexts))
    shown = policy.select(contexts[:8], 5, requests_B=np.arange(8))

    def row(context, arm):
        if policy.sharing == "disjoint":
            return np.kron(np.eye(5)[arm], context)
        if policy.features == "product":
            return context * features[arm]
        return np.kron(np.append(1, context), np.append(1, features[arm]))

    x = np.array([row(context, arm) for context, arm in zip(contexts, arms[:, 0], strict=True)], np.float64)
    precision = policy.regularization * np.eye(x.shape[1]) + x.T @ x
    theta = np.linalg.solve(precision, x.T @ rewards[:, 0])
    for b in range(8):
        wanted = []
        for arm in shown.arms_BK[b]:
            one = row(contexts[b].astype(np.float64), arm)
            wanted.append(one @ theta + policy.exploration * (one @ np.linalg.solve(precision, one)) ** 0.5)
        np.testing.assert_allclose(shown.scores_BK[b], wanted, rtol=1e-4, atol=1e-5)


def test_forgetting_follows_a_change_and_counts_by_age():
    times = 1000 * np.arange(400)
    rewards = np.where(np.arange(400) < 200, [1.0], [0.0])[:, None]
    log = log_of(np.zeros((400, 1), int), rewards, 2, times_R=times)
    forgets, remembers = Thompson(half_life=20_000).start(2).update(log), Thompson().start(2).update(log)
    assert remembers.means()[0] == pytest.approx(0.5)
    assert forgets.means()[0] < 0.06
    counted = EpsilonGreedy(half_life=10.0).start(1).update(log_of([[0], [0]], [[1], [0]], 1, times_R=[0, 20]))
    assert counted.count_A[0] == pytest.approx(1.25)
    assert counted.means()[0] == pytest.approx(0.2)
    linear = LinUCB(half_life=10.0, regularization=0.5).start(1, context_size=1)
    linear.update(log_of([[0]], [[1]], 1, times_R=[0], contexts_RF=[[2.0]]))
    linear.update(log_of([[0]], [[0]], 1, times_R=[20], contexts_RF=[[1.0]]))
    assert linear.theta_MD[0, 0] == pytest.approx((0.25 * 2) / (0.5 + 0.25 * 4 + 1))  # the prior does not fade
    late = EpsilonGreedy(half_life=10.0).start(1).update(log_of([[0]], [[0]], 1, times_R=[20]))
    late.update(log_of([[0]], [[1]], 1, times_R=[0]))  # arrived out of order
    assert late.means()[0] == pytest.approx(0.2)


def test_forgetful_states_of_other_times_are_merged():
    start = Thompson(half_life=100.0).start(2).update(log_of([[0]], [[1]], 2, times_R=[0]))
    states = []
    for arm, time in ((0, 50), (1, 300)):
        one = Thompson(half_life=100.0).start(2).update(log_of([[0]], [[1]], 2, times_R=[0]))
        states.append(one.update(log_of([[arm]], [[1]], 2, times_R=[time])))
    alone = Thompson(half_life=100.0).start(2)
    alone.update(log_of([[0], [0], [1]], [[1], [1], [1]], 2, times_R=[0, 50, 300]))
    np.testing.assert_allclose(start.merged(states).count_A, alone.count_A)
    np.testing.assert_allclose(start.merged(states[::-1]).sum_A, alone.sum_A)


def test_a_cascade_ends_at_the_first_click_or_unknown_reward():
    policy = Cascading().start(4)
    policy.update(log_of([[0, 1, 2], [3, 1, 0], [1, 2, 0]], [[0, 1, 0], [0, 0, 0], [0, np.nan, 1]], 4))
    assert policy.count_A.tolist() == [2, 3, 0, 1]
    assert policy.sum_A.tolist() == [0, 1, 0, 0]
    assert policy.num_rewards == 6


def test_position_based_clicks_are_unbiased():
    rng = np.random.default_rng(0)
    looks, clicks_A = np.array([1.0, 0.5, 0.2]), np.array([0.6, 0.3, 0.1, 0.5])
    arms = np.argsort(rng.random((40_000, 4)), axis=1)[:, :3]
    rewards = (rng.random((40_000, 3)) < looks * clicks_A[arms]).astype(float)
    log = BanditFeedback(arms, rewards, np.full(arms.shape, 0.25), num_arms=4)
    assert examination_of(log) == pytest.approx(looks, abs=0.02)
    policy = PositionBased(examination=looks.tolist()).start(4).update(log)
    assert policy.means() == pytest.approx(clicks_A, abs=0.015)
    by_row = PositionBased(examination=looks.tolist()).start(4)
    for position in range(3):
        by_row.update(log_of(arms[:, [position]], rewards[:, [position]], 4, positions_R=np.full(len(arms), position)))
    np.testing.assert_allclose(by_row.means(), policy.means())
    assert (1 / PositionBased()._looks(np.arange(3))).tolist() == pytest.approx([1, 2, 3])


@pytest.mark.parametrize("sharing", ["disjoint", "shared"])
def test_neural_linear_begins_with_the_scores_of_a_model_and_learns(sharing):
    rng = np.random.default_rng(0)
    train = Interactions(rng.integers(0, 30, 200), rng.integers(0, 12, 200), num_users=31, num_items=12)
    als = ALS(embedding_size=4, epochs=3, device="cpu").fit(train)
    policy = NeuralLinear(sharing=sharing, noise=1e-4, regularization=0.5).start_from(als)
    users = np.arange(10)
    contexts = policy.contexts_of(als, users)
    expected = als.score(users, np.tile(np.arange(12), (10, 1)))
    assert (policy.select(contexts, requests_B=users).arms_BK[:, 0] == expected.argmax(1)).mean() > 0.9
    np.testing.assert_allclose(policy._moments(policy._checked_requests(contexts, users, None))[0], expected, atol=1e-5)
    assert (policy.contexts_of(als, [30]) == 0).all()  # a user without interactions
    worst = int(expected[0].argmin())
    rewards = log_of([[worst]] * 50, [[3.0]] * 50, 12, contexts_RF=np.repeat(contexts[:1], 50, axis=0))
    policy.update(rewards)
    learned = policy._moments(policy._checked_requests(contexts[:1], [0], None))[0][0, worst]
    assert learned > expected[0, worst] + 1.5  # shared weights may raise others too
    if sharing == "disjoint":
        assert policy.select(contexts[:1], requests_B=[0]).arms_BK[0, 0] == worst


def test_thompson_explores_less_as_it_learns():
    log = log_of(np.tile([[0], [1]], (200, 1)), np.tile([[1.0], [0.0]], (200, 1)), 2)
    for policy in (Thompson(), GaussianThompson(noise=0.5)):
        before = policy.start(2).probabilities(None, num_requests=1)[0]
        np.testing.assert_allclose(before, 0.5, atol=1e-9)
        assert policy.update(log).probabilities(None, num_requests=1)[0, 0] > 0.999


def test_a_cold_boltzmann_does_not_overflow():
    policy = Boltzmann(temperature=1e-6).start(3).update(log_of([[0], [1], [2]], [[3], [1], [2]], 3))
    shown = policy.select(None, 3, requests_B=[0])
    assert shown.arms_BK.tolist() == [[0, 2, 1]]
    np.testing.assert_allclose(shown.propensities_BK, 1)
    np.testing.assert_allclose(shown.joint_B, 1)


def test_many_requests_are_answered_in_blocks(monkeypatch):
    contexts = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    for policy in (Thompson().start(7), LinearThompson().start(7, context_size=2)):
        whole = policy.select(contexts, 2, requests_B=np.arange(50))
        chances = policy.probabilities(contexts, num_requests=50)
        monkeypatch.setattr(type(policy), "block", 21)
        parts = policy.select(contexts, 2, requests_B=np.arange(50))
        np.testing.assert_array_equal(whole.arms_BK, parts.arms_BK)
        np.testing.assert_array_equal(whole.propensities_BK, parts.propensities_BK)
        np.testing.assert_array_equal(chances, policy.probabilities(contexts, num_requests=50))


SHARED = {"sharing": "shared"}
LOG = log_of([[0]], [[1]], 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EpsilonGreedy(epsilon=1.5), "epsilon must be a finite number of at least 0 and at most 1|epsilon must be .* got 1.5"),
        (lambda: Thompson(prior_mean=0.0), "prior_mean must be .* above 0 and below 1, got 0.0"),
        (lambda: Boltzmann(temperature=0), "temperature must be .* above 0, got 0"),
        (lambda: LinUCB(sharing="share"), "sharing must be one of disjoint, shared, got 'share'"),
        (lambda: LinUCB(alpha=1), "LinUCB has no argument 'alpha'"),
        (lambda: PositionBased(examination=[1.0, 0.0]), "examination must be .* got"),
        (lambda: PositionBased(examination=[]), "examination must hold the chance of a look at each position, got an empty list"),
        (lambda: UCB1().start(2).update(log_of([[0], [1]], [[1.5], [1]], 2)), r"UCB1 needs rewards between 0 and 1, got 1.5 \(1 of 2 are outside\)"),
        (lambda: KLUCB().start(2).update(log_of([[0]], [[-1]], 2)), "KLUCB needs rewards between 0 and 1, got -1"),
        (lambda: Thompson().start(2).update(log_of([[0]], [[2]], 2)), "Thompson needs rewards between 0 and 1, got 2"),
        (lambda: Cascading().start(2).update(log_of([[0, 1]], [[1, 5]], 2)), "needs rewards between 0 and 1, got 5"),
        (
            lambda: LogisticThompson().start(1, context_size=1).update(log_of([[0]], [[2]], 1, contexts_RF=[[1.0]])),
            "LogisticThompson needs rewards between 0 and 1, got 2",
        ),
        (lambda: Thompson(half_life=1.0).start(2).update(LOG), "a policy with a half_life needs feedback with times"),
        (lambda: Thompson().start(2, prior_means_A=[0.5]), r"prior means must be 2 numbers, one an arm, got \(1,\)"),
        (lambda: Thompson().start(2, prior_means_A=[0.5, np.nan]), "prior means must be finite, got nan"),
        (lambda: Thompson().start(2, prior_means_A=[0.5, 1.0]), "prior means must lie between 0 and 1 without the ends"),
        (lambda: Thompson().start(2, prior_counts_A=[1, -1]), "prior counts must be finite and at least 0, got -1"),
        (lambda: GaussianThompson().start(2, prior_counts_A=[1, 0]), "prior counts must be above 0, since a normal prior"),
        (lambda: KLUCB().start(1, prior_means_A=[2.0]), "prior means must lie between 0 and 1, as rewards do, got 2"),
        (lambda: LinUCB().start(2), "context_size must be an integer of at least 1, got 0"),
        (lambda: LogisticThompson().start(2), "context_size must be an integer of at least 1, got 0"),
        (lambda: LinUCB(**SHARED).start(2, context_size=1), "sharing='shared' needs features of arms"),
        (
            lambda: LinUCB(**SHARED, features="product").start(2, context_size=3, arm_features_AF=np.ones((2, 2))),
            "features='product' needs as many features of an arm as numbers of a context, 3, got 2; or features='outer'",
        ),
        (
            lambda: LinUCB(**SHARED).start(2, context_size=200, arm_features_AF=np.ones((2, 60))),
            r"features='outer' makes \(1 \+ 200\) \* 61 = 12,261 weights, more than 8,192: reduce",
        ),
        (
            lambda: LinUCB(**SHARED).start(2, context_size=1, arm_features_AF=np.ones((2, 1)), prior_weights_AD=[[1.0], [1.0]]),
            "prior weights of arms need sharing='disjoint'",
        ),
        (lambda: LinUCB().start(2, context_size=2, prior_weights_AD=[[1.0]]), r"prior weights must be 2 rows, one an arm, of 2 numbers, got \(1, 1\)"),
        (lambda: LinUCB().start(1, context_size=1, prior_weights_AD=[[np.inf]]), "prior weights must be finite, got inf"),
        (lambda: NeuralLinear().start(2, context_size=3), "NeuralLinear needs item vectors of the length of user vectors, 3, .* got none"),
        (lambda: NeuralLinear().start_from(ItemKNN().fit(Interactions([0, 1], [0, 1]))), "whose scores are inner products of vectors, such as ALS or TwoTower, got ItemKNN"),
        (lambda: Thompson().start(2).retire([2]), r"arms must be in \[0, 2\), got 2"),
        (lambda: Thompson().start(2).retire([0.5]), "arms to retire must be a list of integers"),
        (lambda: Thompson().start(2).retire([0]).select(None, 2, requests_B=[0]), "k must be at most the 1 active arms, got 2"),
        (lambda: Thompson().start(2).add_arms(0), "count must be an integer of at least 1, got 0"),
        (
            lambda: PositionBased(examination=[1.0]).start(2).update(log_of([[0, 1]], [[0, 1]], 2)),
            "feedback has 2 positions and it has 1",
        ),
        (lambda: examination_of(LOG), "examination needs feedback with propensities, got none"),
        (
            lambda: examination_of(BanditFeedback([[0]], [[0.0]], [[0.5]], num_arms=2)),
            "examination is relative to the first position, which has no rewards",
        ),
        (
            lambda: Thompson().start(2).merged([Thompson().start(2, prior_means_A=[0.1, 0.5])]),
            "state 0 must have the prior of this policy, but its prior_sum_A differs: merge copies of one start",
        ),
        (lambda: Thompson().start(2).merged([Thompson()]), "state 0 has not been started"),
        (
            lambda: Thompson().start(2).merged([Thompson().start(2).retire([0]), Thompson().start(2).retire([1])]),
            "together the states retire every arm",
        ),
        (
            lambda: LinUCB().start(1, context_size=1).select([["a"]], requests_B=[0]),
            r"contexts must be numbers, in rows of equal length, got \[\['a'\]\]",
        ),
        (lambda: LinUCB().start(2, context_size=1, arm_features_AF=[[1.0], [1.0, 2.0]]), "arm features must be numbers, in rows of equal length"),
        (
            lambda: Thompson().start(3).select(None, requests_B=[0, 1], candidates_BL=[[0], [1, 2]]),
            r"candidates must be numbers, in rows of equal length, got \[\[0\], \[1, 2\]\]",
        ),
        (lambda: Thompson().save("never"), "has not been started"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises((ValueError, TypeError), match=message) as found:
        call()
    assert len(str(found.value).splitlines()) <= 10


def test_states_that_began_elsewhere_are_not_merged():
    start = LogisticThompson().start(1, context_size=1).update(log_of([[0]], [[1]], 1, contexts_RF=[[1.0]]))
    other = LogisticThompson().start(1, context_size=1).update(log_of([[0]], [[0]], 1, contexts_RF=[[1.0]]))
    with pytest.raises(ValueError, match="must have begun as a copy of this policy, but its rewards of arm 0 differ"):
        start.merged([other])


def test_a_linear_state_of_another_prior_is_not_merged():
    features = np.eye(2)
    start = NeuralLinear().start(2, context_size=2, arm_features_AF=features)
    with pytest.raises(ValueError, match="must have the prior of this policy, but its prior_theta_MD differs"):
        start.merged([NeuralLinear().start(2, context_size=2, arm_features_AF=2 * features)])
