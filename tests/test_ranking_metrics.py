"""Ranking metrics: values by hand, invariants over all of them, and trec_eval as the reference."""

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_dl.kernels.topk import top_k
from recsys_dl.metrics.ranking import METRICS, Judged, judge, judge_scores, ndcg, per_user

# Users with 9 items. 0: finds 2 of 3 at ranks 1 and 3. 1: finds its one item at rank 4. 2: blank. 3: a list that ends after
# one miss. 4: knows an item of grade 0.
LISTS = np.array([[5, 1, 7, 2], [0, 1, 2, 3], [0, 1, 2, 3], [8, -1, -1, -1], [4, 6, 0, 1]])
GRADES = sp.csr_matrix(
    (
        np.array([3.0, 1.0, 2.0, 1.0, 5.0, 0.0, 2.0]),
        (np.array([0, 0, 0, 1, 3, 4, 4]), np.array([5, 7, 8, 3, 2, 4, 6])),
    ),
    shape=(5, 9),
)
D2, D3, D4 = 1 / np.log2(3), 1 / 2, 1 / np.log2(5)  # discounts of ranks 2, 3 and 4; that of rank 1 is 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("precision@1", [1, 0, 0, 0, 0]),
        ("precision@4", [2 / 4, 1 / 4, 0, 0, 1 / 4]),
        ("recall@1", [1 / 3, 0, 0, 0, 0]),
        ("recall@4", [2 / 3, 1, 0, 0, 1]),
        ("hit_rate@2", [1, 0, 0, 0, 1]),
        ("hit_rate@4", [1, 1, 0, 0, 1]),
        ("map@4", [(1 + 2 / 3) / 3, 1 / 4, 0, 0, 1 / 2]),
        ("map@2", [1 / 3, 0, 0, 0, 1 / 2]),
        ("mrr@4", [1, 1 / 4, 0, 0, 1 / 2]),
        ("mrr@3", [1, 0, 0, 0, 1 / 2]),
        ("ndcg@4", [(1 + D3) / (1 + D2 + D3), D4, 0, 0, D2]),
        ("ndcg@2", [1 / (1 + D2), 0, 0, 0, D2]),
    ],
)
def test_values_by_hand(name, expected):
    metric, _, k = name.partition("@")
    values = per_user(judge(LISTS, GRADES), [metric], [int(k)], blank_users="zero")
    np.testing.assert_allclose(values[name], expected, rtol=1e-15)


def test_graded_gains_by_hand():
    judged = judge(LISTS, GRADES)
    linear = [(3 + D3) / (3 + 2 * D2 + D3), D4, 0, 0, D2]
    exponential = [(7 + D3) / (7 + 3 * D2 + D3), D4, 0, 0, D2]
    np.testing.assert_allclose(ndcg(judged, 4, "linear"), linear, rtol=1e-15)
    np.testing.assert_allclose(ndcg(judged, 4, "exponential"), exponential, rtol=1e-15)
    np.testing.assert_array_equal(judged.num_relevant_B, [3, 1, 0, 1, 1])


@pytest.mark.parametrize(("blank_users", "worth"), [("left_out", np.nan), ("zero", 0.0), ("one", 1.0)])
@pytest.mark.parametrize("metric", METRICS)
def test_blank_users_count_as_said(metric, blank_users, worth):
    values = per_user(judge(LISTS, GRADES), [metric], [2], blank_users=blank_users)[f"{metric}@2"]
    np.testing.assert_array_equal(values[2], worth)
    assert not np.isnan(np.delete(values, 2)).any()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("gains", ["binary", "linear", "exponential"])
def test_perfect_is_one_reversed_is_less_and_a_miss_is_nothing(metric, gains):
    grades = sp.csr_matrix(np.array([[0, 3, 0, 2, 1, 0.0]]))
    perfect, reversed_, miss = np.array([[1, 3, 4]]), np.array([[0, 4, 3]]), np.array([[0, 2, 5]])
    worth = {
        name: per_user(judge(lists, grades), [metric], [3], gains=gains)[f"{metric}@3"][0]
        for name, lists in (("perfect", perfect), ("reversed", reversed_), ("miss", miss))
    }
    assert worth["perfect"] == 1
    assert worth["miss"] == 0
    assert 0 < worth["reversed"] <= 1
    assert worth["reversed"] < 1 or metric == "hit_rate"


