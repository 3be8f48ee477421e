"""Ranges of settings on the command line, in Hydra's words: `a,b`, `choice(a,b)`, `range(1,8)`, `interval(0.1,1)`, `tag(log,interval(0.001,1))`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from recsys_dl.names import near

from .options import settings_of
from .words import Word, parsed

OF_ALL = (
    "data",
    "weights",
    "filter",
    "split",
    "evaluate",
    "experiment",
    "logger",
    "seed",
    "device",
    "threads",
    "hydra",
)
GRAMMAR = "a,b, interval(0.001,0.1), tag(log,interval(0.001,0.1)) or range(1,9)"


def is_tuned(key: str) -> bool:
    """Return whether a setting may differ between trials: not the data, its split, the metrics, or what belongs to the study."""
    return re.split(r"[.@]", key, maxsplit=1)[0] not in (*OF_ALL, *settings_of("tune"), "space")


def without_ranges(words: Sequence[Word]) -> tuple[list[Word], dict[str, Any]]:
    """Return the words with a single value, and the ranges by key, as in a YAML of conf/space.

    Raises:
        ValueError: a range of a setting that all trials share, or one that cannot be searched.
    """
    fixed, ranges = [], {}
    for word in words:
        found = _range_of(word)
        if found is None:
            fixed.append(word)
        elif word.sign:
            raise ValueError(f"{word.text[:80]}: a range is set without {word.sign}")
        elif word.key in ("model", "pipeline"):
            raise ValueError(
                f"{word.text[:80]}: a study tunes one {word.key}, with its own space; begin one for each. To compare defaults: recsys-dl compare"
            )
        else:
            ranges[word.key] = found
    return fixed, ranges


def settle_space(config: DictConfig, words: Sequence[Word], fixed: Sequence[Word], ranges: Mapping[str, Any]) -> None:
    """Add to a composed config of `tune` what its words mean: `space` with the ranges, `words` of every trial, `typed`.

    What is set to a single value is not searched.
    """
    space: Any = OmegaConf.to_container(config.space) if "space" in config else {}
    for key in (word.key for word in fixed if word.key in space):
        del space[key]
    for key in space:
        if not is_tuned(str(key)):
            raise ValueError(
                f"{key} in the search space must be the same for all trials, which could not be compared; set it outside: {key}=…"
            )
    with open_dict(config):
        config.space = {**space, **ranges}
        config.words = [word.text for word in fixed if is_of_trials(word)]
        config.typed = [word.text for word in words]


def is_of_trials(word: Word) -> bool:
    """Return whether a word of `tune` is one of `train` too, not of the study alone."""
    own = {"space", *settings_of("tune")} - set(settings_of("train")) | {"run"}
    return re.split(r"[.@]", word.key, maxsplit=1)[0] not in own


def _range_of(word: Word) -> Any:
    """Return the range in a word, None if it is a single value."""
    from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep

    called = re.match(r"(interval|range|choice|tag|glob|shuffle|sort)\(", word.value or "")
    if word.key.startswith("space."):
        raise ValueError(f"{word.text[:80]}: ranges are set by the setting's own name: model.epochs=…, with {GRAMMAR}")
    if word.value is None or not (called or (is_tuned(word.key) and "," in word.value)):
        return None
    if not is_tuned(word.key):
        raise ValueError(f"{word.text[:80]}: {word.key} must be the same for all trials, which could not be compared")
    swept = parsed(f"{word.key}={word.value}")
    if swept is None:
        if called:
            raise ValueError(f"{word.text[:80]} cannot be read as a range; write {GRAMMAR}")
        return None
    value = swept._value
    log = _is_log(word, value)
    if isinstance(value, ChoiceSweep):
        return [_plain(one) for one in value.list]
    if isinstance(value, IntervalSweep):
        ends = {"low": value.start, "high": value.end}
        return ends | log
    if isinstance(value, RangeSweep) and value.start is not None and value.stop is not None and value.step > 0:
        steps = max(math.ceil((value.stop - value.start) / value.step - 1e-9) - 1, 0)
        return {"low": value.start, "high": value.start + steps * value.step, "step": value.step} | log
    if swept.is_sweep_override():
        raise ValueError(f"{word.text[:80]} is no range that can be searched; write {GRAMMAR}")
    return None


def _is_log(word: Word, swept: Any) -> dict[str, bool]:
    """Return `{"log": True}` if a range is tagged so, else `{}`.

    Raises:
        ValueError: another tag, or one of a list of values.
    """
    tags = sorted(map(str, getattr(swept, "tags", ())))
    for tag in tags:
        if tag.lower() != "log":
            raise ValueError(
                f"{word.text[:80]}: the only tag is log, got {tag!r}{near(tag, ['log'])}; write tag(log,interval(0.001,0.1))"
            )
    if tags and hasattr(swept, "list"):
        raise ValueError(f"{word.text[:80]}: a tag has no effect on a list of values; leave it out, or write {GRAMMAR}")
    return {"log": True} if tags else {}


def _plain(value: Any) -> Any:
    """Return a parsed value without Hydra's quotes."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return getattr(value, "text", value)
