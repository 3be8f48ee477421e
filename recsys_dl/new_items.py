"""New items for a fitted run, by their features and texts alone: into its model, its index and its lists."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.matching import MATCHES, SPELLINGS, compared
from recsys_dl.data.messages import shorten
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.folders import new_folder
from recsys_dl.names import counted
from recsys_dl.readers.columns import position, recognize
from recsys_dl.readers.side_tables import read_table, side_features
from recsys_dl.runs import Run, StageTimer, load_run, logged_to, weights_hash, write_run
from recsys_dl.wider import scores_new_items

log = logging.getLogger(__name__)


def add_items(
    run: Run | str | os.PathLike[str],
    items: Any,
    folder: str | os.PathLike[str],
    *,
    item_id_column: str | int | None = None,
    title: str | int | None = None,
    text: str | int | Sequence[str | int] | None = None,
    lists: Mapping[str, str | None] | None = None,
) -> Run:
    """Write a run whose model, index and lists hold new items too, without a fit; return it. The run itself is not changed.

    Known items keep their vectors; new ones are scored by their features. `grow` of the model says how.

    Args:
        run: from `load_run`, or its folder; of a content model, `bootstrap`, a two-tower model or another that grows by features, also
            served by an index, in a hybrid or as a retriever of a pipeline.
        items: a file or frame with a row for each new item: its id and the columns of the item features in training. Rows of
            known items are left out.
        folder: of the new run.
        item_id_column: which column holds the ids; None recognizes it.
        title: column of display titles; None recognizes it.
        text: column or columns of free text; likewise.
        lists: column -> separator of multi-valued columns; others are split so that their parts are known from training.

    Raises:
        ValueError: no new item, a column that training had is missing or of another type, or a model that knows items only by
            their interactions; says which models take new items.
        FileExistsError: the folder exists.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl import add_items, load_run, read_log
        >>> import subprocess
        >>> command = "recsys-dl train data=movielens_small model=content run=runs/content"
        >>> _ = subprocess.run(command.split(), check=True, capture_output=True)
        >>> new = pl.DataFrame({"item_id": ["n1"], "title": ["The Heist"], "year": [1974], "genres": [["Crime", "Thriller"]]})
        >>> run = add_items("runs/content", new, "runs/content-new")
        >>> run.recommend(["196"], k=1, allow=["n1"])["title"].to_list()
        ['The Heist']
    """
    run = run if isinstance(run, Run) else load_run(run)
    model: Any = copy.deepcopy(run.model)
    if not scores_new_items(model):
        raise ValueError(
            f"{type(model).__name__} knows items only by their interactions and cannot score new ones: train model=content, "
            "model=bootstrap, model=ease with model.content_weight=100 or model=two_tower with item features, alone, in a hybrid or as a retriever of a pipeline; until then new "
            "items are for a rule or exploration to show"
        )
    decimal = (run.config.get("data") or {}).get("decimal", ".")
    table = read_table(items, decimal=decimal, skippable=False)
    names, where = table.columns, str(items) if isinstance(items, str | os.PathLike) else "the frame of new items"
    if item_id_column is not None:
        at: int | None = position(names, item_id_column, "item_id_column", where)
    else:
        at = recognize(names, "item", where, needed=False)
        at = names.index("id") if at is None and "id" in names else at
    if at is None:
        raise ValueError(
            f"{where} must have a column of item ids, such as item_id; its columns are {shorten(', '.join(names), 200)}. Set the "
            "right one: item_id_column=…"
        )
    given = Vocabulary(table.to_series(at).drop_nulls().unique(maintain_order=True), noun="item")
    how: dict[str, Any] = {"own_id_column": at, "title": title, "text": text, "lists": lists}
    side = side_features(
        table, given, **how, where=where
    )  # text is left as it is, for the model to read as in training
    if side.features is None and side.texts is None:
        raise ValueError(
            f"{where} must have the columns of the item features in training, got only {shorten(', '.join(names), 200)}"
        )
    fresh = np.flatnonzero(run.items.find(given.ids) < 0)
    if not len(fresh):
        raise ValueError(
            f"{where} must have an item that {run.folder} does not know, but it knows all: {shorten(', '.join(given.ids))}"
        )
    spelled = compared(given.at(fresh), where, run.items.ids, str(run.folder), reasons=SPELLINGS)
    if spelled.endswith(MATCHES):
        log.warning("%s. They are added as new items; if they are known ones, write their ids as there", spelled)
    new = Dataset(
        Interactions([], [], num_users=len(run.users), num_items=len(fresh)),
        run.users,
        Vocabulary(given.at(fresh), noun="item"),
        item_features=None if side.features is None else side.features[fresh],
        item_titles=None if side.titles is None else side.titles[fresh],
        item_texts=None if side.texts is None else side.texts[fresh],
        name=f"{len(fresh)} new items",
    )
    stages = StageTimer()
    with stages.stage("add items"):
        if hasattr(model, "retrievers"):
            model.grow(new, seen=run.seen)
        else:
            model.grow(new)
    if not hasattr(model, "item_side"):  # models of `families.feature_vectors` say so themselves
        _warn_of_unknown(model, new.items, where)
    seen = run.seen
    seen = Interactions(
        seen.users_N, seen.items_N, seen.weights_N, num_users=seen.num_users, num_items=len(model.items)
    )
    return _written(run, model, seen, _titles(run, new), new, stages, folder)


def _warn_of_unknown(model: Any, items: Vocabulary, where: str) -> None:
    """Warn of new items of whose features the model knows none."""
    nothing = items.ids.filter(pl.Series(model.item_sources()[-len(items) :] == "nothing", dtype=pl.Boolean))
    if len(nothing):
        log.warning(
            "%s: %d of %s, such as %r, %s no feature that the model knows from training: they have no values, or none of them (tags, "
            "words, categories) occurred there often enough; nothing is known to rank them by",
            *(where, len(nothing), counted(len(items), "new item"), shorten(str(nothing[0]))),
            "has" if len(nothing) == 1 else "have",
        )


def _titles(run: Run, new: Dataset) -> pl.Series | None:
    if run.titles is None and new.item_titles is None:
        return None
    parts = [
        pl.Series("title", [None] * size, dtype=pl.String) if titles is None else titles.alias("title")
        for titles, size in ((run.titles, len(run.items)), (new.item_titles, new.num_items))
    ]
    return pl.concat(parts)


def _written(
    run: Run,
    model: Any,
    seen: Interactions,
    titles: pl.Series | None,
    new: Dataset,
    stages: StageTimer,
    folder: str | os.PathLike[str],
) -> Run:
    done = {"how": "add_items", "items": new.num_items, "hash": new.content_hash}
    parent = {"folder": str(run.folder.resolve()), "model": weights_hash(run.folder)} | done
    name = f"{run.manifest['data']['name']} + {new.name}"
    with new_folder(folder) as aside, logged_to(aside / "run.log"):
        write_run(
            aside,
            config=run.config,
            model=model,
            seen=seen,
            data=Dataset(seen, model.users, model.items, item_titles=titles, name=name),
            evaluations={},
            stages=stages,
            parent=parent,
        )
    return load_run(folder)
