"""LambdaMART: its NDCG is LightGBM's but for blank queries, constraints hold, threads do not matter."""

import re

import lightgbm as lgb
import numpy as np
import pytest

from recsys_dl.data.groups import Groups
from recsys_dl.rankers.lambdamart import LambdaMART
from recsys_dl.readers.letor import read_letor, read_lightgbm


def drawn(num_groups: int, seed: int, *, weights: bool = False) -> Groups:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 12, num_groups)
    features = rng.normal(size=(sizes.sum(), 4))
    grades = np.clip(np.round(features[:, 0] - features[:, 1] + rng.normal(size=len(features))), 0, 4)
    grades[: sizes[:4].sum()] = 0  # blank queries
    return Groups(
        features,
        grades,
        sizes,
        names=["up", "down", "c", "d"],
        weights_N=rng.random(len(features)) if weights else None,
    )


class InRowOrder(LambdaMART):
    """Takes equal scores in the order of rows, as LightGBM does."""

    def _ndcg(self, scores_N, groups):
        return super()._ndcg(scores_N - 1e-9 * np.arange(len(scores_N)), groups)


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("gains", ["exponential", "linear"])
def test_history_is_lightgbms_own_ndcg_but_for_blank_queries(gains, weights):
    """LightGBM counts a query as much as its documents weigh on average, and a blank one 1, whatever it weighs."""
    train, validation = drawn(80, 0), drawn(50, 1, weights=weights)
    ranker = InRowOrder(num_trees=8, k=5, gains=gains, min_documents=5).fit(train, validation=validation)
    data = lgb.Dataset(train.features_NF, train.labels_N, group=train.sizes_Q)
    known = data.create_valid(
        validation.features_NF, validation.labels_N, group=validation.sizes_Q, weight=validation.weights_N
    )
    parameters = ranker._parameters(train.labels_N) | {"metric": "ndcg", "eval_at": [5]}
    told: dict = {}
    lgb.train(parameters, data, 8, valid_sets=[known], callbacks=[lgb.record_evaluation(told)])
    theirs = np.array(told["valid_0"]["ndcg@5"])
    weights_N = np.ones(validation.num_documents) if validation.weights_N is None else validation.weights_N
    weights_Q = np.array([weights_N[validation.owners_N == q].mean() for q in range(len(validation))])
    blank_Q = np.array([not validation.labels_N[validation.owners_N == q].any() for q in range(len(validation))])
    assert blank_Q.sum() >= 4
    expected = np.array(ranker.history) * weights_Q[~blank_Q].sum() + blank_Q.sum()
    np.testing.assert_allclose(expected / weights_Q.sum(), theirs, rtol=1e-6)


def test_trees_do_not_depend_on_threads(monkeypatch):
    train = drawn(20, 0)
    texts = []
    for threads in (1, 2):
        ranker = LambdaMART(num_trees=3)
        parameters = ranker._parameters
        monkeypatch.setattr(
            ranker, "_parameters", lambda grades, of=parameters, n=threads: of(grades) | {"num_threads": n}
        )
        texts.append(re.sub(r"num_threads: \d+", "", ranker.fit(train).booster.model_to_string()))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("by", ["name", "number"])
def test_monotone_constraints_hold(by):
    train = drawn(120, 0)
    monotone = {"up": 1, "down": -1} if by == "name" else {0: 1, 1: -1}
    free, bound = (LambdaMART(num_trees=60, monotone=given).fit(train) for given in (None, monotone))
    rng = np.random.default_rng(3)
    wrong = {}
    for what, ranker in (("free", free), ("bound", bound)):
        wrong[what] = []
        for feature, sign in ((0, 1), (1, -1)):
            grid = np.repeat(rng.normal(size=(40, 1, 4)), 60, axis=1)
            grid[:, :, feature] = np.linspace(-3, 3, 60)
            wrong[what].append((np.diff(sign * ranker.score(grid), axis=1) < -1e-6).sum())
    assert max(wrong["bound"]) == 0
    assert min(wrong["free"]) > 0


