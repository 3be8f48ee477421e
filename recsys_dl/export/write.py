"""Writing an export: a folder of files and a manifest, created atomically."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recsys_dl.data.dataset import Dataset, check_numbering, seen_of
from recsys_dl.data.interactions import Interactions
from recsys_dl.folders import new_folder, sha256
from recsys_dl.protocols import Exportable
from recsys_dl.version import __version__

from .parts import Parts, Port, Written

NEEDS = {  # format -> required packages besides numpy, by pip name
    "torchscript": ("torch",),
    "torch_export": ("torch",),
    "onnx": ("torch", "onnx", "onnxscript"),
    "safetensors": ("safetensors",),
    "parquet": ("pyarrow",),
}
FORMATS = tuple(NEEDS)
LAYOUT = 1  # version of the folder layout; increased on incompatible changes


def export(
    model: Any,
    output: str | os.PathLike[str],
    *,
    format: str = "torchscript",
    seen: Dataset | Interactions | None = None,
    exclude_seen: bool = True,
    allow: Sequence[Any] | None = None,
    k: int = 100,
    titles: Sequence[str | None] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write a fitted model to a new folder that another process serves without this package; return the folder.

    Args:
        model: fitted on a Dataset, so that it has ids; `protocols.Exportable`.
        output: the folder.
        format: "torchscript", "onnx", "torch_export" (user in, top k out), "safetensors" or "parquet".
        seen: known interactions, in the model's rows: a Dataset's `seen` (of the training data), or Interactions. Users
            without training interactions are folded in from it, ignoring weights of 0.
        exclude_seen: whether to never recommend these; requires `seen`. Items of a history passed in a call are never recommended.
        allow: ids of the only items that may be recommended; None allows all.
        k: length of the lists of "onnx" and "torch_export", at most the number of items; truncate lists for a
            smaller k. The others take any k.
        titles: of the items, in row order, for `titles.json`; null where unknown.
        about: information on the model's origin, for the manifest.

    Raises:
        ValueError: an unknown format or one that cannot represent this model, a model without ids, k below 1, an empty `allow` or an
            unknown id in it, `exclude_seen` without `seen`, or `seen` over different rows.
        ImportError: a package that the format needs is not installed.
        FileExistsError: the folder exists.

    Examples:
        >>> from recsys_dl import read_log
        >>> from recsys_dl.export import export
        >>> from recsys_dl.models import ItemKNN
        >>> log = read_log([("ann", "b1"), ("ann", "b2"), ("bob", "b2")])
        >>> folder = export(ItemKNN(device="cpu").fit(log), "served", seen=log.seen)
        >>> (folder / "recommender.pt").exists()
        True
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    missing = [name for name in NEEDS[format] if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"format={format} needs {' and '.join(missing)}: pip install 'recsys_dl[export]'")
    parts = _parts(model, seen, exclude_seen, allow, k, titles, about)
    with new_folder(output) as folder:
        try:
            written = _writer(format)(parts, folder)
        except ValueError as error:
            raise ValueError(f"format={format} cannot represent {type(model).__name__}: {error}") from error
        written += _beside(parts, format, folder)
        manifest = _manifest(parts, format, type(getattr(model, "model", model)), written, folder)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    return Path(output)


def _parts(
    model: Any,
    given: Dataset | Interactions | None,
    exclude_seen: bool,
    allow: Sequence[Any] | None,
    k: int,
    titles: Sequence[str | None] | None,
    about: Mapping[str, Any] | None,
) -> Parts:
    name = type(model).__name__
    if not isinstance(model, Exportable):
        raise ValueError(
            f"a model must offer served() to be exported, and {name} does not: docs/export.md says which do"
        )
    users, items = getattr(model, "users", None), getattr(model, "items", None)
    if users is None or items is None:
        raise ValueError(f"an export is queried by id, and this {name} has none: fit it on a Dataset (read_log)")
    if titles is not None and len(titles) != len(items):
        raise ValueError(f"titles must be one for each of {len(items):,} items, got {len(titles):,}")
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k must be a whole number of at least 1, got {k!r}")
    if given is None and exclude_seen:
        raise ValueError(
            "exclude_seen=True, the default, excludes known interactions, so the export needs them: "
            "seen=train (the model's training data); or exclude_seen=False, which may recommend items users already have"
        )
    check_numbering(given, users, items)
    seen = None if given is None else seen_of(given)
    if seen is not None and (seen.num_users > len(users) or seen.num_items != len(items)):
        raise ValueError(
            f"seen must be over the model's {len(users)} users and {len(items)} items, got {seen.num_users} and {seen.num_items}"
        )
    served = model.served(None if seen is None else seen.select(seen.weights_N > 0))
    if served.user_tower is None and served.popularity_I is None:
        raise ValueError(f"{name}.served() must return a user_tower, or popularity_I for new users; it returns neither")
    allowed_I = served.listed_I
    if allow is not None:
        if not len(allow):
            raise ValueError("allow must name at least one item id, or be None to allow all; got an empty list")
        allowed_I = np.zeros(len(items), bool)
        allowed_I[items.rows(allow)] = True
        allowed_I &= True if served.listed_I is None else served.listed_I
        if not allowed_I.any():
            raise ValueError(
                f"{name} knows nothing of the items in allow, so that none can be recommended: allow others"
            )
    return Parts(
        served=served,
        user_ids=users.ids.to_list(),
        item_ids=items.ids.to_list(),
        seen=seen.by_user if seen is not None and exclude_seen else None,
        allowed_I=allowed_I,
        k=min(k, len(items)),
        titles=None if titles is None else list(titles),
        about=dict(about or {}),
    )


def _writer(format: str) -> Callable[[Parts, Path], list[Written]]:
    """Return the writer of a format; each has its own slow imports."""
    if format == "onnx":
        from .onnx_files import write_onnx

        return write_onnx
    if format in ("safetensors", "parquet"):
        from . import array_files

        return array_files.write_safetensors if format == "safetensors" else array_files.write_parquet
    from . import torch_files

    return torch_files.write_torchscript if format == "torchscript" else torch_files.write_torch_export


def _beside(parts: Parts, format: str, folder: Path) -> list[Written]:
    """Write the ids in row order, and the item embeddings unless they are in the format's own files."""
    if format == "parquet":
        return []
    written = []
    for noun, ids in (("users", parts.user_ids), ("items", parts.item_ids)):
        (folder / f"{noun}.json").write_text(json.dumps(ids, ensure_ascii=False) + "\n")
        written.append(Written(f"{noun}.json", "ids in the order of their rows"))
    if parts.titles is not None:
        (folder / "titles.json").write_text(json.dumps(parts.titles, ensure_ascii=False) + "\n")
        written.append(Written("titles.json", "titles of the items in the order of their rows, null where unknown"))
    emb = parts.served.item_emb_ID
    if format != "safetensors" and emb is not None:
        np.save(folder / "item_embeddings.npy", emb, allow_pickle=False)
        holds = Port("item_emb_ID", str(emb.dtype), emb.shape)
        written.append(Written("item_embeddings.npy", "score = <state, embedding>", outputs=[holds]))
    return written


