"""What `served` may ask for and what every compiled form does with it, on a toy whose answers NumPy works out."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.export import compiled, export, onnx_files
from recsys_dl.kernels.topk import top_k
from recsys_dl.protocols import Input, Served

NUM_USERS, NUM_ITEMS, SIZE, K = 9, 150, 4, 37
RNG = np.random.default_rng(1)
STATES = RNG.integers(-2, 3, (NUM_USERS, SIZE)).astype(np.float32)
CODES = RNG.integers(0, 5, (NUM_ITEMS, SIZE)).astype(np.float32)
ITEMS = RNG.integers(-1, 2, (NUM_ITEMS, SIZE)).astype(np.float32)
NAN, NEVER = 3, 4  # items scored NaN and -inf: never returned


class Tower(nn.Module):
    """Tells orders apart, and small whole numbers, so that scores are exact and most are equal."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.from_numpy(CODES))

    def forward(self, history_BH: Tensor, extra: dict[str, Tensor]) -> Tensor:
        at_H = torch.arange(history_BH.size(1), device=history_BH.device)
        weights_BH = torch.where(history_BH >= 0, at_H + 1 + extra["times_BH"], 0.0)
        sum_BS = (self.codes[history_BH.clamp(min=0)] * weights_BH.unsqueeze(2)).sum(1)
        return (sum_BS + extra["age_BF"].sum(1, keepdim=True) + extra["kind_B"].unsqueeze(1)).remainder(5) - 2


class Scorer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Linear(SIZE, NUM_ITEMS)
        bias = torch.zeros(NUM_ITEMS)
        bias[NAN], bias[NEVER] = torch.nan, -torch.inf
        self.items.weight, self.items.bias = nn.Parameter(torch.from_numpy(ITEMS)), nn.Parameter(bias)

    def forward(self, state_BS: Tensor) -> Tensor:
        return self.items(state_BS)


class Toy:
    users = Vocabulary([f"u{row}" for row in range(NUM_USERS)])
    items = Vocabulary([f"i{row}" for row in range(NUM_ITEMS)])

    def served(self, seen=None):
        inputs = (
            Input("times_BH", "float32", ("H",), 2.0),
            Input("age_BF", "float32", (3,), 1.0),
            Input("kind_B", "int64", (), 4),
        )
        return Served(STATES, np.arange(NUM_USERS) != 5, Scorer(), Tower(), inputs)


def state_of(history, times=None, age=(1.0, 1.0, 1.0), kind=4):
    """By hand: what is no item is as if it were not there, and takes its time along."""
    times = [2.0] * len(history) if times is None else times
    kept = [(item, time) for item, time in zip(history, times, strict=True) if 0 <= item < NUM_ITEMS]
    total = sum(((place + 1 + time) * CODES[item] for place, (item, time) in enumerate(kept)), np.zeros(SIZE))
    return np.remainder(total + sum(age) + kind, 5) - 2


def ranked(states, histories):
    """The K best of each state that are not in the history: the kernel against which top-k is tested."""
    scores_BI = (np.array(states) @ ITEMS.T).astype(np.float32)
    for scores_I, history in zip(scores_BI, histories, strict=True):
        scores_I[[item for item in history if 0 <= item < NUM_ITEMS]] = -np.inf
    scores_BI[:, NAN], scores_BI[:, NEVER] = np.nan, -np.inf
    return top_k(scores_BI, K, device="cpu")


HISTORIES = [[1, 2, 9, -1, -1], [2, 1, -1, 9, -1], [-1, 140, NUM_ITEMS, 7, 7], [-1] * 5]
TIMES = [[1, 2, 3, 9, 9], [0, 0, 5, 1, 9], [7, 1, 7, 2, 3], [9] * 5]
AGE, KIND = np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(4)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_files, "WITHIN", 0)  # as if its weights were too many for the file
        return {
            name: export(Toy(), place / name, format=name, exclude_seen=False, k=K)
            for name in ("torchscript", "torch_export", "onnx")
        }


def answer(folders, format, users_B, history_BH, extra):
    """Lists of K from a compiled form."""
    history_BH = np.asarray(history_BH, np.int64)
    num = len(users_B)
    if format == "torchscript":
        module = torch.jit.load(folders[format] / "recommender.pt")
        named = {name: torch.from_numpy(value) for name, value in extra.items()}
        found = module(torch.tensor(users_B), torch.from_numpy(history_BH), None, None, K, named)
        return found[0].numpy(), found[1].numpy()
    give = {"users_B": np.array(users_B), "history_BH": history_BH, "exclude_BE": np.full((num, 1), -1)}
    give |= {"allow_I": np.ones(NUM_ITEMS, bool), "times_BH": np.full(history_BH.shape, 2.0, np.float32)}
    give |= {"age_BF": np.ones((num, 3), np.float32), "kind_B": np.full(num, 4)} | extra
    if format == "onnx":
        return onnxruntime.InferenceSession(folders[format] / "recommender.onnx").run(None, give)
    module = torch.export.load(folders[format] / "recommender.pt2").module()
    found = module(*(torch.from_numpy(value) for value in give.values()))
    return found[0].numpy(), found[1].numpy()


