"""Models that predict ratings, and what the others answer; words before names."""

import pytest
from hydra.utils import instantiate

from recsys_dl import Interactions, evaluate
from recsys_dl.cli import main
from recsys_dl.compose import compose, options
from recsys_dl.models import ALS, Popularity
from recsys_dl.names import PREDICTS_RATINGS, with_article
from recsys_dl.retrieval import Exact, Retriever

RATINGS = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3], [1, 2, 3, 4, 5, 5])


def test_the_models_that_predict_ratings_are_those_named():
    models = {name: instantiate(compose("train", [f"model={name}", "device=cpu"]).model) for name in options("model")}
    assert {name for name, model in models.items() if hasattr(model, "predict")} == set(PREDICTS_RATINGS)


@pytest.mark.parametrize(
    "model", [ALS(embedding_size=2, device="cpu"), Retriever(ALS(embedding_size=2, device="cpu"), Exact(device="cpu"))]
)
def test_the_others_say_which_do(model):
    model.fit(RATINGS)
    with pytest.raises(
        AttributeError, match=r"ALS ranks items and does not predict ratings.*explicit_als, funk_svd, svd_pp"
    ):
        model.predict([0], [1])
    assert not hasattr(model, "predict")
    with pytest.raises(AttributeError, match="'ALS' object has no attribute 'nothing'"):
        model.nothing  # noqa: B018


def test_rating_metrics_of_the_others_say_so_too():
    with pytest.raises(ValueError, match=r"rmse compares predicted ratings.*Popularity ranks items.*funk_svd"):
        evaluate(Popularity().fit(RATINGS), RATINGS, RATINGS, k=1, metrics=["rmse"])


def test_the_command_says_where_ratings_are_predicted(capsys):
    assert main(["predict", "run=runs/als"]) == 2
    assert "load_run(...).model.predict(users, items), by explicit_als, funk_svd" in capsys.readouterr().err


def test_articles():
    names = [
        "ALS",
        "BPR",
        "HNSW",
        "IVF",
        "ItemKNN",
        "MLP",
        "Popularity",
        "SVD",
        "UserKNN",
        "VectorIndex",
        "EASE",
        "NeuMF",
        "Index",
    ]
    assert [with_article(name).split()[0] for name in names] == [
        "an",
        "a",
        "an",
        "an",
        "an",
        "an",
        "a",
        "an",
        "a",
        "a",
        "an",
        "a",
        "an",
    ]
