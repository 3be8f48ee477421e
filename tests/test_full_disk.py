"""A disk that is full, wherever the command writes: the message names path and space, nothing half-written stays, nothing old goes."""

import shutil
import subprocess

import pytest
from test_command import write_log

from recsys_dl import load_run
from recsys_dl.cli import main

WORDS = ["data=log", "data.path=log.csv", "device=cpu", "threads=1", "evaluate.k=[5]"]
GMF = ["model=gmf", "model.embedding_size=64", "model.epochs=2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disks")
    write_log(folder / "log.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *WORDS, "model=item_knn", "run=runs/knn"]) == 0
    return folder


@pytest.fixture
def disk(place, tmp_path, monkeypatch):
    """A disk of which all but 4 KiB is taken."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here (that takes root)")
    (folder / "else").write_bytes(bytes((256 - 4) << 10))
    monkeypatch.chdir(place)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize(
    ("verb", "words", "where"),
    [
        ("train", [*WORDS, "model=item_knn", "run={}/als"], "als"),
        ("train", [*WORDS, *GMF, "run={}/gmf", "logger=csv"], "gmf"),
        ("train", [*WORDS, *GMF, "run=runs/checkpointed", "trainer.checkpoint={}/kept"], "kept"),
        ("compare", [*WORDS, "models=[popularity,item_knn]", "metric=ndcg@5", "run={}/both"], "both"),
        ("refit", ["runs/knn", "output={}/again"], "again"),
        ("recommend", ["runs/knn", "users=all", "k=20", "output={}/lists.csv"], "lists.csv"),
        ("recommend", ["runs/knn", "users=all", "k=20", "output={}/lists.parquet"], "lists.parquet"),
        ("export", ["runs/knn", "format=torchscript", "output={}/served"], "served"),
        ("export", ["runs/knn", "format=torch_export", "output={}/served"], "served"),
        ("export", ["runs/knn", "format=onnx", "output={}/served"], "served"),
        ("export", ["runs/knn", "format=safetensors", "output={}/served"], "served"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit(place, disk, capsys, verb, words, where):
    assert main([verb, *(word.format(disk) for word in words)]) == 1
    err = capsys.readouterr().err.splitlines()[-1]
    assert "the disk is full" in err
    assert str(disk / where) in err
    assert " MB are free" in err
    assert ".partial" not in err
    assert sorted({file.name for file in disk.rglob("*")} - {"kept"}) == ["else"]
    assert [file.name for file in (place / "runs").iterdir()] == ["knn"]


def test_figures_that_do_not_fit_leave_the_old_run(place, disk, capsys):
    (disk / "else").unlink()
    shutil.copytree(place / "runs/knn", disk / "knn")
    room = shutil.disk_usage(disk).free
    (disk / "else").write_bytes(bytes(room))
    before = load_run(disk / "knn").metrics
    assert main(["evaluate", f"run={disk / 'knn'}", "k=[5]", "part=test"]) == 1
    err = capsys.readouterr().err
    assert "the disk is full: nothing was written to" in err
    assert load_run(disk / "knn").metrics == before
    assert not list(disk.rglob(".*"))
