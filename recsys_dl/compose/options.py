"""The contents of conf/ and of a caller's own folders: groups, their options, and the settings of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

CONF = Path(__file__).parent.parent / "conf"
VERBS = (
    "train",
    "plan",
    "sweep",
    "tune",
    "status",
    "evaluate",
    "recommend",
    "compare",
    "reproduce",
    "refit",
    "rank",
    "index",
    "export",
    "report",
    "simulate",
    "ope",
    "serve",
    "monitor",
    "warmup",
    "bench",
)


def groups(own: Sequence[Path] = ()) -> list[str]:
    """Return the names of the config groups, including those in the caller's own folders."""
    mine = {one.name for folder in own for one in folder.iterdir() if one.is_dir() and _yamls(one)}
    return sorted(mine.union(_our_options()))


def options(group: str, own: Sequence[Path] = ()) -> list[str]:
    """Return the names of the YAML files of a config group."""
    return sorted({name for folder in own for name in _yamls(folder / group)}.union(_our_options().get(group, ())))


def options_with(group: str, setting: str) -> list[str]:
    """Return the options of a group, if it is one, that have a setting of that name."""
    if group not in groups() or not setting:
        return []
    wanted = re.compile(rf"^{re.escape(setting)}:", re.MULTILINE)
    return [one for one in options(group) if wanted.search(text_of(f"{group}/{one}"))]


def text_of(name: str, own: Sequence[Path] = ()) -> str:
    """Return the YAML of a top config (`train`) or of an option (`model/als`)."""
    mine = next((file for folder in own if (file := folder / f"{name}.yaml").is_file()), None)
    return mine.read_text(encoding="utf-8") if mine else _our_text(name)


def groups_of(verb: str) -> list[str]:
    """Return the groups of a verb's config, in order."""
    return re.findall(r"^  - ([\w/]+): ", text_of(verb), re.MULTILINE)


def settings_of(verb: str) -> list[str]:
    """Return the names of a verb's own settings, without groups."""
    return [name for name in re.findall(r"^(\w+):", text_of(verb), re.MULTILINE) if name != "defaults"]


def keys_of(plain: Any, prefix: str = "") -> list[str]:
    """Return every leaf of nested mappings as a dotted key; an empty mapping is one."""
    found = []
    for key, value in plain.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            found += keys_of(value, f"{name}.")
        elif not str(key).startswith("_"):
            found.append(name)
    return found


def at(plain: Any, key: str, default: Any = None) -> Any:
    """Return the value at a dotted key of nested mappings."""
    for name in key.split("."):
        if not isinstance(plain, dict) or name not in plain:
            return default
        plain = plain[name]
    return plain


@cache  # conf/ does not change while a program runs
def _our_text(name: str) -> str:
    return (CONF / f"{name}.yaml").read_text(encoding="utf-8")


@cache
def _our_options() -> dict[str, list[str]]:
    return {one.name: names for one in CONF.iterdir() if one.is_dir() and (names := _yamls(one))}


def _yamls(folder: Path) -> list[str]:
    return [file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml")]
