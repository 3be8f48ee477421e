"""Position bias taken out of clicks, where what clicks were drawn from is known."""

import numpy as np
import pytest

from recsys_dl.data.clicks import simulate_clicks
from recsys_dl.data.groups import Groups
from recsys_dl.rankers.lambdamart import LambdaMART
from recsys_dl.rankers.mlp_ranker import MLPRanker
from recsys_dl.rankers.propensity import harvested_propensities, per_click, randomized_propensities
from recsys_dl.readers.letor import read_letor


def test_one_group_a_click_by_hand():
    features = np.array([[1], [2], [3], [4], [5], [1], [2], [3]], np.float32)
    groups = Groups(
        features,
        [0, 1, 1, 0, 0, 1, 0, 0],
        [3, 2, 3],  # the third list is the first, shown again
        positions_N=[1, 2, 3, 1, 2, 2, 1, 0],
        weights_N=[1, 1, 1, 1, 1, 3, 1, 1],
    )
    clicks = per_click(groups, [1, 0.5, 0.25])
    np.testing.assert_array_equal(clicks.features_NF.ravel(), [1, 2, 3] * 3)
    np.testing.assert_array_equal(clicks.labels_N, [1, 0, 0, 0, 1, 0, 0, 0, 1])
    np.testing.assert_allclose(clicks.weights_N, np.repeat([6, 2, 4], 3) / 4)
    doubled = Groups.concat(
        [
            groups,
            Groups(
                features,
                groups.labels_N,
                [3, 2, 3],
                group_ids="abc",
                positions_N=groups.positions_N,
                weights_N=groups.weights_N,
            ),
        ]
    )
    again = per_click(doubled, [100, 50, 25])  # the same sessions twice, and propensities in another unit
    for what in ("features_NF", "labels_N", "weights_N", "starts_Q"):
        np.testing.assert_allclose(getattr(again, what), getattr(clicks, what), rtol=1e-6)


def test_what_clicks_weigh_is_what_is_liked_wherever_it_was_shown():
    """Two orders, the best first and last: weights agree with the truth in both, clicks as they are in neither."""
    groups = Groups(np.arange(5)[:, None], [2, 0, 1, 0, 1], [5])
    liked = 0.1 + 0.9 * np.array([1, 0, 1 / 3, 0, 1 / 3])
    for sign in (1, -1):
        log = simulate_clicks(groups, sign * groups.labels_N, num_sessions=40_000, severity=1.0, noise=0.1, seed=0)
        weighed = {}
        for what, propensities in (("corrected", 1 / np.arange(1, 6)), ("naive", np.ones(5))):
            clicks = per_click(log, propensities)
            by_document = np.zeros(5)
            relevant = clicks.labels_N > 0
            np.add.at(by_document, clicks.features_NF[relevant, 0].astype(int), clicks.weights_N[relevant])
            weighed[what] = by_document / by_document.sum()
        # five standard errors of the share of a document shown last
        np.testing.assert_allclose(weighed["corrected"], liked / liked.sum(), atol=0.02)
        assert np.abs(weighed["naive"] - liked / liked.sum()).max() > 0.1


def test_clicks_are_drawn_as_said():
    """Shares of examined and liked documents, and where swaps put them, within five standard errors."""
    grades = [2, 0, 1, 0]
    groups = Groups(np.arange(4)[:, None], grades, [4])
    log = simulate_clicks(groups, np.array([1, 4, 3, 2]), num_sessions=40_000, severity=1.0, noise=0.2, seed=0)
    positions, clicks = log.positions_N.reshape(-1, 4), log.labels_N.reshape(-1, 4)
    assert (positions == [4, 1, 2, 3]).all()
    liked = 0.2 + 0.8 * np.array([1, 0, 1 / 3, 0])
    np.testing.assert_allclose(clicks.mean(axis=0), liked / [4, 1, 2, 3], atol=5 * 0.5 / 200)
    swapped = simulate_clicks(groups, np.array([1, 4, 3, 2]), num_sessions=40_000, swap=True, seed=0)
    positions = swapped.positions_N.reshape(-1, 4)
    np.testing.assert_allclose([(positions[:, 1] == k).mean() for k in (1, 2, 3, 4)], 0.25, atol=5 * 0.44 / 200)
    assert (np.sort(positions, axis=1) == [1, 2, 3, 4]).all()
    assert (positions[:, 0] == 4).mean() == pytest.approx(0.75, abs=5 * 0.44 / 200)  # at 4 unless swapped to the top
    twin = simulate_clicks(groups, np.array([1, 4, 3, 2]), num_sessions=40_000, swap=True, seed=0)
    np.testing.assert_array_equal(swapped.labels_N, twin.labels_N)


