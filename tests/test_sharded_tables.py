"""Embedding tables divided among processes: the result of one process, killed and resumed by any number, and what cannot be divided."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sharded_process
import torch
from processes import commands, programs
from sharded_process import TRAININGS, found_in
from torch import nn

from recsys_dl import Interactions
from recsys_dl.cli import main
from recsys_dl.models import GMF, NeuMF, TwoTower
from recsys_dl.networks.sharded import ShardedEmbedding, Sharding
from recsys_dl.processes import _CURRENT, Group
from recsys_dl.runs import load_run
from recsys_dl.training import TrainerOptions

TESTS = Path(__file__).parent
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
LOG = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
SHARDED = TrainerOptions(shard_tables=True)


def torchrun(processes: int, folder: Path, *names: str) -> str:
    done = subprocess.run(
        [*LAUNCH, f"--nproc-per-node={processes}", str(TESTS / "sharded_process.py"), str(folder), *names],
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    killed = any(name.endswith(":kill") for name in names)
    assert bool(done.returncode) == killed, done.stderr[-3000:]
    return done.stderr


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, np.ndarray]]:
    """What whole tables in one process give."""
    return {name: found_in(sharded_process.fitted(name, 1, shard_tables=False)) for name in TRAININGS}


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    said = torchrun(2, folder, *TRAININGS, "rows:stop", "sgd:stop", "two_tower:stop", "clipped:kill")
    assert "SIGKILL" in said
    return folder


def assert_same(found: dict[str, np.ndarray], one: dict[str, np.ndarray]) -> None:
    for name, value in one.items():
        # sums of gradients in another order, which Adam may turn into a part of a step of 0.01
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_of_which_each_holds_half_learn_what_one_does(alone, two, name):
    found = dict(np.load(two / f"{name}-2.npz"))
    divided = {
        "two_tower": [[75], [76]],
        "youtube_dnn": [[75, 75], [76, 76]],
        "sasrec": [[75], [76]],
    }  # no table of users
    assert found["rows"].tolist() == divided.get(name, [[150, 75], [151, 76]])
    assert_same(found, alone[name])


@pytest.mark.parametrize("name", ["rows", "sgd", "clipped", "two_tower"])
def test_one_process_resumes_what_two_began(alone, two, tmp_path, name):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(two / f"{name}-checkpoint", checkpoint)
    kept = torch.load(checkpoint / "newest.ckpt", weights_only=True)
    assert kept["recsys_dl"]["processes"] == 2
    assert kept["epoch"] == 1
    table = "items.item_emb" if name == "two_tower" else "user_emb"
    assert not kept["state_dict"][f"network.{table}.weight"].numel()  # each process has written its own rows
    model = sharded_process.fitted(name, 1, checkpoint)
    assert_same(found_in(model) | {"losses": alone[name]["losses"]}, alone[name])
    assert len(list(checkpoint.iterdir())) == 2  # the newest, and the rows of the newest


def test_three_processes_resume_what_two_began_and_one_was_killed(alone, two, tmp_path):
    for name in ("rows", "clipped"):
        shutil.copytree(two / f"{name}-checkpoint", tmp_path / f"{name}-checkpoint")
    text = "import pathlib, sys, sharded_process; sharded_process.main(pathlib.Path(sys.argv[1]), sys.argv[2:])"
    programs(3, text, tmp_path, "rows:resume", "clipped:resume", cwd=tmp_path)
    for name in ("rows", "clipped"):
        found = dict(np.load(tmp_path / f"{name}-3.npz"))
        assert found["rows"].sum(0).tolist() == [301, 151]
        assert found["steps"] < 3 * 12  # it did not begin again
        assert_same(found, alone[name])


def test_a_checkpoint_whose_rows_are_missing_is_refused(two, tmp_path):
    shutil.copytree(two / "sgd-checkpoint", tmp_path / "kept")
    (parts,) = (tmp_path / "kept").glob("tables-*")
    (parts / "network.user_emb.weight.150.npy").unlink()
    with pytest.raises(
        ValueError, match=r"must hold rows 0 to 301 of network.user_emb.weight, but has none from row 150"
    ):
        sharded_process.fitted("sgd", 1, tmp_path / "kept")


@pytest.mark.parametrize(("rows", "columns"), [(5, 3), (1, 1), (1000, 7), (70_000, 33)])
def test_tables_start_as_whole_ones_do(rows, columns):
    torch.manual_seed(3)
    whole = nn.Embedding(rows, columns)
    after = torch.rand(3)
    for size in (1, 2, 3):
        parts = []
        for rank in range(size):
            torch.manual_seed(3)
            parts.append(ShardedEmbedding(rows, columns, Sharding(rank, size), sparse=False).weight)
            assert torch.equal(torch.rand(3), after)
        assert torch.equal(torch.cat(parts), whole.weight)


def test_a_model_is_whole_after_training(tmp_path):
    model = GMF(embedding_size=4, epochs=2, device="cpu").fit(LOG, trainer=SHARDED)
    model.save(tmp_path / "saved")
    again = GMF.load(tmp_path / "saved")
    for users in ([0, 1], model.fold_in([[0, 1]])):
        theirs = users if isinstance(users, list) else again.fold_in([[0, 1]])
        np.testing.assert_array_equal(model.recommend(users, 2).items_BK, again.recommend(theirs, 2).items_BK)
    before = model.network.user_emb.weight.detach().clone()
    model.lightning_module().network.user_emb.weight.data.add_(1.0)  # not what other processes see
    assert torch.equal(model.network.user_emb.weight.detach(), before + 1)
    more = Interactions([0, 4], [3, 1], num_users=5, num_items=4)
    assert model.fine_tune(more, epochs=1).num_users == 5


def test_neumf_starts_from_pretrained_tables(tmp_path):
    from recsys_dl.models import MLP

    same = {"embedding_size": 4, "epochs": 1, "device": "cpu"}
    GMF(**same).fit(LOG).save(tmp_path / "gmf")
    MLP(hidden_sizes=[4], **same).fit(LOG).save(tmp_path / "mlp")
    begun = {"gmf": str(tmp_path / "gmf"), "mlp": str(tmp_path / "mlp"), "hidden_sizes": [4]}
    whole, sharded = (NeuMF(**same, **begun).fit(LOG, trainer=one) for one in (TrainerOptions(), SHARDED))
    np.testing.assert_allclose(
        sharded.arrays()["network.user_emb.weight"], whole.arrays()["network.user_emb.weight"], atol=1e-6
    )


def test_what_cannot_be_divided_is_refused(monkeypatch, tmp_path, capsys):
    small = {"embedding_size": 4, "epochs": 1, "device": "cpu"}
    with pytest.raises(ValueError, match="shard_tables must be true or false, got 'yes'"):
        TrainerOptions(shard_tables="yes")
    with pytest.raises(ValueError, match=r"two_tower, youtube_dnn and sasrec with model.softmax=sampled.*for TwoTower"):
        TwoTower(**small).fit(LOG, trainer=SHARDED)
    model = GMF(**small).fit(LOG)
    with pytest.raises(ValueError, match="this training has no tables that can be divided"):
        model.fine_tune(LOG, trainer=SHARDED)
    with pytest.raises(ValueError, match="needs its 2 processes before the network is built, but 1 is connected"):
        GMF(**small).fit(LOG, trainer=TrainerOptions(shard_tables=True, processes=2))
    token = _CURRENT.set(Group(0, 5))
    try:
        with pytest.raises(ValueError, match="5 processes are more than the 4 rows of a table"):
            GMF(**small).fit(LOG, trainer=TrainerOptions(shard_tables=True, processes=5))
    finally:
        _CURRENT.reset(token)
    checkpoint = TrainerOptions(checkpoint=tmp_path / "kept", shard_tables=True)
    GMF(**small).fit(LOG, trainer=checkpoint)
    with pytest.raises(ValueError, match="checkpoint of a different training: shard_tables was True"):
        GMF(**small).fit(LOG, trainer=TrainerOptions(checkpoint=tmp_path / "kept"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", "/proc")
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", "/proc")
        with pytest.raises(OSError, match="TMPDIR"):
            GMF(**small).fit(LOG, trainer=SHARDED)
    for name, status, words in (
        (
            "als trainer.shard_tables=true",
            2,
            "trainer.shard_tables=true would have no effect: ALS learns without a trainer",
        ),
        ("two_tower trainer.shard_tables=true", 1, "divides the embedding tables of gmf, mlp and neumf"),
        ("sasrec trainer.shard_tables=true", 1, "Leave it false for model=sasrec"),
        ("gmf trainer.shard_tables=perhaps", 2, "trainer.shard_tables must be true or false"),
    ):
        asked = f"data=generated run=no model={name}".split()
        assert main(["train", *asked]) == status
        assert words in capsys.readouterr().err
    assert not Path("no").exists()


def test_the_command_divides_tables_and_its_run_recommends(tmp_path):
    words = ["train", "data=generated", "data.num_users=200", "data.num_items=120", "data.num_interactions=1500"]
    words += ["model=gmf", "model.embedding_size=4", "model.epochs=2", "device=cpu", "evaluate.k=[5]"]
    words += ["trainer.processes=2", "trainer.shard_tables=true", "run=run"]
    commands(2, *words, cwd=tmp_path)
    run = load_run(tmp_path / "run")
    assert run.model.network.user_emb.weight.shape == (200, 4)
    assert run.model.recommend([0], 3).items_BK.shape == (1, 3)
