"""torchmetrics classes give what the functions give, in batches, and on two processes what they give on one."""

import numpy as np
import pytest
import scipy.sparse as sp
from processes import programs

from recsys_dl.metrics import catalog, ranking, rating

torch = pytest.importorskip("torch", reason="needs torch")
from recsys_dl.metrics.torch_metrics import CatalogMetrics, RankingMetrics, RatingMetrics  # noqa: E402

NUM_USERS, NUM_ITEMS, K = 101, 30, 8


def data():
    rng = np.random.default_rng(0)
    lists = rng.permuted(np.tile(np.arange(NUM_ITEMS), (NUM_USERS, 1)), axis=1)[:, :K]
    grades = rng.integers(0, 4, (NUM_USERS, NUM_ITEMS)) * (rng.random((NUM_USERS, NUM_ITEMS)) < 0.1)
    return lists, sp.csr_matrix(grades.astype(np.float32)), rng.normal(3, 1, (2, 500)).astype(np.float32)


def measured(users, pairs, batch=13):
    """The figures of some users and pairs, in batches."""
    lists, grades, ratings = data()
    metrics = (RankingMetrics(k=[1, 5], gains="linear"), CatalogMetrics(NUM_ITEMS, k=5), RatingMetrics())
    for start in range(0, len(users), batch):
        rows = users[start : start + batch]
        metrics[0].update(ranking.judge(lists[rows], grades[rows]))
        metrics[1].update(torch.from_numpy(lists[rows]))
        metrics[2].update(*torch.from_numpy(ratings[:, pairs[start : start + batch]]))
    return {name: float(value) for metric in metrics for name, value in metric.compute().items()}


def in_process(results):
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    # unequal shares: user 0..32 here, the rest there
    users = np.arange(33) if rank == 0 else np.arange(33, NUM_USERS)
    pairs = np.arange(33) if rank == 0 else np.arange(33, NUM_USERS)
    torch.save(measured(users, pairs), f"{results}{rank}")
    torch.distributed.destroy_process_group()


def test_two_processes_give_what_one_gives(tmp_path):
    programs(
        2, "import sys, test_torchmetrics; test_torchmetrics.in_process(sys.argv[1])", tmp_path / "found", cwd=tmp_path
    )
    one = measured(np.arange(NUM_USERS), np.arange(NUM_USERS))
    for rank in range(2):
        two = torch.load(f"{tmp_path / 'found'}{rank}", weights_only=True)
        assert two.keys() == one.keys()
        for name, value in one.items():
            assert two[name] == pytest.approx(value, rel=1e-14), name  # float64 sums in another order


def test_batches_give_what_the_functions_give():
    lists, grades, ratings = data()
    got = measured(np.arange(NUM_USERS), np.arange(NUM_USERS))
    columns = ranking.per_user(ranking.judge(lists, grades), ranking.METRICS, [1, 5], gains="linear")
    for name, column in columns.items():
        assert got[name] == pytest.approx(np.nanmean(column), rel=1e-13)
    shown = catalog.exposures(lists, 5, NUM_ITEMS)
    assert got["coverage@5"] == catalog.coverage(shown)
    assert got["gini@5"] == catalog.gini(shown)
    assert got["rmse"] == pytest.approx(rating.rmse(*ratings[:, :NUM_USERS]), rel=1e-13)
    assert got["mae"] == pytest.approx(rating.mae(*ratings[:, :NUM_USERS]), rel=1e-13)


@pytest.mark.parametrize("blank_users", ["left_out", "zero", "one"])
def test_blank_users_count_as_said(blank_users):
    metric = RankingMetrics(["ndcg"], k=2, blank_users=blank_users)
    metric.update(ranking.judge_scores(torch.tensor([[0.3, 0.1], [0.3, 0.1]]), torch.tensor([[1, 0], [0, 0]]), k=2))
    assert float(metric.compute()["ndcg@2"]) == {"left_out": 1, "zero": 0.5, "one": 1}[blank_users]


def test_reset_forgets_and_forward_gives_the_batch():
    metric = RankingMetrics(["precision"], k=1)
    good = ranking.judge_scores([[2, 1]], [[1, 0]], k=1)
    bad = ranking.judge_scores([[1, 2]], [[1, 0]], k=1)
    assert float(metric(good)["precision@1"]) == 1
    assert float(metric(bad)["precision@1"]) == 0
    assert float(metric.compute()["precision@1"]) == 0.5
    metric.reset()
    metric.update(bad)
    assert float(metric.compute()["precision@1"]) == 0


def test_a_wrong_metric_is_named_at_once():
    with pytest.raises(ValueError, match="'ndgc' is not a ranking metric"):
        RankingMetrics(["ndgc"])
