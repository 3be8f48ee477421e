"""The table, the page and the figure of all trials of a sweep."""

import csv

import pytest

from recsys_dl.sweeps.records import Record, best_first, winners
from recsys_dl.sweeps.results import failures, table, write_report

TRIALS = [
    Record(
        0, {"model.epochs": 1, "model.loss": "a<b"}, "finished", {"ndcg@10": 0.1, "gini@10": 0.2}, 2.5, command="one"
    ),
    Record(1, {"model.epochs": 2, "model.loss": "a<b"}, "finished", {"ndcg@10": 1 / 3, "gini@10": 0.5}, command="two"),
    Record(2, {"model.epochs": 3}, "failed", reason="there is not enough memory", command="recsys-dl train three"),
    Record(3, {"model.epochs": 4}, "pruned", {"ndcg@10": 0.4}),
    Record(4, {"model.epochs": 5}, "finished", {"ndcg@10": 0.05, "gini@10": 0.3}),
    Record(5, {"model.epochs": 6}, "running"),
]


@pytest.mark.parametrize(
    ("metrics", "order", "best"),
    [
        (["ndcg@10"], [1, 0, 4, 5, 3, 2], [1]),  # a pruned trial is not the best, whatever its last value
        (["gini@10"], [0, 4, 1, 5, 3, 2], [0]),  # less is better
        (["ndcg@10", "gini@10"], [1, 0, 4, 5, 3, 2], [1, 0]),  # 4 is beaten by 0 in both
    ],
)
def test_the_best_come_first(metrics, order, best):
    assert [one.number for one in best_first(TRIALS, metrics)] == order
    assert [one.number for one in winners(TRIALS, metrics)] == best


def test_the_terminal_shows_the_best_and_counts_the_rest():
    shown = table(TRIALS, ["ndcg@10"], limit=2).splitlines()
    assert shown[0].split() == ["trial", "epochs", "loss", "ndcg@10", "seconds", "state"]
    assert [line.split()[0] for line in shown[2:4]] == ["1", "0"]
    assert shown[-1] == "… and 4 more"
    assert table(TRIALS, ["ndcg@10"]).count("finished") == 3


def test_failed_trials_stand_with_their_reason_and_the_command_that_repeats_them():
    assert failures(TRIALS).splitlines() == ["trial 2 failed: there is not enough memory", "  recsys-dl train three"]
    assert failures(TRIALS[:2]) == ""


def test_the_files_hold_every_trial(tmp_path):
    written = write_report(TRIALS, tmp_path, metrics=["ndcg@10"], title="a & b", importance={"model.epochs": 1.0})
    assert [file.name for file in written] == ["trials.csv", "trials.png", "trials.html"]
    rows = list(csv.DictReader((tmp_path / "trials.csv").open()))
    assert [row["trial"] for row in rows] == ["1", "0", "4", "5", "3", "2"]
    assert float(rows[0]["ndcg@10"]) == 1 / 3  # to the bit
    assert (tmp_path / "trials.png").read_bytes()[:4] == b"\x89PNG"
    page = (tmp_path / "trials.html").read_text()
    assert "a &amp; b" in page
    assert "a&lt;b" in page
    assert "recsys-dl train three" in page


def test_nothing_finished_is_a_table_too(tmp_path):
    write_report(TRIALS[2:3], tmp_path, metrics=["ndcg@10"], title="none")
    assert table(TRIALS[2:3], ["ndcg@10"]).splitlines()[-1].split()[0] == "2"
    assert winners(TRIALS[2:3], ["ndcg@10"]) == []