def test_gain_shares():
    ranker = LambdaMART(num_trees=20).fit(drawn(80, 0))
    shares = ranker.feature_importance()
    assert sum(shares.values()) == pytest.approx(1)
    assert set(sorted(shares, key=shares.get)[-2:]) == {"up", "down"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gains": "binary"}, 'gains must be "exponential" or "linear"'),
        ({"gains": "square"}, "gains must be one of binary, linear, exponential, got 'square'"),
        (
            {"propensities": [1], "learn_position_bias": True},
            "set either propensities or learn_position_bias, not both",
        ),
        ({"monotone": {"left": 1}}, "monotone must name features of training (up, down, c, d), got 'left'"),
        ({"monotone": {4: 1}}, "monotone must name features of training (up, down, c, d), got 4"),
        ({"monotone": {"up": 2}}, "monotone directions must be 1 or -1, got 2 for 'up'"),
        ({"learn_position_bias": True}, "learn_position_bias needs the positions at which documents were shown"),
        ({"propensities": [1]}, "propensities correct clicks at logged positions, but these groups have none"),
    ],
)
def test_arguments_that_do_not_hold(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        LambdaMART(num_trees=2, **arguments).fit(drawn(20, 0))


@pytest.mark.parametrize(
    ("grade", "gains", "words"),
    [
        (0.5, "exponential", r"grades that are whole numbers, got 0\.5: round or bin the labels, as np\.digitize"),
        (31, "exponential", r'up to 30, got 31: bin .*np\.digitize.*, or use gains="linear"'),
        (10_001, "linear", r"up to 10,000, got 10001: bin the labels"),
    ],
)
def test_grades_that_trees_cannot_learn(grade, gains, words):
    with pytest.raises(ValueError, match=words):
        LambdaMART(gains=gains).fit(Groups(np.zeros((2, 1)), [0, grade], [2]))


def test_the_ways_out_of_high_grades():
    groups = drawn(60, 0)
    counts_N = np.round(np.exp(2 * groups.labels_N)) - 1  # up to thousands
    high = Groups(groups.features_NF, counts_N, groups.sizes_Q)
    binned_N = np.digitize(counts_N, np.quantile(counts_N[counts_N > 0], [0, 0.5, 0.8, 0.95]))
    assert set(binned_N) <= {0, 1, 2, 3, 4}
    for ranker, labels in ((LambdaMART(num_trees=20, gains="linear"), high), (LambdaMART(num_trees=20), None)):
        fitted = ranker.fit(labels or Groups(groups.features_NF, binned_N, groups.sizes_Q))
        assert fitted._ndcg(fitted.score_groups(groups), groups) > 0.8


def test_a_group_too_long_for_lightgbm_is_named():
    groups = Groups(np.zeros((10_003, 1)), np.arange(10_003) == 5, [2, 10_001], group_ids=["short", "long"])
    with pytest.raises(ValueError, match="groups of up to 10,000 documents, got 10,001 in group 'long'"):
        LambdaMART().fit(groups)


def test_publishers_sets(shared_data):
    """Better than by chance on both, and the last parts of MQ2008 as good as peers report (NDCG@10, blank = 0: about .50)."""
    folder = shared_data / "lightgbm-lambdarank"
    train = read_lightgbm(folder / "rank.train", num_features=301)
    test = read_lightgbm(folder / "rank.test", num_features=301)
    ranker = LambdaMART(num_trees=100, num_leaves=15, k=5).fit(train, validation=test)
    assert max(ranker.history) > 0.65
    parts = [read_letor(shared_data / "mq2008" / f"S{part}.txt", num_features=46) for part in (1, 2, 3, 4)]
    ranker = LambdaMART(num_leaves=8, min_documents=50).fit(Groups.concat(parts[:3]), validation=parts[3])
    assert max(ranker.history) > 0.70
