"""The leakage check names what was planted, by id and with counts, and nothing else."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recsys_dl import Dataset, Interactions, leave_last_out, read_log
from recsys_dl.data.checks import leakage
from recsys_dl.data.split import cold_items, cold_users, random_split, time_split, user_split

KINDS = ("seen", "before own past", "before train's end", "duplicates", "unknown users", "unknown items")


def log(*rows: tuple[str, str, int]) -> Dataset:
    frame = pl.DataFrame(list(rows), schema=["user", "item", "time"], orient="row")
    return read_log(frame.with_row_index("plays", offset=1), repeats="keep")  # no two rows are one event


def part(data: Dataset, *at: int) -> Dataset:
    return data.with_interactions(data.interactions.select(list(at)))


def kinds(report) -> set[tuple[str, str]]:
    return {(finding.part, finding.kind) for finding in report.findings}


def test_a_clean_split():
    data = log(("ann", "x", 1), ("ben", "y", 2), ("ann", "y", 3), ("ben", "x", 3))
    report = leakage(part(data, 0, 1), part(data, 2, 3))
    assert not report
    assert report.findings == ()
    assert str(report) == "No leakage found among 2 of train, 2 of test interactions."


def test_each_finding_by_hand():
    data = log(
        ("ann", "x", 10),  # 0 train
        ("ann", "x", 10),  # 1 train, a duplicate of 0
        ("ann", "y", 20),  # 2 train: the newest of all
        ("ben", "x", 15),  # 3 train
        ("ann", "x", 25),  # 4 test, seen in train
        ("ben", "y", 14),  # 5 test, before own past and train's end
        ("cat", "y", 19),  # 6 test, an unknown user, before train's end
        ("ben", "z", 30),  # 7 test, an unknown item
    )
    report = leakage(part(data, 0, 1, 2, 3), part(data, 4, 5, 6, 7))
    assert {kind: report.count(kind) for kind in KINDS} == {
        "seen": 1,
        "before own past": 1,
        "before train's end": 2,
        "duplicates": 0,
        "unknown users": 1,
        "unknown items": 1,
    }
    assert report.count("duplicates", "train") == 1
    assert report
    text = str(report)
    assert text.startswith("Leakage: 6 findings among 4 of train, 4 of test interactions.")
    assert "1 of 4 train interactions repeat an earlier one (25.0%): user ann and item x" in text
    assert "1 of 4 test interactions are also in train (25.0%): user ann and item x" in text
    assert "user ben and item y at 1970-01-01 00:00:14, newest 1970-01-01 00:00:15" in text
    assert "2 of 4 test interactions are older than the newest of all of train, 1970-01-01 00:00:20" in text
    assert "1 of 3 test users occur only in this part (33.3%): user cat" in text
    assert "1 of 3 test items occur only in this part (33.3%): item z" in text


def test_validation_is_checked_against_train_and_test_against_both():
    data = log(("ann", "x", 1), ("ann", "y", 5), ("ann", "y", 3), ("ann", "x", 7))
    report = leakage(part(data, 0), part(data, 2), validation=part(data, 1, 3))
    assert report.count("seen", "validation") == 1
    assert report.count("seen", "test") == 1  # y is in validation
    assert report.count("before own past", "test") == 1
    assert "are also in validation" in str(report)


def test_histories_are_known():
    data = log(("ann", "x", 1), ("ben", "x", 2), ("ben", "y", 3), ("ben", "x", 9))
    train, asked = part(data, 0), part(data, 3)
    histories = data.interactions.select([1, 2])
    report = leakage(train, asked.with_interactions(asked.interactions, histories=histories))
    assert kinds(report) == {("test", "seen")}
    assert "are also in train or histories" in str(report)


def test_at_most_three_examples():
    data = read_log(Interactions([0, 1, 2, 3], [0, 0, 0, 0]).by_user)
    report = leakage(data, data)
    assert report.count("seen") == 4
    assert "user 0 and item 0; user 1 and item 0; user 2 and item 0, ..." in str(report)
    assert "the log has no times, so order was not checked" in str(report)


def test_interactions_without_ids_are_named_by_row():
    log = Interactions([0, 1], [0, 1])
    assert "user 0 and item 0; user 1 and item 1" in str(leakage(log, log))


def test_parts_over_other_rows_are_refused():
    with pytest.raises(ValueError, match="over the same users and items"):
        leakage(Interactions([0], [0]), Interactions([1], [1]))


def test_empty_parts():
    empty = Interactions([], [], [], [], num_users=2, num_items=2)
    full = Interactions([0], [1], [1], [5], num_users=2, num_items=2)
    assert not leakage(full, empty)
    assert kinds(leakage(empty, full)) == {("test", "unknown users"), ("test", "unknown items")}


def test_what_each_split_leaves():
    rng = np.random.default_rng(0)
    times = rng.permutation(5000)
    pairs = rng.choice(100 * 80, 2000, replace=False)  # no repeats
    frame = pl.DataFrame({"user": pairs // 80, "item": pairs % 80, "time": times[:2000]})
    data = read_log(frame)

    def of(split) -> set[str]:
        return {kind for part, kind in kinds(leakage(split.train, split.test))}

    assert of(leave_last_out(data)) == {"before train's end"}
    assert of(time_split(data)) == set()
    assert of(random_split(data, seed=0)) == {"before own past", "before train's end"}
    assert of(user_split(data, seed=0)) == {"before train's end"}
    assert of(cold_users(data, seed=0)) == {"unknown users", "before train's end"}
    assert of(cold_items(data, seed=0)) == {"unknown items", "before own past", "before train's end"}
