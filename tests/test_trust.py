"""Hostile folders: a run, a model, a pipeline of someone else's is read without running what it names."""

import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from recsys_dl import load_run, read_log
from recsys_dl.cli import main
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.models import ItemKNN, Popularity
from recsys_dl.pipeline import Pipeline
from recsys_dl.rankers.features import CandidateFeatures
from recsys_dl.retrieval import Exact, load_index
from recsys_dl.trust import check_config


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    """A run that `recsys-dl train` left."""
    folder = tmp_path_factory.mktemp("honest")
    rng = np.random.default_rng(0)
    rows = [f"{u},{i},{t}" for u in range(30) for t, i in enumerate(rng.choice(20, 6, replace=False))]
    (folder / "log.csv").write_text("user,item,time\n" + "\n".join(rows) + "\n")
    words = ["data=log", f"data.path={folder / 'log.csv'}", "model=popularity", f"run={folder / 'run'}", "threads=1"]
    assert main(["train", *words]) == 0
    return folder / "run"


@pytest.fixture
def folder(honest, tmp_path) -> Path:
    """A copy of it, to be tampered with."""
    return Path(shutil.copytree(honest, tmp_path / "run"))


def tamper(file: Path, key: str, value: object) -> None:
    """Put a value at a dotted key of a YAML file."""
    config = yaml.safe_load(file.read_text())
    node = config
    *path, last = key.split(".")
    for name in path:
        if not isinstance(node.get(name), dict):
            node[name] = {}
        node = node[name]
    node[last] = value
    file.write_text(yaml.safe_dump(config))


WRITES = {"_target_": "pathlib.Path.write_text", "_args_": [{"_target_": "pathlib.Path", "_args_": ["{trace}"]}, "x"]}
TARGETS = [
    "pathlib.Path.write_text",
    "os.system",
    "builtins.eval",
    "subprocess.run",
    "hydra.utils.get_method",
    "hydra.utils.instantiate",
    "recsys_dl.folders.os.system",
    "recsys_dl.folders.shutil.rmtree",
    "recsys_dl.folders.new_folder",
    "recsys_dl.readers.download.download",
    "recsys_dl.models.als.np.save",
    "recsys_dl.saving.load_saved",
    "recsys_dl.models.als.ALS.load",
    "recsys_dl.verbs.train.train",
    "recsys_dl.cli.main",
    "torch.load",
    "recsys_dl",
    "",
    None,
    ["os.system"],
]
PLACES = ["data", "weights", "filter", "split", "model", "pipeline", "trainer", "logger", "model.optimizer", "evaluate"]


