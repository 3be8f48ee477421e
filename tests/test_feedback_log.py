"""The log of answers and rewards loses nothing that it acknowledged, whenever its process is killed."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest

from recsys_dl.data.durable import MERGED, DurableTable
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.feedback_log import FeedbackLog
from recsys_dl.data.vocabulary import Vocabulary

WRITER = """
import sys
import polars as pl
from recsys_dl.data.durable import DurableTable
table, mine = DurableTable(sys.argv[1], {"writer": pl.Int64, "value": pl.Int64}), int(sys.argv[2])
for value in range(100_000):
    table.append(pl.DataFrame({"writer": [mine], "value": [value]}))
    print(value, flush=True)
"""


def start(folder, writer):
    return subprocess.Popen([sys.executable, "-c", WRITER, folder, str(writer)], stdout=subprocess.PIPE, text=True)


def test_kill_9_loses_nothing_acknowledged(tmp_path):
    """Two processes append, and are killed at arbitrary moments, among them those of a merge; what they printed is there."""
    folder = str(tmp_path / "table")
    acknowledged = {}
    for round_ in range(2):
        writers = {2 * round_ + at: start(folder, 2 * round_ + at) for at in range(2)}
        for writer in writers.values():
            for _ in range(40):  # both have begun, and merges have happened
                assert writer.stdout.readline()
        time.sleep(0.013 * round_)
        for number, writer in writers.items():
            os.kill(writer.pid, signal.SIGKILL)
            acknowledged[number] = 40 + len(writer.stdout.read().splitlines())
            writer.wait()
    rows = DurableTable(folder, {"writer": pl.Int64, "value": pl.Int64}).read()
    assert rows["append"].is_sorted()
    for number, count in acknowledged.items():
        values = rows.filter(pl.col("writer") == number)["value"].to_list()
        assert values == list(range(len(values)))
        assert count <= len(values) <= count + 1, "at most the append that was not acknowledged is there as well"
    assert len(list((tmp_path / "table").glob("*.parquet"))) < len(rows) / 2


def test_a_torn_last_piece_is_set_aside_with_a_warning(tmp_path, caplog):
    table = DurableTable(tmp_path, {"value": pl.Int64})
    for value in range(3):
        table.append(pl.DataFrame({"value": [value]}))
    last = max(tmp_path.glob("*.parquet"))
    last.write_bytes(last.read_bytes()[:-9])
    assert table.read()["value"].to_list() == [0, 1]
    assert "torn" in caplog.text
    assert last.exists()
    caplog.clear()
    again = DurableTable(tmp_path, {"value": pl.Int64})
    assert "torn" in caplog.text
    assert [file.name for file in (tmp_path / "aside").iterdir()] == [last.name]
    again.append(pl.DataFrame({"value": [7]}))
    assert again.read()["value"].to_list() == [0, 1, 7]


def test_an_unfinished_piece_is_set_aside_with_a_warning(tmp_path, caplog):
    table = DurableTable(tmp_path, {"value": pl.Int64})
    table.append(pl.DataFrame({"value": [1]}))
    (tmp_path / ".000000002-000000002-00000000.parquet.partial").write_bytes(b"half of")
    assert DurableTable(tmp_path, {"value": pl.Int64}).read()["value"].to_list() == [1]
    assert "not acknowledged" in caplog.text
    assert [file.read_bytes() for file in (tmp_path / "aside").iterdir()] == [b"half of"]


def test_damage_elsewhere_is_an_error(tmp_path):
    table = DurableTable(tmp_path, {"value": pl.Int64})
    for value in range(3):
        table.append(pl.DataFrame({"value": [value]}))
    first = min(tmp_path.glob("*.parquet"))
    data = bytearray(first.read_bytes())
    data[10] ^= 1
    first.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"damaged.*appends 1 to 1"):
        table.read()


def test_many_appends_become_few_files_and_a_merge_killed_half_way_counts_once(tmp_path):
    table = DurableTable(tmp_path, {"value": pl.Int64})
    for value in range(63):
        table.append(pl.DataFrame({"value": [value]}))
    before = {file.name: file.read_bytes() for file in tmp_path.glob("*.parquet")}
    table.append(pl.DataFrame({"value": [63]}))
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    for name, data in before.items():  # as if it had been killed before removing what it merged
        (tmp_path / name).write_bytes(data)
    assert table.read()["value"].to_list() == list(range(64))
    assert DurableTable(tmp_path, {"value": pl.Int64}).append(pl.DataFrame({"value": [64]})) == 65
    assert len(list(tmp_path.glob("*.parquet"))) == 2


def test_a_full_disk_keeps_nothing_of_the_append(tmp_path, monkeypatch):
    table = DurableTable(tmp_path, {"value": pl.Int64})
    table.append(pl.DataFrame({"value": [0]}))

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="disk is full"):
            table.append(pl.DataFrame({"value": [1]}))
    table.append(pl.DataFrame({"value": [2]}))
    assert table.read()["value"].to_list() == [0, 2]


def log_of_three(folder):
    log = FeedbackLog(folder, num_arms=4, context_size=2)
    log.append(
        [[2, 1], [0, -1]],
        [[0.25, 0.5], [1.0, np.nan]],
        requests_B=[10, 11],
        users_B=[0, 1],
        contexts_BF=[[0.0, 1.0], [1.0, 0.0]],
        times_B=[100, 110],
        joint_B=[0.125, 1.0],
    )
    log.append(
        [[3, 0]],
        [[0.1, 0.2]],
        requests_B=[12],
        users_B=[0],
        contexts_BF=[[2.0, 2.0]],
        times_B=[120],
        joint_B=[0.02],
        draws=50,
    )
    return log


def test_delayed_rewards_join_their_decisions(tmp_path):
    log = log_of_three(tmp_path / "log")
    log.reward([12, 10], [0, 2], [1.0, 0.0], [500, 510])
    for found in (log.feedback(), FeedbackLog(tmp_path / "log").feedback()):
        np.testing.assert_array_equal(found.arms_RK, [[2, 1], [0, -1], [3, 0]])
        np.testing.assert_array_equal(found.rewards_RK, [[0, np.nan], [np.nan, np.nan], [np.nan, 1]])
        np.testing.assert_array_equal(found.propensities_RK, [[0.25, 0.5], [1, np.nan], [0.1, 0.2]])
        np.testing.assert_array_equal(found.joint_R, [0.125, 1, 0.02])
        np.testing.assert_array_equal(found.contexts_RF, [[0, 1], [1, 0], [2, 2]])
        np.testing.assert_array_equal(found.times_R, [100, 110, 120])
        np.testing.assert_array_equal(found.users_R, [0, 1, 0])
        assert (found.num_arms, found.draws) == (4, 50)


def test_every_reward_is_handed_out_once(tmp_path):
    log = log_of_three(tmp_path / "log")
    nothing, position = log.since(0)
    assert len(nothing) == 0
    log.reward([10], [2], [1.0])
    one, position = log.since(position)
    np.testing.assert_array_equal(one.rewards_RK, [[1, np.nan]])
    log.reward([10, 11], [1, 0], [0.0, 1.0])
    two, position = FeedbackLog(tmp_path / "log").since(position)  # another process goes on
    np.testing.assert_array_equal(two.arms_RK, [[2, 1], [0, -1]])
    np.testing.assert_array_equal(two.rewards_RK, [[np.nan, 0], [1, np.nan]])
    assert len(log.since(position)[0]) == 0


def test_repeats_after_a_failure_count_once_and_strangers_are_reported(tmp_path, caplog):
    log = log_of_three(tmp_path / "log")
    log.append([[1]], [[0.5]], requests_B=[11], contexts_BF=[[9.0, 9.0]])
    log.reward([10, 10, 99, 10], [2, 2, 0, 3], [1.0, 0.0, 1.0, 1.0])
    found = log.feedback()
    np.testing.assert_array_equal(found.arms_RK[1], [0, -1])
    assert found.rewards_RK[0, 0] == 1
    for part in (
        "decisions that repeat the request of an earlier one, 1 in number",
        "rewards that repeat the arm and request of an earlier one, 1 in number",
        "rewards of an arm that was not shown in that request, 2 in number",
    ):
        assert part in caplog.text
    _, position = log.since(0)
    caplog.clear()
    log.since(position)
    assert "rewards" not in caplog.text, "what was reported is not reported again"


def test_no_click_becomes_zero_when_it_is_settled(tmp_path):
    log = log_of_three(tmp_path / "log")
    log.reward([10], [2], [1.0])
    assert log.settle(before=115) == 2
    log.reward([11], [0], [1.0])  # too late
    np.testing.assert_array_equal(log.feedback().rewards_RK, [[1, 0], [0, np.nan], [np.nan, np.nan]])


def test_read_back_as_interactions(tmp_path):
    log = log_of_three(tmp_path / "log")
    log.reward([10, 10, 12], [2, 1, 3], [2.0, 0.0, 1.0], [150, 150, 160])
    found = log.interactions(num_users=3)
    assert list(zip(found.users_N, found.items_N, found.weights_N, found.times_N, strict=True)) == [
        (0, 2, 2.0, 150),
        (0, 3, 1.0, 160),
    ]
    assert (found.num_users, found.num_items) == (3, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"propensities_BK": [[0.0]]}, r"propensities must be above 0 .* got 0.0 in row 0"),
        ({"propensities_BK": [[1.5]]}, "at most 1"),
        ({"propensities_BK": [[np.nan]]}, "got nan"),
        ({"arms_BK": [[4]]}, r"arms must be in \[0, 4\)"),
        ({"contexts_BF": [[1.0]]}, "must have the 2 numbers of this log, got 1"),
        ({"contexts_BF": None}, "must have the 2 numbers of this log, got none"),
        ({"contexts_BF": [[np.inf, 0.0]]}, "contexts must be finite"),
        ({"requests_B": [1.5]}, "requests must be 1 integers"),
        ({"requests_B": [1, 2]}, "requests must be 1 integers"),
    ],
)
def test_bad_decisions_are_not_written(tmp_path, change, message):
    log = FeedbackLog(tmp_path / "log", num_arms=4, context_size=2)
    given = {"arms_BK": [[1]], "propensities_BK": [[0.5]], "requests_B": [1], "contexts_BF": [[0.0, 0.0]]} | change
    with pytest.raises(ValueError, match=message):
        log.append(**given)
    with pytest.raises(ValueError, match="has no decision yet"):
        log.feedback()


def test_bad_rewards_and_repeated_requests(tmp_path):
    log = FeedbackLog(tmp_path / "log", num_arms=4)
    with pytest.raises(ValueError, match="rewards must be finite"):
        log.reward([1], [1], [np.nan])
    with pytest.raises(ValueError, match=r"arms must be in \[0, 4\), got 4"):
        log.reward([1], [4], [1.0])
    with pytest.raises(ValueError, match="arms must be 1 integers"):
        log.reward([1], [1, 2], [1.0])
    with pytest.raises(ValueError, match="got 3 more than once"):
        log.append([[1], [2]], [[0.5], [0.5]], requests_B=[3, 3])


def test_another_log_is_not_opened_as_this_one(tmp_path):
    items = Vocabulary(["a", "b"], noun="item")
    FeedbackLog(tmp_path / "log", items=items, context_size=1)
    assert FeedbackLog(tmp_path / "log").num_arms == 2
    assert FeedbackLog(tmp_path / "log", items=items.grow(["c"])).num_arms == 3
    for given, message in (
        ({"num_arms": 2}, "a log over 3 arms, got num_arms=2"),
        ({"context_size": 2}, "contexts of 1 numbers, got context_size=2"),
        ({"items": Vocabulary(["b", "a", "c"])}, "other items, or in another order"),
    ):
        with pytest.raises(ValueError, match=message):
            FeedbackLog(tmp_path / "log", **given)
    with pytest.raises(ValueError, match="give its number of arms"):
        FeedbackLog(tmp_path / "new")
    (tmp_path / "else").mkdir()
    (tmp_path / "else/notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"has no log.json"):
        FeedbackLog(tmp_path / "else", num_arms=1)


def test_new_feedback_is_found_without_reading_older_pieces(tmp_path):
    table = DurableTable(tmp_path, {"request": pl.Int64})
    for at in range(3):
        table.append(pl.DataFrame({"request": [at]}))
    (first,) = tmp_path.glob("000000001-*.parquet")
    first.write_bytes(b"damaged")
    again = DurableTable(tmp_path, table.schema)
    assert again.read(after=1)["request"].to_list() == [1, 2]
    with pytest.raises(ValueError, match="damaged"):
        again.read()


def test_rows_are_found_by_value_before_and_after_pieces_are_merged(tmp_path):
    table = DurableTable(tmp_path, {"request": pl.Int64})
    for at in range(MERGED + 6):
        table.append(pl.DataFrame({"request": [at, at + 1]}))
    found = table.find("request", pl.Series([3, 68, 500]), through=69)
    assert found["request"].to_list() == [3, 3, 68, 68]
    assert found["append"].to_list() == [3, 4, 68, 69]
    assert not len(table.find("request", pl.Series([], dtype=pl.Int64)))


@pytest.mark.parametrize("seed", range(3))
def test_feedback_in_parts_is_that_of_the_whole_log(tmp_path, seed):
    rng = np.random.default_rng(seed)
    log, parts, position = FeedbackLog(tmp_path, num_arms=4), [], 0
    for step in range(30):
        arms = np.stack([rng.permutation(4)[:2] for _ in range(3)])
        log.append(arms, np.full((3, 2), 0.5), requests_B=3 * step + np.arange(3), times_B=[step] * 3)
        rewarded = rng.integers(0, 3 * step + 3, 2)  # some twice, some of arms that were not shown
        log.reward(rewarded, rng.integers(0, 4, 2), rng.random(2))
        if step % 4 == 3:
            log.settle(before=step - 5)
        part, position = log.since(position)
        parts.append(part)
    whole = log.feedback()
    sums, counts = np.zeros(4), np.zeros(4)
    for part in parts:
        known = np.isfinite(part.rewards_RK)
        sums += np.bincount(part.arms_RK[known], part.rewards_RK[known], 4)
        counts += np.bincount(part.arms_RK[known], minlength=4)
    known = np.isfinite(whole.rewards_RK)
    np.testing.assert_allclose(sums, np.bincount(whole.arms_RK[known], whole.rewards_RK[known], 4))
    np.testing.assert_array_equal(counts, np.bincount(whole.arms_RK[known], minlength=4))
    settled = whole.times_R < 26 - 5
    assert known[settled].all()
    assert not known[~settled].all()


@pytest.mark.parametrize(("unit", "word"), [(1_000, "milliseconds"), (1_000_000_000, "nanoseconds")])
def test_times_in_another_unit_than_seconds_are_refused(tmp_path, unit, word):
    log = FeedbackLog(tmp_path / "log", num_arms=3)
    now = 1_700_000_000
    refused = f"seconds since 1970, got {now * unit} in row 0.*{word}"
    with pytest.raises(ValueError, match=refused):
        log.append([[1]], [[1.0]], requests_B=[1], times_B=[now * unit])
    log.append([[1]], [[1.0]], requests_B=[1], times_B=[now])
    with pytest.raises(ValueError, match=refused):
        log.reward([1], [1], [1.0], [now * unit])
    with pytest.raises(ValueError, match=refused):
        log.settle(before=now * unit)
    assert np.isnan(log.feedback().rewards_RK).all()  # nothing was settled
    with pytest.raises(ValueError, match=refused):
        BanditFeedback([[0]], [[1.0]], None, 3, times_R=[now * unit])
    assert log.settle(before=now + 1) == 1


def test_a_list_of_ids_is_no_vocabulary(tmp_path):
    with pytest.raises(ValueError, match="items must be a Vocabulary of 2, got list of 2"):
        FeedbackLog(tmp_path / "log", items=["a", "b"])
    assert not list(tmp_path.iterdir())
