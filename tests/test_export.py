"""Exports, in processes that cannot import this package: the same ids and the same scores, for each model and format."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from safetensors.numpy import load_file
from test_contract import NUM_ITEMS, NUM_USERS, data_for, planted

from recsys_dl.compose import compose, options
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.export import FORMATS, export
from recsys_dl.protocols import Exportable

TABLES = ("safetensors", "parquet")
LENGTH = 12  # of the longest history
CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # what the issue promises


class Consumer:
    """A process of export_consumer.py."""

    def __init__(self, *blocked):
        script = Path(__file__).with_name("export_consumer.py")
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-W", "ignore", script, "recsys_dl", *blocked],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )

    def __call__(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline().strip()
        assert said == "ok", json.loads(said) if said.startswith('"') else said


@pytest.fixture(scope="module", autouse=True)
def operators():
    """ONNX's operators, which torch reads anew for each of the three files of a model, 0.6 s each time: read once."""
    from torch.onnx._internal.exporter._registration import onnxscript_apis

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxscript_apis, "get_torchlib_ops", cache(onnxscript_apis.get_torchlib_ops))
        yield


@pytest.fixture(scope="session")
def consumers():
    """One with torch, one with onnxruntime and the readers of tables but no torch."""
    made = {"torch": Consumer(), "numpy": Consumer("torch")}
    yield made
    for consumer in made.values():
        consumer.process.kill()
        consumer.process.wait()


HELD_OUT = NUM_USERS  # one user more, whom only `seen` knows
NUM_ALL = NUM_USERS + 1


@cache
def train() -> Dataset:
    log = planted()
    return Dataset(
        Interactions(log.users_N, log.items_N, log.weights_N, log.times_N, num_users=NUM_ALL, num_items=NUM_ITEMS),
        Vocabulary([f"u{row}" for row in range(NUM_ALL)], noun="user"),
        Vocabulary([f"i{row}" for row in range(NUM_ITEMS)], noun="item"),
    )


@cache
def seen() -> Interactions:
    """Training, one thing more of user 0, and what is known of HELD_OUT."""
    more = Interactions(
        [0, *[HELD_OUT] * 4], [40, 1, 3, 9, 2], [1, 5, 4.5, 4, 1], num_users=NUM_ALL, num_items=NUM_ITEMS
    )
    return Interactions.concat([train().interactions, more])


TRACED = ("torch_export", "onnx")
SERVED_AS = {  # by the modules of another model: tracing takes ten seconds, and would be of the same code
    "bootstrap": "als",
    "clcrec": "dropout_net",
    "funk_svd": "explicit_als",
    "gmf": "feature_mf",
    "mlp": "neumf",
    "popularity": "bpr",
    "rp3beta": "item_knn",
    "segment_popularity": "bpr",
    "svd_pp": "explicit_als",
}


def pairs() -> list:
    """Every model with every format; tracing is slow, but for two models that have most parts between them."""
    return [
        pytest.param(name, format, marks=[pytest.mark.slow] * (format in TRACED and name not in ("als", "item_knn")))
        for name in options("model")
        for format in FORMATS
        if not (format in TRACED and name in SERVED_AS)
    ]


def modules(name: str) -> tuple:
    """What is traced of a model: the classes of its modules, its inputs, and whether parts that may be absent are there."""
    served = fitted(name).served()
    halves = [part and [type(module) for module in part.modules()] for part in (served.user_tower, served.scorer)]
    inputs = [(one.name, one.dtype, len(one.shape)) for one in served.inputs]
    return halves, inputs, served.popularity_I is None, served.listed_I is None


@pytest.mark.parametrize(("name", "other"), SERVED_AS.items())
def test_what_is_traced_of_one_is_what_is_traced_of_the_other(name, other):
    assert modules(name) == modules(other)


@cache
def fitted(name: str):
    """A model of a few numbers, hardly trained: what is compared does not depend on it."""
    config = compose("train", [f"model={name}", "device=cpu"]).model
    for key, value in (("epochs", 1), ("embedding_size", 8), ("hidden_sizes", [8, 4])):
        if key in config:
            config[key] = value
    made = instantiate(config)
    return made.fit(data_for(made, train().interactions)) if isinstance(made, Exportable) else None


def histories() -> list[list[int]]:
    """Of different lengths, with repeats, and an empty one."""
    rng = np.random.default_rng(5)
    lists = [rng.choice(np.arange(size % 2, 40, 2), size).tolist() for size in (1, 4, 9, LENGTH)]
    return [*lists, [7, 7, 3], [], [40], [40, 2]]  # nobody interacted with item 40


def questions(unseen: list[list[int]]) -> dict[str, dict[str, np.ndarray]]:
    """Known users, then people unseen: as they are; with exclusions; with those and an allow-list; with weights."""
    rng = np.random.default_rng(6)
    users_B = np.append(np.arange(NUM_ALL), np.full(len(unseen), -1)).astype(np.int64)
    history_BH = np.full((len(users_B), LENGTH), -1)
    for b, items in enumerate(unseen, NUM_ALL):
        history_BH[b, : len(items)] = items
    plain = {"users_B": users_B, "history_BH": history_BH, "k": np.array(NUM_ITEMS)}
    exclude_BE = rng.integers(-1, NUM_ITEMS, (len(users_B), 6))
    asked = {
        "plain": plain,
        "excluding": plain | {"exclude_BE": exclude_BE},
        "allowing": plain | {"exclude_BE": exclude_BE, "allow_I": rng.random(NUM_ITEMS) < 0.4},
    }
    if unseen:
        asked["weighing"] = plain | {"weights_BH": rng.choice([1, 2.5, 5], history_BH.shape).astype(np.float32)}
    return asked