@pytest.mark.parametrize("metric", METRICS)
def test_users_in_another_order_have_the_same_values(metric):
    lists, grades = random_lists(seed=1)
    order = np.random.default_rng(2).permutation(len(lists))
    straight = per_user(judge(lists, grades), [metric], [1, 7], gains="linear")
    shuffled = per_user(judge(lists[order], grades[order]), [metric], [1, 7], gains="linear")
    for name in straight:
        np.testing.assert_array_equal(straight[name][order], shuffled[name])


@pytest.mark.parametrize("metric", METRICS)
def test_padding_and_a_longer_list_change_nothing(metric):
    lists, grades = random_lists(seed=3)
    padded = np.pad(lists, ((0, 0), (0, 5)), constant_values=-1)
    wider = sp.csr_matrix((grades.data, grades.indices, grades.indptr), shape=(grades.shape[0], grades.shape[1] + 3))
    for k in (1, lists.shape[1]):
        expected = per_user(judge(lists, grades), [metric], [k], gains="linear")
        for other in (judge(padded, grades), judge(lists, wider)):
            got = per_user(other, [metric], [k], gains="linear")
            np.testing.assert_array_equal(got[f"{metric}@{k}"], expected[f"{metric}@{k}"])


@pytest.mark.parametrize("metric", METRICS)
def test_scores_and_lists_are_judged_alike(metric):
    rng = np.random.default_rng(4)
    scores = rng.integers(0, 4, (50, 12)).astype(np.float32)  # many ties
    labels = rng.integers(0, 3, scores.shape) * (rng.random(scores.shape) < 0.3)
    valid = rng.random(scores.shape) < 0.8
    lists, best = top_k(np.where(valid, scores, -np.inf).astype(np.float32), 15, device="cpu")
    by_list = judge(lists, sp.csr_matrix(np.where(valid, labels, 0)), best)
    noise = np.where(valid, scores, rng.normal(size=scores.shape) * 100)  # whatever stands at padding
    by_score = judge_scores(noise, labels, valid, k=15)
    for field in ("labels_BK", "ideal_BK", "num_relevant_B", "tied_BK"):
        np.testing.assert_array_equal(getattr(by_list, field), getattr(by_score, field))
    np.testing.assert_array_equal(METRICS[metric](by_list, 10), METRICS[metric](by_score, 10))


def test_torch_tensors_are_judged_too():
    import torch

    scores = torch.tensor([[0.1, -0.5, 0.3]], requires_grad=True)
    judged = judge_scores(scores, torch.tensor([[0, 2, 1]]), k=2)
    np.testing.assert_array_equal(judged.labels_BK, [[1, 0]])
    np.testing.assert_array_equal(judged.ideal_BK, [[2, 1]])


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_trec_eval(seed):
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="needs the package pytrec-eval-terrier")
    rng = np.random.default_rng(seed)
    num_users, num_items = 150, 60
    scores = rng.integers(0, 12, (num_users, num_items)).astype(np.float32) - 6  # many ties, negative scores too
    scores[rng.random(scores.shape) < rng.random((num_users, 1)) ** 3] = -np.inf  # short lists, some of them empty
    grades = rng.integers(0, 4, scores.shape) * (rng.random(scores.shape) < 0.1)
    known = (grades > 0) | (rng.random(scores.shape) < 0.05)  # grade 0: known and not relevant
    grades[:5] = 0
    known[:5, 0] = True  # blank users
    relevant = sp.csr_matrix((grades[known].astype(np.float32), np.nonzero(known)), shape=scores.shape)

    # trec_eval breaks ties by the name of the document, the later name first: names run against the rows
    names = [f"{num_items - item:04d}" for item in range(num_items)]
    run = {
        str(user): {names[item]: float(scores[user, item]) for item in np.flatnonzero(scores[user] > -np.inf)}
        for user in range(num_users)
    }
    qrel = {
        str(user): {names[item]: int(grades[user, item]) for item in np.flatnonzero(known[user])}
        for user in range(num_users)
        if known[user].any()
    }
    asked = np.array([user for user in range(num_users) if known[user].any() and run[str(user)]])
    ks = [1, 3, 10, 50]
    cuts = ",".join(map(str, ks))
    measures = {f"{name}.{cuts}" for name in ("P", "recall", "success", "map_cut", "ndcg_cut")} | {"recip_rank"}
    reference = pytrec_eval.RelevanceEvaluator(qrel, measures).evaluate(run)

    lists, _ = top_k(scores, num_items, device="cpu")
    judged = judge(lists[asked], relevant[asked])
    ours = per_user(judged, METRICS, [*ks, num_items], gains="linear", blank_users="zero")
    theirs = {f"{ours_}@{k}": f"{name}_{k}" for k in ks for ours_, name in TREC.items()}
    theirs[f"mrr@{num_items}"] = "recip_rank"  # trec_eval's has no cut
    assert judged.blank_B.sum() >= 4
    for name, other in theirs.items():
        expected = [reference[str(user)][other] for user in asked]
        # the two add the same terms in another order
        np.testing.assert_allclose(ours[name], expected, rtol=0, atol=1e-12, err_msg=name)


