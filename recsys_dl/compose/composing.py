"""Composing overrides into one validated config; misspelled, missing, mistyped or unreadable ones raise errors in the command's terms."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from recsys_dl.names import SYNONYMS, near, synonym

from .effect import check_effect
from .options import at, groups, groups_of, keys_of, options, options_with, settings_of
from .ranges import settle_space, without_ranges
from .settings import SETTINGS
from .several import SEVERAL, for_verb
from .types import check_types, is_ids
from .words import SEARCHPATH, Word, hydra_value, read_words

GONE = object()


def compose(verb: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Return the config `conf/<verb>.yaml` under the overrides, e.g. `["model=als", "model.embedding_size=32"]`.

    A host application's Hydra state is not changed.

    Raises:
        ValueError: an override that matches no setting, has the wrong type, or cannot be parsed; the message names the
            setting and suggests a similar one.
    """
    return composed(verb, read_words(overrides, verb))[0]


def compose_command(verb: str, overrides: Sequence[str]) -> DictConfig:
    """Return the config of a command: like `compose`, but settings without effect and missing ones are errors.

    Raises:
        ValueError: as in `compose`; a setting the verb would not read, or a missing one.
    """
    try:
        words = read_words(overrides, verb)
        fixed, ranges = without_ranges(words) if verb == "tune" else (words, {})
        config, places = composed(verb, fixed)
    except ValueError as error:
        raise ValueError(for_verb(verb, str(error))) from error
    check_effect(verb, config, fixed, places)
    if verb == "tune":
        settle_space(config, words, fixed, ranges)
    return config


