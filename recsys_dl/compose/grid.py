"""The words of a sweep, in Hydra's grammar, expanded to the words of each trial."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recsys_dl.names import near

from .composing import compose_command, searched
from .options import groups, groups_of, options
from .several import in_a_sweep
from .words import parsed, read_words

OF_SWEEP = ("launcher", "run", "metric")  # words of the sweep itself; the others are those of its trials
SAME = {  # settings that the trials of a sweep share, and why
    "evaluate": "figures would not be comparable",
    "threads": "it has no effect on the figures",
    "device": "it is where a trial runs, not what it learns",
    "logger": "the sweep's own table compares the trials",
}


@dataclass(frozen=True)
class Grid:
    """A composed sweep.

    Attributes:
        config: of the sweep itself: launcher, run, metric.
        trials: the words of each trial, distinct.
        configs: the composed config of each trial.
        varied: the keys with several values, in the order given.
    """

    config: DictConfig
    trials: list[tuple[str, ...]]
    configs: list[DictConfig]
    varied: list[str]


def compose_grid(overrides: Sequence[str]) -> Grid:
    """Return the trials of `recsys-dl train -m`, every one composed and validated.

    Raises:
        ValueError: invalid words; settings that must be the same for all trials; or trials that cannot run, with the first
            three of them and the reason.
    """
    words = read_words(overrides, "train")
    of_sweep = [word.text for word in words if is_of("sweep", word.text)]
    config = compose_command("sweep", of_sweep)
    own = searched(words)[1]
    values = {word.key: _values(word.text, own) for word in words if word.text not in of_sweep}
    varied = [key for key, found in values.items() if len(found) > 1]
    for key in varied:
        if why := SAME.get(key.partition(".")[0]):
            raise ValueError(f"{key} must be the same for all trials of a sweep ({why}); a list is written {key}=[…]")
    trials, configs, refused = [], [], []
    for combination in itertools.product(*values.values()):
        try:
            configs.append(compose_trial(combination))
            trials.append(combination)
        except ValueError as error:
            refused.append((combination, in_a_sweep(str(error))))
    if refused:
        shown = "\n".join(f"- {' '.join(words)}: {error}" for words, error in refused[:3])
        total = len(refused) + len(trials)
        raise ValueError(
            refused[0][1]
            if total == 1
            else f"{len(refused)} of the {total} trials cannot run, so none was started:\n{shown}"
        )
    kept = {_key(one): at for at, one in reversed(list(enumerate(configs)))}
    order = sorted(kept.values())
    return Grid(config, [trials[at] for at in order], [configs[at] for at in order], varied)


@dataclass(frozen=True)
class Several:
    """The configs of a verb for every combination of values.

    Attributes:
        configs: distinct.
        words: of each config, the words of settings with several values.
    """

    configs: list[DictConfig]
    words: list[tuple[str, ...]]

    def named(self, group: str) -> list[tuple[str, str, DictConfig]]:
        """Return each config with two names: of its varied settings outside and inside a group; "" where none is varied."""
        found = []
        for words, config in zip(self.words, self.configs, strict=True):
            inside = [word for word in words if word.partition("=")[0].partition(".")[0] == group]
            names = [_label([word for word in words if word not in inside]), _label(inside)]
            found.append((names[0], names[1], config))
        return found


def compose_several(verb: str, overrides: Sequence[str]) -> Several:
    """Return a verb's config for every combination of values in its words.

    Raises:
        ValueError: invalid words, or a combination that is not a valid command.
    """
    words = read_words(overrides, verb)
    own = searched(words)[1]
    values = [_values(word.text, own) for word in words]
    for word, found in zip(words, values, strict=True):
        if len(found) > 1 and word.key.partition(".")[0] not in groups_of(verb):
            vary = " and ".join(groups_of(verb))
            raise ValueError(
                f"{word.key} must be the same for all of a table, which compares {vary} and their settings"
            )
    configs: dict[str, tuple[DictConfig, tuple[str, ...]]] = {}
    for combination in itertools.product(*values):
        config = compose_command(verb, combination)
        varied = tuple(word for word, found in zip(combination, values, strict=True) if len(found) > 1)
        configs.setdefault(_key(config), (config, varied))
    return Several(*map(list, zip(*configs.values(), strict=True)))


def _label(words: Sequence[str]) -> str:
    """Return an option as its name, a setting as its last name and value."""
    pairs = [word.partition("=")[::2] for word in words]
    return " ".join(value if key in groups() else f"{key.rpartition('.')[2]}={value}" for key, value in pairs)


def is_of(verb: str, word: str) -> bool:
    """Return whether a word is one of the verb's own: in a sweep, not one of its trials."""
    return verb != "sweep" or word.partition("=")[0].partition(".")[0] in OF_SWEEP


def compose_trial(words: Sequence[str]) -> DictConfig:
    """Return the config of a trial, whose training state always has a folder."""
    keys = {word.key for word in read_words(words, "train")}
    if "trainer.checkpoint_every" not in keys or "trainer.checkpoint" in keys:
        return compose_command("train", words)
    config = compose_command("train", [*words, "trainer.checkpoint=checkpoint"])
    config.trainer.checkpoint = None  # set where it runs
    return config


def _key(config: DictConfig) -> str:
    return OmegaConf.to_yaml(config, resolve=True, sort_keys=True)


def _values(text: str, own: Sequence[Path]) -> list[str]:
    """Return the words, each with one value, that a word of a sweep stands for.

    Raises:
        ValueError: a range without steps, an empty one, or a pattern that matches no option.
    """
    override: Any = parsed(text)
    if override is None or not override.is_sweep_override():
        return [text]
    key = override.get_key_element()
    if not override.is_discrete_sweep():
        raise ValueError(
            f"{text[:80]}: a sweep needs single values, such as {key}=0.01,0.1; intervals are searched by recsys-dl tune"
        )
    from hydra.core.override_parser.types import Glob, RangeSweep

    value = override._value
    if isinstance(value, Glob):
        group = override.key_or_group
        if group not in groups(own):
            raise ValueError(
                f"{text[:80]}: glob() chooses options of a group, but {group} is none{near(group, groups(own))}"
            )
        found = [f"{key}={name}" for name in value.filter(options(group, own))]
    elif isinstance(value, RangeSweep) and not value.step:
        raise ValueError(f"{text[:80]}: the step of a range must not be 0: range(first, end, step), without the end")
    else:
        found = [f"{key}={one}" for one in override.sweep_string_iterator()]
    if not found:
        raise ValueError(f"{text[:80]}: there is no value in it; give at least one")
    return list(dict.fromkeys(found))
