"""A study of trials, without models: who claims which, what is proposed, and what a death in mid-trial leaves."""

import json
import math
import threading

import pytest

optuna = pytest.importorskip("optuna")

from recsys_dl.sweeps.samplers import SAMPLERS  # noqa: E402
from recsys_dl.sweeps.space import Choices, Interval, grid, probes, read_space  # noqa: E402
from recsys_dl.sweeps.study import ATTEMPTS, Plan, Study  # noqa: E402

optuna.logging.set_verbosity(optuna.logging.ERROR)
SPACE = {"a": Interval(0.0, 1.0), "b": Interval(1, 9, step=1), "c": Choices(("x", None, [1, 2]))}
GRID = {"a": Choices((0.25, 0.5)), "b": Interval(1, 3, step=1), "c": Choices(("x", None))}


def study(folder, sampler="random", trials=14, metrics=("ndcg@10",), space=None, **identity):
    plan = Plan(space or (GRID if sampler == "grid" else SPACE), list(metrics), sampler, None, 7, trials, 1)
    return Study(folder, plan, {"words": ["model=als"], **identity})


def value(settings):
    return -((settings["a"] - 0.3) ** 2) - (settings["b"] - 4) ** 2 / 100 + (settings["c"] is None) / 10


def run(claim):
    return {"ndcg@10": value(claim.settings), "gini@10": claim.settings["a"]}


def trials(one):
    return [(found.number, found.settings, found.state, dict(found.values)) for found in one.records(str)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_study_killed_in_mid_trial_proposes_what_an_uninterrupted_one_does(tmp_path, sampler):
    whole = study(tmp_path / "whole", sampler)
    whole.work(run)
    began = []

    def killed(claim):
        began.append(claim.trial.number)
        if len(began) in (3, 11, 13):
            raise KeyboardInterrupt  # as far as the study can tell
        return run(claim)

    for _ in range(4):
        try:
            study(tmp_path / "parts", sampler).work(killed)
        except KeyboardInterrupt:
            continue
    assert trials(study(tmp_path / "parts", sampler)) == trials(whole)
    count = min(14, len(grid(GRID))) if sampler == "grid" else 14
    assert sorted({*began}) == list(range(count))
    assert len(began) == count + 3  # only what was interrupted began again


def test_the_grid_is_every_combination_in_order(tmp_path):
    one = study(tmp_path / "grid", "grid", trials=100)
    one.work(run)
    assert [found.settings for found in one.records(str)] == [
        {"a": a, "b": b, "c": c} for a in (0.25, 0.5) for b in (1, 2, 3) for c in ("x", None)
    ]


def test_workers_share_a_study_without_duplicates(tmp_path):
    study(tmp_path / "one", "grid", trials=12)
    ran, problems = [], []

    def slow(claim):
        ran.append(claim.trial.number)
        return run(claim)

    def work():
        try:
            study(tmp_path / "one", "grid", trials=12).work(slow)
        except Exception as error:
            problems.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    [one.start() for one in workers]
    [one.join() for one in workers]
    assert problems == []
    assert sorted(ran) == list(range(12))


def test_a_failed_trial_has_its_reason_and_the_study_goes_on(tmp_path):
    def fails(claim):
        if claim.trial.number == 1:
            raise MemoryError("an array is too large")
        if claim.trial.number == 2:
            return {"ndcg@10": math.nan}
        if claim.trial.number == 3:
            raise TypeError("a bug")
        return run(claim)

    one = study(tmp_path / "s", trials=5)
    one.work(fails)
    found = one.records(lambda settings: f"recsys-dl train a={settings['a']}")
    assert [record.state for record in found] == ["finished", "failed", "failed", "failed", "finished"]
    assert found[1].reason == "an array is too large"
    assert "ndcg@10 is nan" in found[2].reason
    assert found[3].reason == "TypeError: a bug"
    assert found[1].command == f"recsys-dl train a={found[1].settings['a']}"


def test_a_study_whose_first_trials_all_fail_stops(tmp_path):
    one = study(tmp_path / "s")

    def fails(claim):
        raise ValueError("it diverged")

    with pytest.raises(ValueError, match="the first 3 trials all failed, so the study stops. The last: it diverged"):
        one.work(fails)
    assert len(one.records(str)) == 3


def test_a_metric_that_no_trial_reports_stops_the_study(tmp_path):
    with pytest.raises(
        ValueError, match="no trial reports metric=rmse; this model on this data reports gini@10, ndcg@10"
    ):
        study(tmp_path / "s", metrics=["rmse"]).work(run)


def test_a_trial_whose_process_dies_again_and_again_fails(tmp_path):
    def dies(claim):
        if claim.trial.number == 0:
            raise KeyboardInterrupt
        return run(claim)

    for _ in range(ATTEMPTS):
        with pytest.raises(KeyboardInterrupt):
            study(tmp_path / "s", trials=2).work(dies)
    one = study(tmp_path / "s", trials=2)
    one.work(dies)
    assert [record.state for record in one.records(str)] == ["failed", "finished"]
    assert "was killed 3 times" in one.records(str)[0].reason


def test_an_error_of_the_disk_ends_the_work_and_loses_no_trial(tmp_path):
    full = iter([False, True, False, False])

    def writes(claim):
        if next(full):
            raise OSError("the disk is full")
        return run(claim)

    one = study(tmp_path / "s", trials=3)
    with pytest.raises(OSError, match="the disk is full"):
        one.work(writes)
    assert [record.state for record in one.records(str)] == ["finished", "running"]
    study(tmp_path / "s", trials=3).work(writes)
    assert [record.state for record in one.records(str)] == ["finished"] * 3


@pytest.mark.parametrize("lost", ["study.json", "study.db"])
@pytest.mark.parametrize(
    ("identity", "told"),
    [
        ({"data": {"hash": "new"}}, "data of hash was old, is new"),
        ({"data": {"hash": "old"}, "code": {"commit": "b"}}, "code was not there, is {commit: b}"),
        ({"data": {"hash": "old"}, "words": ["model=bpr"]}, r"words was \[model=als\], is \[model=bpr\]"),
    ],
)
def test_another_study_in_the_same_place_is_refused(tmp_path, identity, told, lost):
    study(tmp_path / "s", trials=1, data={"hash": "old"}).work(run)
    (tmp_path / "s" / lost).unlink()  # either is enough
    with pytest.raises(ValueError, match=told):
        study(tmp_path / "s", **identity)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="holds something else than a study"):
        study(tmp_path / "s")
    with pytest.raises(ValueError, match="is a file"):
        study(tmp_path / "s" / "thesis.tex")


