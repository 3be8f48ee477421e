"""What fuzz.py enters: for each target, valid inputs to begin from, and a function that reads one."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import yaml

from recsys_dl import Interactions, load_run
from recsys_dl.bandits import Thompson
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.saved_tables import read_saved_table
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.folders import sha256
from recsys_dl.models import ALS, EASE, Content
from recsys_dl.pipeline import Pipeline
from recsys_dl.readers.bandit_log import read_bandit_log
from recsys_dl.readers.letor import read_letor
from recsys_dl.readers.log import read_log
from recsys_dl.rerankers import Exploration
from recsys_dl.retrieval import HNSW
from recsys_dl.retrieval.vector_index import VectorIndex
from recsys_dl.runs import StageTimer, write_run
from recsys_dl.verbs.ids import ids_of
from recsys_dl.verbs.index import vectors_of_file

CSV = b'user,item,rating,timestamp\nann,1,5,2024-01-02\nbob,2,3.5,2024-01-03 10:00:00\nann,"3",1,2024-01-04\n'
TSV = b"userId\titemId\tcount\n1\t10\t3\n2\t11\t1\n"
SPACES = b"1 10 5 881250949\n1 11 3 881250950\n2 10 4 881250951\n"
ATOMIC = b"user_id:token\titem_id:token\trating:float\n1\t2\t5\n2\t2\t4\n"
LINES = b'{"user": "a", "item": 1, "rating": 4}\n{"user": "b", "item": 2, "rating": 3}\n'
ARRAY = b'[{"user": "a", "item": 1}, {"user": "b", "item": 2}]'
SIDE = b'item,genres,vector,year\n1,a|b,"[0.1, 0.2]",1999\n2,b|c,"[0.3, -0.4]",2001\n3,,,\n'
SIDE_LINES = b'{"item": 1, "tags": ["a", "b"], "vector": [0.5, 1]}\n{"item": 2, "tags": [], "vector": [0.1, 2]}\n'
LETOR = b"2 qid:1 1:0.5 3:0.25 # a\n0 qid:1 2:1\n1 qid:2 1:0.1\n"
BANDIT = b"user,arm,reward,propensity,position,context\n1,a,1,0.5,1,x\n2,b,0,0.25,2,y\n"
BODIES = (
    ("/recommend", {"user": "a", "k": 2, "exclude": ["w"], "allow": ["x", "y"], "seed": 3}),
    ("/recommend", {"history": ["w", "x"], "k": 1, "diversity": 0.5}),
    ("/similar", {"items": ["w"], "k": 2}),
    ("/score", {"user": "b", "items": ["w", "z"]}),
    ("/explain", {"user": "a", "k": 2}),
    ("/feedback", {"user": "a", "events": [{"item": "w", "reward": 1}]}),
)

Target = Callable[[Path], tuple[list[bytes], Callable[[bytes], None]]]


def tables(frame: pl.DataFrame) -> Iterator[bytes]:
    """Yield a frame as Parquet, an Arrow file, an Arrow stream and zstd-compressed CSV."""
    out = io.BytesIO()
    frame.write_parquet(out)
    yield out.getvalue()
    table = frame.to_arrow()
    for opened in (pa.ipc.new_file, pa.ipc.new_stream):
        sink = pa.BufferOutputStream()
        with opened(sink, table.schema) as writer:
            writer.write_table(table)
        yield sink.getvalue().to_pybytes()
    yield pa.compress(frame.write_csv().encode(), "zstd", asbytes=True)


def file_of(folder: Path, name: str, read: Callable[[Path], Any]) -> Callable[[bytes], None]:
    """Return a function that writes its bytes to a file and reads that."""

    def one(content: bytes) -> None:
        (folder / name).write_bytes(content)
        read(folder / name)

    return one


def a_log(folder: Path) -> tuple[list[bytes], Callable[[bytes], None]]:
    """Logs in all formats."""
    frame = pl.DataFrame({"user": ["a", "b", "a"], "item": [1, 2, 2], "rating": [1.0, 2.0, 3.5], "time": [3, 2, 1]})
    seeds = [CSV, TSV, SPACES, ATOMIC, LINES, ARRAY, gzip.compress(CSV), CSV.decode().encode("utf-16"), *tables(frame)]
    return seeds, file_of(folder, "log.csv", read_log)


def side_tables(folder: Path) -> tuple[list[bytes], Callable[[bytes], None]]:
    """Features of items: lists, vectors, numbers, texts."""
    log = pl.DataFrame({"user": ["a", "b", "b"], "item": [1, 2, 3]})
    frame = pl.DataFrame({"item": [1, 2, 3], "tags": [["a"], [], None], "vector": [[0.1, 2.0], [0.5, 1.0], None]})
    seeds = [SIDE, SIDE_LINES, gzip.compress(SIDE), *islice(tables(frame), 3)]

    def read(file: Path) -> None:
        Content().fit(read_log(log, item_features=file))

    return seeds, file_of(folder, "items.csv", read)


def documents(folder: Path) -> tuple[list[bytes], Callable[[bytes], None]]:
    """Grouped documents in LETOR's format."""
    return [LETOR], file_of(folder, "train.txt", read_letor)


