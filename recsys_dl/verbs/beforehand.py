"""What is checked before a log is read and a model fitted: what would else be an error hours later."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

HELD_OUT = {  # part -> settings of splits that say how much of it there is
    "validation": ("validation", "num_validation"),
    "test": ("test", "num_test"),
}
NO_SPLIT = "recsys_dl.data.split.no_split"


def settle_split(config: DictConfig) -> None:
    """Write `split=null` as what it means, to train on everything."""
    if config.get("split") is None:
        with open_dict(config):
            config.split = {"_target_": NO_SPLIT, "_partial_": True}


def holds_out(config: DictConfig, part: str) -> bool:
    """Return whether a config's split makes a validation or test part, as far as its settings say."""
    if config.split._target_ == NO_SPLIT:
        return False
    return all(config.split.get(name) != 0 for name in HELD_OUT[part])


def holds_out_nothing(config: DictConfig) -> bool:
    """Return whether a config trains on everything, so that there is nothing to evaluate."""
    return not (holds_out(config, "validation") or holds_out(config, "test"))


def check_beforehand(config: DictConfig, trainer: Any) -> None:
    """Refuse what a config asks for and its model, its split, or the disk, cannot give.

    Raises:
        ValueError: a part to evaluate on, or to stop by, that the split does not make; an index of a model without vectors.
        ImportError, RuntimeError: what an index needs is missing; says what to install.
        OSError: a place for checkpoints that cannot be one.
    """
    if config.get("index") is not None and config.get("pipeline") is None:
        _check_index(config)
    part = config.evaluate.part
    if part not in HELD_OUT:
        raise ValueError(f"evaluate.part must be validation or test, got {part!r}")
    split = config.split._target_.rpartition(".")[2]
    if not holds_out_nothing(config) and not holds_out(config, part):
        other = "test" if part == "validation" else "validation"
        raise ValueError(
            f"evaluate.part={part} needs a {part} part, but {_zero(config, part)} holds none out. Take evaluate.part={other}, "
            f"hold some out, or train on everything without figures: split=none"
        )
    if trainer.patience is not None and not holds_out(config, "validation"):
        why = "split=none" if split == "no_split" else _zero(config, "validation")
        raise ValueError(
            f"trainer.patience={trainer.patience} stops by a validation part, but {why} holds none out. Leave trainer.patience "
            "out and set model.epochs, or hold a validation part out and then fit on everything: recsys-dl refit run=…"
        )
    if trainer.checkpoint is not None:
        for folder in (Path(trainer.checkpoint).absolute(), *Path(trainer.checkpoint).absolute().parents):
            if folder.exists():
                if not folder.is_dir():
                    raise NotADirectoryError(
                        f"trainer.checkpoint={trainer.checkpoint} must be a folder, but {folder} is a file; name another"
                    )
                break


def _check_index(config: DictConfig) -> None:
    """Refuse an index that cannot be built here, or of a model whose scores are no inner products."""
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
            f"{config.model._target_.rpartition('.')[2]} are not. Take model={', '.join(suited)}; or leave index out"
        )
    instantiate(config.index).check(sys.maxsize)  # the number of items is known, and checked, before the fit


def check_parts(config: DictConfig, asked: Any, train: Any) -> None:
    """Refuse an evaluation that a log, once split, has nothing for."""
    from recsys_dl.data.relevance import relevant_items

    num_items = train.num_items
    part, k = config.evaluate.part, list(config.evaluate.k)
    if not len(asked):
        raise ValueError(
            f"evaluate.part={part} holds no interaction after the split; hold more out, or take another part"
        )
    if not 1 <= min(k) <= max(k) <= num_items:
        raise ValueError(f"evaluate.k must lie between 1 and the {num_items} items there are, got {k}")
    relevant_items(asked, train.interactions, config.evaluate.get("relevant_from"), part=part)


def _zero(config: DictConfig, part: str) -> str:
    return next(f"split.{name}=0" for name in HELD_OUT[part] if config.split.get(name) == 0)
