"""The best trial of a sweep or a study as an experiment that `recsys-dl train` composes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

log = logging.getLogger(__name__)


def write_experiment(folder: Path, words: Sequence[str], about: str) -> Path | None:
    """Write the config of the words as `experiment/best.yaml` in a folder; None if it cannot be an experiment.

    It names the options that are chosen, and every setting that differs from them; `about` is its first line.
    """
    from recsys_dl.compose import compose, compose_command
    from recsys_dl.compose.composing import composed
    from recsys_dl.compose.options import groups_of
    from recsys_dl.compose.words import read_words
    from recsys_dl.folders import new_file

    _, places = composed("train", read_words(words, "train"), checked=False)
    chosen = {group: places[group] for group in groups_of("train") if group != "experiment" and places.get(group)}
    wanted: Any = OmegaConf.to_container(compose_command("train", words))
    plain: Any = OmegaConf.to_container(compose("train", [f"{group}={option}" for group, option in chosen.items()]))
    defaults = [{f"override /{group}": option} for group, option in chosen.items()]
    head = f"# @package _global_\n# {about}\n"
    text = head + yaml.safe_dump(
        {"defaults": defaults} | _difference(plain, wanted), sort_keys=False, allow_unicode=True
    )
    file = folder / "experiment" / "best.yaml"
    file.parent.mkdir(exist_ok=True)
    with new_file(file) as aside:
        aside.write_text(text, encoding="utf-8")
    again: Any = OmegaConf.to_container(
        compose_command("train", [f"hydra.searchpath=[file://{folder}]", "experiment=best"])
    )
    if again != wanted:  # settings that were removed, which an experiment cannot do
        file.unlink()
        log.warning("no experiment/best.yaml: these settings cannot be written as one; the command repeats them")
        return None
    return file


def _difference(plain: Any, wanted: Any) -> dict[str, Any]:
    """Return the settings of `wanted` that are not those of `plain`, nested alike."""
    apart: dict[str, Any] = {}
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(plain.get(key), dict):
            if inner := _difference(plain[key], value):
                apart[key] = inner
        elif key not in plain or plain[key] != value:
            apart[key] = value
    return apart
