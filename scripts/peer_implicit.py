"""A plain FastAPI server of an ALS model of implicit, beside which bench_serving.py measures: run under the peer's own Python, never imported.

    python peer_implicit.py FOLDER

FOLDER holds model.npz (user and item factors), seen.npz (CSR of what users interacted with) and ids.json. It prints its port, and answers POST
/recommend {"user": ID, "k": 10} with the items, their scores and titles: one model call a request, no batches, limits, log or store.
"""

import json
import os
import socket
import sys
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as implicit asks for

import numpy as np
import scipy.sparse as sp
import uvicorn
from fastapi import FastAPI, HTTPException
from implicit.cpu.als import AlternatingLeastSquares
from pydantic import BaseModel

folder = Path(sys.argv[1])
factors, seen = np.load(folder / "model.npz"), sp.load_npz(folder / "seen.npz")
ids = json.loads((folder / "ids.json").read_text())
rows = {user: row for row, user in enumerate(ids["users"])}
model = AlternatingLeastSquares(factors=factors["items"].shape[1])
model.user_factors, model.item_factors = factors["users"], factors["items"]


class Wanted(BaseModel):
    """A request."""

    user: str
    k: int = 10


app = FastAPI()


@app.post("/recommend")
def recommend(wanted: Wanted) -> dict:
    """Return a list."""
    row = rows.get(wanted.user)
    if row is None:
        raise HTTPException(404, "unknown user")
    items, scores = model.recommend(row, seen[row], N=wanted.k)
    pairs = zip(items.tolist(), scores.tolist(), strict=True)
    return {"items": [{"item": ids["items"][item], "score": score} for item, score in pairs]}


listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as sockets have that asyncio opens itself
print(listening.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])
