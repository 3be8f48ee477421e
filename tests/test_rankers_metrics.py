"""Metrics of grouped documents against LightGBM, trec_eval and LETOR's tool worked out by hand."""

import lightgbm as lgb
import numpy as np
import pytest

from recsys_dl.data.groups import Groups
from recsys_dl.metrics.grouped import judge_groups, letor_ndcg
from recsys_dl.metrics.ranking import METRICS, judge_scores, per_user


def drawn(seed: int) -> tuple[np.ndarray, Groups]:
    """Scores with ties; groups of 1 to 30 documents, some blank."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 31, 80)
    grades = rng.integers(0, 5, sizes.sum()) * (rng.random(sizes.sum()) < 0.3)
    return rng.integers(0, 6, sizes.sum()) / 2, Groups(np.zeros((sizes.sum(), 1)), grades, sizes)


def test_groups_are_judged_as_padded_lists_are():
    scores_N, groups = drawn(0)
    part = groups.padded()
    expected = judge_scores(scores_N[part.rows_BL], part.labels_BL, part.valid_BL, k=30)
    for k in (None, 5, 30):
        judged = judge_groups(scores_N, groups.labels_N, groups.starts_Q, k=k)
        length = k or 30
        np.testing.assert_array_equal(judged.labels_BK[:, :length], expected.labels_BK[:, :length])
        np.testing.assert_array_equal(judged.tied_BK[:, :length], expected.tied_BK[:, :length])
        np.testing.assert_array_equal(judged.ideal_BK[:, :length], expected.ideal_BK[:, :length])
        np.testing.assert_array_equal(judged.num_relevant_B, expected.num_relevant_B)
        ours, theirs = (per_user(one, METRICS, [1, length]) for one in (judged, expected))
        for name, values in ours.items():
            np.testing.assert_allclose(values, theirs[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("gains", ["exponential", "linear"])
def test_blank_counted_one_is_lightgbms_ndcg(gains):
    """A booster of no trees leaves the scores as they were given, so its figure is of these very scores."""
    scores_N, groups = drawn(1)
    scores_N = scores_N - 1e-6 * np.arange(len(scores_N))  # LightGBM takes ties in the order of rows, we as their mean
    gain = np.arange(5) if gains == "linear" else 2 ** np.arange(5) - 1
    told: dict = {}
    data = lgb.Dataset(groups.features_NF, groups.labels_N, group=groups.sizes_Q, init_score=scores_N)
    parameters = {"objective": "lambdarank", "metric": "ndcg", "eval_at": [1, 3, 5, 10], "label_gain": gain.tolist()}
    lgb.train(
        parameters | {"verbosity": -1, "num_threads": 1},
        data,
        1,
        valid_sets=[data],
        valid_names=["all"],
        callbacks=[lgb.record_evaluation(told)],
    )
    judged = judge_groups(scores_N, groups.labels_N, groups.starts_Q, k=10)
    ours = per_user(judged, ["ndcg"], [1, 3, 5, 10], gains=gains, blank_users="one")
    assert judged.blank_B.any()
    for name, values in ours.items():
        assert values.mean() == pytest.approx(told["all"][name][0], abs=1e-7)


def test_map_and_linear_ndcg_are_trec_evals():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    scores_N, groups = drawn(2)
    scores_N = scores_N - 1e-6 * np.arange(len(scores_N))  # trec_eval breaks ties by name: leave none
    relevant, run = {}, {}
    for q in range(len(groups)):
        rows = range(groups.starts_Q[q], groups.starts_Q[q + 1])
        relevant[str(q)] = {f"d{row}": int(groups.labels_N[row]) for row in rows}
        run[str(q)] = {f"d{row}": float(scores_N[row]) for row in rows}
    theirs = pytrec_eval.RelevanceEvaluator(relevant, {"map", "ndcg_cut_5", "ndcg_cut_10"}).evaluate(run)
    judged = judge_groups(scores_N, groups.labels_N, groups.starts_Q)
    ours = per_user(judged, ["map", "ndcg"], [5, 10, 30], gains="linear", blank_users="zero")
    for name, their in (("map@30", "map"), ("ndcg@5", "ndcg_cut_5"), ("ndcg@10", "ndcg_cut_10")):
        expected = [theirs[str(q)][their] for q in range(len(groups))]
        np.testing.assert_allclose(ours[name], expected, rtol=1e-12, atol=1e-12)


def test_letors_tool_by_hand():
    """Grades 0 2 1 in the order of the scores; no discount at rank 2; three documents give nothing at k = 4."""
    judged = judge_groups(np.array([3.0, 2, 1, 1]), np.array([0, 2, 1, 0]), np.array([0, 3, 4]), k=4)
    tied = judge_groups(np.zeros(2), np.array([2, 0]), np.array([0, 2]), k=2)
    np.testing.assert_allclose(letor_ndcg(tied, np.array([2]), 1), [0.5])
    d3 = 1 / np.log2(3)
    for k, expected in ((1, 0), (2, 3 / (3 + 1)), (3, (3 + d3) / (3 + 1)), (4, 0)):
        np.testing.assert_allclose(letor_ndcg(judged, np.array([3, 1]), k), [expected, 0], rtol=1e-15)


def test_what_cannot_be_judged():
    starts = np.array([0, 2, 3])
    with pytest.raises(ValueError, match=r"one for each of 3 documents, got \(2,\) and \(3,\)"):
        judge_groups(np.zeros(2), np.zeros(3), starts)
    with pytest.raises(ValueError, match="scores must be numbers, got NaN for 1 documents"):
        judge_groups(np.array([0, np.nan, 1]), np.zeros(3), starts)
    with pytest.raises(ValueError, match="grades must be finite and not negative"):
        judge_groups(np.zeros(3), np.array([0, -1, 1]), starts)
