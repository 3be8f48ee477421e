"""Training through the command: trainer and loggers by config, two machines, stops."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import Going
from test_command import write_log

from recsys_dl import load_run
from recsys_dl.cli import main

ROOT = Path(__file__).parent.parent
WORDS = ["data=log", "data.path=log.csv", "device=cpu", "threads=1", "evaluate.k=[5]"]
GMF = ["model=gmf", "model.embedding_size=4"]
SMALL = [*GMF, "model.epochs=3"]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    write_log(tmp_path / "log.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(run: str) -> list[str]:
    return [line for line in (Path(run) / "run.log").read_text().splitlines() if ".training." in line]


def test_trainer_and_logger_by_config(place, capsys):
    more = ["trainer.patience=2", "trainer.metric=ndcg@5", "trainer.checkpoint=kept", "logger=csv"]
    assert main(["train", *WORDS, *SMALL, *more, "run=one"]) == 0
    lines = said("one")
    assert [line.split("epoch ")[1][0] for line in lines] == ["0", "1", "2"]
    assert all("epoch_loss" in line and "ndcg@5" in line for line in lines)
    assert "ndcg@5" in (place / "one/logs/metrics.csv").read_text()
    assert torch.load("kept/newest.ckpt", weights_only=True)["epoch"] == 2
    assert json.loads(Path("one/manifest.json").read_text())["threads"] == 1
    one = load_run("one")
    assert one.config["trainer"]["patience"] == 2

    assert main(["train", *WORDS, *SMALL, *more[:3], "run=again"]) == 0  # all was done already
    assert "resuming from" in said("again")[0]
    assert len(said("again")) == 1
    for name, value in one.model.arrays().items():
        again = load_run("again").model.arrays()[name]
        assert (value != again).nnz == 0 if hasattr(value, "nnz") else np.array_equal(value, again)

    assert main(["train", *WORDS, *GMF, "model.epochs=4", *more[:3], "run=other"]) == 1
    assert "epochs was '3', is '4'" in capsys.readouterr().err
    assert not Path("other").exists()

    assert main(["reproduce", "one"]) == 0
    assert "bit for bit" in capsys.readouterr().out
    assert not Path("logs").exists()
    assert main(["evaluate", "run=one", "k=[5]"]) == 0
    assert main(["recommend", "run=one", "users=[100]", "k=3"]) == 0


def test_compare_trains_each_by_the_same_trainer(place, capsys, caplog):
    words = ["models=[popularity,gmf,mlp]", "trainer.patience=1", "trainer.checkpoint=kept", "run=both"]
    assert main(["compare", *WORDS, *words]) == 0
    assert {"gmf", "mlp", "popularity"} <= {line.split()[0] for line in capsys.readouterr().out.splitlines() if line}
    assert sorted(file.parent.name for file in Path("kept").rglob("newest.ckpt")) == ["gmf", "mlp"]
    assert load_run("both/gmf").config["trainer"]["patience"] == 1
    told = [record.message for record in caplog.records if "needs no trainer" in record.message]
    assert told == ["popularity needs no trainer: the settings trainer and logger do not apply"]


@pytest.mark.parametrize("word", ["trainer.patience=3", "logger=csv"])
def test_models_without_a_trainer_refuse_its_settings(place, capsys, word):
    assert main(["train", *WORDS, "model=popularity", word, "run=one"]) == 2
    expected = f"error: {word} would have no effect: Popularity learns without a trainer"
    assert capsys.readouterr().err.startswith(expected)
    assert not Path("one").exists()


def test_a_model_of_one_process_refuses_several(place, capsys):
    assert main(["train", *WORDS, "model=popularity", "trainer.processes=2", "run=one"]) == 2
    expected = "error: trainer.processes=2 would have no effect: Popularity is fitted in one process"
    assert capsys.readouterr().err.startswith(expected)


def test_models_without_a_trainer_train_without_a_word_of_it(place, caplog):
    assert main(["train", *WORDS, "model=popularity", "run=two"]) == 0
    assert "needs no trainer" not in caplog.text


@pytest.mark.parametrize("logger", ["mlflow", "wandb"])
def test_a_logger_whose_package_is_missing(place, capsys, logger):
    if __import__("importlib.util").util.find_spec(logger):
        pytest.skip(f"{logger} is installed")
    assert main(["train", *WORDS, *SMALL, f"logger={logger}", "run=one"]) == 1
    assert f"logger={logger} needs a package that is not installed: pip install {logger}" in capsys.readouterr().err
    assert not Path("one").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trainer.patience=abc"], "trainer.patience must be a whole number or null, got 'abc'"),
        (["trainer.patience=0"], "patience must be a whole number of at least 1, got 0"),
        (["trainer.precison=32-true"], "did you mean 'trainer.precision'?"),
        (["trainer.precision=16-mixed"], "trainer.precision=16-mixed needs a GPU"),
        (["model.optimizer=row_adam", "trainer.clip_norm=1"], "cannot be clipped"),
        (["logger=cvs"], "did you mean 'csv'?"),
    ],
)
def test_wrong_words(place, capsys, words, expected):
    assert main(["train", *WORDS, *SMALL, *words, "run=one"]) in (1, 2)
    assert expected in capsys.readouterr().err
    assert not Path("one").exists()


def test_two_machines_leave_one_run_and_print_once(place):
    """Each machine is an agent of torchrun's with a process of its own; here both are on one."""
    words = [word for word in WORDS if word != "threads=1"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    agent = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    agent += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    train = ["-m", "recsys_dl", "train", *words, *SMALL, "trainer.num_nodes=2", "run=two"]
    agents = [
        subprocess.Popen(
            [*agent, f"--node-rank={rank}", *train],
            cwd=place,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    spoken = [one.communicate(timeout=600) for one in agents]
    assert [one.returncode for one in agents] == [0, 0], spoken
    assert ["The run is in two" in out for out, _ in spoken] == [True, False]
    assert main(["train", *words, *SMALL, "run=alone"]) == 0
    assert sorted(file.name for file in place.iterdir()) == ["alone", "log.csv", "two"]
    two, alone = load_run("two").model.arrays(), load_run("alone").model.arrays()
    for name in (name for name in alone if name.startswith("network.")):
        np.testing.assert_allclose(two[name], alone[name], rtol=1e-4, atol=1e-5)


def test_a_stopped_training_leaves_its_checkpoint_and_nothing_half_written(place):
    words = ["train", *WORDS, *GMF, "model.epochs=4000", "trainer.checkpoint=kept", "run=here"]
    process = Going(*words, cwd=place)
    while not (place / "kept" / "newest.ckpt").exists() and process.wait(0.05) is None:
        pass
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert "stopped; no partial output is left" in process.stderr.read()
    assert sorted(file.name for file in place.iterdir()) == ["kept", "log.csv"]
    assert [file.name for file in (place / "kept").iterdir()] == ["newest.ckpt"]
    assert torch.load(place / "kept" / "newest.ckpt", weights_only=True)["global_step"] > 0