def own_answer(model, unseen: list[list[int]], question) -> tuple[np.ndarray, np.ndarray]:
    """What the model itself says."""
    served = model.served()
    allow = np.flatnonzero(question["allow_I"]) if "allow_I" in question else None
    out_BE = question.get("exclude_BE", np.full((len(question["users_B"]), 1), -1))

    def excluded(log: Interactions, part: slice) -> Interactions:
        rows, columns = np.nonzero(out_BE[part] >= 0)
        more = Interactions(rows, out_BE[part][rows, columns], num_users=log.num_users, num_items=NUM_ITEMS)
        return Interactions.concat([log, more])

    known = model.recommend(np.arange(NUM_ALL), NUM_ITEMS, exclude=excluded(seen(), slice(NUM_ALL)), allow=allow)
    held_out = seen().of_users([HELD_OUT])  # as Run.recommend does
    out = excluded(held_out, slice(HELD_OUT, NUM_ALL))
    one = model.recommend(model.fold_in(held_out), NUM_ITEMS, exclude=out, allow=allow)
    known.items_BK[HELD_OUT], known.scores_BK[HELD_OUT] = one.items_BK[0], one.scores_BK[0]
    if not unseen:
        return known.items_BK, known.scores_BK
    told = Interactions.from_histories(unseen, num_items=NUM_ITEMS)
    out = excluded(told, slice(NUM_ALL, None))
    if served.user_tower is None:  # the declared fallback
        state = model.fold_in([[] for _ in unseen])
    elif "weights_BH" in question and any(one.name == "weights_BH" for one in served.inputs):
        history_BH = question["history_BH"][NUM_ALL:]
        state = model.fold_in(told.with_weights(question["weights_BH"][NUM_ALL:][history_BH >= 0]))
    else:
        state = model.fold_in(unseen)
    others = model.recommend(state, NUM_ITEMS, exclude=out, allow=allow)
    return np.concatenate([known.items_BK, others.items_BK]), np.concatenate([known.scores_BK, others.scores_BK])


def check_same(found: tuple[np.ndarray, np.ndarray], own: tuple[np.ndarray, np.ndarray]) -> None:
    """Scores agree, and so do items, but for neighbors whose scores rounding cannot tell apart."""
    (items, scores), (own_items, own_scores) = found, own
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, own_scores, **CLOSE)
    finite = np.maximum(own_scores, -1e9)
    gaps = np.abs(np.diff(finite, prepend=np.inf, append=-np.inf, axis=1))
    near_tie = np.minimum(gaps[:, :-1], gaps[:, 1:]) <= 2e-5 * np.maximum(1, np.abs(finite))
    assert (near_tie | (items == own_items)).all()
    assert (np.sort(items, axis=1) == np.sort(own_items, axis=1)).all()


@pytest.mark.parametrize(("name", "format"), pairs())
def test_the_same_ids_and_scores_without_this_package(name, format, consumers, tmp_path):
    model = fitted(name)
    if model is None:
        pytest.skip(f"{name} offers no served()")
    if format == "parquet" and model.served().item_emb_ID is None:
        with pytest.raises(ValueError, match=f"format=parquet cannot represent {type(model).__name__}: .* safetensors"):
            export(model, tmp_path / "out", format=format, seen=seen())
        assert list(tmp_path.iterdir()) == []
        return
    folder = export(model, tmp_path / "out", format=format, seen=seen(), k=NUM_ITEMS)
    unseen = [] if format in TABLES else histories()
    asked = questions(unseen)
    arrays = {f"{name}/{key}": value for name, question in asked.items() for key, value in question.items()}
    np.savez(tmp_path / "questions.npz", **arrays)
    paths = {"questions": str(tmp_path / "questions.npz"), "answers": str(tmp_path / "answers.npz")}
    consumer = consumers["torch" if format.startswith("torch") else "numpy"]
    consumer(folder=str(folder), format=format, **paths)
    answers = np.load(tmp_path / "answers.npz")
    if format == "safetensors" and not answers.files:  # a network: its arithmetic is not in the file, its weights are
        held = load_file(folder / "model.safetensors")
        for key, value in model.served().scorer.state_dict().items():
            own = f"scorer.{key}"  # arrays that the file has under another name already are not repeated
            np.testing.assert_array_equal(held[own if own in held else key], value)
        return
    trained = np.flatnonzero(model.user_counts_U)
    listed = np.setdiff1d(np.arange(NUM_ITEMS), model.never_listed())  # others are masked in lists, not in parts
    every = np.tile(listed, (len(trained), 1))
    for key, question in asked.items():
        check_same((answers[f"{key}/items"], answers[f"{key}/scores"]), own_answer(model, unseen, question))
        np.testing.assert_allclose(answers[f"{key}/halves"][trained][:, listed], model.score(trained, every), **CLOSE)
