"""Rejecting settings that would have no effect, with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recsys_dl.learning import fit_takes

from .options import VERBS, groups_of, options, settings_of, text_of
from .types import located, takes_trainer
from .words import Word

OF_PROCESSES = ("trainer.processes", "trainer.num_nodes")


def check_effect(verb: str, config: DictConfig, words: Sequence[Word], places: Mapping[str, Any]) -> None:
    """Check that every typed setting is read by the verb, and that no required one is missing.

    Args:
        verb: the verb to run.
        config: composed from the words.
        words: as typed.
        places: the option chosen at each place.

    Raises:
        ValueError: a setting without effect, or a missing one.
    """
    for word, reason in _idle(verb, config, words, places):
        raise ValueError(f"{word} would have no effect: {reason}")
    for key in sorted(OmegaConf.missing_keys(config)):
        if not (key.startswith("model.") and config.get("pipeline") is not None):
            raise ValueError(f"a setting is missing: {key}; set it with {key}=…{_meaning(verb, key, places)}")


def _idle(verb: str, config: DictConfig, words: Sequence[Word], places: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every setting without effect, with the reason."""
    known = {*settings_of(verb), *groups_of(verb)}
    unread = [str(name) for name in config if name not in known]
    if unread and places.get("experiment"):
        others = [other for other in VERBS if {*unread} <= {*settings_of(other)} and "experiment" in groups_of(other)]
        where = f"it is for recsys-dl {others[0]}" if others else "scripts/ says which benchmark it is for"
        yield f"experiment={places['experiment']}", f"recsys-dl {verb} does not read {', '.join(unread)}; {where}"
    for name in unread:
        yield _first(words, name), f"recsys-dl {verb} does not read {name}"
    pipeline = config.get("pipeline")
    if pipeline is not None and "_target_" not in pipeline:
        yield _first(words, "pipeline"), "no pipeline is chosen; add pipeline=three_stage"
    if pipeline is not None and "model" in known:
        part = next(iter(pipeline.get("retrievers") or {"als": None}))
        reason = f"a pipeline is trained in place of a model. Its own are set as pipeline.retrievers.{part}.…, one more is added by "
        reason += "+model@pipeline.retrievers.bpr=bpr"
        within = f"pipeline.retrievers.{part}_indexed"
        served = "a pipeline is trained in place of a model, and each of its retrievers may have an index: "
        served += f"+retriever@{within}=indexed model@{within}.model=als index@{within}.index=hnsw"
        for word in words:
            if word.key.partition(".")[0] in ("model", "index"):
                yield word.text, reason if word.key.startswith("model") else served
    trained = list(_trained(verb, config))
    for word in words:
        if trained and word.key in OF_PROCESSES and any(getattr(one, "shares_fit", False) for one in trained):
            continue
        if word.key == "trainer.checkpoint" and any(fit_takes(one, "checkpoint") for one in trained):
            continue
        if trained and word.key.partition(".")[0] in ("trainer", "logger") and not any(map(takes_trainer, trained)):
            names = ", ".join(dict.fromkeys(one.__name__ for one in trained))
            alone = f"{names} is fitted in one process; ALS, BPR, neighborhoods and neural models share their work"
            other = f"{names} learns without a trainer; neural models such as model=neumf take trainer and logger"
            yield word.text, alone if word.key in OF_PROCESSES else other
    if "trainer" in known and config.get("trainer") is not None:
        if config.trainer.get("checkpoint") is None:
            yield from _typed(words, "trainer.checkpoint_every", "there is no trainer.checkpoint=FOLDER to write to")
        if config.get("logger") is None:
            yield from _typed(words, "trainer.log_every", "there is no logger to write to; logger=csv")
    if verb == "index":
        for key in ("vectors", "queries", "seed"):
            if config.run is not None and key != "seed":
                yield from _typed(words, key, "run=… has vectors of its own; give either")
        if config.run is None:
            yield from _typed(words, "part", "bare vectors have no parts; it is of run=…")
        for word in words:
            name = word.key.removeprefix("grid.").partition(".")[0]
            if word.key.startswith("grid.") and name not in config.indexes:
                yield word.text, f"indexes={list(config.indexes)} does not name {name}"
    if verb == "ope" and config.estimators is not None:
        named, models = list(config.estimators), ("dm", "dr", "switch_dr", "dros")
        takers = {"clip": ("clipped_ips",), "threshold": ("switch_dr",), "shrinkage": ("dros",)}
        for word in words:
            name = word.key.partition(".")[0]
            of = models if name in ("reward_model", "folds") else takers.get(name, named)
            if not set(of) & set(named):
                yield (
                    word.text,
                    f"it is of {', '.join(of)}, and estimators={named} does not name {'any' if of[1:] else 'it'}",
                )
    if verb == "simulate" and config.replay is not None:
        for word in words:
            if word.key.partition(".")[0] in ("world", "rounds", "seeds", "k", "log", "output"):
                yield (
                    word.text,
                    "replay=… takes the arms and rewards of a log in place of a world, shows one at a time, and writes nothing",
                )
    if verb == "compare" and config.runs is not None:
        for word in words:
            if word.key not in ("runs", "metric", "threads", "evaluate.k", "evaluate.part"):
                yield word.text, "runs=… compares figures that runs have, so nothing is read, trained or written"
    if verb == "plan" and config.interactions is not None:
        for word in words:
            if word.key.partition(".")[0] in ("data", "weights", "filter", "split"):
                yield word.text, "num_users, num_items and interactions are given, so that nothing is read"
    if config.get("device") == "cuda" and verb == "train" and trained:
        parts = ("model", "index") if pipeline is None else ("pipeline",)
        used = "".join(OmegaConf.to_yaml(config[name]) for name in parts if config.get(name) is not None)
        if "${device}" not in used and "device:" not in used:
            yield from _typed(words, "device", f"{trained[0].__name__} computes on the CPU alone")


