"""Small runs, and a server of one of them in a process of its own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import polars as pl
from processes import Going

from recsys_dl import Interactions
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.models import EASE
from recsys_dl.pipeline import Pipeline
from recsys_dl.rerankers import Exploration
from recsys_dl.runs import StageTimer, write_run

TOKEN = "correct horse"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
USERS, ITEMS = 40, 30


def data() -> Dataset:
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((USERS, ITEMS)) < 0.2)
    log = Interactions(users, items, num_users=USERS, num_items=ITEMS)
    names = Vocabulary(range(100, 100 + USERS), noun="user"), Vocabulary(range(500, 500 + ITEMS), noun="item")
    return Dataset(log, *names, item_titles=pl.Series([f"Title {i}" for i in range(ITEMS)]), name="small")


def write(folder: Path, model) -> None:
    folder.mkdir(parents=True)
    log = data()
    fitted = model.fit(log)
    write_run(folder, config={}, model=fitted, seen=log.interactions, data=log, evaluations={}, stages=StageTimer())


def start(folder: Path, *words: str, **environment: str):
    """Start a server; return its process and its address."""
    process = Going("serve", "port=0", *words, cwd=folder, err=folder / "log.jsonl", environment=environment)
    line = process.line()
    assert line.startswith("http://"), (line, (folder / "log.jsonl").read_text()[-2000:])
    return process, line.split()[0]


def write_runs(folder: Path) -> None:
    """Write runs/ease and runs/pipeline, and the link runs/now to the first."""
    write(folder / "runs/ease", EASE(regularization=5.0))
    explored = Pipeline({"ease": EASE(regularization=5.0)}, rerankers={"explore": Exploration(places=[2])})
    write(folder / "runs/pipeline", explored)
    (folder / "runs/now").symlink_to("ease")


def running(folder: Path) -> Iterator[httpx.Client]:
    """Yield a client of a server of runs/now, which must end in order."""
    words = ("run=runs/now", "timeout=2", "queue_size=64", "body_kb=64", "watch=0.2", "max_k=20", "threads=1")
    process, address = start(folder, *words, RECSYS_DL_TOKEN=TOKEN)
    with httpx.Client(base_url=address, headers=HEADERS, timeout=20) as client:
        yield client
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert "Traceback" not in (folder / "log.jsonl").read_text()


def ask(server, path: str, **body):
    return server.post(path, json=body)
