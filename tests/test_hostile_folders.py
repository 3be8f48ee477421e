"""Saved folders made to do harm, or damaged anywhere: they are read as they were or refused, nothing runs, and memory stays bounded."""

from __future__ import annotations

import contextlib
import io
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_dl import Interactions, load_run
from recsys_dl.bandits import Thompson
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.saved_tables import read_saved_table
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.folders import sha256
from recsys_dl.models import ALS, Content
from recsys_dl.pipeline import Pipeline
from recsys_dl.rerankers import Exploration
from recsys_dl.runs import StageTimer, write_run
from recsys_dl.saving import load_arrays, save_arrays

KINDS = ("als", "pipeline", "policy")
READ = {"als": load_run, "pipeline": load_run, "policy": Thompson.load}


class Trap:
    """A pickle of it makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folders")
    log = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
    features = pl.DataFrame({"kind": ["a", "b", "a", "b"]})
    data = Dataset(
        log,
        Vocabulary(list("abcd"), noun="user"),
        Vocabulary(list("wxyz"), noun="item"),
        item_features=features,
        item_titles=pl.Series(["W", "X", "Y", "Z"]),
        name="small",
    )
    for name, model in (
        ("als", ALS(embedding_size=4, epochs=1, device="cpu")),
        ("pipeline", Pipeline({"content": Content()}, rerankers={"explore": Exploration(Thompson(), places=[2])})),
    ):
        (folder / name).mkdir()
        fitted = model.fit(data)
        write_run(folder / name, config={}, model=fitted, seen=log, data=data, evaluations={}, stages=StageTimer())
    Thompson().start(4).save(folder / "policy")
    return folder


def files_of(folder: Path) -> list[Path]:
    return sorted(one for one in folder.rglob("*") if one.is_file())


def signed(file: Path) -> None:
    """Write the checksum of a file into the config beside it, as who makes a folder can."""
    beside = file.parent / "config.yaml"
    config = yaml.safe_load(beside.read_text()) if beside.exists() and file != beside else {}
    if file.name in config.get("sha256", {}):
        config["sha256"][file.name] = sha256(file)
        beside.write_text(yaml.safe_dump(config))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_folder_damaged_anywhere_is_refused_in_words_or_read(home, tmp_path_factory, data):
    kind = data.draw(st.sampled_from(KINDS))
    folder = tmp_path_factory.mktemp("damaged") / kind
    shutil.copytree(home / kind, folder)
    file = data.draw(st.sampled_from(files_of(folder)))
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, max(0, len(content) - 1)))
    how = data.draw(st.sampled_from(["cut", "replace", "insert", "zeros"]))
    if how == "cut":
        del content[at:]
    elif how == "zeros":
        content[at : at + 64] = bytes(len(content[at : at + 64]))
    else:
        some = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + (len(some) if how == "replace" else 0)] = some
    file.write_bytes(bytes(content))
    signed(file)
    with contextlib.suppress(ValueError, FileNotFoundError):
        READ[kind](folder)
    shutil.rmtree(folder)


def packed(file: Path, content: bytes, size: int) -> None:
    """Write a zip file of an array of `size` bytes, packed small."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out, out.open("data.npy", "w", force_zip64=True) as member:
        member.write(content)
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))


