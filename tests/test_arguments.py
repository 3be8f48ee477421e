"""Every setting of every YAML is checked when its part is made: a wrong one is refused by name, an accepted one works."""

import importlib
import inspect
import math
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin

import numpy as np
import polars as pl
import pytest
import yaml

from recsys_dl.arguments import Count, NotNegative, Share, check_argument, checked, hints_of
from recsys_dl.bandits import Thompson
from recsys_dl.compose import CONF, options
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.groups import Groups
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.models import SVD, ItemKNN, Popularity

GROUPS = ("model", "ranker", "reranker", "index", "split", "weights", "filter", "trainer", "policy", "world")
QUICK = {"epochs": 1, "embedding_size": 8, "hidden_sizes": [4], "num_trees": 2, "history_size": 10, "width": 8}


def settings_of(group: str, name: str) -> tuple[Any, dict[str, Any]]:
    """What a YAML makes, and its settings."""
    config = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    if group == "model" and (parts := config.pop("defaults", None)):  # of other models
        config |= (
            {"base": SVD(embedding_size=2)}
            if any("@base" in str(one) for one in parts)
            else {"parts": {"popularity": Popularity(), "item_knn": ItemKNN(device="cpu")}}
        )
    if group == "reranker" and config.pop("defaults", None):
        config["policy"] = Thompson()
    module, _, target = config.pop("_target_").rpartition(".")
    config.pop("_partial_", None)
    filled = {"${seed}": 7, "${device}": "cpu"}
    values = {key: filled.get(value, value) if isinstance(value, str) else value for key, value in config.items()}
    return getattr(importlib.import_module(module), target), values


def tiny() -> Dataset:
    rng = np.random.default_rng(0)
    users, items = np.repeat(np.arange(30), 12), np.concatenate([rng.choice(20, 12, replace=False) for _ in range(30)])
    log = Interactions(users, items, rng.integers(1, 6, 360), np.arange(360), num_users=30, num_items=20)
    return Dataset(log, Vocabulary(map(str, range(30))), Vocabulary(map(str, range(20))))


