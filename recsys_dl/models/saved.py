"""Saved models: a folder of `config.yaml` (class, arguments, checksums), `arrays.npz` and the vocabularies. Never a pickle."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from recsys_dl import __version__
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.folders import load_arrays, new_folder, save_arrays, sha256

if TYPE_CHECKING:
    from .catalogue import CatalogueModel

FORMAT = 1  # of the folder; raised when an older one can no longer be read


def save_model(model: CatalogueModel, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a fitted model to a folder that appears whole or not at all.

    Raises:
        FileExistsError: the folder exists and `overwrite` is false.
    """
    with new_folder(folder, overwrite=overwrite) as aside:
        save_arrays(aside / "arrays.npz", model.arrays())
        for noun in ("users", "items"):
            if (vocabulary := getattr(model, noun)) is not None:
                vocabulary.save(aside / f"{noun}.parquet")
        config = {
            "format": FORMAT,
            "version": __version__,
            "class": f"{type(model).__module__}.{type(model).__qualname__}",
            "arguments": model.arguments(),
            "sha256": {file.name: sha256(file) for file in sorted(aside.iterdir())},
        }
        (aside / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def load_model(folder: str | os.PathLike[str]) -> CatalogueModel:
    """Read a saved model of whatever class. Nothing in the folder is ever unpickled.

    Raises:
        FileNotFoundError: no saved model there.
        ValueError: it is damaged, or of a format this version cannot read.
    """
    from .catalogue import CatalogueModel

    path = Path(folder)
    if not (path / "config.yaml").is_file():
        raise FileNotFoundError(f"{path} must hold a saved model, but has no config.yaml")
    try:
        config = yaml.safe_load((path / "config.yaml").read_text())
        found, home, files = config["format"], config["class"], dict(config["sha256"])
        arguments = dict(config["arguments"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path / 'config.yaml'} is damaged ({error}); restore the folder or train again") from error
    if found != FORMAT:
        raise ValueError(
            f"{path} is of format {found}, this version ({__version__}) reads format {FORMAT}. "
            f"It was written by version {config.get('version')}: load it there, or train again."
        )
    for name, wanted in files.items():
        if not (path / name).is_file() or sha256(path / name) != wanted:
            raise ValueError(
                f"{path / name} is missing or damaged (its SHA-256 is not the one saved); restore it or train again"
            )
    module, _, name = home.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise ValueError(f"{path} needs the class {home}, which cannot be imported here ({error})") from error
    if not (isinstance(cls, type) and issubclass(cls, CatalogueModel)):
        raise ValueError(f"{path} names the class {home}, which is not a recommender of this version")
    model = cls(**arguments)
    for noun, singular in (("users", "user"), ("items", "item")):
        file = path / f"{noun}.parquet"
        setattr(model, noun, Vocabulary.load(file, noun=singular) if file.name in files else None)
    model.restore(load_arrays(path / "arrays.npz"))
    return model