TREC = {"precision": "P", "recall": "recall", "hit_rate": "success", "map": "map_cut", "ndcg": "ndcg_cut"}


@pytest.mark.parametrize("num_lists", [0, 1, 127, 128, 129])
def test_any_number_of_lists(num_lists):
    lists, grades = random_lists(seed=5, num_lists=num_lists)
    values = per_user(judge(lists, grades), METRICS, [5])
    assert {len(column) for column in values.values()} == {num_lists}


def test_unsorted_and_repeated_grades_are_summed():
    messy = sp.csr_matrix((np.array([1.0, 2.0, 1.0]), np.array([4, 1, 4]), np.array([0, 3])), shape=(1, 5))
    judged = judge(np.array([[4, 1]]), messy)
    np.testing.assert_array_equal(judged.labels_BK, [[2, 2]])
    assert messy.nnz == 3  # what was handed in is left as it was


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: judge(np.array([[1, 2, 1]]), sp.csr_matrix((1, 4))), "item 1 twice in list 0"),
        (lambda: judge(np.array([[1, 4]]), sp.csr_matrix((1, 4))), r"in \[0, 4\), or -1, got 4"),
        (lambda: judge(np.array([[1, 2]]), sp.csr_matrix((2, 4))), "one row for each of 1 lists, got 2"),
        (lambda: judge(np.array([[0.5]]), sp.csr_matrix((1, 4))), "item rows of shape"),
        (lambda: judge(np.array([[0]]), sp.csr_matrix(np.array([[-1.0]]))), "not negative"),
        (lambda: judge_scores([[np.nan, 1]], [[0, 1]], k=1), "NaN for 1 candidates"),
        (lambda: judge_scores([[0, 1]], [[0, 1, 1]], k=1), "have the same shape"),
        (lambda: judge_scores([[0, 1]], [[0, np.nan]], k=1), "finite"),
        (lambda: per_user(judge(LISTS, GRADES), ["ndgc"], [1]), "'ndgc' is not a ranking metric"),
        (lambda: per_user(judge(LISTS, GRADES), ["ndcg"], [5]), "between 1 and the 4 ranks that were judged, got 5"),
        (lambda: per_user(judge(LISTS, GRADES), ["ndcg"], [0]), "got 0"),
        (lambda: ndcg(judge(np.array([[0]]), sp.csr_matrix([[2000.0]])), 1, "exponential"), "up to 1000, got 2000"),
        (lambda: per_user(judge(LISTS, GRADES), ["ndcg"], [1], gains="graded"), "binary, linear, exponential"),
        (lambda: per_user(judge(LISTS, GRADES), ["ndcg"], [1], blank_users="skip"), "left_out, zero, one"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def random_lists(seed: int, num_lists: int = 80) -> tuple[np.ndarray, sp.csr_matrix]:
    rng = np.random.default_rng(seed)
    lists = rng.permuted(np.tile(np.arange(20), (num_lists, 1)), axis=1)[:, :7]
    ends = rng.integers(0, 8, (num_lists, 1))
    grades = rng.integers(0, 4, (num_lists, 20)) * (rng.random((num_lists, 20)) < 0.2)
    return np.where(np.arange(7) < ends, lists, -1), sp.csr_matrix(grades.astype(np.float32))


def test_judged_lists_have_a_length():
    assert len(Judged(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(3, np.int64))) == 3
