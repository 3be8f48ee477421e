"""What every policy in conf/policy/ promises."""

import copy
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from recsys_dl.bandits import EpsilonGreedy, Thompson
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.protocols import Policy
from recsys_dl.saving import load_saved

FOLDER = Path(__file__).parent.parent / "conf/policy"
FILES = sorted(FOLDER.glob("*.yaml"))
VARIANTS = [
    "thompson half_life=40000",
    "linear_thompson half_life=40000",
    "logistic_thompson half_life=40000",
    "neural_linear sharing=shared propensity_draws=200",
    "linucb sharing=shared",
    "linucb sharing=shared features=product",
    "linear_thompson sharing=shared propensity_draws=200",
    "linear_thompson sharing=shared features=product propensity_draws=200",
]
ARMS, NUMBERS = 6, 3
BEST = np.array([0.1, 0.2, 0.1, 0.8, 0.1, 0.3])  # of each arm, in any context


def policy_of(file, **changes):
    """Return a policy with the settings of its YAML."""
    if file in VARIANTS:
        name, _, words = file.partition(" ")
        file, changes = FOLDER / f"{name}.yaml", dict(OmegaConf.from_dotlist(words.split())) | changes
    config = OmegaConf.load(file)
    return instantiate(OmegaConf.merge(config, {"seed": 5}, changes), _convert_="all")