def composed(verb: str, words: Sequence[Word], *, checked: bool = True) -> tuple[DictConfig, dict[str, Any]]:
    """Return the config composed from the words, and the option chosen at each place (`{"model": "als", "ranker@pipeline.ranker": …}`).

    `checked`: validate against the annotations of the targets, which imports them; unnecessary if nothing was set.
    """
    from hydra.errors import HydraException

    path, own = searched(words)
    choices = [word for word in words if is_choice(verb, word, own)]
    packaged = "'pkg://" in "".join(path)
    if not packaged:  # only Hydra knows the options in a package
        for word in choices:
            _check_option(word, own)
    try:
        choices = _placed(verb, choices, path)
        chosen = [*path, *(word.text for word in choices)]
        config, places = _of_choices(verb, chosen)
        held = OmegaConf.to_container(config)
        values = [word for word in words if not is_choice(verb, word, own) and word.key != SEARCHPATH]
        plain = [word for word in values if word.key not in groups(own)]
        texts = [_for_hydra(verb, word, held) for word in plain]
        if packaged and texts:
            config, places = _of_choices(verb, [*chosen, *texts])
        else:
            _override(config, texts)
        with open_dict(config):
            for word in values:
                if word not in plain:  # Hydra would take it for an option of the group of that name
                    config[word.key] = word.value
        _check_left(verb, words, config)
        typed = {word.key: word.value for word in values if word.value is not None}
        if checked:
            check_types(config, verb, typed, held)
    except (HydraException, OmegaConfBaseException) as error:
        if match := re.search(r"Could not delete '([^']+)'", str(error)):
            raise ValueError(_not_left_out(verb, match[1], choices, path)) from error
        raise ValueError(_words_of(error)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        file, line = (mark.name, mark.line + 1) if mark else ("a file", 0)
        raise ValueError(
            f"{file}, line {line}: invalid YAML ({getattr(error, 'problem', error)}); fix the file"
        ) from error
    return config, places


def _of_choices(verb: str, chosen: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """Return a config of one's own under Hydra's words, and the option chosen at each place.

    Only conf/ itself is known not to change while a program runs; a caller's own folders are read each time.
    """
    own = any(text.startswith(SEARCHPATH) for text in chosen)
    config, places = (_composed_by_hydra.__wrapped__ if own else _composed_by_hydra)(verb, tuple(chosen))
    return copy.deepcopy(config), dict(places)


@lru_cache(maxsize=64)  # Hydra takes 0.2 s, and a sweep composes each of its trials
def _composed_by_hydra(verb: str, chosen: tuple[str, ...]) -> tuple[DictConfig, dict[str, Any]]:
    from hydra import compose as hydra_compose

    with _hydra():
        config = hydra_compose(verb, overrides=list(chosen), return_hydra_config=True)
    places = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config["hydra"]
    return config, places


def _override(config: DictConfig, texts: Sequence[str]) -> None:
    """Set values in a composed config as Hydra does after composing it, without composing it again."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if texts:
        ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(list(texts)), config)


@contextmanager
def _hydra() -> Iterator[None]:
    """Let Hydra compose from conf/; its global state is restored afterwards."""
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.singleton import Singleton
    from hydra.version import VersionBase
    from omegaconf.basecontainer import BaseContainer

    known: dict[Any, Any] = Singleton._instances
    resolvers = dict(BaseContainer._resolvers)
    before = {kind: known.pop(kind) for kind in (GlobalHydra, VersionBase) if kind in known}
    try:
        with initialize_config_module("recsys_dl.conf", version_base="1.3"):
            yield
    finally:
        for kind in (GlobalHydra, VersionBase):
            known.pop(kind, None)
        known.update(before)
        BaseContainer._resolvers.clear()
        BaseContainer._resolvers.update(resolvers)


def searched(words: Sequence[Word]) -> tuple[list[str], list[Path]]:
    """Return the search path word for Hydra, and the caller's own folders in it."""
    word = next((word for word in words if word.key == SEARCHPATH), None)
    if word is None or word.value in (None, "", "null", "[]"):
        return [], []
    parsed = yaml.safe_load(hydra_value(word, ids=True, listed=True, text=True))
    entries, folders = [], []
    for entry in [parsed] if isinstance(parsed, str) else parsed:
        if entry.startswith("pkg://"):
            entries.append(entry)
            continue
        folder = Path(entry.removeprefix("file://")).expanduser().absolute()
        if not folder.is_dir():
            raise ValueError(f"{SEARCHPATH} must name folders of options, but {folder} does not exist")
        folders.append(folder)
        entries.append(f"file://{folder}")
    quoted = ",".join("'" + entry.replace("'", "\\'") + "'" for entry in entries)
    return [f"{SEARCHPATH}=[{quoted}]"], folders


def is_choice(verb: str, word: Word, own: Sequence[Path]) -> bool:
    """Return whether a word chooses an option of a group; not if the verb has a setting of that name."""
    return word.group in groups(own) and word.key not in settings_of(verb)


def _check_option(word: Word, own: Sequence[Path]) -> None:
    """Check that a group has the chosen option."""
    if word.sign == "~" or word.value == "null":
        return
    known, value = options(word.group, own), word.value or ""
    if value in known:
        return
    if word.key == "data" and Path(value).expanduser().exists():
        raise ValueError(f"{word.text[:80]}: to read your own file, set data=log data.path={value}")
    place = word.key.partition("@")[2]
    more = f". Settings of your own go to {place}.…=…" if place else ""
    several = len([part for part in re.split(r"[\s,;\\]+", value) if part]) > 1
    if several:
        more = f"; {SEVERAL}"
    raise ValueError(
        f"{word.text[:80]}: there is no such {word.group}{'' if several else near(value, known)}. There are: {', '.join(known)}{more}"
    )


def _placed(verb: str, choices: list[Word], path: list[str]) -> list[Word]:
    """Put `ranker=lambdamart` and the like at their place in a pipeline."""
    lost = [word for word in choices if not word.sign and "@" not in word.key and word.group not in groups_of(verb)]
    if not lost:
        return choices
    stay = [word for word in choices if word not in lost]
    _, places = _of_choices(verb, [*path, *(word.text for word in stay)])
    for word in lost:
        found = [str(place) for place in places if str(place).startswith(f"{word.group}@")]
        if len(found) == 1:
            stay.append(Word(f"{found[0]}={word.value}", "", found[0], word.value))
        elif found:
            inside = found[0].partition("@")[2].rpartition(".")[0]
            ways = [f"{place}={word.value}" for place in found]
            raise ValueError(
                f"{word.text}: which {word.group} is meant? To replace one: {' or '.join(ways)}; to add one: "
                f"+{word.group}@{inside}.{word.value}={word.value}"
            )
        elif "pipeline" in groups_of(verb) and word.group == "retriever":
            raise ValueError(
                f"{word.text}: a retriever has its place, and a name, in a pipeline: pipeline=three_stage "
                f"+retriever@pipeline.retrievers.als_indexed={word.value}; a model alone is served by an index=hnsw"
            )
        elif "pipeline" in groups_of(verb) and word.group in ("features", "ranker", "reranker"):
            raise ValueError(f"{word.text} would have no effect: its place is a pipeline: pipeline=three_stage")
        else:
            mine = ", ".join(groups_of(verb)) or "none; a run is read with the settings it was trained with"
            raise ValueError(f"{word.text}: recsys-dl {verb} has no choice of {word.group}. It chooses: {mine}")
    return stay


def _for_hydra(verb: str, word: Word, held: Any) -> str:
    """Return a word in Hydra's syntax, after checking that the setting exists."""
    if word.sign == "~" and word.value is None:
        return word.text
    there = at(held, word.key, GONE)
    sign = word.sign
    if there is GONE and not sign:
        _check_known(verb, word, held)
        sign = "++"
    listed = isinstance(there, list) or str(SETTINGS[verb].get(word.key, "")).startswith("list")
    value = hydra_value(
        word, ids=is_ids(verb, word.key), listed=listed, text=isinstance(there, str) and not there.startswith("${")
    )
    if isinstance(there, dict) and there and not value.startswith("{") and value != "null":
        name = next(str(one) for one in there if not str(one).startswith("_"))
        raise ValueError(
            f"{word.text[:80]}: {word.key} is a group of settings, such as {word.key}.{name}=…, not a setting itself"
        )
    if there == "???" and value in ("", "''", "null"):
        raise ValueError(f"{word.key} must be given, got {word.text!r}")
    if isinstance(there, dict) and value.startswith("{") and not sign:
        _check_inside(word, there, value)
        sign = "++"
    return f"{sign}{word.key}={value}"


def _check_left(verb: str, words: Sequence[Word], config: DictConfig) -> None:
    """Check that ~ removed nothing that the verb reads."""
    for word in words:
        if word.sign == "~" and word.key in (*settings_of(verb), *groups_of(verb)) and word.key not in config:
            raise ValueError(f"{word.text}: recsys-dl {verb} reads {word.key}; if it may be empty, set {word.key}=null")


def _check_inside(word: Word, there: dict[str, Any], value: str) -> None:
    """Check a mapping given as a value: keys of groups and verbs are known, those of constructor arguments are checked there."""
    if "_target_" not in there and word.key != "evaluate":
        return
    from hydra.core.override_parser.overrides_parser import OverridesParser

    given: Any = OverridesParser.create().parse_override(f"{word.key}={value}")._value
    for name in given:
        if str(name) not in there:
            raise ValueError(f"{word.key} has no setting {str(name)!r}{near(str(name), map(str, there))}")


def _check_known(verb: str, word: Word, held: Any) -> None:
    """Reject an unknown setting; keys of mappings passed to a constructor are checked there."""
    parent, _, name = word.key.rpartition(".")
    around = at(held, parent) if parent else held
    nested = isinstance(around, dict) and "_target_" not in around and parent.count(".") >= 1
    if nested and not difflib.get_close_matches(name, map(str, around), n=1, cutoff=0.75):
        return
    keys = keys_of(held)
    group, _, rest = word.key.partition(".")
    within = [known for known in keys if parent and known.startswith(f"{parent}.")]
    for meant in (rest, *(() if synonym(word.key, keys) else SYNONYMS.get(rest, ()))):
        having = [f"{group}={one}" for one in options_with(group, meant)] if group in groups_of(verb) else []
        if having:
            it = "it" if meant == rest else f"{group}.{meant}"
            raise ValueError(
                f"{word.text[:80]}: there is no setting {word.key!r} in what is chosen; {', '.join(having)} would have {it}."
            )
    here = f" There are: {', '.join(within[:30])}" if within else ""
    raise ValueError(
        f"{word.text[:80]}: there is no setting {word.key!r}{near(word.key, within or [*keys, *groups_of(verb)], keys)}.{here}"
    )


def _not_left_out(verb: str, place: str, choices: Sequence[Word], path: list[str]) -> str:
    """Return what is said of `~place` where nothing is chosen, with the places beside it."""
    _, places = _of_choices(verb, [*path, *(word.text for word in choices if word.sign != "~")])
    around = place.rpartition(".")[0]
    there = [str(one) for one in places if around and str(one).rpartition(".")[0] == around]
    beside = f"; there are: {', '.join(f'~{one}' for one in there)}" if there else ""
    return f"~{place}: nothing is chosen there{near(place, there)}{beside}"


def _words_of(error: BaseException) -> str:
    """Return Hydra's or OmegaConf's message, without advice that does not apply here."""
    text = str(error).strip()
    if match := re.search(r"Could not override '([^']+)'", text):
        group, _, place = match[1].partition("@")
        hint = " Choose pipeline=three_stage first." if place.startswith("pipeline.") else ""
        return f"{match[1]}: nothing that is chosen has an option of {group} there.{hint} Add one with +: +{match[1]}=…"
    if match := re.search(r"An item is already at '([^']+)'", text):
        return f"+{match[1]}: there is already a setting {match[1]}; omit the +"
    lines = [
        line for line in text.splitlines() if line.strip() and not line.strip().startswith(("full_key", "object_type"))
    ]
    return "\n".join(lines[:6])