def trains_with_trainer(config: DictConfig) -> bool:
    """Return whether what `recsys-dl train` fits takes the settings of trainer."""
    return any(map(takes_trainer, _trained("train", config)))


def _typed(words: Sequence[Word], key: str, reason: str) -> Iterator[tuple[str, str]]:
    for word in words:
        if word.key == key:
            yield word.text, reason


def _first(words: Sequence[Word], within: str) -> str:
    return next((word.text for word in words if f".{within}." in f".{word.key.replace('@', '.')}."), f"{within}=…")


def _trained(verb: str, config: DictConfig) -> Iterator[Any]:
    """Yield the classes of what a verb trains."""
    nodes: list[Any] = []
    if verb in ("train", "tune", "plan"):
        pipeline = config.get("pipeline")
        nodes = [config.model] if pipeline is None else list((pipeline.get("retrievers") or {}).values())
    elif verb == "compare" and all(isinstance(one, str) for one in config.models):
        for name in config.models:
            if name not in options("model"):
                return  # a pipeline, a run, or a mistake that the verb reports
            nodes.append(OmegaConf.create(text_of(f"model/{name}").replace("${", "$")))
    nodes = [part for node in nodes if node is not None for part in (node.get("parts") or {"itself": node}).values()]
    for node in nodes:
        node = node.get("model", node) if node is not None else None  # of what serves a model, that
        if node is not None and node.get("_target_"):
            yield located(node._target_, "model")


def _meaning(verb: str, key: str, places: Mapping[str, Any]) -> str:
    """Return the YAML's description of a setting, if it belongs to an option in conf/."""
    group, _, name = key.rpartition(".")
    file = f"{group}/{places[group]}" if group in places else verb
    try:
        lines = text_of(file).splitlines()
    except StopIteration:
        return ""
    comment = next((line.partition("#")[2].strip() for line in lines if line.strip().startswith(f"{name}:")), "")
    return f" ({comment})" if comment else ""
