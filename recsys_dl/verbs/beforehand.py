"""Validation up front, before a log is read and a model fitted, of what would otherwise fail hours later."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

HELD_OUT = {  # part -> split settings that determine its size
    "validation": ("validation", "num_validation"),
    "test": ("test", "num_test"),
}
NO_SPLIT = "recsys_dl.data.split.no_split"


def settle_split(config: DictConfig) -> None:
    """Replace `split=null` by its meaning, training on everything."""
    if config.get("split") is None:
        with open_dict(config):
            config.split = {"_target_": NO_SPLIT, "_partial_": True}


def holds_out(config: DictConfig, part: str) -> bool:
    """Return whether a config's split settings produce a validation or test part."""
    if config.split._target_ == NO_SPLIT:
        return False
    return all(config.split.get(name) != 0 for name in HELD_OUT[part])


def holds_out_nothing(config: DictConfig) -> bool:
    """Return whether a config trains on everything, so that there is nothing to evaluate."""
    return not (holds_out(config, "validation") or holds_out(config, "test"))


def chosen(config: DictConfig) -> DictConfig:
    """Return the trained part of a config: its pipeline if there is one, else its model, with the index that serves it if any."""
    if config.get("pipeline") is not None:
        return config.pipeline
    if config.get("index") is None:
        return config.model
    parts = {name: OmegaConf.to_container(config[name], resolve=True) for name in ("model", "index")}
    return OmegaConf.create({"_target_": "recsys_dl.retrieval.retriever.Retriever", **parts})


def check_beforehand(config: DictConfig, trainer: Any) -> None:
    """Reject requests that the model, the split or the disk cannot satisfy.

    Raises:
        ValueError: settings that the model does not take together, a part to evaluate on, or for early stopping, that the split does not produce; an index for a model without vectors.
        ImportError, RuntimeError: requirements of an index are missing; says what to install.
        OSError: an invalid checkpoint folder.
    """
    if config.get("index") is not None and config.get("pipeline") is None:
        _check_index(config)
    model = instantiate(chosen(config))  # what a constructor refuses; it computes nothing
    part = config.evaluate.part
    if part not in HELD_OUT:
        raise ValueError(f"evaluate.part must be validation or test, got {part!r}")
    split = config.split._target_.rpartition(".")[2]
    if not holds_out_nothing(config) and not holds_out(config, part):
        other = "test" if part == "validation" else "validation"
        raise ValueError(
            f"evaluate.part={part} needs a {part} part, but {_zero(config, part)} holds none out. Use evaluate.part={other}, "
            f"hold some out, or train on everything without figures: split=none"
        )
    if trainer.patience is not None and not holds_out(config, "validation"):
        why = "split=none" if split == "no_split" else _zero(config, "validation")
        raise ValueError(
            f"trainer.patience={trainer.patience} needs a validation part, but {why} holds none out. Leave trainer.patience "
            "out and set model.epochs, or hold a validation part out and then fit on everything: recsys-dl refit run=…"
        )
    check_tables(config, trainer, model)
    if trainer.checkpoint is not None:
        for folder in (Path(trainer.checkpoint).absolute(), *Path(trainer.checkpoint).absolute().parents):
            if folder.exists():
                if not folder.is_dir():
                    raise NotADirectoryError(
                        f"trainer.checkpoint={trainer.checkpoint} must be a folder, but {folder} is a file; name another"
                    )
                break


def check_tables(config: DictConfig, trainer: Any, model: Any) -> None:
    """Reject dividing the tables of a model that has none that can be.

    Raises:
        ValueError: `trainer.shard_tables` for such a model.
    """
    if not trainer.shard_tables:
        return
    from recsys_dl.training.options import WITHOUT_TABLES

    pipeline = config.get("pipeline") is not None
    if pipeline or not getattr(getattr(model, "model", model), "shards_tables", False):
        name = "a pipeline" if pipeline else f"model={config.model._target_.split('.')[-2]}"
        raise ValueError(f"{WITHOUT_TABLES} for {name}")


def _check_index(config: DictConfig) -> None:
    """Reject an index that cannot be built here, or for a model whose scores are not inner products."""
    from recsys_dl.compose import options
    from recsys_dl.compose.options import text_of
    from recsys_dl.compose.types import located

    def has_vectors(target: str) -> bool:
        return getattr(located(target, "model"), "has_vectors", lambda: True)()

    if not has_vectors(config.model._target_):
        targets = {
            name: re.findall(r"^_target_: (\S+)", text_of(f"model/{name}"), re.M)[0] for name in options("model")
        }
        suited = [name for name, target in targets.items() if has_vectors(target)]
        raise ValueError(
            f"index={config.index._target_.split('.')[-2]} needs a model whose scores are inner products of vectors, and those of "
            f"{config.model._target_.rpartition('.')[2]} are not. Use model={', '.join(suited)}; or leave index out"
        )
    instantiate(config.index).check(sys.maxsize)  # the number of items is known, and checked, before the fit


def check_parts(config: DictConfig, asked: Any, train: Any) -> None:
    """Reject an evaluation for which the split log has no data."""
    from recsys_dl.data.relevance import relevant_items

    num_items = train.num_items
    part, k = config.evaluate.part, list(config.evaluate.k)
    if not len(asked):
        raise ValueError(
            f"evaluate.part={part} has no interactions after the split; hold more out, or use another part"
        )
    if not 1 <= min(k) <= max(k) <= num_items:
        raise ValueError(
            f"evaluate.k must be between 1 and the {num_items} items, got {k}; set evaluate.k=[{num_items}]"
        )
    relevant_items(asked, train.interactions, config.evaluate.get("relevant_from"), part=part)


def _zero(config: DictConfig, part: str) -> str:
    return next(f"split.{name}=0" for name in HELD_OUT[part] if config.split.get(name) == 0)