def test_a_damaged_storage_is_refused(tmp_path):
    study(tmp_path / "s")
    (tmp_path / "s" / "study.db").write_bytes(b"not a database, but long enough to look like one" * 9)
    with pytest.raises(ValueError, match="cannot be opened .*file is not a database"):
        study(tmp_path / "s")


def test_a_journal_is_a_storage(tmp_path):
    plan = Plan(GRID, ["ndcg@10"], "grid", None, 7, 4, 1)
    for trials in (2, 4):
        one = Study(tmp_path / "s", Plan(GRID, ["ndcg@10"], "grid", None, 7, trials, 1), {}, f"{tmp_path}/study.log")
        one.work(run)
    assert [record.number for record in one.records(str)] == [0, 1, 2, 3]
    assert json.loads((tmp_path / "s" / "study.json").read_text()) == {}
    assert plan.trials == 4


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"x": 3}, "must be a list of choices or {low: …, high: …}, got 3"),
        ({"x": [1]}, "at least two choices, all different"),
        ({"x": [1, 1]}, "at least two choices, all different"),
        ({"x": {"low": 1}}, "has no high"),
        ({"x": {"low": 1, "hihg": 2}}, r"not 'hihg' \(did you mean 'high'\?\)"),
        ({"x": {"low": 3, "high": 2}}, "low must be below high"),
        ({"x": {"low": 0, "high": 2, "log": True}}, "with log: true, low must be above 0"),
        ({"x": {"low": 0, "high": 2, "log": "yes"}}, "log must be true or false"),
        ({"x": {"low": 0, "high": "1e-3x"}}, "high must be a number"),
        ({"x": {"low": 0, "high": math.inf}}, "high must be a number"),
        ({"x": {"low": 0, "high": 2, "step": 3}}, "step must be above 0 and at most"),
        ({"x": {"low": 1, "high": 8, "step": 2, "log": True}}, "log and step exclude each other"),
    ],
)
def test_a_range_that_is_none(given, told):
    with pytest.raises(ValueError, match=told):
        read_space(given, {"x": 1})


def test_whole_numbers_where_the_setting_is_one():
    given = {"x": {"low": 1.0, "high": 8.0}}  # as Hydra reads interval(1,8)
    assert read_space(given, {"x": 4})["x"] == Interval(1, 8, step=1)
    assert read_space(given, {"x": 4.0})["x"] == Interval(1.0, 8.0)
    assert read_space({"x": {"low": 0.1, "high": 1}}, {"x": 4})["x"] == Interval(0.1, 1.0)


def test_probes_hold_every_choice_and_both_ends():
    found = list(probes(SPACE))
    assert {one["a"] for one in found} == {0.0, 1.0}
    assert {one["b"] for one in found} == {1, 9}
    assert [one["c"] for one in found] == ["x", None, [1, 2]]
