"""Checkpoints of tables that are divided among processes: each process writes its rows, and any number of them reads them back.

Beside the checkpoint of the first process, which holds everything else, lies a folder of arrays `KEY.FIRST.npy`: the rows from FIRST of a
table, or of an optimizer's state or best weights for it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recsys_dl.networks.sharded import ShardedEmbedding, sharded_tables

FOLDERS = "tables-*"
BEST = "Monitor"  # the callback that keeps the best weights


def take_out(checkpoint: dict[str, Any], network: nn.Module, folder: Path) -> None:
    """Write the rows of this process to a folder, and leave empty tensors in the checkpoint."""
    for key, holder, name, table in _places(checkpoint, network):
        np.save(folder / f"{key}.{table.first}.npy", holder[name].detach().cpu().numpy())
        holder[name] = torch.empty(0)


def put_back(checkpoint: dict[str, Any], network: nn.Module, folder: Path) -> None:
    """Read the rows of this process into a checkpoint.

    Raises:
        ValueError: rows are missing.
    """
    for key, holder, name, table in _places(checkpoint, network):
        holder[name] = _read(folder, key, table)


def new_parts(folder: Path) -> str:
    """Create a folder of parts; return its name."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=FOLDERS[:-1], dir=folder)).name


def remove_others(folder: Path, newest: str) -> None:
    """Remove all folders of parts but the newest."""
    for other in folder.glob(FOLDERS):
        if other.name != newest:
            shutil.rmtree(other)


def _places(
    checkpoint: dict[str, Any], network: nn.Module
) -> Iterator[tuple[str, dict[str, Tensor], str, ShardedEmbedding]]:
    """Yield, for each tensor of rows: its key, the dict that holds it, its name there, and the table. The live state is not touched."""
    tables = sharded_tables(network)
    for name, table in tables.items():
        yield f"network.{name}", checkpoint["state_dict"], f"network.{name}", table
    best = checkpoint["callbacks"].get(BEST, {}).get("best")
    if best is not None:
        best = dict(best)
        checkpoint["callbacks"][BEST] = checkpoint["callbacks"][BEST] | {"best": best}
        for name, table in tables.items():
            yield f"best.{name}", best, name, table
    learnable = [name for name, weights in network.named_parameters() if weights.requires_grad]
    states = checkpoint["optimizer_states"][0]["state"]
    for number, state in states.items():
        if learnable[number] in tables:
            states[number] = own = dict(state)
            for key, value in state.items():
                if isinstance(value, Tensor) and value.dim():
                    yield f"{key}.{learnable[number]}", own, key, tables[learnable[number]]


def _read(folder: Path, key: str, table: ShardedEmbedding) -> Tensor:
    """Return the rows of a table, from the parts that overlap them."""
    found: list[np.ndarray] = []
    have = table.first
    for first, file in sorted((int(file.suffixes[-2][1:]), file) for file in folder.glob(f"{key}.*.npy")):
        part = np.load(file, mmap_mode="r", allow_pickle=False)
        if first <= have < first + len(part):
            found.append(part[have - first : table.last - first])
            have += len(found[-1])
    if have < table.last:
        raise ValueError(
            f"{folder} must hold rows {table.first} to {table.last} of {key}, but has none from row {have}; restore it, or remove "
            f"{folder.parent} to start from scratch"
        )
    return torch.from_numpy(np.concatenate(found))
