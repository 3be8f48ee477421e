"""Worlds are what they say, and a policy's regret in them is what it must be."""

import itertools

import numpy as np
import pytest

from recsys_dl.bandits import Boltzmann, EpsilonGreedy, NeuralLinear, Thompson
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.feedback_log import FeedbackLog
from recsys_dl.protocols import Decisions
from recsys_dl.simulation import Curve, Factors, FixedArms, Labeled, Simulated, Tastes, regret_table, replay, simulate

WORLDS = {
    "fixed_arms": lambda **more: FixedArms(num_arms=6, **more),
    "changing": lambda **more: FixedArms(num_arms=6, change_every=50, **more),
    "tastes": lambda **more: Tastes(num_users=20, num_arms=6, embedding_size=3, **more),
    "logistic, drifting": lambda **more: Tastes(
        num_users=20, num_arms=6, embedding_size=3, link="logistic", drift=500, **more
    ),
    "factors": lambda **more: Factors(num_users=20, num_arms=6, factors=3, **more),
    "labeled": lambda **more: Labeled(source="digits", **more),
}


class Always:
    """Shows the same slate to everyone, and keeps what it is given."""

    def __init__(self, *slate):
        self.slate, self.updates = np.array(slate, np.int32), []

    def start(self, num_arms, *, context_size=0, arm_features_AF=None):
        self.num_arms, self.updates = num_arms, []
        return self

    def select(self, contexts_BF, k=1, *, requests_B, candidates_BL=None):
        arms_BK = np.tile(self.slate, (len(requests_B), 1))
        return Decisions(arms_BK, np.ones(arms_BK.shape), np.ones(len(arms_BK)), np.zeros(arms_BK.shape, np.float32))

    def update(self, feedback):
        self.updates.append(feedback)
        return self


@pytest.mark.parametrize("name", WORLDS)
def test_a_request_is_answered_in_the_same_way_in_any_batch(name):
    world = WORLDS[name](seed=3, delay=5, missing=0.3, position_bias=1)
    requests = np.arange(200)
    arms = np.random.default_rng(0).permuted(np.tile(np.arange(6), (200, 1)), axis=1)[:, :3]
    some = np.array([170, 3, 44])
    for method, given in (("contexts", ()), ("users", ()), ("chances", ()), ("arrivals", ()), ("rewards", (arms,))):
        whole = getattr(world, method)(requests, *given)
        if whole is not None:
            part = getattr(world, method)(some, *(one[some] for one in given))
            np.testing.assert_array_equal(whole[some], part)
    before = world.chances(requests), world.rewards(requests, arms)
    world.begin(4)
    assert not np.array_equal(before[1], world.rewards(requests, arms))
    world.begin(3)
    np.testing.assert_array_equal(before[0], world.chances(requests))


@pytest.mark.parametrize("clicks", ["position", "cascade"])
@pytest.mark.parametrize("position_bias", [0.0, 1.5])
def test_clicks_average_to_the_truth(clicks, position_bias):
    world = FixedArms(means=[0.6, 0.3, 0.5, 0.1], clicks=clicks, position_bias=position_bias, seed=1)
    requests = np.arange(40_000)
    slates = np.tile(np.array([2, 0, -1], np.int32), (len(requests), 1))
    rewards = world.rewards(requests, slates)
    assert np.isnan(rewards[:, 2]).all()
    examined = 2.0**-position_bias
    second = 0.6 * examined * (0.5 if clicks == "cascade" else 1.0)
    mine = rewards[:, :2].mean(axis=0)
    np.testing.assert_allclose(mine, [0.5, second], atol=4 * 0.5 / np.sqrt(len(requests)))
    np.testing.assert_allclose(world.values(requests[:2], slates[:2]), 0.5 + second)
    every = np.array(list(itertools.permutations(range(4), 2)), np.int32)
    assert world.best(requests[:1], 2)[0] == pytest.approx(world.values(np.zeros(len(every), int), every).max())


def test_what_contents_and_tastes_mean():
    world = Tastes(num_users=30, num_arms=4, embedding_size=3, content=1.0, popularity=1.0, seed=2)
    requests = np.arange(4000)
    tastes = world.contexts(requests)[:, 1:]
    np.testing.assert_allclose(world.chances(requests), 0.5 + 0.5 * tastes @ world.arm_features_AF.T, atol=1e-6)
    counts = np.bincount(world.users(requests), minlength=30)
    assert counts[0] > 6 * counts[20:].mean()
    unrelated = Tastes(num_users=5, num_arms=3000, embedding_size=8, content=0.0, seed=2)
    explained = (unrelated.chances(np.arange(1))[0] - 0.5) * 2
    said = unrelated.contexts(np.arange(1))[:, 1:] @ unrelated.arm_features_AF.T
    assert abs(np.corrcoef(explained, said[0])[0, 1]) < 0.1


