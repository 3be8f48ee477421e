"""ONNX files, which need only onnxruntime."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .onnx_solver import solve_ex
from .parts import Parts, Port, Written, ranked
from .recommender import TracedForOnnx, TracedUsers
from .torch_files import EXAMPLE, catalog, halves, traced

WITHIN = (
    1 << 30
)  # bytes of weights stored in the file itself; more go into separate files, since ONNX files are limited to 2 GB


def write_onnx(parts: Parts, folder: Path) -> list[Written]:
    """Write `recommender.onnx`, `user_tower.onnx` and `scorer.onnx`, with B, H and E open and k fixed.

    Raises:
        ValueError: the model's modules use an operation that `torch.export` cannot trace or ONNX does not support.
    """
    whole = catalog(parts)
    graphs: dict[str, tuple[nn.Module, list[Port], list[Port]]] = {
        "recommender": (TracedForOnnx(whole, parts.extra, parts.k), parts.asked, ranked(parts.k)),
        "user_tower": (TracedUsers(whole.users, parts.extra), parts.tower, parts.states),
        "scorer": (whole.scorer, parts.states, parts.scores),
    }
    notes = {"users": parts.user_ids, "items": parts.item_ids, "about": dict(parts.about)}
    for name, (module, inputs, outputs) in graphs.items():
        program = _converted(name, module, inputs, outputs)
        program.model.metadata_props.update(
            {key: json.dumps(value, ensure_ascii=False) for key, value in notes.items()}
        )
        size = sum(value.nbytes for value in module.state_dict().values())
        program.save(folder / f"{name}.onnx", external_data=size > WITHIN)
    return [
        Written("recommender.onnx", "the whole recommender", parts.asked, ranked(parts.k)),
        *halves(parts, "onnx"),
    ]


def _converted(name: str, module: nn.Module, inputs: Sequence[Port], outputs: Sequence[Port]) -> Any:
    """Return a module's ONNX program, with our axis names."""
    program = traced(name, module, inputs)
    spoken = logging.getLogger("torch.onnx")
    level = spoken.level
    spoken.setLevel(logging.ERROR)  # otherwise it warns about missing torchvision operators
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecation warnings
            converted: Any = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[one.name for one in inputs],
                output_names=[one.name for one in outputs],
                custom_translation_table={torch.ops.aten.linalg_solve_ex.default: solve_ex},
                verbose=False,
            )
    except RuntimeError as error:
        raise ValueError(f"ONNX cannot represent its {name}: {error}") from error
    finally:
        spoken.setLevel(level)
    graph = converted.model.graph
    ours: dict[str, Any] = {}
    for one, value in zip(inputs, graph.inputs, strict=True):
        ours |= {str(dim): size for dim, size in zip(value.shape, one.shape, strict=True) if size in EXAMPLE}
    for value in (*graph.inputs, *graph.outputs, *(out for node in graph for out in node.outputs)):
        for axis, dim in enumerate(value.shape or ()):
            if str(dim) in ours:
                value.shape[axis] = ours[str(dim)]
    return converted
