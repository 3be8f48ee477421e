"""Lists of many users as a folder of Parquet files, one per block of users, written by one process or several, and resumed.

lists/
  _request.json        what was asked for; a repeated command must ask for the same
  part-00000.parquet   user_id, item_id, rank, score, in the order of the users
  _SUCCESS             rows, users and parts; written when all parts are there
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from recsys_dl.folders import new_file, sha256, writing
from recsys_dl.leftovers import lock
from recsys_dl.processes import current
from recsys_dl.progress import track

COLUMNS = ["user_id", "item_id", "rank", "score"]
MOST_PARTS, FEWEST_USERS, MOST_USERS = 64, 1024, 65536  # parts of a small folder; users of a part
REQUEST, SUCCESS = "_request.json", "_SUCCESS"


def write_parts(run: Any, folder: Path, k: int, asked: Mapping[str, Any], lists: Mapping[str, Any], size: int) -> int:
    """Write the missing parts of a folder of lists; return the number of rows of all.

    Args:
        run: whose lists.
        folder: new, or with parts of the same request.
        k: list length.
        asked: for whom, as `Run.requested` takes it.
        lists: `allow` and `exclude`, as `Run.recommend` takes them.
        size: users at once.

    Raises:
        FileExistsError: the folder holds something else, or another command writes there.
    """
    requests, group = run.requested(**asked), current()
    users_each = min(max(-(-len(requests) // (MOST_PARTS * size)) * size, FEWEST_USERS), MOST_USERS)
    names = [f"part-{number:05d}.parquet" for number in range(-(-len(requests) // users_each))]
    request = {
        "run": str(run.folder.resolve()),
        "manifest": sha256(run.folder / "manifest.json"),
        "k": k,
        "users": len(requests),
        "users_each": users_each,
        "asked": _digest([requests.names.to_list(), asked.get("tastes")]),
        **{name: None if lists.get(name) is None else _digest(lists[name]) for name in ("allow", "exclude")},
    }
    with _held(folder, request) if group.rank == 0 else nullcontext():
        missing = group.gather([name for name in names if not (folder / name).exists()])[0]
        for name in track(missing[group.rank :: group.size], "recommend, files"):
            first = names.index(name) * users_each
            part = requests.part(slice(first, first + users_each))
            _write(run.lists_in_blocks(part, k, **lists, users_at_once=size), folder / name)
        group.gather(None)  # until all parts are there
        rows = 0
        if group.rank == 0:
            import pyarrow.parquet as pq

            rows = sum(pq.read_metadata(folder / name).num_rows for name in names)
            with new_file(folder / SUCCESS) as aside:
                aside.write_text(json.dumps({"rows": rows, "users": len(requests), "parts": len(names)}) + "\n")
    return rows


@contextmanager
def _held(folder: Path, request: dict[str, Any]) -> Iterator[None]:
    """Make the folder, or check that it holds parts of the same request, and lock it."""
    with writing(folder):
        folder.mkdir(exist_ok=True)
    with lock(folder) as mine:
        if mine is False:
            raise FileExistsError(f"{folder} is being written by another command; wait for it, or name another folder")
        file = folder / REQUEST
        if file.is_file():
            found = json.loads(file.read_text())
            differ = [name for name in request if found.get(name) != request[name]]
            if differ:
                words = ", ".join(
                    f"{name} was {found.get(name)}, is {request[name]}"
                    for name in ([name for name in differ if name in ("run", "k", "users")] or differ)[:3]
                )
                raise FileExistsError(
                    f"{folder} holds lists of another request: {words}. Name another folder, or remove this one"
                )
        elif any(folder.iterdir()):
            raise FileExistsError(
                f"output must be a new folder, or one that this command began, but {folder} holds something else; name another"
            )
        else:
            with new_file(file) as aside:
                aside.write_text(json.dumps(request, indent=2) + "\n")
        yield


def _write(frames: Iterator[Any], file: Path) -> None:
    import pyarrow.parquet as pq

    with new_file(file) as aside, aside.open("wb") as out:
        writer = None
        for frame in frames:
            arrow = frame.select(COLUMNS).to_arrow()
            writer = writer or pq.ParquetWriter(out, arrow.schema)
            writer.write_table(arrow)
        assert writer is not None
        writer.close()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:16]
