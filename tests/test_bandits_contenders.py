"""Linear policies leave arms out that cannot be chosen; what they choose must be what they would choose among all."""

import copy
import pickle

import numpy as np
import pytest

from recsys_dl.bandits import LinearThompson, LinUCB, NeuralLinear, linear_policy
from recsys_dl.bandits.linear_policy import LinearPolicy
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.kernels.bandits import linear
from recsys_dl.kernels.bandits.contenders import limits, widest

ARMS, REQUESTS = 60, 45


def started(make, size):
    rng = np.random.default_rng(size)
    if make is NeuralLinear:
        return NeuralLinear().start(ARMS, context_size=size, arm_features_AF=rng.normal(size=(ARMS, size)))
    return make().start(ARMS, context_size=size)


def feedback(size, rows, scale=1.0, known=ARMS):
    rng = np.random.default_rng(rows)
    x_RF = rng.normal(size=(rows, size)) / size**0.5 * scale
    arms_R = rng.integers(0, known, rows)
    rewards_R = x_RF @ rng.normal(size=size) / scale + rng.normal(size=rows) * 0.1
    return BanditFeedback(arms_R[:, None], rewards_R[:, None], None, ARMS, contexts_RF=x_RF)


def decided(policy, contexts_BF, k, monkeypatch, **options):
    """What the policy decides, what it decides if all arms are computed, and how many arms were computed."""
    few = LinearPolicy._contenders
    counts = []

    def counted(self, requests, k):
        found = few(self, requests, k)
        counts.append(np.count_nonzero(found.arms_RL >= 0) * len(requests) // len(found.arms_RL))
        return found

    ids = np.arange(len(contexts_BF))
    with monkeypatch.context() as patch:
        patch.setattr(LinearPolicy, "_contenders", counted)
        patch.setattr(linear_policy, "WORTH", 0)
        some = policy.select(contexts_BF, k, requests_B=ids, **options)
    with monkeypatch.context() as patch:
        patch.setattr(LinearPolicy, "_contenders", lambda self, requests, k: requests)
        every = policy.select(contexts_BF, k, requests_B=ids, **options)
    return some, every, sum(counts)


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("rows", [0, 100, 20_000])
@pytest.mark.parametrize("size", [1, 5, 24])
@pytest.mark.parametrize(
    "make",
    [
        LinUCB,
        lambda: LinUCB(exploration=0.0),
        lambda: LinUCB(exploration=5.0, regularization=1e-6),
        LinearThompson,
        lambda: LinearThompson(noise=3.0, regularization=100.0),
        NeuralLinear,
    ],
)
def test_decisions_are_those_among_all_arms(make, size, rows, k, monkeypatch):
    """Before any reward, when some arms have none, and when bounds were computed anew; scores and chances to the bit."""
    policy = started(make, size)
    if rows:
        policy.update(feedback(size, rows, known=ARMS // 2)).update(feedback(size, rows))
    contexts_BF = np.random.default_rng(7).normal(size=(REQUESTS, size)) / size**0.5
    some, every, _ = decided(policy, contexts_BF, k, monkeypatch, propensities=isinstance(policy, LinUCB))
    np.testing.assert_array_equal(some.arms_BK, every.arms_BK)
    np.testing.assert_array_equal(some.scores_BK, every.scores_BK)
    np.testing.assert_array_equal(some.propensities_BK, every.propensities_BK)
    if some.joint_B is not None:
        np.testing.assert_array_equal(some.joint_B, every.joint_B)


@pytest.mark.parametrize("make", [LinUCB, LinearThompson])
@pytest.mark.parametrize("repeated", [0, 8])
def test_panels_that_are_kept_follow_what_is_learned(make, repeated, monkeypatch, tmp_path):
    """With none kept too; after rewards of some arms, after new arms, in a merged and in a loaded policy."""
    monkeypatch.setattr(linear_policy, "REPEATED", repeated)
    policy = started(make, 24).update(feedback(24, 3_000))
    contexts_BF = np.random.default_rng(7).normal(size=(REQUESTS, 24)) / 24**0.5

    def check(one):
        some, every, computed = decided(one, contexts_BF, 2, monkeypatch, propensities=False)
        assert computed < REQUESTS * ARMS / 2
        np.testing.assert_array_equal(some.arms_BK, every.arms_BK)
        np.testing.assert_array_equal(some.scores_BK, every.scores_BK)
        assert len(one._kept.panels_MP) == (len(one.theta_MD) if repeated else 0)

    check(policy)
    before = copy.deepcopy(policy)
    assert not len(before._kept.panels_MP)  # another thread may be packing those of the policy meanwhile
    assert not len(pickle.loads(pickle.dumps(policy))._kept.panels_MP)
    check(policy.update(feedback(24, 500, known=5)))
    policy.save(tmp_path / "policy")
    for other in (type(policy).load(tmp_path / "policy"), before.merged([policy, before]), policy.add_arms(3)):
        check(other)


@pytest.mark.parametrize("num_arms", [31, 32, 33, 64, 97])
def test_limits_are_compared_in_groups_of_any_number(num_arms, monkeypatch):
    """Groups of 32, and what remains; the best may be the first or the last."""
    rng = np.random.default_rng(num_arms)
    policy = LinUCB(exploration=0.1).start(num_arms, context_size=num_arms)
    rewards = BanditFeedback(
        np.arange(num_arms)[:, None], np.ones((num_arms, 1)), None, num_arms, contexts_RF=np.eye(num_arms)
    )
    contexts_BF = np.eye(num_arms) + rng.normal(size=(num_arms, num_arms)) * 0.01
    some, every, _ = decided(policy.update(rewards), contexts_BF, 1, monkeypatch)
    np.testing.assert_array_equal(some.arms_BK[:, 0], np.arange(num_arms))
    np.testing.assert_array_equal(some.scores_BK, every.scores_BK)


@pytest.mark.parametrize("make", [LinUCB, LinearThompson])
@pytest.mark.parametrize("rows", [600, 20_000])
def test_few_arms_are_computed(make, rows, monkeypatch):
    policy = started(make, 8).update(feedback(8, rows))
    contexts_BF = np.random.default_rng(7).normal(size=(REQUESTS, 8)) / 8**0.5
    _, _, computed = decided(policy, contexts_BF, 1, monkeypatch, propensities=False)
    assert REQUESTS <= computed < REQUESTS * ARMS / 8


def test_bounds_are_kept_when_arms_come_and_forgotten_with_the_rewards(tmp_path, monkeypatch):
    policy = started(lambda: LinUCB(half_life=100.0), 5)
    known = feedback(5, 5_000)
    late = BanditFeedback(
        known.arms_RK, known.rewards_RK, None, ARMS, contexts_RF=known.contexts_RF, times_R=np.zeros(len(known), int)
    )
    policy.update(late)
    assert policy.widest_M.max() < 0.9
    contexts_BF = np.random.default_rng(7).normal(size=(REQUESTS, 5))
    one = BanditFeedback([[0]], [[1.0]], None, ARMS, contexts_RF=known.contexts_RF[:1], times_R=np.array([100_000]))
    before_M = policy.widest_M
    policy.add_arms(2)
    np.testing.assert_array_equal(policy.widest_M, np.append(before_M, [1.0, 1.0]))
    policy.save(tmp_path / "policy")
    for other in (policy, LinUCB.load(tmp_path / "policy"), policy.update(one)):
        some, every, _ = decided(other, contexts_BF, 2, monkeypatch)
        np.testing.assert_array_equal(some.arms_BK, every.arms_BK)
        assert (other.widest_M >= true_widths(other) * (1 - 1e-9)).all()


def true_widths(policy):
    size = policy.theta_MD.shape[1]
    precision_MT = np.empty_like(policy.factors_MT)
    linear.precisions(policy.factors_MT, size, precision_MT)
    full_MDD = np.zeros((len(precision_MT), size, size))
    rows_D, columns_D = np.tril_indices(size)
    full_MDD[:, rows_D, columns_D] = precision_MT
    return np.linalg.eigvalsh(full_MDD)[:, 0] ** -0.5


@pytest.mark.parametrize("size", [1, 2, 17, 64])
def test_bounds_are_close_above_the_largest_width(size):
    policy = LinUCB().start(ARMS, context_size=size)
    policy.update(feedback(size, 20_000, scale=3.0))
    bound_M, true_M = widest(policy.factors_MT, size), true_widths(policy)
    assert (bound_M >= true_M * (1 - 1e-9)).all()
    assert (bound_M <= true_M * size ** (1 / 32) * (1 + 1e-9)).all()


def test_limits_hold_for_contexts_of_any_length():
    policy = started(LinUCB, 33).update(feedback(33, 3_000))
    scale_B1 = np.logspace(-20, 15, REQUESTS)[:, None]
    contexts_BF = (np.random.default_rng(1).normal(size=(REQUESTS, 33)) * scale_B1).astype(np.float32)
    requests = policy._checked_requests(contexts_BF, np.arange(REQUESTS), None)
    means_BL, _ = policy._moments(requests)
    upper_BL = limits(policy._decider(requests), means_BL, contexts_BF, requests.arms_RL[0], policy.widest_M).upper_BL
    scores_BL = policy._scores(requests)
    assert (scores_BL <= upper_BL).all()
    assert (scores_BL > 0.5 * upper_BL).any()
