"""Folders appear whole or not at all; arrays come back as they were; pickles are refused."""

import errno
import pickle
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_dl.folders import ensure_folder, new_file, new_folder, reserved
from recsys_dl.leftovers import leftover_suffix
from recsys_dl.saving import load_arrays, save_arrays


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
    with pytest.raises(FileExistsError, match="the output is in .*model-2"):
        with new_folder(tmp_path / "model") as aside:
            (aside / "a").write_text("second")
            with new_folder(tmp_path / "model") as faster:
                (faster / "a").write_text("first")
    assert (tmp_path / "model" / "a").read_text() == "first"
    assert (tmp_path / "model-2" / "a").read_text() == "second"


def test_what_cannot_be_a_folder_is_named(tmp_path):
    assert ensure_folder(tmp_path / "a" / "b") == ensure_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    for path, said in (
        (tmp_path / "file", "file must be a folder, but is a file"),
        (tmp_path / "file" / "x", "x cannot be written: .*file is a file, not a folder"),
        (Path("/proc/no such/x"), "/proc/no such/x cannot be written|may not be written to"),
    ):
        with pytest.raises(OSError, match=said):
            ensure_folder(path)
    with pytest.raises(FileNotFoundError, match="x.json must be in an existing folder, but .*away does not exist"):
        with new_file(tmp_path / "away" / "x.json"):
            pass


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


def test_a_file_where_a_folder_is_wanted_and_the_reverse(tmp_path):
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(NotADirectoryError, match="file is a file, not a folder"),
        new_folder(tmp_path / "file" / "model"),
    ):
        pass
    with pytest.raises(NotADirectoryError, match="file is a file, not a folder"), reserved(tmp_path / "file" / "als"):
        pass
    with pytest.raises(FileExistsError, match="must be a folder"), new_folder(tmp_path / "file", overwrite=True):
        pass
    with pytest.raises(IsADirectoryError, match="must be a file"), new_file(tmp_path):
        pass
    assert (tmp_path / "file").read_text() == "mine"


KILLED = """
import os, sys
from pathlib import Path
from recsys_dl import folders
if sys.argv[2] == "between":  # the old folder is away, the new one not yet there
    rename = Path.rename
    Path.rename = lambda self, to: (rename(self, to), str(to).endswith(".old") and os.kill(os.getpid(), 9))[0]
with folders.reserved(Path(sys.argv[1])) if sys.argv[2] == "reserved" else open(os.devnull):
    with folders.new_folder(sys.argv[1], overwrite=True) as aside:
        (aside / "a").write_text("new")
        if sys.argv[2] == "alive":
            print("filling", flush=True)
            sys.stdin.read()
        elif sys.argv[2] != "between":
            os.kill(os.getpid(), 9)
"""


def killed(target: Path, when: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(target), when], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path, caplog):
    assert killed(tmp_path / "als", "reserved").wait() == -signal.SIGKILL
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left == [left[0], "als"]  # half-written, and the empty folder that kept its name
    with new_folder(tmp_path / "model") as aside:
        (aside / "a").write_text("")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    (told,) = [record.getMessage() for record in caplog.records]
    assert "partial output of killed processes" in told
    assert left[0] in told


def test_what_a_living_process_or_a_user_has_stays(tmp_path):
    alive = killed(tmp_path / "als", "alive")
    assert alive.stdout.readline() == "filling\n"
    (tmp_path / ".mine.partial").mkdir()
    (tmp_path / f".notes.abcdefgh{leftover_suffix()}").write_text("a file, no folder of ours")
    (tmp_path / ".als.abcdefgh.another-host.partial").mkdir()
    (tmp_path / "empty").mkdir()
    before = sorted(file.name for file in tmp_path.iterdir())
    with new_folder(tmp_path / "model"):
        pass
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*before, "model"])
    alive.communicate("")
    assert (tmp_path / "als" / "a").read_text() == "new"


