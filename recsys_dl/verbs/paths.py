"""Paths in a run's config: kept as given, with the absolute paths at training time in the manifest.

So a run can be loaded from any folder, and on another machine with the same relative layout of files.
"""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

log = logging.getLogger(__name__)

NAMES = (
    "path",
    "user_features",
    "item_features",
    "gmf",
    "mlp",
    "rules",
)  # settings that name files or folders to read


def absolute_paths(config: DictConfig) -> dict[str, str]:
    """Return the absolute path of each setting of a config that names a file to read: dotted key -> path."""
    return {key: str(Path(given).expanduser().absolute()) for key, given in _given(config)}


def find_paths(config: Mapping[str, Any], known: Mapping[str, str]) -> DictConfig:
    """Return a run's config with paths that are valid here.

    Args:
        config: of the run, plain Python.
        known: what `absolute_paths` returned when the run was trained. A path that resolves to the same file here is unchanged;
            otherwise the original file is read or, if that is gone, the one it resolves to here. This is logged.

    Raises:
        FileNotFoundError: a file is at neither location.
    """
    found = OmegaConf.create(dict(config))
    for key, given in list(_given(found)):
        here, then = str(Path(given).expanduser().absolute()), known.get(key, "")
        if then in ("", here):
            continue
        if _is_there(then):
            log.info("%s=%s is read from %s, where it was in training", key, given, then, extra={"always": True})
            OmegaConf.update(found, key, then)
        elif _is_there(here):
            log.warning("%s=%s is read from %s; it was %s when the run was trained", key, given, here, then)
        else:
            raise FileNotFoundError(
                f"{key}={given} must be where it was when the run was trained, {then}, or under this folder, {here}; but it is at "
                "neither. Restore it, or run the command in the folder to which its path is relative."
            )
    return found


def _given(node: Any, key: str = "", name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the text of each setting that names a file to read."""
    if OmegaConf.is_dict(node):
        for child in node:
            if not OmegaConf.is_missing(node, child):
                yield from _given(node[child], f"{key}.{child}" if key else str(child), str(child))
    elif OmegaConf.is_list(node) and name in NAMES:
        for at, value in enumerate(node):
            if isinstance(value, str):
                yield f"{key}[{at}]", value
    elif isinstance(node, str) and name in NAMES and "://" not in node:  # an address is the same from any folder
        yield key, node


def _is_there(path: str) -> bool:
    return (
        Path(path).exists() or bool(glob.glob(path)) or Path(f"{path}.inter").exists()
    )  # a pattern; a stem of RecBole's