def contexts_of(rows, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([np.ones(rows), rng.random((rows, NUMBERS - 1))]).astype(np.float32)


def features_of(arms, seed=1):
    """The first feature says how good an arm is."""
    others = np.random.default_rng(seed).normal(size=(arms, NUMBERS - 1))
    return np.column_stack([np.resize(BEST, arms), others]).astype(np.float32)


def started(file, **changes):
    return policy_of(file, **changes).start(ARMS, context_size=NUMBERS, arm_features_AF=features_of(ARMS))


def feedback_of(rows, k=2, seed=3, arms=ARMS):
    """Return feedback of uniformly shown slates, with some rewards unknown."""
    rng = np.random.default_rng(seed)
    arms_RK = np.argsort(rng.random((rows, arms)), axis=1)[:, :k].astype(np.int32)
    rewards_RK = (rng.random((rows, k)) < np.resize(BEST, arms)[arms_RK]).astype(np.float64)
    rewards_RK[rng.random((rows, k)) < 0.1] = np.nan
    times_R = 1_700_000_000 + np.sort(rng.integers(0, 86_400, rows))
    return BanditFeedback(
        arms_RK, rewards_RK, None, num_arms=arms, contexts_RF=contexts_of(rows, seed), times_R=times_R
    )


def rows_of(feedback, rows):
    return BanditFeedback(
        feedback.arms_RK[rows],
        feedback.rewards_RK[rows],
        None,
        num_arms=feedback.num_arms,
        contexts_RF=feedback.contexts_RF[rows],
        times_R=feedback.times_R[rows],
    )


def same(one, other, rtol=1e-6):
    left, right = one.arrays(), other.arrays()
    assert set(left) == set(right)
    for name, values in left.items():
        np.testing.assert_allclose(values, right[name], rtol=rtol, atol=1e-9, err_msg=name)


@pytest.fixture(params=[*FILES, *VARIANTS], ids=lambda file: getattr(file, "stem", file))
def file(request):
    return request.param


def test_it_is_a_policy_and_update_and_start_return_it(file):
    policy = started(file)
    assert isinstance(policy, Policy)
    assert policy.update(feedback_of(5)) is policy
    assert policy.start(3, context_size=NUMBERS, arm_features_AF=features_of(3)) is policy
    assert policy.num_arms == 3
    assert policy.num_rewards == 0


def test_decisions_are_functions_of_seed_state_and_request(file):
    policy = started(file).update(feedback_of(60))
    contexts, requests = contexts_of(40), np.arange(40) * 7
    together = policy.select(contexts, 3, requests_B=requests)
    for rows in (slice(0, 1), slice(11, 25), slice(39, 40)):
        alone = policy.select(contexts[rows], 3, requests_B=requests[rows])
        np.testing.assert_array_equal(alone.arms_BK, together.arms_BK[rows])
        np.testing.assert_allclose(alone.propensities_BK, together.propensities_BK[rows], rtol=1e-9)
        np.testing.assert_allclose(alone.joint_B, together.joint_B[rows], rtol=1e-9)
    bare = policy.select(contexts, 3, requests_B=requests, propensities=False)
    np.testing.assert_array_equal(bare.arms_BK, together.arms_BK)
    assert np.isnan(bare.propensities_BK).all()
    assert bare.joint_B is None


def test_the_order_of_candidates_does_not_matter(file):
    policy = started(file).update(feedback_of(60))
    contexts, requests = contexts_of(30), np.arange(30)
    candidates = np.tile(np.array([0, 2, 3, 5, -1]), (30, 1))
    one = policy.select(contexts, 2, requests_B=requests, candidates_BL=candidates)
    other = policy.select(contexts, 2, requests_B=requests, candidates_BL=candidates[:, ::-1])
    np.testing.assert_array_equal(one.arms_BK, other.arms_BK)
    np.testing.assert_allclose(one.propensities_BK, other.propensities_BK, rtol=1e-7)
    assert set(one.arms_BK.ravel()) <= {0, 2, 3, 5}
    everything = np.tile(np.arange(ARMS), (30, 1))
    np.testing.assert_array_equal(
        policy.select(contexts, 2, requests_B=requests, candidates_BL=everything).arms_BK,
        policy.select(contexts, 2, requests_B=requests).arms_BK,
    )


def test_short_rows_are_padded(file):
    policy = started(file)
    shown = policy.select(contexts_of(2), 3, requests_B=[0, 1], candidates_BL=np.array([[4, -1, 1], [-1, -1, -1]]))
    assert set(shown.arms_BK[0, :2]) == {1, 4}
    assert shown.arms_BK[0, 2] == -1
    assert (shown.arms_BK[1] == -1).all()
    assert np.isnan(shown.propensities_BK[0, 2])
    assert np.isnan(shown.propensities_BK[1]).all()
    assert np.isneginf(shown.scores_BK[1]).all()
    chances = policy.probabilities(contexts_of(2), num_requests=2, candidates_BL=np.array([[4, -1, 1], [-1, -1, -1]]))
    np.testing.assert_allclose(chances.sum(1), [1, 0], atol=1e-9)


def test_propensities_are_frequencies(file):
    """At each position, of slates, and of `probabilities`, for a policy that has seen feedback and one that has not."""
    trials = 1500
    for policy in (started(file), started(file).update(feedback_of(25))):
        contexts = np.repeat(contexts_of(1), trials, axis=0)
        shown = policy.select(contexts, 3, requests_B=np.arange(trials))
        assert all(len(set(row)) == 3 for row in shown.arms_BK[:50])
        assert ((shown.propensities_BK > 0) & (shown.propensities_BK <= 1 + 1e-9)).all()
        slack = 0 if policy.draws == 0 else 4 * (0.25 / policy.draws) ** 0.5
        first = policy.probabilities(contexts[:1], num_requests=1)[0]
        assert first.sum() == pytest.approx(1, abs=1e-9)
        for place in range(3):
            for arm in range(ARMS):
                here = shown.arms_BK[:, place] == arm
                if not here.any():
                    continue
                chance = np.median(shown.propensities_BK[here, place])
                assert here.mean() == pytest.approx(
                    chance, abs=5 * (chance * (1 - chance) / trials) ** 0.5 + slack + 1e-3
                )
                if place == 0:
                    assert chance == pytest.approx(first[arm], abs=2 * slack + 1e-7)
        slates, index, counts = np.unique(shown.arms_BK, axis=0, return_index=True, return_counts=True)
        at = int(counts.argmax())
        joint = shown.joint_B[index[at]]
        assert counts[at] / trials == pytest.approx(joint, abs=5 * (joint * (1 - joint) / trials) ** 0.5 + slack + 2e-3)
        assert len(slates) >= 1


def test_any_batches_and_order_give_the_same_state(file):
    feedback = feedback_of(50)
    whole = started(file).update(feedback)
    order = np.random.default_rng(0).permutation(50)
    parts = started(file)
    for rows in np.array_split(order, 7):
        parts.update(rows_of(feedback, rows))
    same(whole, parts)
    assert whole.num_rewards == parts.num_rewards > 0


def test_unknown_rewards_change_nothing(file):
    policy = started(file).update(feedback_of(10))
    before = copy.deepcopy(policy)
    feedback = feedback_of(5)
    unknown = BanditFeedback(
        feedback.arms_RK,
        np.full(feedback.arms_RK.shape, np.nan),
        None,
        num_arms=ARMS,
        contexts_RF=feedback.contexts_RF,
        times_R=feedback.times_R,
    )
    same(policy.update(unknown), before, rtol=0)


def test_a_saved_policy_is_the_same(file, tmp_path):
    policy = started(file).update(feedback_of(40)).retire([1])
    policy.save(tmp_path / "policy")
    for loaded in (
        type(policy).load(tmp_path / "policy"),
        load_saved(tmp_path / "policy", type(policy), noun="policy"),
    ):
        same(loaded, policy, rtol=0)
        contexts = contexts_of(20)
        one, other = (each.select(contexts, 2, requests_B=np.arange(20)) for each in (policy, loaded))
        np.testing.assert_array_equal(one.arms_BK, other.arms_BK)
        np.testing.assert_array_equal(one.propensities_BK, other.propensities_BK)
        same(loaded.update(feedback_of(10, seed=9)), copy.deepcopy(policy).update(feedback_of(10, seed=9)))


def test_states_of_two_processes_are_merged_into_that_of_one(file, tmp_path):
    first, mine, yours = feedback_of(30), feedback_of(40, seed=11), feedback_of(20, seed=12)
    start = started(file).update(first)
    start.save(tmp_path / "start")
    one = type(start).load(tmp_path / "start").update(mine)
    other = type(start).load(tmp_path / "start").update(yours)
    alone = type(start).load(tmp_path / "start").update(mine).update(yours)
    merged = start.merged([one, other])
    same(merged, alone, rtol=1e-6)
    contexts = contexts_of(200)
    decided = (each.select(contexts, 1, requests_B=np.arange(200)).arms_BK for each in (merged, alone))
    assert (next(decided) == next(decided)).mean() > 0.99  # rounding may turn a near tie
    same(start, started(file).update(first), rtol=0)  # unchanged


def test_arms_come_and_go(file):
    policy = started(file).update(feedback_of(40))
    policy.add_arms(2, arm_features_AF=features_of(2, seed=8))
    assert policy.num_arms == ARMS + 2
    policy.update(feedback_of(20, arms=ARMS + 2))
    policy.retire([3, 6])
    shown = policy.select(contexts_of(200), ARMS, requests_B=np.arange(200))
    assert not {3, 6} & set(shown.arms_BK.ravel())
    assert policy.probabilities(contexts_of(2), num_requests=2)[:, [3, 6]].max() == 0
    policy.update(feedback_of(20, arms=ARMS + 2, seed=5))  # late rewards of retired arms
    with pytest.raises(ValueError, match="arm 3 was retired"):
        policy.select(contexts_of(1), 1, requests_B=[0], candidates_BL=np.array([[3, 1]]))
    with pytest.raises(ValueError, match="at least one of the 8 arms must stay active"):
        policy.retire(np.arange(8))


def test_it_finds_the_best_arm(file):
    policy = started(file).update(feedback_of(3000))
    chances = policy.probabilities(contexts_of(20), num_requests=20)
    assert (chances.argmax(1) == 3).all()
    assert chances[:, 3].min() > 0.3


def test_bad_requests(file):
    policy = policy_of(file)
    with pytest.raises(ValueError, match=r"has not been started; call start\(num_arms\) first"):
        policy.select(None, 1, requests_B=[0])
    with pytest.raises(ValueError, match="has not been started"):
        policy.update(feedback_of(2))
    with pytest.raises(ValueError, match="num_arms must be an integer of at least 1, got 0"):
        policy.start(0)
    policy = started(file)
    contexts = contexts_of(1)
    with pytest.raises(ValueError, match="k must be at most the 6 active arms, got 7: ask for fewer"):
        policy.select(contexts, 7, requests_B=[0])
    for k in (0, 1.5, True):
        with pytest.raises(ValueError, match="k must be an integer of at least 1"):
            policy.select(contexts, k, requests_B=[0])
    for requests in ([-1], [0.5], [[0]]):
        with pytest.raises(ValueError, match="requests must be a list of integers of at least 0"):
            policy.select(contexts, 1, requests_B=requests)
    for candidates, message in (
        ([[0, 0]], "an arm must occur once among the candidates, got arm 0 twice in row 0"),
        ([[6, 0]], r"arms must be in \[0, 6\), got 6"),
        ([[-2, 0]], r"arms must be in \[0, 6\), got -2"),
        ([[0.5]], "candidates must be a matrix of integers with 1 rows"),
        ([[0], [1]], "candidates must be a matrix of integers with 1 rows"),
        ([[]], "candidates must be a matrix of integers with 1 rows"),
    ):
        with pytest.raises(ValueError, match=message):
            policy.select(contexts, 1, requests_B=[0], candidates_BL=np.array(candidates))


def test_bad_feedback(file):
    policy = started(file)
    before = copy.deepcopy(policy)
    with pytest.raises(ValueError, match=r"arms must be in \[0, 6\), got 8"):
        policy.update(
            BanditFeedback([[8]], [[1.0]], None, num_arms=9, contexts_RF=contexts_of(1), times_R=[1_700_000_000])
        )
    with pytest.raises(ValueError, match="feedback must be a BanditFeedback"):
        policy.update({"arms": [0]})
    if policy.contextual:
        with pytest.raises(
            ValueError, match=r"contexts must be 1 rows, one a request, of the 3 numbers .* got \(1, 2\)"
        ):
            policy.update(BanditFeedback([[0]], [[1.0]], None, num_arms=ARMS, contexts_RF=[[1.0, 2.0]]))
        with pytest.raises(ValueError, match="needs contexts, 1 rows of 3 numbers, got None"):
            policy.update(BanditFeedback([[0]], [[1.0]], None, num_arms=ARMS))
        with pytest.raises(ValueError, match="needs contexts, 2 rows of 3 numbers, got None"):
            policy.select(None, 1, requests_B=[0, 1])
        with pytest.raises(ValueError, match="contexts must be finite, got nan in row 1"):
            policy.select([[0, 0, 0], [0, np.nan, 0]], 1, requests_B=[0, 1])
    same(policy, before, rtol=0)


def test_bad_features(file):
    for features, message in (
        (np.zeros((2, 2)), r"arm features must be a matrix of 6 rows, one an arm, got \(2, 2\)"),
        (np.zeros(6), r"arm features must be a matrix of 6 rows, one an arm, got \(6,\)"),
        (np.full((6, 2), np.inf), "arm features must be finite, got inf in row 0"),
    ):
        with pytest.raises(ValueError, match=message):
            policy_of(file).start(ARMS, context_size=NUMBERS, arm_features_AF=features)


def test_bad_merges(file, tmp_path):
    start = started(file)
    other = Thompson().start(ARMS) if isinstance(start, EpsilonGreedy) else EpsilonGreedy().start(ARMS)
    with pytest.raises(ValueError, match=f"state 0 must be a {type(start).__name__} like this policy"):
        start.merged([other])
    with pytest.raises(ValueError, match="at least one state"):
        start.merged([])
    with pytest.raises(ValueError, match="its seed is 6, not 5"):
        start.merged([started(file, seed=6)])
    grown = started(file).add_arms(1, arm_features_AF=features_of(1))
    with pytest.raises(ValueError, match="must have the num_arms of this policy, 6, got 7; merge first"):
        start.merged([start, grown])
    with pytest.raises(ValueError, match="must have begun as a copy of it"):
        started(file).update(feedback_of(10)).merged([start])
    start.save(tmp_path / "state")
    with pytest.raises(ValueError, match=f"holds recsys_dl.bandits.* which is not an? {type(other).__name__}"):
        type(other).load(tmp_path / "state")