def test_worlds_change_as_they_say():
    changing = FixedArms(means=[0.1, 0.2, 0.9], change_every=100, seed=0)
    chances = changing.chances(np.arange(1000))
    assert {tuple(sorted(row)) for row in chances.tolist()} == {(0.1, 0.2, 0.9)}
    switches = np.flatnonzero((chances[1:] != chances[:-1]).any(axis=1)) + 1
    assert len(switches) > 3
    assert not (switches % 100).any()
    drifting = Tastes(num_users=1, num_arms=3, drift=1000, seed=0)
    np.testing.assert_allclose(drifting.chances(np.array([0])), drifting.chances(np.array([1000])), atol=1e-6)
    np.testing.assert_allclose(drifting.chances(np.array([0])) + drifting.chances(np.array([500])), 1, atol=1e-6)


def test_regret_is_the_truth_not_the_sample():
    done = simulate(Always(1), FixedArms(means=[0.5, 0.2]), rounds=300, batch=7)
    np.testing.assert_allclose(done.regret_P, 0.3 * done.rounds_P)
    assert (done.rounds_P[0], done.rounds_P[-1], done.best) == (1, 300, pytest.approx(0.5))
    assert 20 < done.clicks_P[-1] < 100
    none = simulate(Always(0, 1), FixedArms(means=[0.5, 0.2], clicks="cascade"), rounds=30, batch=7, k=2)
    np.testing.assert_allclose(none.regret_P, 0, atol=1e-12)


@pytest.mark.parametrize("policy", [EpsilonGreedy(epsilon=1.0, seed=7), Boltzmann(seed=7), Thompson(seed=7)])
def test_clicks_have_nothing_to_do_with_the_draws_of_a_policy_of_the_same_seed(policy):
    rounds = 4000
    done = simulate(policy, FixedArms(means=[0.5, 0.4, 0.6, 0.5], seed=7), rounds=rounds, batch=100)
    expected = done.best * rounds - done.regret_P[-1]
    assert abs(done.clicks_P[-1] - expected) < 4 * np.sqrt(0.25 * rounds)


def test_feedback_arrives_once_when_it_must_and_with_its_context():
    world = Tastes(num_users=20, num_arms=4, delay=30, missing=0.25, seed=5)
    policy = Always(2)
    simulate(policy, world, rounds=2000, batch=10)
    seen = np.concatenate([one.times_R for one in policy.updates])
    assert len(np.unique(seen)) == len(seen)
    assert 0.7 < len(seen) / 2000 < 0.77
    arrivals = world.arrivals(np.arange(2000))
    assert set(np.flatnonzero(arrivals < 2000)) == set(seen)
    assert 27 < (arrivals - np.arange(2000))[np.isfinite(arrivals)].mean() < 33
    for one in policy.updates:
        np.testing.assert_array_equal(one.contexts_RF, world.contexts(one.times_R))
        np.testing.assert_array_equal(one.rewards_RK, world.rewards(one.times_R, one.arms_RK))


def test_a_simulation_leaves_the_log_that_its_policy_saw(tmp_path):
    world = Tastes(num_users=20, num_arms=4, delay=30, missing=0.25, seed=5)
    log = FeedbackLog(tmp_path / "log", num_arms=4, context_size=world.context_size)
    simulate(Always(2, 0), world, rounds=200, batch=10, k=2, log=log)
    found = log.feedback()
    requests = np.arange(200)
    np.testing.assert_array_equal(found.times_R, requests)
    np.testing.assert_array_equal(found.contexts_RF, world.contexts(requests))
    np.testing.assert_array_equal(found.users_R, world.users(requests))
    there = world.arrivals(requests) < 200
    np.testing.assert_array_equal(found.rewards_RK[there], world.rewards(requests, found.arms_RK)[there])
    assert np.isnan(found.rewards_RK[~there]).all()


@pytest.mark.parametrize("uniform", [True, False])
def test_replay_of_a_log_is_unbiased(uniform):
    """Arms earn 0.1, 0.4 and 0.7; the logging policy is uniform, or shows the best arm rarely."""
    rng = np.random.default_rng(0)
    chances = np.full(3, 1 / 3) if uniform else np.array([0.5, 0.4, 0.1])
    arms = rng.choice(3, 6000, p=chances)
    rewards = (rng.random(6000) < np.array([0.1, 0.4, 0.7])[arms]) * 1.0
    rewards[::10] = np.nan
    log = BanditFeedback(arms[:, None], rewards[:, None], chances[arms][:, None], num_arms=3)
    for arm, mean in enumerate((0.1, 0.4, 0.7)):
        policy = Always(arm)
        found = replay(policy, log, batch=50)
        assert found.interval[0] - 0.03 < mean < found.interval[1] + 0.03
        assert found.rounds == 5400
        share = 1 / 3 if uniform else 0.1
        assert len(found.rewards_M) == pytest.approx(5400 * share, rel=0.15)
        assert sum(map(len, policy.updates)) == len(found.rewards_M)