def test_a_run_builds_only_what_belongs_in_its_place(folder):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    check_config(config, "config.yaml")
    for place in PLACES:
        for target in TARGETS:
            tamper(folder / "config.yaml", place, {"_target_": target, "_partial_": True})
            with pytest.raises(ValueError, match="may not be run from a folder"):
                check_config(yaml.safe_load((folder / "config.yaml").read_text()), "config.yaml")
            (folder / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("verb", ["evaluate", "reproduce", "index", "recommend", "export"])
def test_no_verb_runs_what_a_folder_names(folder, verb, tmp_path, capsys):
    trace = tmp_path / "trace"
    hostile = yaml.safe_load(yaml.safe_dump(WRITES).replace("{trace}", str(trace)))
    more = {"recommend": ["users=[1]"], "index": [f"output={tmp_path / 'report'}"]}.get(verb, [])
    for place in ("data", "split", "logger"):
        tamper(folder / "config.yaml", place, hostile)
        assert main([verb, f"run={folder}", *more]) == 1
        assert "may not be run from a folder" in capsys.readouterr().err
    assert not trace.exists()


def test_targets_of_another_place_nested_or_in_lists_are_refused(folder):
    for key, value in (
        ("data", {"_target_": "recsys_dl.models.als.ALS"}),
        ("split", {"_target_": "recsys_dl.readers.sources.movielens"}),
        ("data.more", [{"deep": [{"_target_": "os.system"}]}]),
        ("seed", {"_target_": "os.getpid"}),
    ):
        again = yaml.safe_load((folder / "config.yaml").read_text())
        tamper(folder / "config.yaml", key, value)
        with pytest.raises(ValueError, match="may not be run from a folder"):
            load_run(folder)
        (folder / "config.yaml").write_text(yaml.safe_dump(again))
    load_run(folder)


@pytest.mark.parametrize(
    "value", ["${oc.env:HOME}", "${oc.decode:${oc.env:HOME}}", "x ${hydra:runtime.cwd}", "${seed}"]
)
def test_a_run_reads_no_variables(folder, value):
    tamper(folder / "config.yaml", "data.path", value)
    with pytest.raises(ValueError, match="plain values, but data.path is the interpolation"):
        load_run(folder)


def test_yaml_tags_build_nothing(folder, tmp_path):
    trace = tmp_path / "trace"
    for file in (folder / "config.yaml", folder / "model" / "config.yaml"):
        text = file.read_text()
        file.write_text(f"x: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{trace}]]\n")
        with pytest.raises(ValueError, match="is damaged"):
            load_run(folder)
        file.write_text(text)
    assert not trace.exists()


def test_links_out_of_the_folder_are_refused(folder, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("metrics.partial", "per_user/test.partial", "model/more"):
        (folder / name).symlink_to(victim)
        with pytest.raises(ValueError, match="is a link that leads out of the folder"):
            load_run(folder)
        (folder / name).unlink()
    (folder / "attribution").symlink_to(tmp_path)
    assert main(["evaluate", f"run={folder}"]) == 1
    (folder / "attribution").unlink()
    (folder / "inner").symlink_to("metrics.json")
    load_run(folder)
    assert victim.read_text() == "mine"


OTHERS = [
    "os.system",
    "pathlib.Path",
    "recsys_dl.models.als.np.ndarray",
    "recsys_dl.models.als.CatalogModel",
    "",
    None,
]


@pytest.mark.parametrize("name", [*OTHERS, "thing.Model"], ids=str)
def test_a_saved_part_is_of_a_class_of_ours(name, tmp_path, monkeypatch):
    """Also when a module of that name could be imported: importing it would run it."""
    (tmp_path / "thing.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\nclass Model: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    log = read_log(pl.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"]}))
    fitted = ItemKNN().fit(log)
    fitted.save(tmp_path / "model")
    Pipeline({"popularity": Popularity()}).fit(log).save(tmp_path / "pipeline")
    Exact().build(np.eye(3, dtype=np.float32)).save(tmp_path / "index")
    for place, load in (
        ("model", CatalogModel.load),
        ("pipeline", Pipeline.load),
        ("index", load_index),
        ("pipeline/retrievers/popularity", lambda _: Pipeline.load(tmp_path / "pipeline")),
    ):
        config = (tmp_path / place / "config.yaml").read_text()
        tamper(tmp_path / place / "config.yaml", "class", name)
        with pytest.raises(ValueError, match=r"may not be run from a folder|which is no|cannot be imported"):
            load(tmp_path / place)
        (tmp_path / place / "config.yaml").write_text(config)
    assert not (tmp_path / "trace").exists()
    with pytest.raises(ValueError, match=r"may not be run|which is no|cannot be imported"):
        CandidateFeatures([{"_target_": name}])


def test_a_file_outside_is_not_one_of_the_folder(tmp_path):
    fitted = Popularity().fit(read_log(pl.DataFrame({"user": ["a"], "item": ["x"]})))
    fitted.save(tmp_path / "model")
    tamper(tmp_path / "model" / "config.yaml", "sha256", {"../other": "0"})
    with pytest.raises(ValueError, match="outside of its folder"):
        Popularity.load(tmp_path / "model")


def test_classes_of_the_callers_own_are_read(folder, tmp_path, monkeypatch):
    (tmp_path / "ownmodel.py").write_text("from recsys_dl.models import Popularity\nclass Mine(Popularity): pass\n")
    (tmp_path / "ownreader.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    tamper(folder / "model" / "config.yaml", "class", "ownmodel.Mine")
    with pytest.raises(ValueError, match="RECSYS_DL_TRUST=ownmodel"):
        load_run(folder)
    monkeypatch.setenv("RECSYS_DL_TRUST", "ownreader, ownmodel")
    assert type(load_run(folder).model).__name__ == "Mine"
    tamper(folder / "config.yaml", "data._target_", "ownreader.read")
    load_run(folder)
    monkeypatch.delenv("RECSYS_DL_TRUST")
    tamper(folder / "config.yaml", "data._target_", "recsys_dl.readers.log.read_log")
    assert "ownmodel" in sys.modules, "imported by the caller: named"
    load_run(folder)
