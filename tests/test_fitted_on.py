"""A model, and each one inside it, that was fitted on more than train: `combine` and evaluations say so."""

import copy
import logging

import pytest

from recsys_dl import Interactions, evaluate, leave_last_out
from recsys_dl.data.generated import generated
from recsys_dl.data.split import random_split
from recsys_dl.evaluation import evaluate_counterfactual
from recsys_dl.fitted_on import fitted_otherwise
from recsys_dl.models import ALS, GMF, MLP, SVD, Bootstrap, Hybrid, ItemKNN, NeuMF, Popularity
from recsys_dl.pipeline import Pipeline
from recsys_dl.retrieval import Exact, Retriever
from recsys_dl.wider import WiderCatalog

WHOLE = generated(num_users=300, num_items=200, num_interactions=6000)
TRAIN, VALIDATION, TEST = leave_last_out(WHOLE)


def warnings_of(caplog):
    return [one for one in caplog.records if one.levelno >= logging.WARNING]


def notes_of(model, **more):
    return evaluate(model, TRAIN, TEST, metrics=["ndcg"], num_resamples=100, **more).notes


def test_combine_refuses_what_has_seen_validation_and_warns_of_the_rest(caplog):
    leaking, honest = ItemKNN(device="cpu").fit(WHOLE), Popularity().fit(TRAIN)
    with pytest.raises(
        ValueError, match=r"the part a \(ItemKNN\) was fitted on .* as validation: fit it on train, or give"
    ):
        Hybrid({"a": leaking, "b": honest}).combine(TRAIN, VALIDATION)
    assert not warnings_of(caplog)
    hybrid = Hybrid({"a": leaking, "b": honest}, weights={"a": 1, "b": 1}).combine(TRAIN)
    assert "the part a (ItemKNN) was fitted on" in caplog.text
    assert "the part b" not in caplog.text
    (note,) = notes_of(hybrid)
    assert "the part a (ItemKNN) of Hybrid was fitted on" in note
    assert "very likely been fitted on the test part" in note
    caplog.clear()
    Hybrid({"b": honest}).combine(WHOLE)
    assert (
        f"the part b (Popularity) was fitted on {len(TRAIN):,} pairs of users and items, but train holds" in caplog.text
    )


def test_a_hybrid_within_a_hybrid(caplog):
    inner = Hybrid({"a": ItemKNN(device="cpu").fit(WHOLE)}, weights={"a": 1}).combine(TRAIN)
    with pytest.raises(ValueError, match=r"the part a \(ItemKNN\) of the part inner \(Hybrid\) was fitted on"):
        Hybrid({"inner": inner, "b": Popularity().fit(TRAIN)}).combine(TRAIN, VALIDATION)


def test_honest_parts_get_neither_a_warning_nor_a_note(caplog):
    caplog.set_level(logging.WARNING)
    parts = {"a": ItemKNN(device="cpu").fit(TRAIN), "b": Popularity().fit(TRAIN)}
    hybrid = Hybrid(parts).combine(TRAIN, VALIDATION)
    assert not warnings_of(caplog)
    assert notes_of(hybrid, exclude=VALIDATION) == ()
    both = TRAIN.with_interactions(Interactions.concat([TRAIN.interactions, VALIDATION.interactions]))
    assert notes_of(Popularity().fit(both), exclude=VALIDATION) == ()


def test_weights_tuned_on_train_itself_are_refused():
    parts = {"a": ItemKNN(device="cpu").fit(TRAIN), "b": Popularity().fit(TRAIN)}
    with pytest.raises(ValueError, match="interactions that train does not hold, but train holds every pair"):
        Hybrid(parts).combine(TRAIN, TRAIN)


def holders():
    leaking = ItemKNN(device="cpu").fit(WHOLE)
    pipeline = Pipeline({"knn": ItemKNN(device="cpu")}).fit(TRAIN)
    pipeline.retrievers["knn"] = leaking
    yield pipeline, "the retriever knn (ItemKNN) of Pipeline was fitted on"
    yield leaking, "ItemKNN was fitted on"
    yield WiderCatalog(leaking, WHOLE.num_items, WHOLE.items), "WiderCatalog was fitted on"
    factors = SVD(embedding_size=4).fit(WHOLE)
    yield Retriever(factors, Exact(device="cpu")).build(), "Retriever was fitted on"


@pytest.mark.parametrize("at", range(4))
def test_evaluation_looks_into_what_holds_a_model(at):
    model, words = list(holders())[at]
    (note,) = notes_of(model)
    assert note.startswith(words)
    assert "very likely been fitted on the test part" in note
    assert note in evaluate_counterfactual(model, TRAIN, TEST, num_resamples=100).notes


def test_a_base_is_looked_into():
    base = ALS(embedding_size=4, epochs=1, device="cpu").fit(WHOLE)
    held = copy.copy(Bootstrap(base))
    held.user_counts_U, held.item_counts_I = TRAIN.interactions.user_counts_U, TRAIN.interactions.item_counts_I
    (one,) = fitted_otherwise(held, TRAIN.interactions)
    assert one.name == "the base (ALS) of Bootstrap"
    assert one.may_know(TEST.interactions, TRAIN.interactions)


def test_another_split_of_the_same_log_is_noted_though_its_size_is_the_same():
    (train, _, test), (other, _, _) = (random_split(WHOLE, validation=0, test=0.1, seed=seed) for seed in (1, 2))
    (note,) = evaluate(ItemKNN(device="cpu").fit(other), train, test, num_resamples=100).notes
    assert f"but train holds {len(train):,} others" in note


def test_what_is_not_said_is_not_guessed():
    class Silent:
        def recommend(self):
            raise NotImplementedError

    assert fitted_otherwise(Silent(), TRAIN.interactions) == []
    (one,) = fitted_otherwise(Popularity().fit(WHOLE), TRAIN.interactions)
    empty = Interactions([], [], num_users=TRAIN.num_users, num_items=TRAIN.num_items)
    assert not one.may_know(empty, TRAIN.interactions)
    assert one.num_more == WHOLE.interactions.by_user.nnz - TRAIN.interactions.by_user.nnz


def test_neumf_warns_of_pretrained_models_that_saw_more(tmp_path, caplog):
    small = {"embedding_size": 4, "epochs": 1, "device": "cpu"}
    GMF(**small).fit(WHOLE).save(tmp_path / "gmf")
    MLP(**small, hidden_sizes=[8]).fit(TRAIN).save(tmp_path / "mlp")
    NeuMF(**small, hidden_sizes=[8], gmf=tmp_path / "gmf", mlp=tmp_path / "mlp").fit(TRAIN)
    assert f"{tmp_path / 'gmf'} was fitted on at least {len(WHOLE) - len(TRAIN):,} pairs" in caplog.text
    assert f"{tmp_path / 'mlp'}" not in caplog.text