def bandit_logs(folder: Path) -> tuple[list[bytes], Callable[[bytes], None]]:
    """Logs of a policy."""
    frame = pl.read_csv(BANDIT)
    return [BANDIT, *islice(tables(frame), 3)], file_of(folder, "log.csv", read_bandit_log)


def ids(folder: Path) -> tuple[list[bytes], Callable[[bytes], None]]:
    """Files of ids; the first byte chooses the kind of file."""
    names = ("ids.txt", "ids.csv", "ids.parquet")
    parquet = next(tables(pl.DataFrame({"user_id": ["a", "b"]})))

    def read(content: bytes) -> None:
        file = folder / names[content[0] % 3 if content else 0]
        file.write_bytes(content[1:])
        ids_of(str(file), "users", "user")

    return [b"\0a\nb\n", b"\1user_id,x\na,1\n", b"\2" + parquet], read


def vectors(folder: Path) -> tuple[list[bytes], Callable[[bytes], None]]:
    """Files of item vectors."""
    seeds = []
    for array in (np.eye(3, dtype=np.float32), np.zeros((2, 2))):
        out = io.BytesIO()
        np.save(out, array)
        seeds.append(out.getvalue())
    return seeds, file_of(folder, "vectors.npy", vectors_of_file)


def saved_tables(folder: Path) -> tuple[list[bytes], Callable[[bytes], None]]:
    """Parquet files of saved folders."""
    frame = pl.DataFrame({"id": ["a", "b"], "kinds": [["x"], []], "both": [{"n": 1}, None]})
    return [next(tables(frame))], file_of(folder, "table.parquet", read_saved_table)


def small() -> Dataset:
    """Return a small data set with titles and features."""
    names = Vocabulary(list("abcd"), noun="user"), Vocabulary(list("wxyz"), noun="item")
    log = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
    kinds = pl.DataFrame({"kind": ["a", "b", "a", "b"]})
    return Dataset(log, *names, item_features=kinds, item_titles=pl.Series(["W", "X", "Y", "Z"]), name="small")


def written(folder: Path, model: Any) -> Path:
    """Write a run of a model."""
    data = small()
    folder.mkdir()
    fitted = model.fit(data)
    write_run(folder, config={}, model=fitted, seen=data.interactions, data=data, evaluations={}, stages=StageTimer())
    return folder


def parts_of(home: Path) -> list[tuple[Path, str | None]]:
    """Return the files of a folder, and the members of those that are archives."""
    files = sorted(one.relative_to(home) for one in home.rglob("*") if one.is_file())
    parts: list[tuple[Path, str | None]] = [(file, None) for file in files]
    for file in files:
        if file.suffix == ".npz":
            parts += [(file, name) for name in zipfile.ZipFile(home / file).namelist()]
    return parts