def with_tags(data: Dataset) -> Dataset:
    return replace(data, item_features=pl.DataFrame({"tags": [["a", "b"], ["b", "c"]] * (data.num_items // 2)}))


def tiny_groups() -> Groups:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 3))
    return Groups(features, (features[:, 0] > 0).astype(float), [20] * 15, positions_N=np.tile(np.arange(1, 21), 15))


def use(group: str, make: Any, values: dict[str, Any]) -> None:
    """Make the part, and use it."""
    if group in ("split", "weights", "filter"):
        make(tiny(), **values)
        return
    part = make(**values)
    if group == "model":
        model = part.fit(with_tags(tiny()) if part.needs_content else tiny())
        ranking = model.recommend(np.arange(30), 5)
        assert np.isfinite(ranking.scores_BK[ranking.items_BK >= 0]).all()
    elif group == "ranker":
        assert np.isfinite(part.fit(tiny_groups()).score_groups(tiny_groups())).all()
    elif group == "index" and type(part).__name__ != "CAGRA":  # which needs a GPU
        part.build(np.random.default_rng(0).normal(size=(300, 8))).search(np.zeros((1, 8)), 3)


def parts() -> list:
    return [pytest.param(group, name, id=f"{group}-{name}") for group in GROUPS for name in options(group)]


@pytest.mark.parametrize(("group", "name"), parts())
def test_wrong_values_are_refused_by_name_before_any_work(group, name):
    make, values = settings_of(group, name)
    hints = hints_of(make.__init__ if isinstance(make, type) else make)
    quick = {key: QUICK.get(key, value) for key, value in values.items()}
    accepted = []
    for key, value in values.items():
        if key in ("rules", "pool", "item_kinds", "user_kinds", "loss_arguments", "monotone", "checkpoint"):
            continue  # of their own words; tested where they are
        if key in ("parts", "base", "kinds", "column_weights", "by", "stop_words"):
            continue  # of their own words; tested where they are
        wrong: list[Any] = [["x"], {"x": 1}]
        if isinstance(value, bool):
            wrong += ["yes", 2, None]
        elif isinstance(value, int | float):
            wrong += [math.nan, math.inf, -math.inf, True, "8", None]
            accepted += [(key, -1), (key, 0)]
            if isinstance(value, int) and get_origin(hints.get(key)) and int in get_args(hints[key]):
                wrong += [2.5, 1e9]
        elif isinstance(value, str):
            wrong += (
                [f"{value}x" if key != "metric" else "ndgc@10", 3, True] if not _is_free(hints.get(key)) else [3, True]
            )
        elif isinstance(value, list):
            wrong = [[0], [1.5], ["a"], 3, "a"]
        else:
            wrong += [True, math.nan] if key not in ("gmf", "mlp", "age_column") else [True]
        for one in wrong:
            with pytest.raises(ValueError, match=rf"\b{key}\b") as caught:
                use(group, make, quick | {key: one})
            assert len(str(caught.value)) < 400
            places = {entry.name for entry in caught.traceback}
            assert not places & {"fit", "build"}, "told too late"
    for key, value in accepted:
        try:
            use(group, make, quick | {key: value})
        except ValueError as error:
            refused = str(error)
        else:
            refused = key
        assert key in refused, f"{key}={value}: {refused}"


def _is_free(hint: Any) -> bool:
    """Whether any text is taken: names of columns and the like."""
    return (
        not (get_origin(hint) is Literal or hint is None) and "loss" not in str(hint) and str in (hint, *get_args(hint))
    )


@pytest.mark.parametrize("name", [name for group in ("model", "ranker") for name in options(group)])
def test_the_yaml_names_every_argument_that_is_checked(name):
    group = "model" if name in options("model") else "ranker"
    make, values = settings_of(group, name)
    kinds = make(**values).arguments() | {
        key: one for key, one in values.items() if key in ("parts", "base")
    }  # save themselves
    unchecked = [key for cls in make.__mro__ if "__init__" in vars(cls) for key in inspect.signature(cls).parameters]
    assert set(values) == set(kinds)
    assert set(values) <= {*unchecked}


def test_a_device_that_there_is_not_is_refused_by_every_part_that_takes_one():
    tried = 0
    for group in ("model", "ranker", "index"):
        for name in options(group):
            make, values = settings_of(group, name)
            for word in ("gpu", "mps", "cuda:0", "CPU", 0) if "device" in values else ():
                tried += 1
                with pytest.raises(ValueError, match=r"device must be one of auto, cpu, cuda, got"):
                    make(**values | {"device": word})
    assert tried > 80


def test_words():
    assert check_argument("k", np.int64(3), Count) == 3
    assert type(check_argument("k", np.int64(3), Count)) is int
    assert check_argument("x", 1, NotNegative) == 1
    with pytest.raises(
        ValueError, match=r"solver must be one of cholesky, cg, got 'choleski' \(did you mean 'cholesky'\?\)"
    ):
        check_argument("solver", "choleski", Literal["cholesky", "cg"])
    with pytest.raises(ValueError, match=r"share must be a finite number at least 0 and at most 1, got 'xxx") as caught:
        check_argument("share", "x" * 100_000, Share)
    assert len(str(caught.value)) < 150
    with pytest.raises(ValueError, match=r"got 'cg': write \['cg'\]$"):
        check_argument("solvers", "cg", list[Literal["cholesky", "cg"]])


def test_a_class_of_ones_own_is_checked_by_its_annotations():
    class Mine:
        @checked
        def __init__(
            self,
            *,
            depth: int = 3,
            log: "Interactions | None" = None,
            missing: "Absent | None" = None,  # noqa: F821
        ) -> None:
            self.depth = depth

    assert Mine(depth=2, missing=object()).depth == 2
    with pytest.raises(ValueError, match="depth must be a whole number, got 'deep'"):
        Mine(depth="deep")
    with pytest.raises(TypeError, match="Mine has no argument 'dept' .did you mean 'depth'"):
        Mine(dept=2)
