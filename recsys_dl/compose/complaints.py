"""Error messages in terms of the command line: settings by key, true, false and null, at most ten lines."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .types import located

LINES, LETTERS = 10, 2000
LITERALS = {"True": "true", "False": "false", "None": "null"}


def words_of(error: BaseException, config: DictConfig | None = None) -> str:
    """Return an error's message for the command line.

    Hydra's wrapping is removed; an unexpected error keeps its type and says how to see more. Arguments named in the
    message become the config's settings.
    """
    from hydra.errors import InstantiationException
    from omegaconf.errors import MissingMandatoryValue

    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, MissingMandatoryValue):
        return f"a setting is missing: {str(error).splitlines()[0]}; set it with key=value"
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, MemoryError):
        return capped(f"there is not enough memory: {text or 'an array is too large'}. Smaller sizes need less")
    worded = isinstance(error, ValueError | OSError | RuntimeError | ImportError) or (
        isinstance(error, KeyError) and " " in text  # a sentence, not the key alone
    )
    if not worded or not text:
        return capped(f"{type(error).__name__}: {text} (HYDRA_FULL_ERROR=1 shows where)")
    return capped(_by_keys(text, error, config) if config is not None else text)


def capped(text: str) -> str:
    """Return a text of at most ten lines and limited length."""
    if len(text) > LETTERS:
        text = f"{text[: LETTERS - 1]}…"
    lines = text.splitlines()
    return "\n".join(
        [*lines[: LINES - 1], f"… and {len(lines) - LINES + 1} lines more"] if len(lines) > LINES else lines
    )


def _by_keys(text: str, error: BaseException, config: DictConfig) -> str:
    """Rename arguments in a message to the settings of the part that raised it: `order="log"` to `split.order=log`."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)][::-1]
    nodes = [
        (min(map(modules.index, homes)), key, node)
        for key, node in _nodes(config)
        if (homes := _homes(node, key) & {*modules})
    ]
    nodes.sort(key=lambda one: one[:2])
    own: Any = OmegaConf.to_container(config, resolve=False)
    for name, value in own.items():
        if not isinstance(value, dict):  # a setting of the verb itself
            typed = rf"(?<![\w.])({name}=)(\"[^\"]*\"|'[^']*'|True|False|None)(?!\w)"
            text = re.sub(typed, lambda one: one[1] + _literal(one[2]), text)
    for _, key, node in nodes:
        for name in map(str, node):
            if name.startswith("_"):
                continue
            for value in re.findall(rf"(?<![\w.]){name}=(\"[^\"]*\"|'[^']*'|[\w.-]+)", text):
                text = text.replace(f"{name}={value}", f"{name}={_literal(value)}")
            text = re.sub(rf"(?<![\w.]){name}=", f"{key}.{name}=", text)
            text = re.sub(rf"^{name} (must|is|are|has|takes|needs)\b", rf"{key}.{name} \1", text)
    return text


def _literal(value: str) -> str:
    return LITERALS.get(value, value.strip("\"'"))


def _homes(node: Any, key: str) -> set[str]:
    """Return the modules of what a node builds, and of its parent classes."""
    try:
        target = located(node["_target_"], key)
    except ValueError:
        return set()
    parts = target.__mro__ if isinstance(target, type) else (target,)
    return {home for part in parts if (home := getattr(part, "__module__", "")).startswith("recsys_dl.")}


def _nodes(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every mapping with a `_target_`, with its key."""
    plain: Any = OmegaConf.to_container(config, resolve=False) if OmegaConf.is_config(config) else config
    for name, value in plain.items():
        if isinstance(value, dict):
            if "_target_" in value:
                yield f"{prefix}{name}", value
            yield from _nodes(value, f"{prefix}{name}.")
