"""Safetensors and Parquet: only the arrays, for consumers with their own arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from torch import Tensor, nn

from .parts import Parts, Port, Written


def write_safetensors(parts: Parts, folder: Path) -> list[Written]:
    """Write `model.safetensors`: states, weights and lists."""
    from safetensors.numpy import save_file

    served, states = parts.served, parts.served.states
    arrays: dict[str, np.ndarray] = {"known_U": np.asarray(served.known_U, bool)}
    if isinstance(states, np.ndarray):
        arrays["states_US"] = states
    else:
        arrays |= _flat("states", states.tocsr()) | {"states.values": states.tocsr().data}
    if served.item_emb_ID is not None:
        arrays["item_emb_ID"] = served.item_emb_ID
    if served.popularity_I is not None:
        arrays["popularity_I"] = served.popularity_I
    if parts.seen is not None:
        arrays |= _flat("seen", parts.seen)
    if parts.allowed_I is not None:
        arrays["allowed_I"] = parts.allowed_I
    for name, module in (("scorer", served.scorer), ("user_tower", served.user_tower)):
        arrays |= _weights(name, module, arrays)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "model.safetensors")
    holds = [Port(name, str(array.dtype), array.shape) for name, array in arrays.items()]
    return [Written("model.safetensors", "states, weights and lists", outputs=holds)]


def write_parquet(parts: Parts, folder: Path) -> list[Written]:
    """Write `users.parquet` and `items.parquet`: a vector per id; the score of a pair is their inner product.

    Raises:
        ValueError: the model's scores are not inner products.
    """
    served = parts.served
    if served.item_emb_ID is None or not isinstance(served.states, np.ndarray):
        raise ValueError(
            "parquet holds a vector for each user and item, whose inner product is the score, and this model "
            "has none. Use safetensors for its arrays, or torchscript, onnx or torch_export to run it."
        )
    nobody_U = None if served.popularity_I is None else ~np.asarray(served.known_U, bool)
    users = {"id": pa.array(parts.user_ids, pa.string()), "vector": _vectors(served.states, nobody_U)}
    if parts.seen is not None:
        items = pa.array(parts.item_ids, pa.string()).take(pa.array(parts.seen.indices))
        users["seen"] = pa.LargeListArray.from_arrays(pa.array(parts.seen.indptr.astype(np.int64)), items)
    catalog = {"id": pa.array(parts.item_ids, pa.string()), "vector": _vectors(served.item_emb_ID)}
    if served.popularity_I is not None:
        catalog["popularity"] = pa.array(served.popularity_I)
    if parts.allowed_I is not None:
        catalog["allowed"] = pa.array(parts.allowed_I)
    written = []
    for name, columns in (("users", users), ("items", catalog)):
        table = pa.table(columns)
        pq.write_table(table, folder / f"{name}.parquet")
        holds = [Port(field.name, str(field.type), (len(table),)) for field in table.schema]
        written.append(Written(f"{name}.parquet", f"a row for each of the {name}", outputs=holds))
    return written


def _flat(name: str, matrix: sp.csr_matrix) -> dict[str, np.ndarray]:
    """Return where the rows of a matrix start, and their columns."""
    return {f"{name}.starts": matrix.indptr.astype(np.int64), f"{name}.columns": matrix.indices.astype(np.int32)}


def _weights(name: str, module: nn.Module | None, have: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors of a module by name, except those already present."""
    tensors: dict[str, Tensor] = {} if module is None else module.state_dict()
    arrays = {f"{name}.{key}": value.detach().cpu().numpy() for key, value in tensors.items()}
    return {key: one for key, one in arrays.items() if not any(np.array_equal(one, two) for two in have.values())}


def _vectors(emb: np.ndarray, missing: np.ndarray | None = None) -> Any:
    """Return a column of fixed-size vectors; null where missing."""
    mask = None if missing is None else pa.array(missing)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(emb)), emb.shape[1], mask=mask)