@pytest.mark.parametrize("format", ["torchscript", "torch_export", "onnx"])
def test_inputs_order_and_ties(folders, format):
    users_B = [0, 5, NUM_USERS, *[-1] * 4]  # 5 has no state of its own; NUM_USERS is nobody
    history_BH = [[8, 9, -1, -1, -1], HISTORIES[0], HISTORIES[1], *HISTORIES]
    plain = [STATES[0], *(state_of(one) for one in history_BH[1:])]
    told = [STATES[0], *(state_of(one, TIMES[0], AGE[0], 0) for one in history_BH[1:3])]
    told += [state_of(*one) for one in zip(HISTORIES, TIMES, AGE, KIND, strict=True)]
    extra = {
        "times_BH": np.array([TIMES[0]] * 3 + TIMES, np.float32),
        "age_BF": np.vstack([AGE[:1]] * 3 + [AGE]),
        "kind_B": np.append([0, 0, 0], KIND),
    }
    for states, given in ((plain, {}), (told, extra)):
        own = ranked(states, history_BH)
        items_BK, scores_BK = answer(folders, format, users_B, history_BH, given)
        np.testing.assert_array_equal(items_BK, own[0])
        np.testing.assert_array_equal(scores_BK, own[1])
        assert (items_BK.dtype, scores_BK.dtype) == (np.int32, np.float32)
        assert len(np.unique(scores_BK[0])) < K / 2  # most are equal
    one = answer(folders, format, [-1], [[7]], {})  # a batch of one, a history of one
    np.testing.assert_array_equal(one[0], ranked([state_of([7])], [[7]])[0])


def test_by_ids(folders):
    module = torch.jit.load(folders["torchscript"] / "recommender.pt")
    lists, scores_BK = module.recommend(["u3", "nobody"], 5)
    rows, own = answer(folders, "torchscript", [3, -1], [[-1], [-1]], {})
    assert lists == [[f"i{row}" for row in mine[:5]] for mine in rows]
    np.testing.assert_array_equal(scores_BK, own[:, :5])
    lists, _ = module.recommend_histories([["i1", "new", "i2"], []], 5)
    rows, _ = answer(folders, "torchscript", [-1, -1], [[1, 2], [-1, -1]], {})
    assert lists == [[f"i{row}" for row in mine[:5]] for mine in rows]
    lists, scores_BK = module.recommend(["u3", "u4"], 4, exclude=[["i7", "new"], []], allow=["i7", "i9", "new"])
    assert [sorted(mine) for mine in lists] == [["i9"], ["i7", "i9"]]
    assert torch.isneginf(scores_BK[0, 1:]).all()
    assert module.recommend(["u3"], 4, allow=["new"])[0] == [[]]
    assert module.recommend([], 4)[0] == []
    for wrong, words in (
        (lambda: module.recommend(["u3"], 0), "k must be between 1 and the 150 known items, got 0"),
        (lambda: module.recommend(["u3"], 151), "got 151"),
        (lambda: module.recommend(["u3"], 1, exclude=[]), "a list for each of 1 users, got 0"),
        (lambda: module.recommend_histories([[]], 1, extra={"tmes_BH": torch.ones(1, 1)}), "there is no input tmes_BH"),
    ):
        with pytest.raises(torch.jit.Error, match=words):
            wrong()


def test_blocks_of_users_change_nothing(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "BLOCK_BYTES", 1)
    folder = export(Toy(), tmp_path / "small", exclude_seen=False, k=K)
    assert torch.jit.load(folder / "recommender.pt").block == 1
    small = answer({"torchscript": folder}, "torchscript", [0, 1, -1, 8], HISTORIES, {})
    whole = answer(folders, "torchscript", [0, 1, -1, 8], HISTORIES, {})
    np.testing.assert_array_equal(small[0], whole[0])


def test_onnx_says_what_it_is(folders):
    files = {file.name for file in folders["onnx"].iterdir()}
    assert {"recommender.onnx", "recommender.onnx.data", "scorer.onnx.data"} <= files
    session = onnxruntime.InferenceSession(folders["onnx"] / "recommender.onnx")
    manifest = json.loads((folders["onnx"] / "manifest.json").read_text())
    told = manifest["files"]["recommender.onnx"]
    assert [(one.name, one.shape) for one in session.get_inputs()] == [
        (name, port["shape"]) for name, port in told["inputs"].items()
    ]
    assert [(one.name, one.shape) for one in session.get_outputs()] == [("items_BK", ["B", K]), ("scores_BK", ["B", K])]
    ids = session.get_modelmeta().custom_metadata_map
    assert json.loads(ids["items"]) == Toy.items.ids.to_list()
    assert "sha256" in manifest["files"]["recommender.onnx.data"]


class Branching(Scorer):
    def forward(self, state_BS: Tensor) -> Tensor:
        if state_BS.sum() > 0:
            return self.items(state_BS)
        return -self.items(state_BS)


class Uncompilable(Scorer):
    def forward(self, *state: Tensor) -> Tensor:
        return self.items(torch.cat(state))


class Factorial(Scorer):
    def forward(self, state_BS: Tensor) -> Tensor:
        return self.items(torch.special.airy_ai(state_BS))


@pytest.mark.parametrize(
    ("format", "scorer", "words"),
    [
        ("torchscript", Uncompilable, "format=torchscript cannot represent Toy: TorchScript cannot compile its"),
        (
            "torch_export",
            Branching,
            "format=torch_export cannot represent Toy: torch.export cannot trace its recommender",
        ),
        ("onnx", Factorial, "format=onnx cannot represent Toy: ONNX cannot represent its recommender"),
    ],
)
def test_what_a_format_cannot_hold(tmp_path, monkeypatch, format, scorer, words):
    monkeypatch.setattr(
        Toy,
        "served",
        lambda self, seen=None: Served(STATES, np.ones(NUM_USERS, bool), scorer(), None, (), None, ITEMS[:, 0]),
    )
    with pytest.raises(ValueError, match=words):
        export(Toy(), tmp_path / "out", format=format, exclude_seen=False)
    assert list(tmp_path.iterdir()) == []
