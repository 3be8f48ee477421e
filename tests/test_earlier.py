"""Folders that earlier versions wrote are read in the names of this one."""

import hashlib
import re

import numpy as np
import polars as pl
import pytest
import yaml

from recsys_dl import Interactions, load_run
from recsys_dl.cli import main
from recsys_dl.models import ItemKNN, RP3beta
from recsys_dl.pipeline import Pipeline
from recsys_dl.rankers.columns import ItemPopularity
from recsys_dl.rankers.features import CandidateFeatures
from recsys_dl.saving import load_arrays, save_arrays


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def log(tmp_path, rng):
    frame = pl.DataFrame({"user": rng.integers(0, 40, 900), "item": rng.integers(0, 30, 900), "time": np.arange(900)})
    frame.write_csv(tmp_path / "log.csv")
    return tmp_path / "log.csv"


def test_a_run_whose_reader_lay_in_another_room(log, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "model=item_knn", "data=log", f"data.path={log}", f"run={run}"]) == 0
    text = (run / "config.yaml").read_text()
    assert "recsys_dl.readers.log.read_log" in text
    (run / "config.yaml").write_text(text.replace("recsys_dl.readers.log.read_log", "recsys_dl.data.readers.read_log"))
    assert load_run(run).config["data"]["_target_"] == "recsys_dl.readers.log.read_log"
    assert main(["evaluate", f"run={run}"]) == 0
    assert main(["reproduce", str(run)]) == 0


@pytest.mark.parametrize(("model", "array"), [(ItemKNN(), "neighbors_RR"), (RP3beta(), "neighbors_II")])
def test_a_model_whose_arrays_were_spelled_otherwise(model, array, tmp_path, rng):
    train = Interactions(rng.integers(0, 40, 900), rng.integers(0, 30, 900), num_users=40, num_items=30)
    model.fit(train).save(tmp_path / "model")
    file = tmp_path / "model" / "arrays.npz"
    arrays = load_arrays(file)
    arrays[array.replace("neighbors", "neighbours")] = arrays.pop(array)
    save_arrays(file, arrays)
    config = (tmp_path / "model" / "config.yaml").read_text()
    new = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "model" / "config.yaml").write_text(re.sub(r"arrays\.npz: \w+", f"arrays.npz: {new}", config))
    again = type(model).load(tmp_path / "model")
    assert (again.recommend([0, 1], k=5).items_BK == model.recommend([0, 1], k=5).items_BK).all()


def test_a_pipeline_whose_training_examples_were_called_lessons(tmp_path, rng):
    train = Interactions(rng.integers(0, 40, 900), rng.integers(0, 30, 900), num_users=40, num_items=30)
    pipeline = Pipeline({"knn": ItemKNN()}, examples={"by": "folds", "rounds": 3}).fit(train)
    pipeline.save(tmp_path / "pipeline")
    file = tmp_path / "pipeline" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["arguments"]["lessons"] = config["arguments"].pop("examples")
    file.write_text(yaml.safe_dump(config))
    assert Pipeline.load(tmp_path / "pipeline").examples == pipeline.examples


def test_features_whose_popularity_column_bore_the_name_of_the_model(tmp_path, rng):
    train = Interactions(rng.integers(0, 40, 900), rng.integers(0, 30, 900), num_users=40, num_items=30)
    features = CandidateFeatures([ItemPopularity()]).fit(train)
    features.save(tmp_path / "features")
    file = tmp_path / "features" / "config.yaml"
    config = file.read_text()
    assert "recsys_dl.rankers.columns.ItemPopularity" in config
    file.write_text(config.replace("columns.ItemPopularity", "columns.Popularity"))
    again = CandidateFeatures.load(tmp_path / "features")
    assert (again.compute([0, 1], [[1, 2], [3, 4]]) == features.compute([0, 1], [[1, 2], [3, 4]])).all()