def test_what_replay_refuses():
    one = BanditFeedback([[0], [1]], [[1.0], [0.0]], [[0.5], [0.5]], num_arms=2)
    with pytest.raises(ValueError, match="chose the logged arm in 1 of 2 rounds"):
        replay(Always(0), one)
    with pytest.raises(ValueError, match="single arms, got slates of 2"):
        replay(Always(0), BanditFeedback([[0, 1]], [[1.0, 0.0]], None, num_arms=2))
    with pytest.raises(ValueError, match="needs a log with propensities"):
        replay(Always(0), BanditFeedback([[0]], [[1.0]], None, num_arms=2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedArms(means=[0.5]), "at least two arms"),
        (lambda: FixedArms(means=[0.5, 1.5]), "at most 1"),
        (lambda: FixedArms(missing=1.0), "missing must be .* below 1, got 1.0"),
        (lambda: FixedArms(delay=-1), "delay must be .* at least 0"),
        (lambda: Tastes(clicks="all"), "clicks must be one of position, cascade, got 'all'"),
        (lambda: Tastes(content=2.0), "content must be"),
        (lambda: Labeled(source="mnist"), "source must be one of digits, covertype_like"),
        (lambda: simulate(Always(0), FixedArms(), rounds=0), "rounds must be a whole number of at least 1, got 0"),
        (lambda: simulate(Always(0), FixedArms(num_arms=3), rounds=5, k=4), "k must be at most the 3 arms"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bands_exponents_and_theory():
    rounds = np.array([1, 10, 100, 1000])
    runs = [Simulated(rounds, scale * rounds**0.5, rounds * 0.3, 0.5, 1.0) for scale in (1.0, 2.0, 3.0)]
    curve = Curve.of("square root", runs)
    assert curve.exponent == pytest.approx(0.5)
    assert curve.late == pytest.approx(2 * (1000**0.5 - 100**0.5))
    half = 4.302653 * 1.0 / np.sqrt(3) * np.sqrt(1000)  # Student's t with 2 degrees of freedom
    np.testing.assert_allclose(curve.band_2P[:, -1], [2 * np.sqrt(1000) - half, 2 * np.sqrt(1000) + half], rtol=1e-5)
    cheap = Curve.of("none", [Simulated(rounds, 0.0 * rounds, rounds * 0.5, 0.5, 1.0)])
    table = regret_table([curve, cheap])
    assert [row[0] for row in table] == ["none", "square root"]
    assert table[0][2] == "one seed"
    assert table[0][4] == "-"  # no regret has no growth
    world = FixedArms(means=[0.5, 0.4])
    kl = 0.4 * np.log(0.4 / 0.5) + 0.6 * np.log(0.6 / 0.5)
    found = world.theory(np.array([1, 1000]))["Lai-Robbins rate"]
    np.testing.assert_allclose(found, [0, 0.1 / kl * np.log(1000)])


def test_propensities_change_nothing_but_the_time(tmp_path):
    """Without a log they are left out."""
    world = FixedArms(means=[0.2, 0.5, 0.4], seed=1)
    bare = simulate(Thompson(seed=2), world, rounds=60, batch=10, k=2)
    logged = simulate(Thompson(seed=2), world, rounds=60, batch=10, k=2, log=FeedbackLog(tmp_path, num_arms=3))
    np.testing.assert_array_equal(bare.regret_P, logged.regret_P)
    assert np.isfinite(FeedbackLog(tmp_path).feedback().propensities_RK).all()


def test_vectors_of_the_world_of_factors_know_what_users_like_the_better_the_longer_their_history():
    requests, found = np.arange(2000), []
    for history in (5, 200):
        world = Factors(num_users=100, num_arms=20, embedding_size=3, factors=3, history=history, seed=1)
        scores = world.contexts(requests) @ world.arm_features_AF.T
        found.append(np.corrcoef(scores.ravel(), world.chances(requests).ravel())[0, 1])
    assert found[0] < found[1] > 0.9
    policy = NeuralLinear(seed=1)
    done = simulate(policy, world, rounds=200, batch=10)
    greedy = world.chances(requests)[requests, scores.argmax(axis=1)].mean()
    assert done.clicks_P[-1] / 200 > greedy - 0.1  # it begins with the model's scores
    with pytest.raises(ValueError, match="factors must be fewer than the 20 arms and the 100 users, got 20"):
        Factors(num_users=100, num_arms=20, factors=20)


def test_rates_of_slates():
    rounds = np.array([10, 1000])
    single = FixedArms(means=[0.6, 0.4, 0.2])
    np.testing.assert_allclose(
        single.slate_theory(rounds, 1)["rate of a position model"], single.theory(rounds)["Lai-Robbins rate"]
    )
    cascade = FixedArms(means=[0.3, 0.3, 0.1, 0.1], clicks="cascade").slate_theory(rounds, 2)
    kl = 0.1 * np.log(0.1 / 0.3) + 0.9 * np.log(0.9 / 0.7)
    np.testing.assert_allclose(cascade["rate of a cascade model"], 2 * 0.2 * 0.7 / kl * np.log(rounds))
    assert not FixedArms(means=[0.3, 0.2, 0.1]).slate_theory(rounds, 2)  # the best are not equal
    assert not FixedArms(num_arms=4).slate_theory(rounds, 2)
    assert list(Tastes(num_users=9, num_arms=4).theory(rounds)) == ["order sqrt(A F t)"]
