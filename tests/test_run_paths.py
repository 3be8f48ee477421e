"""A run is read back from another folder, and on another machine: every file that its config names is found, or both places are named."""

import shutil

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf
from processes import command as run
from test_command import write_log

from recsys_dl.models import Popularity
from recsys_dl.runs import load_evaluation, load_run
from recsys_dl.verbs.paths import absolute_paths, find_paths


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run whose config names a log of two files, features of items, and a file of rules."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "logs").mkdir()
    lines = write_log(folder / "log.csv").read_text().splitlines(keepends=True)
    (folder / "logs" / "a.csv").write_text("".join(lines[:300]))
    (folder / "logs" / "b.csv").write_text(lines[0] + "".join(lines[300:]))
    genres = np.array(["Drama", "Comedy"])[np.arange(30) % 2]
    items = "".join(f"{item},{genre}\n" for item, genre in enumerate(genres))
    (folder / "items.csv").write_text("item_id,genres\n" + items)
    words = ["data=log", "data.path=logs/*.csv", "data.item_features=items.csv", "model=popularity", "run=runs/one"]
    run("train", *words, cwd=folder)
    return folder


def test_paths_are_kept_as_given_and_as_they_were(home):
    config = yaml.safe_load((home / "runs/one/config.yaml").read_text())
    assert config["data"]["path"] == "logs/*.csv"
    assert config["data"]["item_features"] == "items.csv"
    paths = yaml.safe_load((home / "runs/one/manifest.json").read_text())["paths"]
    assert paths == {"data.path": str(home / "logs/*.csv"), "data.item_features": str(home / "items.csv")}


@pytest.mark.parametrize("verb", ["evaluate", "reproduce", "refit"])
def test_a_run_is_read_from_another_folder(home, tmp_path, verb):
    done = run(verb, f"run={home / 'runs/one'}", cwd=tmp_path)
    assert f"data.path=logs/*.csv is read from {home / 'logs'}" in done.stderr


def test_a_run_is_read_on_another_machine(home, tmp_path):
    there = shutil.copytree(home, tmp_path / "there")
    away = home.rename(home.with_name("away"))
    try:
        done = run("evaluate", "run=runs/one", cwd=there)
        assert f"is read from {there / 'logs'}" in done.stderr
        lost = run("evaluate", f"run={there / 'runs/one'}", cwd=tmp_path, status=1)
        assert str(home / "logs") in lost.stderr
        assert str(tmp_path / "logs") in lost.stderr
    finally:
        away.rename(home)


def test_every_setting_that_names_a_file_counts(tmp_path, monkeypatch):
    config = OmegaConf.create(
        {
            "data": {"path": ["a.csv", "b.csv"], "user_features": "users.csv", "name": "a.csv"},
            "model": {"gmf": "runs/gmf", "mlp": None, "solver": "cg"},
            "pipeline": {"rerankers": {"rules": {"rules": ["shop.yaml", {"rule": "deny"}]}}},
        }
    )
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "b.csv", "users.csv", "runs/gmf", "shop.yaml", "cg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    known = absolute_paths(config)
    assert set(known) == {
        "data.path[0]",
        "data.path[1]",
        "data.user_features",
        "model.gmf",
        "pipeline.rerankers.rules.rules[0]",
    }
    plain = OmegaConf.to_container(config)
    assert find_paths(plain, known) == config  # the same folder: as they were given
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = find_paths(plain, known)
    assert found.data.path == [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    assert found.model.gmf == str(tmp_path / "runs/gmf")
    assert found.model.solver == "cg"
    assert found.pipeline.rerankers.rules.rules[0] == str(tmp_path / "shop.yaml")


def test_what_is_mistaken_for_a_run_is_named(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(home / "runs", "runs")
    run("refit", "run=runs/one", cwd=home)
    run("export", "run=runs/one", f"output={tmp_path / 'served'}", cwd=home)
    for name, file in (("swept", "sweep.json"), ("studied", "study.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    for folder, said in (
        (
            "runs/one/model",
            "runs/one/model must hold a run of `recsys-dl train`, but is the model of one: name the run, runs/one",
        ),
        ("served", "but is an export: name the run that was exported"),
        ("swept", "but is a sweep: name the run of a trial, swept/trials/000/run"),
        ("studied", "but is a study: name the run of a trial, studied/trials/000/run"),
        (".", "but has no config.yaml"),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            load_run(folder)
        assert said in str(caught.value)
        assert "runs in . are: served" not in str(caught.value)
    with pytest.raises(
        ValueError, match="runs/one must hold a saved model, but holds a run: its model is in runs/one/model"
    ):
        Popularity.load("runs/one")
    with pytest.raises(ValueError, match="has no figures, since it was fitted on all of its log"):
        load_evaluation(home / "runs/one-refit", "test")
