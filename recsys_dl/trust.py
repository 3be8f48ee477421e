"""Restricting what a saved folder may name: only trusted classes, each at its place, since loading them runs code.

Importing a class by name runs its module, and building from `_target_` calls whatever it names. A folder may
therefore only name classes of this package, classes the caller has imported, or classes in
modules listed in the environment variable RECSYS_DL_TRUST (comma-separated).
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recsys_dl.lazy import importing
from recsys_dl.names import with_article

CONF = Path(__file__).parent / "conf"
OURS = __name__.partition(".")[0]
VARIABLE = "RECSYS_DL_TRUST"
PARTS = {
    "pipeline": ("model", "index", "retriever", "features", "ranker", "reranker", "policy")
}  # groups whose options are nested in those of another
ROOMS = {
    "model": "models",
    "index": "retrieval",
    "features": "rankers",
    "ranker": "rankers",
    "reranker": "rerankers",
    "policy": "bandits",
}


def class_named(home: Any, kind: type[Any], *, where: str | os.PathLike[str]) -> type[Any]:
    """Return the class named in a folder.

    Args:
        home: the name, with its module.
        kind: the required class or protocol.
        where: the file with the name, for messages.

    Raises:
        ValueError: it is not from this package and neither imported nor listed in RECSYS_DL_TRUST; it cannot be imported; or it
            is not a `kind`.
    """
    module, _, name = str(home).rpartition(".")
    trusted = _trusted(str(home))
    if module not in sys.modules and not trusted:
        raise ValueError(_refused(home, where))
    try:
        with importing():
            cls = vars(importlib.import_module(module)).get(name)
    except ImportError as error:
        raise ValueError(f"{where} needs the class {home}, which cannot be imported here ({error})") from error
    if not (isinstance(cls, type) and cls.__module__ == module and issubclass(cls, kind)):
        raise ValueError(f"{where} holds {str(home)[:200]}, which is not {with_article(kind.__name__)}")
    if not trusted and not any(parent.__module__.startswith(f"{OURS}.") for parent in cls.__mro__[1:]):
        raise ValueError(_refused(home, where))
    return cls


def check_config(config: Any, where: str | os.PathLike[str]) -> None:
    """Check that every target in a config is allowed at its place.

    Args:
        config: a file's contents, plain Python.
        where: that file, for messages.

    Raises:
        ValueError: a `_target_` that is not allowed at its place, or an interpolation, which could read environment variables.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"{where} must hold settings by name, but holds {type(config).__name__}")
    for group, node in config.items():
        for key, value in _leaves(node, str(group)):
            if key.endswith("._target_"):
                if not _may_stand(value, str(group)):
                    raise ValueError(f"{_refused(value, where)} ({key})")
            elif isinstance(value, str) and "${" in value:
                raise ValueError(f"{where} must hold plain values, but {key} is the interpolation {value[:200]!r}")


def check_links(folder: str | os.PathLike[str]) -> None:
    """Check that a folder has no links to the outside, through which files elsewhere would be overwritten.

    Raises:
        ValueError: a symbolic link to a location outside the folder.
    """
    home = Path(folder).resolve()
    for place, folders, files in os.walk(home):
        for path in (Path(place) / name for name in [*folders, *files]):
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                raise ValueError(f"{path} is a link that leads out of the folder; put a copy of the file there instead")


def _may_stand(target: Any, group: str) -> bool:
    """Return whether a group may name a target: one used in conf/, a class of the group's package, or a trusted one."""
    groups = (group, *PARTS.get(group, ()))
    if not isinstance(target, str):
        return False
    if any(target in _targets(one) for one in groups) or any(_within(target, prefix) for prefix in _prefixes()):
        return True
    rooms = [f"{OURS}.{ROOMS[one]}." for one in groups if one in ROOMS]
    if not any(target.startswith(room) for room in rooms):
        return False
    try:
        class_named(target, object, where=group)
    except ValueError:
        return False
    return True


@cache
def _targets(group: str) -> frozenset[str]:
    """Return every `_target_` of a group's options in conf/."""
    files = (CONF / group).glob("*.yaml") if re.fullmatch(r"\w+", group) else ()
    return frozenset(
        target for file in files for target in re.findall(r"^[\s-]*_target_:\s*(\S+)", file.read_text(), re.MULTILINE)
    )


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name == "_target_":
                yield f"{key}._target_", value
            else:
                yield from _leaves(value, f"{key}.{name}")
    elif isinstance(node, list | tuple):
        for at, value in enumerate(node):
            yield from _leaves(value, f"{key}[{at}]")
    else:
        yield key, node


def _prefixes() -> list[str]:
    return [prefix.strip() for prefix in os.environ.get(VARIABLE, "").split(",") if prefix.strip()]


def _trusted(home: str) -> bool:
    return any(_within(home, prefix) for prefix in (OURS, *_prefixes()))


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _refused(home: Any, where: str | os.PathLike[str]) -> str:
    shown = str(home)[:200]
    return (
        f"{where} names {shown!r}, which may not be run from a folder: it is not a class of this package that belongs there. If you "
        f"trust the author of the folder, import it first, or set {VARIABLE}={shown.partition('.')[0]}"
    )