def test_killed_while_replacing_the_old_comes_back(tmp_path):
    with new_folder(tmp_path / "als") as aside:
        (aside / "a").write_text("old")
    assert killed(tmp_path / "als", "between").wait() == -signal.SIGKILL
    assert not (tmp_path / "als").exists()
    with new_folder(tmp_path / "model"):
        pass
    assert (tmp_path / "als" / "a").read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["als", "model"]


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(ZeroDivisionError), new_file(tmp_path / "a.csv") as aside:
        aside.write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "a.csv").read_text() == "old"
    with new_file(tmp_path / "a.csv") as aside:
        aside.write_text("new")
    assert (tmp_path / "a.csv").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, check=False
    ).returncode:
        pytest.skip("a small file system cannot be mounted here (that takes root)")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def writers() -> dict:
    import polars as pl
    import torch

    numbers = np.random.default_rng(0).random(100_000)
    frame = pl.DataFrame({"a": numbers})
    return {
        "npz": lambda file: save_arrays(file, {"a": numbers}),
        "npy": lambda file: np.save(file.open("wb"), numbers),
        "parquet": frame.write_parquet,
        "csv": frame.write_csv,
        "text": lambda file: file.write_text("x" * 1_000_000),
        "torch": lambda file: torch.save(torch.from_numpy(numbers), file),
    }


@pytest.mark.parametrize("kind", ["npz", "npy", "parquet", "csv", "text", "torch"])
def test_every_writer_on_a_full_disk(small_disk, kind):
    with new_folder(small_disk / "model") as aside:
        (aside / "a").write_text("old")
    write = writers()[kind]
    with pytest.raises(
        OSError, match=r"the disk is full: nothing was written to .*/model, where 0\.\d MB are free"
    ) as caught:
        with new_folder(small_disk / "model", overwrite=True) as aside:
            with new_folder(aside / "inner") as inner:
                write(inner / "file")
    assert caught.value.errno == errno.ENOSPC
    assert ".partial" not in str(caught.value)
    with pytest.raises(OSError, match="the disk is full"), new_file(small_disk / "lists") as aside:
        write(aside)
    assert [file.name for file in small_disk.iterdir()] == ["model"]
    assert (small_disk / "model" / "a").read_text() == "old"


def test_another_full_disk_is_not_taken_for_this_one(small_disk, tmp_path):
    with pytest.raises(OSError, match="nothing was written to .*disk/lists"), new_folder(tmp_path / "model"):
        with new_file(small_disk / "lists") as aside:
            aside.write_text("x" * 1_000_000)


def test_a_read_only_place(tmp_path):
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path], capture_output=True, check=False
    ).returncode:
        pytest.skip("a read-only file system cannot be mounted here (that takes root)")
    try:
        with pytest.raises(PermissionError, match="model cannot be written: .* is on a read-only file system"):
            with new_folder(tmp_path / "model"):
                pass
        with pytest.raises(PermissionError, match="lists cannot be written"), new_file(tmp_path / "lists") as aside:
            aside.write_text("")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


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


def test_large_matrices_are_mapped_and_equal(tmp_path, monkeypatch):
    matrix = sp.random(300, 50, 0.2, "csr", dtype=np.float32, random_state=0)
    arrays = {"table": np.ones((40, 3), np.float32), "pairs": matrix, "none": sp.csr_matrix((4, 5), dtype=np.float32)}
    save_arrays(tmp_path / "new.npz", arrays)
    older = {f"pairs.{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")} | {
        "pairs.shape": [300, 50]
    }
    np.savez(tmp_path / "older_.npz", **older)  # a name of another length: members of other alignments
    np.savez_compressed(tmp_path / "packed.npz", **older)
    monkeypatch.setattr("recsys_dl.saving.MAPPED_FROM", 1)
    back = load_arrays(tmp_path / "new.npz")
    assert not back["pairs"].data.flags.writeable
    assert back["pairs"].data.flags.aligned
    assert back["table"].flags.writeable  # tables are used again and again, and kernels compiled for writable ones
    for pairs in (
        back["pairs"],
        load_arrays(tmp_path / "older_.npz")["pairs"],
        load_arrays(tmp_path / "packed.npz")["pairs"],
    ):
        assert (pairs != matrix).nnz == 0
    assert back["none"].shape == (4, 5)
    with np.load(tmp_path / "new.npz") as stored:  # NumPy's own reader
        np.testing.assert_array_equal(stored["pairs.indices"], matrix.indices)


def test_a_truncated_file_is_not_mapped(tmp_path, monkeypatch):
    save_arrays(tmp_path / "a.npz", {"pairs": sp.eye(1000, format="csr", dtype=np.float32)})
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr("recsys_dl.saving.MAPPED_FROM", 1)
    with pytest.raises(zipfile.BadZipFile):
        load_arrays(tmp_path / "a.npz")