def logged(shown_by, severity, *, swap):
    rng = np.random.default_rng(0)
    groups = Groups(np.zeros((1600, 1)), rng.choice([0, 0, 0, 1, 2], 1600), np.full(200, 8))
    by = rng.normal(size=1600) + (groups.labels_N if shown_by == "grade" else 0)
    log = simulate_clicks(groups, by, num_sessions=400, severity=severity, swap=swap, seed=1)
    documents = np.concatenate([np.tile(np.arange(8 * q, 8 * q + 8), 400) for q in range(200)])
    return documents, log.positions_N, log.labels_N


@pytest.mark.parametrize("severity", [0.5, 1.0])
def test_propensities_are_found(severity):
    truth = np.arange(1, 9.0) ** -severity
    documents, positions, clicks = logged("grade", severity, swap=True)
    np.testing.assert_allclose(harvested_propensities(documents, positions, clicks), truth, atol=0.03)
    naive = randomized_propensities(positions, clicks)  # lists that were in no random order
    assert np.abs(naive - truth).max() > 0.2
    _, positions, clicks = logged("chance", severity, swap=False)
    np.testing.assert_allclose(randomized_propensities(positions, clicks), truth, atol=0.1)  # 200 lists: which is where


def test_propensities_that_cannot_be_known():
    documents, positions, clicks = logged("grade", 1.0, swap=False)
    with pytest.raises(
        ValueError, match=r"must share clicked documents with others, up to rank 1, but rank 2 of 8 does not"
    ):
        harvested_propensities(documents, positions, clicks)
    with pytest.raises(ValueError, match="every rank up to 3 needs a click, got none at rank 2"):
        randomized_propensities([1, 2, 3], [1, 0, 1])
    with pytest.raises(ValueError, match="positions must be ranks from 1, got int64 from 0"):
        randomized_propensities([0, 1], [1, 1])
    with pytest.raises(ValueError, match="documents must be one for each of 2 shown"):
        harvested_propensities([1], [1, 2], [1, 1])
    with pytest.raises(ValueError, match="positions and clicks must be one per document shown"):
        harvested_propensities([1], [1, 2], [1])


@pytest.mark.parametrize(
    ("labels", "positions", "propensities", "message"),
    [
        ([1, 0], None, [1], "correct clicks at logged positions, but these groups have none"),
        ([0, 0], [1, 2], [1], "needs at least one, got none"),
        ([1, 0], [2, 1], [1], "clicks must be at ranks 1 to 1, which have propensities, got one at 2"),
        ([1, 0], [0, 1], [1], "clicks must be at ranks 1 to 1, which have propensities, got one at 0"),
        ([1, 0], [1, 2], [1, 0], r"propensities must be numbers above 0, one per rank, got \[1.0, 0.0\]"),
        ([1, 0], [1, 2], [], "propensities must be numbers above 0"),
    ],
)
def test_clicks_that_cannot_be_corrected(labels, positions, propensities, message):
    with pytest.raises(ValueError, match=message):
        per_click(Groups(np.zeros((2, 1)), labels, [2], positions_N=positions), propensities)


