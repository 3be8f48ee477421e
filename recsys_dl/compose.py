"""Overrides on the command line -> one config, with an answer for a misspelt one.

Only `cli.py`, scripts and tests know Hydra; they know it through here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).parent / "conf"
GONE = object()
SEARCHPATH = "hydra.searchpath="  # folders of a caller's own options


def compose(verb: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Return the config `conf/<verb>.yaml` under the overrides, e.g. `["model=als", "model.embedding_size=32"]`.

    Raises:
        ValueError: an override that fits nothing; the message names the nearest that would.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    searched = any(override.startswith(SEARCHPATH) for override in overrides)
    if not searched and (message := _no_option(overrides)):  # options of a caller's own folders only Hydra knows
        raise ValueError(message)
    GlobalHydra.instance().clear()
    with initialize_config_module("recsys_dl.conf", version_base="1.3"):
        try:
            config = hydra_compose(config_name=verb, overrides=list(overrides))
            chosen = [
                override
                for override in overrides
                if override.partition("=")[0] in groups() or override.startswith(SEARCHPATH)
            ]
            _check_types(config, hydra_compose(config_name=verb, overrides=chosen))
            return config
        except (HydraException, OmegaConfBaseException) as error:
            message = _misspelt(verb, overrides, hydra_compose) or str(error).strip()
            raise ValueError(message) from error


def options(group: str) -> list[str]:
    """Return the names of the YAML files of a config group."""
    return sorted(file.relative_to(CONF / group).with_suffix("").as_posix() for file in (CONF / group).rglob("*.yaml"))


def options_with(group: str, setting: str) -> list[str]:
    """Return the options of a group, if it is one, that have a setting of their own by that name."""
    if group not in groups() or not setting:
        return []
    files = {option: CONF / group / f"{option}.yaml" for option in options(group)}
    return [one for one, file in files.items() if re.search(rf"^{re.escape(setting)}:", file.read_text(), re.MULTILINE)]


def groups() -> list[str]:
    """Return the names of the config groups."""
    return sorted(folder.name for folder in CONF.iterdir() if folder.is_dir() and any(folder.glob("*.yaml")))


def _misspelt(verb: str, overrides: Sequence[str], hydra_compose) -> str | None:  # type: ignore[no-untyped-def]
    """Find the first override that fits nothing and say what comes nearest."""
    chosen: list[str] = []
    for override in overrides:
        match = re.match(r"^([~+]*)([\w./@-]+)(?:=(.*))?$", override, re.DOTALL)
        if not match:
            return f"an override must be written key=value, got {override!r}"
        sign, key, value = match.groups()
        if value is None and not sign.startswith("~"):
            return f"an override must be written key=value, got {override!r}"
        if key.partition("@")[0] in groups() or override.startswith(SEARCHPATH):
            chosen.append(override)
            continue
        if sign:
            continue
        keys = _keys(hydra_compose(config_name=verb, overrides=chosen))
        if key not in keys and not any(known.startswith(f"{key}.") for known in keys):
            within = [known for known in keys if known.rpartition(".")[0] == key.rpartition(".")[0]]
            here = f" There are: {', '.join(within)}" if within and "." in key else ""
            elsewhere = [
                f"{group}={one}" for group, _, name in [key.partition(".")] for one in options_with(group, name)
            ]
            if elsewhere:
                return (
                    f"{override}: there is no setting {key!r} in what is chosen; {', '.join(elsewhere)} would have it."
                )
            return f"{override}: there is no setting {key!r}{near(key, [*keys, *groups()])}.{here}"
    return None


def _no_option(overrides: Sequence[str]) -> str | None:
    """Find the first choice of an option that its group has not, such as `model=alss` or `+model@pipeline.retrievers.bpr=bprr`."""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        group, at, place = key.partition("@")
        if group in groups() and value not in ("", "null", *options(group)):
            known = f"There are: {', '.join(options(group))}"
            own = f". Settings of your own go to {place}.…=…" if at else ""
            return f"{override}: there is no such {group}{near(value, options(group))}. {known}{own}"
    return None


def describe(verb: str, overrides: Sequence[str] = ()) -> str:
    """Return the settings of a verb as its YAML words them, the options of its groups, and what those chosen hold.

    Raises:
        ValueError: an override that fits nothing.
    """
    text = (CONF / f"{verb}.yaml").read_text()
    chosen = [group for group in groups() if re.search(rf"^  - {group}: ", text, re.MULTILINE)]
    table = "".join(f"  {group:<12} {', '.join(options(group))}\n" for group in chosen)
    if not chosen:
        return text
    config = compose(verb, overrides)
    text = f"{text}\nOptions, one YAML each:\n{table}"
    if held := [group for group in chosen if config.get(group)]:
        within = OmegaConf.to_yaml(OmegaConf.masked_copy(config, held))
        text += f"\nWhat the chosen ones hold (another: recsys-dl {verb} model=bpr --help):\n\n{within}"
    return text


def near(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean …?)" for the nearest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _check_types(config: DictConfig, default: DictConfig) -> None:
    """Check that numbers are still numbers; a single value where a list belongs becomes a list of one."""
    for key in _keys(default):
        was, now = OmegaConf.select(default, key), OmegaConf.select(config, key, default=GONE)
        if now is GONE:  # ~key, or another option of a group in its place
            continue
        if OmegaConf.is_list(was):
            values = list(now) if OmegaConf.is_list(now) else [now]
            if not values or (isinstance(was[0], int) and not all(isinstance(value, int) for value in values)):
                raise ValueError(f"{key} must be a list such as {list(was)}, got {values}")
            OmegaConf.update(config, key, values)
        elif isinstance(was, bool) != isinstance(now, bool) and isinstance(was, bool | int | float):
            raise ValueError(f"{key} must be {'true or false' if isinstance(was, bool) else 'a number'}, got {now!r}")
        elif isinstance(was, int | float) and not isinstance(now, int | float):
            raise ValueError(f"{key} must be a number such as {was}, got {now!r}")


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    """Return every leaf of a config as a dotted key."""
    found = []
    for key in map(str, config):
        name = prefix + key
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not (node._is_none() or node._is_missing()):
            found += _keys(node, f"{name}.")
        elif not key.startswith("_") or OmegaConf.is_config(node):
            found.append(name)
    return found
