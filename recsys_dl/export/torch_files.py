"""TorchScript and `torch.export` files, which need only torch."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.jit.frontend import FrontendError

from .compiled import Compiled, CompiledUsers, Fills
from .parts import Parts, Port, Written, ranked
from .recommender import Catalog, Traced, TracedUsers

OPEN = {name: Dim(name, min=1) for name in "BHE"}
EXAMPLE = {"B": 2, "H": 3, "E": 4}  # distinct, and none is 0 or 1, which would be specialized as constants


def catalog(parts: Parts) -> Catalog:
    """Return the module that scores all items, ready to be compiled."""
    module = Catalog(parts.served, len(parts.item_ids), parts.seen, parts.allowed_I)
    return module.eval().requires_grad_(False).cpu()


def write_torchscript(parts: Parts, folder: Path) -> list[Written]:
    """Write `recommender.pt`, which takes ids and any k, `user_tower.pt` and `scorer.pt`.

    Raises:
        ValueError: TorchScript cannot compile the model's modules.
    """
    whole, fills = catalog(parts), Fills(parts.extra)
    modules: dict[str, nn.Module] = {
        "recommender": Compiled(whole, fills, parts.user_ids, parts.item_ids, parts.bytes_a_user),
        "user_tower": CompiledUsers(whole.users, fills),
        "scorer": whole.scorer,
    }
    for name, module in modules.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of its own format
            try:
                compiled = torch.jit.script(module.eval())
            except (RuntimeError, FrontendError) as error:
                raise ValueError(f"TorchScript cannot compile its {name}: {error}") from error
        # torch's own writer aborts the process on a full disk; writing from Python raises an error
        (folder / f"{name}.pt").write_bytes(compiled.save_to_buffer())
    users, history, *extra = parts.tower
    call = [
        users,
        history,
        Port("exclude_BE", "int64", ("B", "E")),
        Port("allow_A", "int64", ("A",)),
        Port("k", "int", ()),
    ]
    return [
        Written("recommender.pt", "recommend, recommend_histories, forward", [*call, *extra], ranked("K")),
        *halves(parts, "pt"),
    ]


def write_torch_export(parts: Parts, folder: Path) -> list[Written]:
    """Write `recommender.pt2`, `user_tower.pt2` and `scorer.pt2`, with B, H and E open and k fixed.

    Raises:
        ValueError: `torch.export` cannot trace the model's modules.
    """
    whole = catalog(parts)
    programs: dict[str, tuple[nn.Module, list[Port]]] = {
        "recommender": (Traced(whole, parts.extra, parts.k), parts.asked),
        "user_tower": (TracedUsers(whole.users, parts.extra), parts.tower),
        "scorer": (whole.scorer, parts.states),
    }
    for name, (module, inputs) in programs.items():
        whole_file = io.BytesIO()
        torch.export.save(traced(name, module, inputs), whole_file)
        (folder / f"{name}.pt2").write_bytes(whole_file.getbuffer())
    return [
        Written("recommender.pt2", "the whole recommender", parts.asked, ranked(parts.k)),
        *halves(parts, "pt2"),
    ]


def halves(parts: Parts, ending: str) -> list[Written]:
    """Return descriptions of the two halves of a recommender."""
    return [
        Written(f"user_tower.{ending}", "users and histories -> states", parts.tower, parts.states),
        Written(f"scorer.{ending}", "states -> scores of the whole catalog", parts.states, parts.scores),
    ]


def traced(name: str, module: nn.Module, inputs: Sequence[Port]) -> ExportedProgram:
    """Return the exported program of a module with these inputs and dynamic axes."""
    sizes = [[EXAMPLE[size] if isinstance(size, str) else size for size in one.shape] for one in inputs]
    examples = tuple(
        torch.full(size, one.fill or 0).to(getattr(torch, one.dtype)) for one, size in zip(inputs, sizes, strict=True)
    )
    axes = [{axis: OPEN[size] for axis, size in enumerate(one.shape) if isinstance(size, str)} for one in inputs]
    extra = len(getattr(module, "names", ()))  # passed as `*extra`, which is one argument
    shapes: tuple[Any, ...] = (*axes[:-extra], tuple(axes[-extra:])) if extra else tuple(axes)
    try:
        with torch.no_grad():
            return torch.export.export(module.eval(), examples, dynamic_shapes=shapes)
    except RuntimeError as error:  # torch raises its own errors as this class
        raise ValueError(f"torch.export cannot trace its {name}: {error}") from error
