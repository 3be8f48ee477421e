"""Saved models: a folder of `config.yaml` (class, arguments, checksums), `arrays.npz` and the vocabularies. Never a pickle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_dl import __version__
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.folders import load_arrays, new_folder, read_config, save_arrays, write_config

if TYPE_CHECKING:
    from .catalogue import CatalogueModel


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
        write_config(aside, model, version=__version__)


def load_model(folder: str | os.PathLike[str]) -> CatalogueModel:
    """Read a saved model of whatever class. Nothing in the folder is ever unpickled.

    Raises:
        FileNotFoundError: no saved model there.
        ValueError: it is damaged, or of a format this version cannot read.
    """
    from .catalogue import CatalogueModel

    cls, config = read_config(folder, CatalogueModel, noun="model")
    path, model = Path(folder), cls(**config["arguments"])
    for noun, singular in (("users", "user"), ("items", "item")):
        file = path / f"{noun}.parquet"
        setattr(model, noun, Vocabulary.load(file, noun=singular) if file.name in config["sha256"] else None)
    model.restore(load_arrays(path / "arrays.npz"))
    return model
