"""What a retriever really returned reaches the ranker: the same in training and in serving."""

import numpy as np
import pytest
import yaml

from recsys_dl.data.interactions import Interactions
from recsys_dl.models.als import ALS
from recsys_dl.models.item_knn import ItemKNN
from recsys_dl.models.popularity import Popularity
from recsys_dl.pipeline import Pipeline
from recsys_dl.pipeline.evidence import ranks_in
from recsys_dl.pipeline.ranker_training import gathered
from recsys_dl.rankers.columns import RetrieverRanks, RetrieverScores
from recsys_dl.rankers.features import CandidateFeatures
from recsys_dl.rankers.lambdamart import LambdaMART


def log(seed=0, num_users=90, num_items=70, each=12) -> Interactions:
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(num_users), each)
    items = np.concatenate([rng.choice(num_items, each, replace=False) for _ in range(num_users)])
    return Interactions(users, items, times_N=rng.permutation(len(users)), num_users=num_users, num_items=num_items)


class Recorder(LambdaMART):
    """Keeps the features of candidates that it was asked to score."""

    def score(self, features_BLF, valid_BL=None):
        self.seen_BLF = np.array(features_BLF)
        return super().score(features_BLF, valid_BL)


def build(**changes) -> Pipeline:
    settings = {
        "retrievers": {"als": ALS(embedding_size=4, epochs=3, device="cpu"), "knn": ItemKNN(), "popular": Popularity()},
        "num_retrieved": 15,
        "num_candidates": 30,
        "features": CandidateFeatures([RetrieverScores(), RetrieverRanks()]),
        "ranker": Recorder(num_trees=5, min_documents=5),
        "examples": {"last": 2},
    }
    return Pipeline(**settings | changes)


def by_name(pipeline: Pipeline, features_BLF: np.ndarray) -> dict[str, np.ndarray]:
    return {name: features_BLF[..., at] for at, name in enumerate(pipeline.features.names)}


def test_the_ranker_sees_what_each_retriever_returned():
    train = log()
    pipeline = build().fit(train)
    answer = pipeline.recommend([0, 1, 2], 5, exclude=train)
    merged = answer.stages[3].ranking.items_BK
    columns = by_name(pipeline, pipeline.ranker.seen_BLF)
    for stage in answer.stages[:3]:
        for b in range(3):
            returned = stage.ranking.items_BK[b].tolist()
            ranks = np.array([returned.index(item) + 1 if item in returned else 0 for item in merged[b].tolist()])
            expected = np.divide(1, ranks, out=np.zeros(len(ranks)), where=ranks > 0)
            np.testing.assert_array_equal(columns[f"{stage.name} found"][b], ranks > 0)
            np.testing.assert_allclose(columns[f"{stage.name} 1/rank"][b], expected, rtol=1e-6)
            there = merged[b] >= 0
            scores = pipeline.retrievers[stage.name].score([b], merged[b : b + 1])[0]
            np.testing.assert_allclose(columns[f"{stage.name} score"][b][there], scores[there], rtol=1e-4)
            assert 0 < (ranks[there] > 0).mean() < 1  # each returned some of the candidates, none all of them


def test_training_and_serving_make_the_same_features():
    train = log()
    teacher = build()
    learned, held = gathered(teacher, train, None)
    ((seen, _),) = teacher.examples.cut(train)
    served = build().fit(seen)  # the same retrievers, fitted on what those of training were fitted on
    compared = 0
    for groups in (learned, held):
        for q, name in enumerate(groups.group_ids):
            served.recommend([int(name.split(":")[1])], 10, exclude=seen)
            of_training = groups.features_NF[groups.starts_Q[q] : groups.starts_Q[q + 1]]
            of_serving = served.ranker.seen_BLF[0][: len(of_training)]  # the rest is padding
            for at, feature in enumerate(learned.names):  # scores of ALS are rounded otherwise in a batch
                tolerance = 1e-4 if feature.endswith("score") else 0
                np.testing.assert_allclose(of_serving[:, at], of_training[:, at], rtol=tolerance, err_msg=feature)
            compared += 1
    assert compared > 20
    found = of_training[:, [at for at, name in enumerate(learned.names) if name.endswith("found")]]
    assert 0 < found.mean() < 1


def test_a_retriever_that_did_not_answer_found_nothing():
    class Broken(ItemKNN):
        def recommend(self, *_, **__):
            raise OSError("gone")

    pipeline = build(on_failure={"knn": "skip"}).fit(log())
    broken = Broken()
    broken.__dict__.update(pipeline.retrievers["knn"].__dict__)
    pipeline.retrievers["knn"] = broken
    pipeline.recommend([0], 5)
    columns = by_name(pipeline, pipeline.ranker.seen_BLF)
    assert not columns["knn found"].any()
    assert not columns["knn 1/rank"].any()
    assert columns["als found"].any()


def test_a_pipeline_saved_before_answers_as_it_did(tmp_path):
    """Its ranker learned from ranks by score among all candidates; those of returned lists would be other features to it."""
    train = log()
    old = build()
    old.returned_ranks = False
    old.fit(train).save(tmp_path / "old")
    answer = old.recommend(np.arange(20), 8, exclude=train)
    there = answer.stages[3].ranking.items_BK >= 0
    assert by_name(old, old.ranker.seen_BLF)["als found"][
        there
    ].all()  # as it was: every retriever scores every candidate

    config = yaml.safe_load((tmp_path / "old" / "config.yaml").read_text())
    del config["stages"]["returned_ranks"]  # folders of that version do not have it
    (tmp_path / "old" / "config.yaml").write_text(yaml.safe_dump(config))
    loaded = Pipeline.load(tmp_path / "old")
    np.testing.assert_array_equal(loaded.recommend(np.arange(20), 8, exclude=train).items_BK, answer.items_BK)

    build().fit(train).save(tmp_path / "new")
    loaded = Pipeline.load(tmp_path / "new")
    loaded.recommend([0], 5, exclude=train)
    assert not by_name(loaded, loaded.ranker.seen_BLF)["als found"][:, : there[0].sum()].all()


@pytest.mark.parametrize(("rows", "length", "wanted"), [(0, 3, 2), (2, 0, 3), (2, 3, 0), (1, 1, 1), (127, 20, 33)])
def test_ranks_in_lists_of_any_size(rows, length, wanted):
    rng = np.random.default_rng(rows)
    lists = rng.integers(-1, 40, (rows, length))  # an item twice counts at its first rank; -1 is no item
    items = rng.integers(-1, 40, (rows, wanted))
    expected = [
        [mine.index(item) + 1 if item >= 0 and item in mine else 0 for item in theirs]
        for mine, theirs in zip(lists.tolist(), items.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(ranks_in(lists, items), np.array(expected).reshape(rows, wanted))


def test_a_column_of_a_retriever_there_is_not():
    features = CandidateFeatures([RetrieverRanks(retrievers=["als", "fish"])])
    with pytest.raises(ValueError, match="must name retrievers among als, knn, popular, got 'fish'"):
        build(features=features).fit(log())
