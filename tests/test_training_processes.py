"""Real processes that are killed in mid-epoch and go on, one alone and two together: the same weights, to the bit."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import training_process
from processes import programs

from recsys_dl.families.validation import Validation
from recsys_dl.models.neumf import NeuMF
from recsys_dl.training.shards import write_shards

TESTS = Path(__file__).parent


def launch(folder: Path, processes: int, *names: str) -> int:
    done = subprocess.run(
        [sys.executable, str(TESTS / "training_process.py"), str(folder), str(processes), *names],
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode in (0, -9), done.stderr[-3000:]
    return done.returncode


def forked(folder: Path, processes: int, *names: str) -> None:
    """Carry out trainings that nothing kills, in processes that need not import everything anew."""
    text = "import pathlib, sys, training_process as one; one.main(pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])"
    programs(processes, text, folder, processes, *names, cwd=folder)


def each(stems: list[str], *ends: str) -> list[str]:
    return [f"{stem}-{end}" for end in ends for stem in stems]


def weights_of(folder: Path, name: str) -> dict[str, np.ndarray]:
    return dict(np.load(folder / f"{name}.npz"))


def checkpoint_of(folder: Path, stem: str) -> dict:
    return torch.load(folder / f"{stem}-checkpoint" / "newest.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    write_shards(training_process.data()[0], folder / "shards", rows_per_shard=1000)
    stems = ["everything", "stopped", "sparse", "stream"]
    assert launch(folder, 1, *each(stems, "killed", "resumed", "whole"), "plain-whole", "in_batch-whole") == 0
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    write_shards(training_process.data()[0], folder / "shards", rows_per_shard=1000)
    assert launch(folder, 2, "everything-killed") == -9
    kept = checkpoint_of(folder, "everything")
    assert (kept["epoch"], kept["global_step"]) == (1, 12)
    names = each(["everything"], "resumed", "whole") + each(["plain", "sparse", "stream", "in_batch"], "whole")
    forked(folder, 2, *names)
    return folder


@pytest.mark.parametrize("stem", ["everything", "stopped", "sparse", "stream"])
def test_a_killed_training_ends_as_one_that_never_was(alone, stem):
    whole, resumed = weights_of(alone, f"{stem}-whole"), weights_of(alone, f"{stem}-resumed")
    assert len(whole) > 4
    for name in whole.keys() - {"figures"}:
        assert np.array_equal(whole[name], resumed[name]), name
    fewer = len(resumed["figures"])
    assert fewer < len(whole["figures"]) or not len(whole["figures"])  # it did go on, and did not begin again
    assert np.array_equal(whole["figures"][len(whole["figures"]) - fewer :], resumed["figures"])


def test_two_processes_that_were_killed_end_as_two_that_never_were(together):
    whole, resumed = weights_of(together, "everything-whole"), weights_of(together, "everything-resumed")
    for name in whole.keys() - {"figures"}:
        assert np.array_equal(whole[name], resumed[name]), name
    assert np.argmax(whole["figures"]) > 1  # so the weights kept are of after the kill


def test_early_stopping_went_on_where_it_was(alone):
    whole = weights_of(alone, "stopped-whole")
    assert len(whole["losses"]) < training_process.TRAININGS["stopped"][1]["epochs"]
    assert not len(weights_of(alone, "stopped-resumed")["figures"])  # killed after the last one: nothing to do


def test_two_processes_that_were_killed_go_on_as_one_or_four(alone, together, tmp_path):
    assert launch(together, 2, "plain-killed") == -9
    kept = checkpoint_of(together, "plain")
    assert (kept["epoch"], kept["global_step"], kept["recsys_dl"]["processes"]) == (1, 24, 2)
    one = weights_of(alone, "plain-whole")
    for processes in (1, 4):
        shutil.copytree(together / "plain-checkpoint", tmp_path / str(processes) / "plain-checkpoint")
        forked(tmp_path / str(processes), processes, "plain-resumed")
        resumed = weights_of(tmp_path / str(processes), "plain-resumed")
        for name in one.keys() - {"figures"}:
            np.testing.assert_allclose(
                resumed[name], one[name], rtol=1e-5, atol=1e-5, err_msg=name
            )  # as without a kill


@pytest.mark.parametrize("stem", ["plain", "sparse", "in_batch"])
def test_two_processes_learn_what_one_learns(alone, together, stem):
    one, two = weights_of(alone, f"{stem}-whole"), weights_of(together, f"{stem}-whole")
    for name in one.keys() - {"figures"}:
        # Sums of gradients in another order; Adam divides by their size, so a rounding may become a part of a step of 0.01.
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_two_processes_share_the_shards_out(alone, together):
    one, two = weights_of(alone, "stream-whole")["losses"], weights_of(together, "stream-whole")["losses"]
    assert not np.array_equal(one, two)
    np.testing.assert_allclose(one, two, rtol=0.01)  # other batches and draws of the same log


def test_two_processes_validate_exactly_as_one(together):
    whole = weights_of(together, "everything-whole")
    train, validation = training_process.data()
    model = NeuMF(
        embedding_size=4, batch_size=512, hidden_sizes=[8, 4], learning_rate=0.1, epochs=0, seed=7, device="cpu"
    ).fit(train)
    model.restore(model.arrays() | {name: whole[name] for name in whole if name.startswith("network.")})
    assert Validation(model, validation, train, "ndcg@10").figure() == max(whole["figures"])
