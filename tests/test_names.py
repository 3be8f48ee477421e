"""Arguments and settings that there are not: the message names what was called, what is meant, and what there is."""

import pytest

from recsys_dl.compose import compose_command
from recsys_dl.data.split import random_split
from recsys_dl.kernels.device import resolve
from recsys_dl.models.als import ALS
from recsys_dl.models.item_knn import ItemKNN
from recsys_dl.models.mlp import MLP
from recsys_dl.models.two_tower import TwoTower
from recsys_dl.names import counted, near, with_article
from recsys_dl.training import TrainerOptions


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: ALS(factors=8),
            "ALS has no argument 'factors' (did you mean 'embedding_size'?). It takes: embedding_s",
        ),
        (lambda: ALS(embeding_size=8), "(did you mean 'embedding_size'?)"),
        (lambda: ALS(8), "ALS takes its arguments by name, such as ALS(embedding_size=8), got 1 without"),
        (lambda: ItemKNN(k=20), "ItemKNN has no argument 'k' (did you mean 'num_neighbors'?)"),
        (lambda: MLP(layers=[8]), "MLP has no argument 'layers' (did you mean 'hidden_sizes'?)"),
        (lambda: TwoTower(max_epochs=8), "TwoTower has no argument 'max_epochs' (did you mean 'epochs'?)"),
        (lambda: TwoTower(hidden_sizes=8, lambda_=1), "TwoTower has no argument"),
        (
            lambda: random_split(None),
            "random_split needs seed, such as random_split(data, seed=…). It takes: data, valida",
        ),
        (
            lambda: random_split(None, 0.2, seed=1),
            "takes only data without a name, such as random_split(data, validation",
        ),
        (
            lambda: TrainerOptions(max_epochs=3),
            "TrainerOptions has no argument 'max_epochs'. It takes: precision='32-tr",
        ),
        (lambda: TrainerOptions(precison=32), "(did you mean 'precision'?)"),
    ],
)
def test_an_argument_that_there_is_not_is_named_with_what_is_meant(call, words):
    with pytest.raises(TypeError) as caught:
        call()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("verb", "words", "meant"),
    [
        ("train", ["model.factors=8"], "model.embedding_size"),
        ("train", ["model=mlp", "model.layers=[8]"], "model.hidden_sizes"),
        ("train", ["model.layers=[8]"], "model=mlp, model=neumf"),
        ("train", ["model=item_knn", "model.k=8"], "model.num_neighbors"),
        ("train", ["trainer.max_epochs=8"], "model.epochs"),
        ("train", ["epochs=8"], "model.epochs"),
        ("train", ["split=random", "split.ratio=0.1"], "split.test"),
        ("train", ["k=8"], "evaluate.k"),
        ("recommend", ["run=x", "n=8"], "k"),
        ("train", ["split=temporal"], "time"),
        ("train", ["model=knn"], "item_knn"),
        ("train", ["device=gpu"], "cuda"),
    ],
)
def test_other_words_for_a_setting_lead_to_it(verb, words, meant):
    with pytest.raises(ValueError) as caught:
        compose_command(verb, words)
    assert f"did you mean {meant!r}?" in str(caught.value) or f"{meant}" in str(caught.value).split("There are")[0]


def test_gpu_means_cuda():
    for call in (lambda: ALS(device="gpu"), lambda: resolve("gpu")):
        with pytest.raises(ValueError, match="did you mean 'cuda'"):
            call()


def test_a_word_whose_meaning_is_known_is_not_guessed_by_its_letters():
    assert near("model.factors", ["model.epochs", "model.actors"]) == ""
    assert near("model.zzz", ["model.epochs"]) == ""


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("als", "got 'als': model=als"),
        ("three_stage", "pipeline=three_stage"),
        ("ok.csv", "data=log data.path=ok.csv"),
        ("seed=1,2", "for every combination of values recsys-dl train -m"),
    ],
)
def test_a_bare_word_and_several_values_are_answered_with_the_way_to_write_them(word, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ok.csv").write_text("user,item")
    with pytest.raises(ValueError) as caught:
        compose_command("train", [word])
    assert meant in str(caught.value)


def test_lists_are_not_written_over_a_file(tmp_path):
    from recsys_dl.verbs.recommend import _check

    (tmp_path / "lists.csv").write_text("mine")
    words = ["run=x", "users=[1]", f"output={tmp_path / 'lists.csv'}"]
    with pytest.raises(FileExistsError, match="exists already; name another, or remove it first"):
        _check(compose_command("recommend", words))


def test_numbers_with_their_nouns_and_names_with_their_articles():
    assert [counted(number, "trial") for number in (0, 1, 2, 1000)] == [
        "0 trials",
        "1 trial",
        "2 trials",
        "1,000 trials",
    ]
    assert [with_article(name) for name in ("T4", "H100", "A100", "L40S", "V100")] == [
        "a T4",
        "an H100",
        "an A100",
        "an L40S",
        "a V100",
    ]