@pytest.mark.parametrize("wrong", [{"noise": 2}, {"severity": -1}, {"num_sessions": 0}])
def test_clicks_that_cannot_be_drawn(wrong):
    groups = Groups(np.zeros((2, 1)), [1, 0], [2])
    with pytest.raises(ValueError, match=r"clicks need noise in \[0, 1\]"):
        simulate_clicks(groups, np.zeros(2), **{"num_sessions": 1} | wrong)
    with pytest.raises(ValueError, match="a grade above 0"):
        simulate_clicks(Groups(np.zeros((2, 1)), [0, 0], [2]), np.zeros(2), num_sessions=1)


def test_validation_is_corrected_where_it_was_logged():
    rng = np.random.default_rng(0)
    grades = Groups(rng.normal(size=(200, 3)), rng.integers(0, 3, 200), np.full(40, 5))
    log = simulate_clicks(grades, rng.normal(size=200), num_sessions=5, seed=0)
    propensities = 1 / np.arange(1, 6)
    for given, judged in ((log, per_click(log, propensities)), (grades, grades)):
        ranker = LambdaMART(num_trees=1, propensities=propensities).fit(log, validation=given)
        assert ranker.history == [pytest.approx(ranker._ndcg(ranker.score_groups(judged), judged), abs=1e-6)]


TREES = {"num_trees": 80, "num_leaves": 8, "min_documents": 200}
NETWORK = {"hidden_sizes": [16], "epochs": 3, "batch_size": 64}


@pytest.mark.parametrize("logger", ["reversed", "unrelated"])
def test_corrected_rankers_come_near_full_information(shared_data, logger):
    """Clicks on MQ2008 lists shown by a ranker that is bad: what is learned from them as they are is bad too.

    Over seeds 1 to 5 the rankers corrected by propensities came within .025 of those that saw the grades, and naive ones stayed
    .11 to .16 ("reversed") and .03 to .06 ("unrelated") below the corrected ones. LightGBM's own correction came within .034, .10
    to .16 and .05 to .065 above LambdaMART without it.
    """
    parts = [read_letor(shared_data / "mq2008" / f"S{part}.txt", num_features=46) for part in (1, 2, 3, 4)]
    train, test = Groups.concat(parts[:2]), Groups.concat(parts[2:])
    train = train.select(train.sizes_Q <= 16)
    shown_by = {"reversed": -train.features_NF[:, 38], "unrelated": train.features_NF[:, 41]}[logger]
    log = simulate_clicks(train, shown_by, num_sessions=100, swap=True, seed=1)
    places = [np.tile(np.arange(*train.starts_Q[q : q + 2]), 100) for q in range(len(train))]
    harvested = harvested_propensities(np.concatenate(places), log.positions_N, log.labels_N)
    np.testing.assert_allclose(harvested[:4], 1 / np.arange(1, 5.0), atol=0.06)
    # The last ranks' are small and badly known: their clicks must not outweigh all.
    harvested = np.maximum(harvested, 0.08)

    def figure(ranker, groups):
        return ranker._ndcg(ranker.fit(groups).score_groups(test), test)

    gap = {"reversed": 0.09, "unrelated": 0.02}[logger]
    for ranker in (LambdaMART, MLPRanker):
        own = TREES if ranker is LambdaMART else NETWORK
        full = figure(ranker(**own | ({"min_documents": 50} if ranker is LambdaMART else {"epochs": 10})), train)
        naive, given, estimated = (
            figure(ranker(**own, propensities=propensities), log)
            for propensities in (np.ones(16), 1 / np.arange(1, 17), harvested)
        )
        assert min(given, estimated) > full - 0.035, (ranker, full, given, estimated)
        assert naive < min(given, estimated) - gap, (ranker, naive, given, estimated)
    full = figure(LambdaMART(**TREES | {"min_documents": 50}), train)
    biased, own = (figure(LambdaMART(**TREES, learn_position_bias=given), log) for given in (False, True))
    assert own > full - 0.045, (full, biased, own)
    assert biased < own - gap, (full, biased, own)