def _manifest(parts: Parts, format: str, cls: type, written: list[Written], folder: Path) -> dict[str, Any]:
    served = parts.served
    files = {
        one.name: {
            "holds": one.holds,
            "inputs": {port.name: port.described for port in one.inputs},
            "outputs": {port.name: port.described for port in one.outputs},
            "bytes": (folder / one.name).stat().st_size,
            "sha256": sha256(folder / one.name),
        }
        for one in written
    }
    for extra in sorted(file.name for file in folder.iterdir() if file.name not in files):
        file = folder / extra
        files[extra] = {
            "holds": "weights of the file of that name",
            "bytes": file.stat().st_size,
            "sha256": sha256(file),
        }
    unseen = "by user_tower, from their history" if served.user_tower is not None else "the most popular items"
    nothing = "by user_tower" if served.popularity_I is None else "the most popular items, scored by popularity_I"
    return {
        "layout": LAYOUT,
        "format": format,
        "model": f"{cls.__module__}.{cls.__qualname__}",
        "versions": {"recsys_dl": __version__, "numpy": np.__version__}
        | {name: importlib.metadata.version(name) for name in NEEDS[format]},
        "users": len(parts.user_ids),
        "items": len(parts.item_ids),
        "state_size": parts.state_size,
        "inner_product": served.item_emb_ID is not None,
        "k": parts.k if format in ("onnx", "torch_export") else None,
        "bytes_a_user": parts.bytes_a_user,
        "files": files,
        "conventions": {
            "rows": "positions in users.json and items.json; -1 is nobody, nothing, padding",
            "ties": "equal scores: the lower item row first",
            "padding": "a list that runs out of items ends in -1 and scores of -inf",
            "history": "item rows, oldest first; rows that are no item are passed over",
            "known users": "by their stored state, whatever the history",
            "unseen users": unseen,
            "nothing known of a user": nothing,
            "excluded": "exclude_BE, the items of history_BH"
            + ("" if parts.seen is None else ", and what a known user interacted with"),
            "allowed": "all items" if parts.allowed_I is None else f"{int(parts.allowed_I.sum())} items, fixed",
        },
        "about": dict(parts.about),
    }
