"""New items for a fitted run: scored by their features, in lists, in an index, in a folder of their own."""

import numpy as np
import polars as pl
import pytest

from recsys_dl import add_items, load_run
from recsys_dl.cli import main

NEW = pl.DataFrame(
    {
        "item_id": ["n0", "n1", "i3"],
        "title": ["New robots", "New roses", "known"],
        "genres": [["robots", "lasers"], ["roses", "kisses"], ["roses"]],
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A log of two tastes that genres show, and runs of it."""
    home = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{item}", 4.0)
        for user in range(30)
        for item in rng.choice(np.arange(user % 2, 40, 2), 8, replace=False)
    ]
    pl.DataFrame(rows, schema=["user_id", "item_id", "rating"], orient="row").write_csv(home / "log.csv")
    genres = ["robots|lasers", "roses|kisses"]
    items = {
        "item_id": [f"i{row}" for row in range(40)],
        "title": [f"T{row}" for row in range(40)],
        "genres": [genres[row % 2] for row in range(40)],
    }
    pl.DataFrame(items).write_csv(home / "items.csv")
    data = ["data=log", f"data.path={home / 'log.csv'}", f"data.item_features={home / 'items.csv'}", "split=none"]
    base = ["model=bootstrap", "model.base.embedding_size=4", "model.base.epochs=3"]
    for name, words in (
        ("content", ["model=content"]),
        ("bootstrap", base),
        ("indexed", [*base, "index=exact"]),
        ("als", ["model=als", "model.epochs=2"]),
    ):
        assert main(["train", *data, *words, f"run={home / name}"]) == 0
    return home


@pytest.mark.parametrize("name", ["content", "bootstrap", "indexed"])
def test_new_items_go_to_those_who_like_their_kind(name, folder, tmp_path):
    before = load_run(folder / name)
    run = add_items(folder / name, NEW, tmp_path / "grown")
    assert len(run.items) == len(before.items) + 2
    for user, wanted in (("u0", "n0"), ("u1", "n1")):
        table = run.recommend([user], k=2, allow=["n0", "n1"])
        assert table["item_id"][0] == wanted
        assert table["title"][0].startswith("New")
    old = [f"i{row}" for row in range(40)]
    one, two = (each.recommend(["u0", "u5"], k=5, allow=old) for each in (before, run))
    assert one.equals(two)
    assert len(load_run(folder / name).items) == len(before.items)
    assert run.manifest["parent"]["how"] == "add_items"
    assert main(["recommend", f"run={tmp_path / 'grown'}", "users=[u0]", "k=3"]) == 0
    assert main(["evaluate", f"run={tmp_path / 'grown'}"]) != 0


def test_a_file_and_more_than_once(folder, tmp_path):
    NEW.with_columns(pl.col("genres").list.join("|")).write_csv(tmp_path / "new.csv")
    run = add_items(folder / "content", tmp_path / "new.csv", tmp_path / "one", lists={"genres": "|"})
    again = add_items(run, NEW.with_columns(item_id=pl.Series(["m0", "m1", "m2"])), tmp_path / "two")
    assert len(again.items) == len(run.items) + 3
    assert set(again.recommend(["u0"], k=2, allow=["n0", "m0", "m1", "n1"])["item_id"]) == {"n0", "m0"}


def test_wrong_words(folder, tmp_path):
    with pytest.raises(ValueError, match=r"ALS knows items only by their interactions.*model=bootstrap"):
        add_items(folder / "als", NEW, tmp_path / "x")
    with pytest.raises(
        ValueError, match="must have the columns of the item features in training, got only item_id, title"
    ):
        add_items(folder / "content", NEW.drop("genres"), tmp_path / "x")
    with pytest.raises(ValueError, match="must have the column 'genres'"):
        add_items(folder / "content", NEW.rename({"genres": "kinds"}), tmp_path / "x")
    with pytest.raises(ValueError, match="held lists of text in training, got whole numbers"):
        add_items(folder / "content", NEW.with_columns(genres=pl.Series([1, 2, 3])), tmp_path / "x")
    with pytest.raises(ValueError, match="must have an item that .* does not know"):
        add_items(folder / "content", NEW[2:], tmp_path / "x")
    with pytest.raises(ValueError, match=r"must have a column of item ids.*item_id_column"):
        add_items(folder / "content", NEW.rename({"item_id": "thing"}), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with pytest.raises(FileExistsError):
        add_items(folder / "content", NEW, folder / "als")
