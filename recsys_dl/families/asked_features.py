"""Checking that a model's feature arguments have an effect on the data it is fitted on."""

from __future__ import annotations

from typing import Protocol

from recsys_dl.arguments import parameters_of
from recsys_dl.data.column_types import TEXTS, told_apart
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.names import near


class Encoding(Protocol):
    """A model that encodes features, configured by constructor arguments."""

    @property
    def features(self) -> str: ...  # noqa: D102


def columns_of(train: Dataset | Interactions, noun: str) -> list[str]:
    """Return the names of the data's "item" or "user" features."""
    if not isinstance(train, Dataset):
        return []
    frame = train.item_features if noun == "item" else train.user_features
    texts = [TEXTS] if noun == "item" and train.item_texts is not None else []
    return [*(() if frame is None else frame.columns), *texts]


def check_features(model: Encoding, train: Dataset | Interactions) -> None:
    """Reject feature arguments that would have no effect.

    Raises:
        ValueError: features or column kinds that the data does not have or that `features` excludes; sizes without an effect.
    """
    there = {noun: columns_of(train, noun) for noun in ("item", "user")}
    used = {noun: bool(there[noun]) and model.features in ("all", f"{noun}s") for noun in there}
    advice = "read_log(…, {0}_features=…), or data.{0}_features=FILE on the command line"
    for noun, columns in there.items():
        kinds = getattr(model, f"{noun}_kinds")
        if model.features == f"{noun}s" and not columns:
            raise ValueError(
                f'features="{noun}s" needs {noun} features, but the data has none: provide them with {advice.format(noun)}; or leave '
                "features at all"
            )
        if kinds and columns and not used[noun]:
            raise ValueError(f'{noun}_kinds would have no effect, since features="{model.features}" excludes them')
        if kinds and not columns:
            raise ValueError(
                f"{noun}_kinds names {next(iter(kinds))!r}, but the data has no {noun} features: provide them with "
                f"{advice.format(noun)}; or leave {noun}_kinds out"
            )
        if missing := [name for name in kinds if name not in columns]:
            raise ValueError(
                f"{noun}_kinds names {missing[0]!r}, which is not a column of the {noun} features{near(missing[0], columns)}; they are "
                f"{told_apart(columns)}"
            )
    for name, of in (("min_count", ("item", "user")), ("text_size", ("item", "user")), ("feature_sizes", ("item",))):
        if name not in parameters_of(type(model)):
            continue
        value, default = getattr(model, name), parameters_of(type(model))[name].default
        if value and value != default and not any(used[noun] for noun in of):
            why = f'features="{model.features}" excludes them' if any(map(there.get, of)) else "the data has none"
            raise ValueError(
                f"{name}={value} would have no effect: it applies to features, and {why}. Leave {name} out, or provide features with "
                f"{advice.format('item')}"
            )
