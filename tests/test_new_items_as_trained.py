"""New items are read as training's were: separators, numbers, words for a missing value; other spellings and blanks are said."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recsys_dl import Dataset, Interactions, Vocabulary, add_items, load_run
from recsys_dl.cli import main
from recsys_dl.models import Content


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    pairs = [(f"u{user}", 101 + int(item)) for user in range(12) for item in rng.choice(20, 6, replace=False)]
    pl.DataFrame(pairs, schema=["user", "item"], orient="row").write_csv(home / "log.csv")
    lines = ["item,genres,maker,price"]
    lines += [
        f"{101 + row},{('Crime|War', 'Love', 'War')[row % 3]},{('Acme', 'Zeta')[row % 2]},{row}.5" for row in range(20)
    ]
    (home / "items.csv").write_text("\n".join(lines))
    words = ["data=log", f"data.path={home / 'log.csv'}", f"data.item_features={home / 'items.csv'}", "split=none"]
    assert main(["train", *words, "model=content", f"run={home / 'content'}"]) == 0
    return home


def added(folder, text: str, tmp_path) -> pl.Series:
    (tmp_path / "new.csv").write_text(f"item,genres,maker,price\n{text}\n")
    return add_items(folder / "content", tmp_path / "new.csv", tmp_path / "grown").items.ids


@pytest.mark.parametrize(
    "row", ["n1,Crime,Acme,3", "n1,Crime;War,Acme,3.5", 'n1,"[""Crime""]",NULL,n/a', "n1,War|Crime,,1999"]
)
def test_one_new_item_is_read_as_training_was(row, folder, tmp_path, caplog):
    assert added(folder, row, tmp_path)[-1] == "n1"
    model = load_run(tmp_path / "grown").model
    crime = [model.encoder.terms.index(term) for term in ("Crime", "War") if term in row]
    assert (model.terms_IT[-1, crime].toarray() > 0).all()
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_what_cannot_be_read_so_is_named_with_what_to_do(folder, tmp_path):
    with pytest.raises(
        ValueError,
        match=r"'price' .* held numbers in training, got text, such as '3,5' for item 'n1'; write it as there",
    ):
        added(folder, 'n1,Crime,Acme,"3,5"', tmp_path)
    with pytest.raises(ValueError, match=r"new.csv, line 2: has 5 fields.*Fix it\.$"):
        added(folder, "n1,Crime,Acme,3,5", tmp_path)
    with pytest.raises(ValueError, match=r"new.csv, row 1 .* Fix it\.$"):
        added(folder, "n1,Crime,Acme,3\nn1,Love,Acme,3", tmp_path)


def test_other_spellings_of_known_items_are_said(folder, tmp_path, caplog):
    assert added(folder, "101.0,Crime,Acme,3\n0102,Love,Acme,4", tmp_path)[-2:].to_list() == ["101.0", "0102"]
    assert "new.csv has ids such as '101.0', '0102'" in caplog.text
    assert (
        "1 of them match. They are added as new items; if they are known ones, write their ids as there" in caplog.text
    )


def test_new_items_that_say_nothing_are_named(folder, tmp_path, caplog):
    added(folder, "n1,,,\nn2,Musical,Other,\nn3,Crime,,", tmp_path)
    assert "new.csv: 2 of 3 new items, such as 'n1', have no feature that the model knows from training" in caplog.text


def test_vectors_of_whole_numbers_and_in_text_grow_a_model_of_vectors():
    def data(ids, vectors, log):
        frame = pl.DataFrame({"emb": vectors})
        return Dataset(log, Vocabulary(["u"], noun="user"), Vocabulary(ids, noun="item"), item_features=frame)

    train = data(["a", "b"], [[0.5, 1.0], [1.0, 0.0]], Interactions([0], [0], num_items=2))
    for vectors in ([[1, 2]], ["[0.5, 1]"]):
        model = Content().fit(train)
        model.grow(data(["c"], vectors, Interactions([], [], num_users=1, num_items=1)))
        assert model.similar_items([2], k=1).items_BK.tolist() == [[0]]
