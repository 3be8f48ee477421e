"""Folders appear whole or not at all; arrays come back as they were; pickles are refused."""

import errno
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_dl.folders import load_arrays, new_folder, save_arrays


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "model") as aside:
        (aside / "half").write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_failed_overwrite_leaves_the_old(tmp_path):
    with new_folder(tmp_path / "model") as aside:
        (aside / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "model", overwrite=True) as aside:
        (aside / "a").write_text("new")
        raise ZeroDivisionError
    assert (tmp_path / "model" / "a").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_what_exists_is_only_replaced_when_asked(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    with pytest.raises(FileExistsError, match="exists already; name another folder"), new_folder(target):
        pass
    with new_folder(target, overwrite=True) as aside:
        (aside / "a").write_text("new")
    assert (target / "a").read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_two_at_once_lose_nothing(tmp_path):
    with pytest.raises(FileExistsError, match="what was to go there is in .*model-2"):
        with new_folder(tmp_path / "model") as aside:
            (aside / "a").write_text("second")
            with new_folder(tmp_path / "model") as faster:
                (faster / "a").write_text("first")
    assert (tmp_path / "model" / "a").read_text() == "first"
    assert (tmp_path / "model-2" / "a").read_text() == "second"


def test_a_full_disk_says_so_and_leaves_nothing(tmp_path):
    """/dev/full refuses every write as a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is Linux's")
    with pytest.raises(OSError, match="the disk is full: nothing was written to .*model") as caught:
        with new_folder(tmp_path / "model") as aside:
            (aside / "arrays.npz").symlink_to("/dev/full")
            save_arrays(aside / "arrays.npz", {"a": np.zeros(100_000)})
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((FileExistsError, NotADirectoryError)), new_folder(tmp_path / "file" / "model"):
        pass


def test_arrays_and_matrices_come_back(tmp_path):
    rng = np.random.default_rng(0)
    matrix = sp.random(7, 5, 0.4, "csr", np.float32, rng)
    dense = rng.normal(size=(3, 4)).astype(np.float32)
    arrays = {
        "m": matrix,
        "dense_UD": dense,
        "none": np.empty((0, 3), np.int32),
        "one": np.float64(2),
        "network.bias": dense[0],
    }
    save_arrays(tmp_path / "a.npz", arrays)
    back = load_arrays(tmp_path / "a.npz")
    assert set(back) == {"m", "dense_UD", "none", "one", "network.bias"}
    assert (back["m"] != matrix).nnz == 0
    assert back["m"].dtype == np.float32
    np.testing.assert_array_equal(back["dense_UD"], dense)
    assert back["none"].shape == (0, 3)


def test_a_pickle_is_never_loaded(tmp_path):
    bomb = np.array([print], dtype=object)
    np.savez(tmp_path / "a.npz", bomb=bomb)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_arrays(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match="pickle"):
        load_arrays(tmp_path / "b.npz")
