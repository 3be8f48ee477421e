"""What evaluate refuses: damaged folders, wrong arguments, scores that are no numbers."""

import numpy as np
import pytest
from test_evaluate import TEST, TRAIN

from recsys_dl import Dataset, Interactions, Vocabulary, evaluate
from recsys_dl.data.requests import item_lists
from recsys_dl.evaluation import Evaluation
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.topk import top_k
from recsys_dl.models import ALS, Popularity
from recsys_dl.protocols import Ranking


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda folder: (folder / "metrics.json").write_text('{"values": {'), ValueError, "damaged"),
        (lambda folder: (folder / "metrics.json").write_text("[1]"), ValueError, "damaged"),
        (lambda folder: (folder / "per_user.npz").write_bytes(b"PK\x03\x04"), ValueError, "damaged"),
        (lambda folder: (folder / "per_user.npz").write_bytes(b""), ValueError, "damaged"),
        (lambda folder: (folder / "per_user.npz").unlink(), FileNotFoundError, "has no per_user.npz"),
    ],
)
def test_a_damaged_folder_is_named(tmp_path, damage, error, message):
    evaluate(Popularity().fit(TRAIN), TRAIN, TEST, k=1).save(tmp_path / "figures")
    damage(tmp_path / "figures")
    with pytest.raises(error, match=message):
        Evaluation.load(tmp_path / "figures")


SMALL = Interactions([0], [0], num_users=2, num_items=5)
NAMED = [
    Dataset(TRAIN, Vocabulary(users, noun="user"), Vocabulary(range(5), noun="item"))
    for users in (range(5), range(1, 6))
]


@pytest.mark.parametrize(
    ("train", "test", "arguments", "message"),
    [
        (TRAIN, TEST, {"k": 0}, "k must be between 1 and the 5 items, got 0"),
        (TRAIN, TEST, {"k": [1, 6]}, "got 6"),
        (TRAIN, TEST, {"k": []}, "got 'none'"),
        (TRAIN, TEST, {"k": 2.5}, "got 2.5"),
        (TRAIN, TEST.select(np.zeros(0, int)), {}, "got an empty test"),
        (TRAIN, TEST.with_weights(np.zeros(4)), {}, "all weights are 0"),
        (TRAIN, SMALL, {}, "test must be over the rows of train, 5 users x 5 items, got 2 x 5"),
        (TRAIN, TEST, {"exclude": SMALL}, "exclude must be over the rows of train"),
        (NAMED[0], NAMED[1], {}, "test must have the same users in the same rows"),
        (TRAIN, TEST, {"metrics": ["ndcg@10"]}, "got 'ndcg@10'; set the list length with k"),
        (TRAIN, TEST, {"metrics": []}, "metrics must be among"),
        (TRAIN, TEST, {"metrics": ["mae"]}, "Popularity ranks items and does not predict ratings"),
        (TRAIN, TEST, {"gains": "graded"}, "gains must be one of binary, linear, exponential"),
        (TRAIN, TEST, {"blank_users": "drop"}, "blank_users must be one of"),
        (TRAIN, TEST, {"memory": "much"}, "such as \"512MiB\", got 'much'"),
        (TRAIN, TEST, {"confidence": 2}, "confidence must be between 0 and 1"),
        (TRAIN, TEST, {"num_resamples": 3}, "num_resamples must be at least 100"),
    ],
)
def test_bad_input_is_named(train, test, arguments, message):
    model = Popularity().fit(TRAIN)
    with pytest.raises(ValueError, match=message):
        evaluate(model, train, test, **{"k": 1, **arguments})


def test_what_is_not_a_log_is_named():
    with pytest.raises(TypeError, match="expected a Dataset or Interactions, got list"):
        evaluate(Popularity().fit(TRAIN), TRAIN, [1, 2])


@pytest.mark.parametrize("first", ["compare", "evaluate", "load_run"])
def test_the_public_name_is_the_function_whatever_was_imported_before(first):
    import subprocess
    import sys

    program = f"from recsys_dl import {first}\nfrom recsys_dl import evaluate\nimport recsys_dl.evaluation.evaluate\n"
    program += "import recsys_dl; assert callable(evaluate) and callable(recsys_dl.evaluate)"
    program += " and callable(recsys_dl.evaluation.evaluate)"
    subprocess.run([sys.executable, "-c", program], check=True)


class Broken:
    """Recommends by scores that are given; some are no numbers."""

    def __init__(self, scores_UI):
        self.scores_UI = scores_UI

    def score(self, users, items_BL):
        return np.take_along_axis(self.scores_UI[users], items_BL, axis=1)

    def recommend(self, users, k, *, exclude=None, allow=None):
        lists = ItemLists(*item_lists(exclude, users, num_items=self.scores_UI.shape[1], name="exclude"))
        return Ranking(*top_k(self.scores_UI[users], k, exclude=lists, device="cpu"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [(slice(None), slice(None)), (7, slice(None)), (slice(None), 3), (41, 5)])
def test_scores_that_are_no_numbers_are_an_error_and_not_zeros(value, place):
    rng = np.random.default_rng(0)
    scores_UI = rng.standard_normal((60, 20)).astype(np.float32)
    users = np.arange(60)
    train = Interactions(users, rng.integers(0, 10, 60), num_users=60, num_items=20)
    test = Interactions(users, rng.integers(10, 20, 60), num_users=60, num_items=20)
    assert evaluate(Broken(scores_UI), train, test, k=19).conventions["users"] == 60
    scores_UI[place] = value
    with pytest.raises(
        ValueError, match=r"Broken gives scores that are NaN or infinite.*\d+ of \d+ users.*user row \d+"
    ):
        evaluate(Broken(scores_UI), train, test, k=19)


def test_a_model_with_nan_embeddings_is_not_evaluated_to_zeros():
    users, items = np.divmod(np.arange(400), 20)
    log = Interactions(users, items % 17, num_users=20, num_items=20)
    model = ALS(embedding_size=4, epochs=1, device="cpu").fit(log)
    model.user_emb_UD[:] = np.nan
    with pytest.raises(ValueError, match="ALS gives scores that are NaN"):
        evaluate(model, log.select(np.arange(200)), log.select(np.arange(200, 400)), k=5)
