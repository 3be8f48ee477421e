"""Hybrids on the command line: parts chosen and set by words, and a run from training to export."""

import pytest
from hydra.utils import instantiate

from recsys_dl.cli import main
from recsys_dl.compose import compose, compose_command


def test_parts_are_chosen_and_set_by_words():
    hybrid = instantiate(compose("train", ["model=hybrid", "model.parts.als.embedding_size=5", "seed=3"]).model)
    assert list(hybrid.parts) == ["als", "ease", "item_knn"]
    assert (hybrid.parts["als"].embedding_size, hybrid.parts["als"].seed, hybrid.seed) == (5, 3, 3)
    words = [
        "model=hybrid",
        "model@model.parts.als=bpr",
        "+model@model.parts.popular=popularity",
        "~model@model.parts.ease",
    ]
    assert list(instantiate(compose("train", words).model).parts) == ["als", "item_knn", "popular"]
    words = ["model=hybrid", "~model.parts.ease", "model.weights={als: 0.7, item_knn: 0.3}"]
    hybrid = instantiate(compose_command("train", words).model)
    assert hybrid.weights == {"als": 0.7, "item_knn": 0.3}
    with pytest.raises(ValueError, match=r"model\.parts\.als\.embeding_size.*did you mean"):
        compose("train", ["model=hybrid", "model.parts.als.embeding_size=5"])
    with pytest.raises(ValueError, match="ALS, EASE, ItemKNN learns without a trainer"):
        compose_command("train", ["model=hybrid", "trainer.patience=3"])
    compose_command("train", ["model=hybrid", "trainer.patience=3", "+model@model.parts.gmf=gmf"])
    with pytest.raises(ValueError, match=r"model\.how must be weighted, switching, mixed or cascade"):
        compose("train", ["model=hybrid", "model.how=blend"])


def test_a_run_is_trained_explained_refitted_and_reproduced(tmp_path, monkeypatch, capsys):
    from recsys_dl import load_run

    monkeypatch.chdir(tmp_path)
    data = ["data=generated", "data.num_users=120", "data.num_items=80", "data.num_interactions=900"]
    parts = ["model@model.parts.als=popularity", "~model@model.parts.ease"]
    for words in (
        ["train", "model=hybrid", *data, *parts, "run=runs/a", "seed=3"],
        ["refit", "run=runs/a", "output=runs/b"],
        ["reproduce", "runs/a"],
        ["export", "run=runs/b", "output=served"],
    ):
        assert main(words) in (0, None), capsys.readouterr().err
    run = load_run("runs/b")
    assert list(run.model.parts) == ["als", "item_knn"]
    table, _ = run.explain([run.users.ids[0]], k=3)
    assert set(table["because"]) <= {"als + item_knn rank it", "item_knn ranks it", "als ranks it"}
    assert main(["train", "model=hybrid", *data, *parts, "model.weights={asl: 1}", "run=runs/c"])
    assert "weights must name parts (als, item_knn), got 'asl' (did you mean 'als'?)" in capsys.readouterr().err
    assert not (tmp_path / "runs/c").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=hybrid", "model.weights={als: 0.5, eas: 0.3}"], "model.weights must name parts"),
        (["model=hybrid", "model.segments=[50,10]"], "model.segments must ascend"),
        (
            ["model=hybrid", "model.how=mixed", "model.min_user_interactions={als: 1}"],
            "model.min_user_interactions are for model.how=switching",
        ),
        (["model=content", "model.kinds={genres: tags}"], "the kind of a column must be one of"),
        (["model=bootstrap", "model@model.base=item_knn"], "base must be a model with item vectors of its own"),
    ],
)
def test_what_a_constructor_refuses_is_refused_before_the_log_is_read(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "data=log", "data.path=nowhere.csv", *words]) == 1
    assert said in capsys.readouterr().err  # not that the file does not exist


def test_a_cascade_by_its_defaults(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = ["data=generated", "data.num_users=120", "data.num_items=80", "data.num_interactions=900"]
    assert main(["train", "model=hybrid", "model.how=cascade", *data, "model@model.parts.als=popularity", "run=c"]) in (
        0,
        None,
    )
