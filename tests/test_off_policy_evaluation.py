"""One call from a log and a policy to a table: values near the truth, intervals, missing support, bad logs."""

import logging
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra.utils import instantiate

from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.off_policy import ArmMeans, LightGBM, Linear, evaluate_policy, position_table
from recsys_dl.off_policy.cross_fitting import cross_fit, fold_of
from recsys_dl.off_policy.targets import Target
from recsys_dl.protocols import Decisions

CHANCE_XA = np.array([[0.1, 0.3, 0.6, 0.2], [0.7, 0.2, 0.1, 0.4]])
LOGGED_XA = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
TARGET_XA = np.array([[0.1, 0.1, 0.7, 0.1], [0.7, 0.1, 0.1, 0.1]])
TRUTH = float((TARGET_XA * CHANCE_XA).sum(axis=1).mean())


def world(size=3000, seed=0, logged_XA=LOGGED_XA):
    """A log of two contexts, and the policy's probabilities in each round."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, size)
    arms = (rng.random(size)[:, None] > logged_XA[x].cumsum(axis=1)[:, :-1]).sum(axis=1)
    rewards = (rng.random(size) < CHANCE_XA[x, arms]).astype(float)
    log = BanditFeedback(
        arms[:, None], rewards[:, None], logged_XA[x, arms][:, None], num_arms=4, contexts_RF=np.eye(2)[x]
    )
    return log, x


class Fixed:
    """A policy of fixed probabilities in each of two contexts."""

    num_arms = 4

    def start(self, num_arms, *, context_size=0, arm_features_AF=None):
        return self

    def probabilities(self, contexts_BF, *, num_requests, candidates_BL=None):
        if contexts_BF is None:
            return np.tile(TARGET_XA[:1], (num_requests, 1))
        return TARGET_XA[contexts_BF.argmax(axis=1)]

    def select(self, contexts_BF, k=1, *, requests_B, candidates_BL=None):
        rng = np.random.default_rng(int(requests_B[0]))
        keys = rng.gumbel(size=(len(requests_B), 4)) + np.log(TARGET_XA[0])
        arms = np.argsort(-keys, axis=1)[:, :k]
        return Decisions(arms, np.ones(arms.shape), None, np.zeros(arms.shape))

    def update(self, feedback):
        return self

    def save(self, folder):
        raise NotImplementedError


def test_a_policy_and_its_table_get_the_same_figures_near_the_truth():
    log, x = world()
    by_policy, by_table = (evaluate_policy(log, policy, seed=1) for policy in (Fixed(), TARGET_XA[x]))
    assert str(by_policy) == str(by_table)
    assert [one.name for one in by_policy.estimates] == ["ips", "clipped_ips", "snips", "dm", "dr", "switch_dr", "dros"]
    for name in ("ips", "snips", "dr"):
        assert by_policy[name].low < TRUTH < by_policy[name].high
        assert by_policy[name].difference == pytest.approx(by_policy[name].value - log.rewards_RK.mean(), rel=1e-12)
    assert by_policy.mean_weight == pytest.approx(1, abs=4 * by_policy.mean_weight_error)
    assert not by_policy.warnings
    text = str(by_policy)
    assert "the error of the model" in text
    assert "biased by design" in evaluate_policy(log, Fixed(), clip=1.5)["clipped_ips"].note
    assert "Linear, cross-fitted in 5 folds" in text
    assert str(evaluate_policy(log, Fixed(), seed=1)) == text
    plain = by_policy.to_dict()
    assert plain["estimates"][0]["name"] == "ips"
    with pytest.raises(KeyError, match="there is no estimate 'drr'"):
        by_policy["drr"]


def test_replay_of_a_uniform_log_is_near_the_truth_and_is_refused_elsewhere():
    log, x = world(logged_XA=np.full((2, 4), 0.25))
    found = evaluate_policy(log, TARGET_XA[x], estimators=["replay", "ips"])
    assert found["replay"].low < TRUTH < found["replay"].high
    assert "replay" in [one.name for one in evaluate_policy(log, TARGET_XA[x]).estimates]
    with pytest.raises(ValueError, match="replay needs the log of a uniformly random policy"):
        evaluate_policy(world()[0], Fixed(), estimators=["replay"])


@pytest.mark.parametrize("model", [ArmMeans(), Linear(), LightGBM(num_trees=20)])
def test_doubly_robust_is_unbiased_with_any_cross_fitted_model(model):
    errors = []
    for seed in range(30):
        log, x = world(600, seed)
        errors.append(evaluate_policy(log, TARGET_XA[x], estimators=["dr"], reward_model=model, num_folds=2)["dr"])
    values = np.array([one.value for one in errors]) - TRUTH
    assert abs(values.mean()) < 4 * values.std(ddof=1) / np.sqrt(30)
    assert np.mean([one.low < TRUTH < one.high for one in errors]) > 0.8  # 30 of 0.95 have a standard error of 0.04


def test_a_round_is_predicted_by_a_model_that_has_not_seen_it():
    log, x = world(200)
    target = Target(TARGET_XA[x], log)
    how = {"num_folds": 4, "reward_range": (0.0, 1.0), "seed": 3}
    before = cross_fit(log, target, ArmMeans(), **how)
    flipped = log.rewards_RK.copy()
    fold = before.folds_R == 2
    flipped[fold] = 1 - flipped[fold]
    changed = BanditFeedback(log.arms_RK, flipped, log.propensities_RK, 4, log.contexts_RF)
    after = cross_fit(changed, target, ArmMeans(), **how)
    np.testing.assert_array_equal(before.predicted_R[fold], after.predicted_R[fold])
    assert (before.predicted_R[~fold] != after.predicted_R[~fold]).all()
    users = BanditFeedback(log.arms_RK, log.rewards_RK, log.propensities_RK, 4, users_R=np.arange(200) // 10)
    folds = fold_of(users, 4, 0).reshape(20, 10)
    assert (folds == folds[:, :1]).all()
    with pytest.raises(ValueError, match="cross-fitting in 30 folds needs at least as many users, got 20"):
        fold_of(users, 30, 0)


def test_reward_models_learn_what_they_can():
    log, _ = world(6000)
    contexts = np.eye(2, dtype=np.float32)
    np.testing.assert_allclose(LightGBM().fit(log).predict(contexts, None), CHANCE_XA, atol=0.08)
    arms = np.bincount(log.arms_RK[:, 0], log.rewards_RK[:, 0]) / np.bincount(log.arms_RK[:, 0])
    np.testing.assert_allclose(
        ArmMeans(smoothing=0).fit(log).predict(contexts, None), np.tile(arms, (2, 1)), rtol=1e-12
    )
    plain = BanditFeedback(log.arms_RK, log.rewards_RK, log.propensities_RK, 4)
    np.testing.assert_allclose(Linear(regularization=1e-3).fit(plain).predict(None, None)[0], arms, atol=1e-3)
    ridge = BanditFeedback(log.arms_RK, 2 + log.arms_RK, log.propensities_RK, 4, log.contexts_RF)
    np.testing.assert_allclose(
        Linear(regularization=1e-6).fit(ridge).predict(contexts, None), [[2, 3, 4, 5]] * 2, atol=1e-4
    )
    constant = BanditFeedback(log.arms_RK, 0.0 * log.arms_RK, log.propensities_RK, 4, log.contexts_RF)
    for model in (ArmMeans(), Linear(), LightGBM(num_trees=2)):
        np.testing.assert_allclose(model.fit(constant).predict(contexts, None), 0, atol=1e-12)


def test_positions_have_their_own_probabilities():
    rng = np.random.default_rng(0)
    positions, arms = rng.integers(0, 2, 4000), rng.integers(0, 4, 4000)
    rewards = (rng.random(4000) < CHANCE_XA[positions, arms]).astype(float)
    log = BanditFeedback(arms[:, None], rewards[:, None], np.full((4000, 1), 0.25), 4, positions_R=positions)
    found = evaluate_policy(log, TARGET_XA)
    for name in ("replay", "ips", "snips", "dr"):
        assert found[name].low < TRUTH < found[name].high
    with pytest.raises(ValueError, match="the log has positions"):
        evaluate_policy(log, Fixed())
    table = position_table(Fixed(), 2, draws=20_000)
    np.testing.assert_allclose(table[0], TARGET_XA[0], atol=0.015)  # 4 standard errors of 20,000 draws
    np.testing.assert_allclose(table.sum(axis=1), 1, rtol=1e-12)


def test_rounds_of_a_user_are_resampled_together():
    log, _ = world(400)
    thrice = BanditFeedback(
        *(np.repeat(column, 9, axis=0) for column in (log.arms_RK, log.rewards_RK, log.propensities_RK)),
        num_arms=4,
        contexts_RF=np.repeat(log.contexts_RF, 9, axis=0),
        users_R=np.repeat(np.arange(400), 9),
    )
    alone = BanditFeedback(thrice.arms_RK, thrice.rewards_RK, thrice.propensities_RK, 4, thrice.contexts_RF)
    one, users, rounds = (evaluate_policy(each, Fixed(), num_folds=2) for each in (log, thrice, alone))
    for name in ("ips", "snips"):
        assert users[name].value == pytest.approx(one[name].value, rel=1e-12)
        width = one[name].high - one[name].low
        assert users[name].high - users[name].low == pytest.approx(width, rel=0.1)
        assert rounds[name].high - rounds[name].low == pytest.approx(
            width / 3, rel=0.1
        )  # as if there were 9 times as many
    assert "bootstrap over users" in str(users)


def test_bernstein_is_wider_and_says_which_largest_weight_it_takes():
    log, x = world(1000)
    boot = evaluate_policy(log, Fixed(), logging=LOGGED_XA[x])
    bound = evaluate_policy(log, Fixed(), logging=LOGGED_XA[x], interval="bernstein")
    for name in ("ips", "clipped_ips", "dr", "switch_dr", "dros"):
        assert bound[name].low <= boot[name].low < boot[name].high <= bound[name].high
    assert np.isnan(bound["snips"].low)
    assert "no empirical Bernstein bound" in bound["snips"].note
    assert not bound.warnings
    assert "take the largest weight in the log" in evaluate_policy(log, Fixed(), interval="bernstein").warnings[0]


def test_missing_support_is_refused_with_the_arms_and_how_often_they_are_wanted(caplog):
    log, _ = world(logged_XA=np.array([[0.5, 0.25, 0.25, 0.0]] * 2))
    with pytest.raises(
        ValueError, match="missing support: 10.00% of the policy's choices .* never logged: arm 3 in 10.00%"
    ):
        evaluate_policy(log, Fixed())
    with pytest.raises(ValueError, match="arm shoes in 10.00% of the rounds"):
        evaluate_policy(log, Fixed(), names=["hat", "coat", "scarf", "shoes"])
    with pytest.raises(ValueError, match="has no chance to log: arm 3"):
        evaluate_policy(log, Fixed(), logging=[0.5, 0.25, 0.25, 0.0])
    with caplog.at_level(logging.WARNING):
        found = evaluate_policy(log, Fixed(), allowed_missing=0.1)
    assert found.missing == pytest.approx(0.1)
    assert "missing support: 10.00%" in caplog.text
    assert "weights average to" in caplog.text
    few = log.take(np.arange(6))  # an arm that could be, but was not, logged in so few rounds
    seen = np.unique(few.arms_RK)
    assert len(seen) < 4
    uniform = BanditFeedback(few.arms_RK, few.rewards_RK, np.full((6, 1), 0.25), 4)
    assert evaluate_policy(uniform, [0.25] * 4, estimators=["ips"]).missing == 0


def test_what_makes_figures_doubtful_is_warned_of(caplog):
    log, x = world(400, logged_XA=np.array([[0.94, 0.02, 0.02, 0.02]] * 2))
    with caplog.at_level(logging.WARNING):
        evaluate_policy(log, TARGET_XA[x])
    assert "effective sample size is" in caplog.text
    assert "rounds with a reward (effective number)" in caplog.text
    caplog.clear()
    wrong = BanditFeedback(log.arms_RK, log.rewards_RK, np.full((400, 1), 0.5), 4, log.contexts_RF)
    drawn = BanditFeedback(log.arms_RK, log.rewards_RK, log.propensities_RK, 4, log.contexts_RF, draws=1000)
    with caplog.at_level(logging.WARNING):
        evaluate_policy(wrong, TARGET_XA[x], estimators=["ips"])
        evaluate_policy(drawn, TARGET_XA[x], estimators=["ips"])
    assert "weights average to" in caplog.text
    assert "estimated from 1,000 draws, the smallest from about 20" in caplog.text


def test_rounds_that_are_all_alike_get_no_bootstrap_interval():
    log = BanditFeedback([[0], [1]] * 20, np.zeros((40, 1)), np.full((40, 1), 0.5), 2)
    found = evaluate_policy(log, [1.0, 0.0], estimators=["ips", "replay"])
    assert np.isnan(found["ips"].low)
    assert "all its rounds are alike" in found["ips"].note
    low, high = (
        getattr(evaluate_policy(log, [1.0, 0.0], estimators=["ips"], interval="bernstein")["ips"], end)
        for end in ("low", "high")
    )
    assert low == 0 < 0.1 < high


def bad(**changes):
    log, _ = world(50)
    columns = {
        name: getattr(log, name) for name in ("arms_RK", "rewards_RK", "propensities_RK", "num_arms", "contexts_RF")
    }
    return BanditFeedback(**{**columns, **changes})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: evaluate_policy(bad(propensities_RK=None), Fixed()), "the log has no propensities"),
        (lambda: evaluate_policy(bad(rewards_RK=np.full((50, 1), np.nan)), Fixed()), "rewards of 50 of 50 rounds are not known"),
        (lambda: evaluate_policy(bad(rewards_RK=np.full((50, 1), 3.0)), Fixed()), "rewards must be within reward_range, 0 to 1, got 3 in round 0"),
        (lambda: evaluate_policy(bad(), Fixed(), reward_range=(1, 0)), "reward_range must be the least and the largest"),
        (lambda: evaluate_policy(bad(num_arms=9), Fixed()), "the policy has 4 arms, the log has 9"),
        (lambda: evaluate_policy(bad(), [0.5, 0.5]), r"table of probabilities, \[4\] for every round or \[50, 4\]"),
        (lambda: evaluate_policy(bad(), [0.5, 0.2, 0.2, 0.2]), "must sum to 1 in each row, got 1.1 in row 0"),
        (lambda: evaluate_policy(bad(), [1.5, -0.5, 0, 0]), "must be at least 0 and finite, got -0.5"),
        (lambda: evaluate_policy(bad(), Fixed(), logging=[0.25] * 4), "logged propensities must be those of the logging policy"),
        (lambda: evaluate_policy(bad(), Fixed(), estimators=["ipw"]), "estimators must be"),
        (lambda: evaluate_policy(bad(), Fixed(), clip=0.0), "clip must be a number above 0"),
        (lambda: evaluate_policy(bad(), Fixed(), num_folds=1), "num_folds must be a whole number of at least 2"),
        (lambda: evaluate_policy(bad(), Fixed(), confidence=95.0), "confidence must be between 0 and 1"),
        (lambda: evaluate_policy(bad().take([]), Fixed()), "at least one round"),
        (lambda: Linear(regularization=0), "regularization must be a finite number above 0"),
        (
            lambda: evaluate_policy(BanditFeedback([[0, 1]], [[1.0, 0.0]], [[0.5, 0.5]], 4), Fixed()),
            "slates of 2 positions a row",
        ),
    ],
)  # fmt: skip
def test_bad_logs_and_policies_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("name", ["boltzmann", "epsilon_greedy", "linucb", "thompson", "ucb1"])
def test_policies_of_conf_are_valued(name):
    text = (Path(__file__).parents[1] / f"conf/policy/{name}.yaml").read_text().replace("${seed}", "0")
    policy = instantiate(yaml.safe_load(text)).start(4, context_size=2).update(world(500, 9)[0])
    log, x = world(2000)
    shown = policy.probabilities(log.contexts_RF, num_requests=2000)
    found = evaluate_policy(log, policy, estimators=["dr"])["dr"]
    truth = (shown * CHANCE_XA[x]).sum(axis=1).mean()
    assert abs(found.value - truth) < found.high - found.low  # four standard errors


def test_a_long_log_that_lacks_an_arm_is_not_taken_for_uniform():
    rng = np.random.default_rng(0)
    log = BanditFeedback(np.zeros((500, 1), int), rng.integers(0, 2, (500, 1)), np.full((500, 1), 1 / 3), num_arms=3)
    with pytest.raises(ValueError, match=r"missing support: 90.00% .* arm 2 in 80.00%, arm 1 in 10.00%"):
        evaluate_policy(log, [0.1, 0.1, 0.8])
    few = log.take(np.arange(10))  # chance shows one arm of three in ten rounds now and then
    assert evaluate_policy(few, [0.1, 0.1, 0.8], num_folds=2).missing == 0


def test_replay_without_a_matching_round_is_left_out_and_named():
    log = BanditFeedback([[0], [1]] * 10, [[1.0], [0.0]] * 10, np.full((20, 1), 0.5), num_arms=2)
    found = evaluate_policy(log, [[1e-9, 1 - 1e-9], [1 - 1e-9, 1e-9]] * 10)
    assert "replay" not in [one.name for one in found.estimates]
    assert any("showed the logged arm in none of the 20 rounds" in one for one in found.warnings)
    with pytest.raises(ValueError, match="replay needs a round"):
        evaluate_policy(log, [[1e-9, 1 - 1e-9], [1 - 1e-9, 1e-9]] * 10, estimators=["replay"])