def header(shape: tuple[int, ...]) -> bytes:
    found = io.BytesIO()
    np.lib.format.write_array_header_1_0(found, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return found.getvalue()


def test_arrays_that_would_fill_the_memory_are_refused(tmp_path):
    packed(tmp_path / "bomb.npz", header((1 << 25,)), 1 << 28)
    with pytest.raises(ValueError, match="would fill the memory"):
        load_arrays(tmp_path / "bomb.npz")
    packed(tmp_path / "lie.npz", header((1 << 50,)), 1 << 20)
    with pytest.raises(ValueError, match="but holds less"):
        load_arrays(tmp_path / "lie.npz")
    np.save((tmp_path / "one.npz").open("wb"), np.zeros(3))
    with pytest.raises(ValueError, match="holds a single one"):
        load_arrays(tmp_path / "one.npz")


def test_tables_that_would_fill_the_memory_are_refused_before_they_do(tmp_path):
    repeated = pa.DictionaryArray.from_arrays(pa.array(np.zeros(3_000_000, np.int32)), pa.array(["x" * 100_000]))
    many = pa.ListArray.from_arrays(pa.array([0, 50_000_000], pa.int32()), pa.array(np.zeros(50_000_000, np.int64)))
    tables = {
        "one text, three million times": {"id": repeated},
        "one text in lists": {"id": [["y" * 1000] * 300_000] * 3},
        "zeros": {"id": np.zeros(50_000_000, np.int64)},
        "one list of zeros": {"id": many},
        "one long text": {"id": ["z" * 300_000_000]},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), tmp_path / name, compression="zstd")
        assert (tmp_path / name).stat().st_size < 1 << 20
    before = pa.total_allocated_bytes()
    for name in tables:
        with pytest.raises(ValueError, match="would fill the memory"):
            read_saved_table(tmp_path / name)
        assert pa.total_allocated_bytes() - before < 1 << 26, name
    pq.write_table(
        pa.table({"id": ["a", "ab"]}), tmp_path / "parts", use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY"
    )
    with pytest.raises(ValueError, match="must have texts that are whole"):
        read_saved_table(tmp_path / "parts")
    whole = pl.DataFrame(
        {
            "id": [str(n) for n in range(5000)],
            "kind": pl.Series(["a", "b"] * 2500, dtype=pl.Categorical),
            "kinds": [["a", None], []] * 2500,
            "both": [{"text": "a" * 50, "number": 1.5}, None] * 2500,
            "none": [None] * 5000,
        }
    )
    whole.write_parquet(tmp_path / "whole")
    assert read_saved_table(tmp_path / "whole").equals(whole)
    pq.write_table(pa.table({"number": pa.array([7] * 9).dictionary_encode()}), tmp_path / "numbers")
    assert read_saved_table(tmp_path / "numbers")["number"].to_list() == [7] * 9


@pytest.mark.parametrize(
    "header", [b"{'descr': '<f8', (", b"{'descr': '<f8'}", b"\xff\xfe", b"((((((((", b"{'descr': [[[["]
)
def test_arrays_without_a_readable_header_are_refused(tmp_path, header):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as out:
        out.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))
    with pytest.raises(ValueError, match="is damaged"):
        load_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("index", [-1, 5, 2**31 - 1])
def test_matrices_whose_indices_are_outside_are_refused(tmp_path, index):
    matrix = sp.csr_matrix(np.eye(5, dtype=np.float32))
    matrix.indices[2] = index
    save_arrays(tmp_path / "a.npz", {"pairs": matrix})
    with pytest.raises(ValueError, match=r"ind(ices|ex)"):
        load_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_in_any_file_do_not_run(home, tmp_path, kind):
    trace = tmp_path / "trace"
    trap = pickle.dumps(Trap(trace))
    for file in files_of(home / kind):
        folder = tmp_path / "copy"
        shutil.copytree(home / kind, folder)
        target = folder / file.relative_to(home / kind)
        if file.suffix == ".npz":
            names = np.load(file).files
            np.savez(target, **{name: np.array([Trap(trace)], dtype=object) for name in names})
        else:
            target.write_bytes(trap)
        signed(target)
        with pytest.raises((ValueError, FileNotFoundError)):
            READ[kind](folder)
        shutil.rmtree(folder)
    assert not trace.exists()


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    "text", [LAUGHS, "a: &a [*a]\n", "a: &a {b: *a}\n", "a: " + "[" * 5000], ids=["laughs", "self", "within", "deep"]
)
@pytest.mark.parametrize("file", ["als/config.yaml", "als/model/config.yaml", "policy/config.yaml"])
def test_settings_without_end_are_refused(home, tmp_path, text, file):
    kind, _, name = file.partition("/")
    shutil.copytree(home / kind, tmp_path / kind)
    target = tmp_path / kind / name
    target.write_text(target.read_text() + text)
    with pytest.raises(ValueError, match="is damaged"):
        READ[kind](tmp_path / kind)


@pytest.mark.parametrize("name", ["metrics.json", "manifest.json"])
def test_deep_json_is_refused(home, tmp_path, name):
    shutil.copytree(home / "als", tmp_path / "als")
    (tmp_path / "als" / name).write_text('{"a":' * 100_000)
    with pytest.raises(ValueError, match="is damaged"):
        load_run(tmp_path / "als")
