"""Policies learned from a log beat the one that logged it, and their held-out value is near the truth."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from test_off_policy_evaluation import CHANCE_XA, world

from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.off_policy import ArmMeans, Linear, SoftmaxPolicy, learn_policy
from recsys_dl.off_policy.learning import _Problem
from recsys_dl.protocols import Policy


def value(policy):
    return float((policy.probabilities(np.eye(2), num_requests=2) * CHANCE_XA).sum(axis=1).mean())


@pytest.mark.parametrize("objective", ["ips", "dr"])
def test_it_finds_the_best_arm_of_each_context_and_its_held_out_value_is_near_the_truth(objective):
    log, _ = world(4000)
    learned = learn_policy(log, objective=objective, seed=1)
    best = CHANCE_XA.max(axis=1).mean()
    assert value(learned.policy) > log.rewards_RK.mean() + 0.6 * (best - log.rewards_RK.mean())
    assert learned.value["dr"].low < value(learned.policy) < learned.value["dr"].high
    assert learned.value.rounds == 1200
    assert isinstance(learned.policy, Policy)
    assert learned.variance_penalty in [penalty for penalty, _ in learned.candidates]


@pytest.mark.parametrize("objective", ["ips", "dr"])
@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_the_gradient_is_that_of_the_objective(objective, penalty):
    log, _ = world(200)
    problem = _Problem(log, objective, ArmMeans(), 2, (0.0, 1.0), 3.0, 0)
    at = np.random.default_rng(0).normal(scale=0.5, size=12)
    found = approx_fprime(at, lambda x: problem.loss(x, penalty, 0.01)[0], 1e-7)
    np.testing.assert_allclose(problem.loss(at, penalty, 0.01)[1], found, atol=2e-6)


def test_held_out_values_are_unbiased_where_those_of_the_rounds_learned_from_are_not():
    errors, flattered = [], []
    for seed in range(12):
        log, _ = world(400, seed)
        learned = learn_policy(log, objective="ips", variance_penalties=[0.0], seed=seed)
        errors.append(learned.value["ips"].value - value(learned.policy))
        rows = np.arange(len(log))
        chances = learned.policy.probabilities(log.contexts_RF, num_requests=len(log))[rows, log.arms_RK[:, 0]]
        flattered.append((chances / log.propensities_RK[:, 0] * log.rewards_RK[:, 0]).mean() - value(learned.policy))
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(12)
    assert np.mean(flattered) > 0


def test_a_variance_penalty_keeps_closer_to_the_log():
    log, _ = world(600)
    plain, careful = (
        _Problem(log, "ips", Linear(), 2, (0.0, 1.0), 100.0, 0).solve(penalty, 1e-4, 0) for penalty in (0, 5)
    )
    weights = []
    for policy in (plain, careful):
        chances = policy.probabilities(log.contexts_RF, num_requests=600)[np.arange(600), log.arms_RK[:, 0]]
        weights.append((chances / log.propensities_RK[:, 0] * log.rewards_RK[:, 0]).std())
    assert weights[1] < 0.9 * weights[0]


def test_it_is_saved_and_draws_by_its_probabilities(tmp_path):
    policy = learn_policy(world(1000)[0], variance_penalties=[0.0]).policy
    policy.save(tmp_path / "policy")
    again = SoftmaxPolicy.load(tmp_path / "policy")
    contexts, requests = np.tile(np.eye(2), (20_000, 1)), np.arange(40_000)
    drawn = policy.select(contexts, requests_B=requests)
    np.testing.assert_array_equal(again.select(contexts, requests_B=requests).arms_BK, drawn.arms_BK)
    np.testing.assert_array_equal(policy.select(contexts[7:9], requests_B=requests[7:9]).arms_BK, drawn.arms_BK[7:9])
    for context in (0, 1):
        shares = np.bincount(drawn.arms_BK[context::2, 0], minlength=4) / 20_000
        np.testing.assert_allclose(shares, policy.probabilities(np.eye(2), num_requests=2)[context], atol=0.015)
    assert (drawn.propensities_BK[:, 0] == drawn.joint_B).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: learn_policy(world(50)[0]), "at least 100 rounds, got 50"),
        (lambda: learn_policy(world(200)[0], objective="snips"), "objective must be one of ips, dr"),
        (lambda: learn_policy(world(200)[0], held_out=0.0), "held_out must be"),
        (lambda: learn_policy(BanditFeedback([[0]] * 200, np.ones((200, 1)), None, 2)), "no propensities"),
        (
            lambda: learn_policy(BanditFeedback([[0]] * 200, np.ones((200, 1)), np.ones((200, 1)), 2, positions_R=[0, 1] * 100)),
            "learned for one position",
        ),
        (lambda: SoftmaxPolicy().start(2).select(None, 2, requests_B=np.arange(1)), "shows one arm a request, got k=2"),
        (lambda: SoftmaxPolicy().start(2, context_size=3).probabilities(np.ones((1, 2)), num_requests=1), r"finite numbers \[1, 3\]"),
        (lambda: SoftmaxPolicy().start(2).update(world(10)[0]), "learned from a whole log"),
        (lambda: SoftmaxPolicy().save("nowhere"), "has not been learned"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