def folder_of(home: Path, load: Callable[[Path], Any]) -> tuple[list[bytes], Callable[[bytes], None]]:
    """Return a target of a saved folder: the first byte of an input chooses a file, or a member of one, that holds the rest.

    Checksums are those of the file as it is then, as who makes a folder can write them.
    """
    parts, copy = parts_of(home), home.with_name(f"{home.name}-read")
    shutil.copytree(home, copy)

    def content(file: Path, member: str | None) -> bytes:
        return (home / file).read_bytes() if member is None else zipfile.ZipFile(home / file).read(member)

    def enter(data: bytes) -> None:
        file, member = parts[data[0] % len(parts) if data else 0]
        config = (copy / file).parent / "config.yaml"
        if member is None:
            (copy / file).write_bytes(data[1:])
        else:
            with zipfile.ZipFile(home / file) as old, zipfile.ZipFile(copy / file, "w") as new:
                for name in old.namelist():
                    new.writestr(name, data[1:] if name == member else old.read(name))
        signed = file.name != "config.yaml" and config.exists()
        if signed:
            about = yaml.safe_load(config.read_text())
            if file.name in about.get("sha256", {}):
                about["sha256"][file.name] = sha256(copy / file)
                config.write_text(yaml.safe_dump(about))
        try:
            load(copy)
        finally:
            shutil.copyfile(home / file, copy / file)
            if signed:
                shutil.copyfile(home / config.relative_to(copy), config)

    return [bytes([at]) + content(*part) for at, part in enumerate(parts)], enter


def runs(folder: Path, model: Any) -> tuple[list[bytes], Callable[[bytes], None]]:
    """A run, which answers once it is loaded: arrays that do not fit may make that an error, but must not end the process."""

    def load(path: Path) -> None:
        run = load_run(path)
        with contextlib.suppress(Exception):
            run.recommend(["a", "d"], k=2)

    return folder_of(written(folder / "run", model), load)


def policies(folder: Path) -> tuple[list[bytes], Callable[[bytes], None]]:
    """A bandit policy."""
    Thompson().start(4).save(folder / "policy")
    return folder_of(folder / "policy", Thompson.load)


def indexes(folder: Path) -> tuple[list[bytes], Callable[[bytes], None]]:
    """An index of FAISS, which is searched once it is loaded."""
    vectors_ID = np.eye(4, dtype=np.float32)
    HNSW().build(vectors_ID).save(folder / "index")

    def load(path: Path) -> None:
        index = VectorIndex.load(path)
        with contextlib.suppress(Exception):
            index.search(vectors_ID, 2)

    return folder_of(folder / "index", load)


def requests(folder: Path) -> tuple[list[bytes], Callable[[bytes], None]]:
    """Bodies of requests; the first byte chooses the path. An answer that is not documented is a finding."""
    from recsys_dl.serving.app import REFUSALS, make_app
    from recsys_dl.serving.settings import Settings

    paths = list(dict.fromkeys(path for path, _ in BODIES))
    run = written(folder / "run", EASE())
    app = make_app(Settings(run=run, store=folder / "store", watch=0, learn=0))
    loop = asyncio.new_event_loop()

    async def ask(path: str, body: bytes) -> None:
        answers: list[Any] = []
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
        scope |= {"headers": [(b"content-type", b"application/json")], "http_version": "1.1", "scheme": "http"}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            answers.append(message)

        await app(scope | {"server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "root_path": ""}, receive, send)
        if answers[0]["status"] not in (200, *REFUSALS):
            raise AssertionError(f"status {answers[0]['status']}")
        json.loads(b"".join(one["body"] for one in answers[1:]))

    def enter(data: bytes) -> None:
        loop.run_until_complete(ask(paths[data[0] % len(paths) if data else 0], data[1:]))

    return [bytes([paths.index(path)]) + json.dumps(body).encode() for path, body in BODIES], enter


TARGETS: dict[str, Target] = {
    "log": a_log,
    "features": side_tables,
    "documents": documents,
    "bandit_log": bandit_logs,
    "ids": ids,
    "vectors": vectors,
    "saved_table": saved_tables,
    "run": lambda folder: runs(folder, ALS(embedding_size=4, epochs=1, device="cpu")),
    "pipeline": lambda folder: runs(
        folder, Pipeline({"content": Content()}, rerankers={"explore": Exploration(Thompson(), places=[2])})
    ),
    "policy": policies,
    "index": indexes,
    "request": requests,
}
