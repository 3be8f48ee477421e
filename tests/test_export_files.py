"""What an export leaves, what it refuses, the command, and the lines of docs/export.md."""

import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from processes import command as run
from test_command import write_log
from test_contract import build, planted
from test_export import Consumer

import recsys_dl.export.write as write
from recsys_dl import load_run
from recsys_dl.cli import main
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.export import FORMATS, export
from recsys_dl.folders import sha256

DOCS = Path(__file__).parents[1] / "docs" / "export.md"


@pytest.fixture(scope="module")
def train() -> Dataset:
    """Ids are their rows as text, as docs/export.md has them."""
    log = planted()
    users, items = ([str(row) for row in range(size)] for size in (log.num_users, log.num_items))
    return Dataset(log, Vocabulary(users, noun="user"), Vocabulary(items, noun="item"))


@pytest.fixture(scope="module")
def model(train):
    return build("svd").fit(train)


@pytest.fixture(scope="module")
def exports(model, train, tmp_path_factory) -> Path:
    """What the docs call exports/als-…; there is nothing in their lines that another model would not do."""
    place = tmp_path_factory.mktemp("docs")
    for format in FORMATS:
        export(
            model, place / f"exports/als-{format}", format=format, seen=train.interactions, k=20, about={"run": "als"}
        )
    return place


def test_the_manifest_says_what_is_there(exports, model, train):
    for format in FORMATS:
        folder = exports / f"exports/als-{format}"
        manifest = json.loads((folder / "manifest.json").read_text())
        assert set(manifest["files"]) == {file.name for file in folder.iterdir()} - {"manifest.json"}
        for name, told in manifest["files"].items():
            assert told["sha256"] == sha256(folder / name)
            assert told["bytes"] == (folder / name).stat().st_size
        assert (manifest["format"], manifest["layout"], manifest["about"]) == (format, 1, {"run": "als"})
        assert manifest["model"] == "recsys_dl.models.svd.SVD"
        assert (manifest["users"], manifest["items"], manifest["inner_product"]) == (62, 41, True)
        assert manifest["k"] == (20 if format in ("onnx", "torch_export") else None)
        assert set(manifest["versions"]) == {"recsys_dl", "numpy", *write.NEEDS[format]}
        assert manifest["conventions"]["nothing known of a user"].startswith("the most popular items")
    folder = exports / "exports/als-torchscript"
    told = json.loads((folder / "manifest.json").read_text())["files"]["user_tower.pt"]
    assert told["inputs"] == {
        "users_B": {"dtype": "int64", "shape": ["B"], "fill": -1},
        "history_BH": {"dtype": "int64", "shape": ["B", "H"], "fill": -1},
        "weights_BH": {"dtype": "float32", "shape": ["B", "H"], "fill": 1.0},
    }
    assert told["outputs"] == {"state_BS": {"dtype": "float32", "shape": ["B", model.item_emb_ID.shape[1]]}}
    np.testing.assert_array_equal(np.load(folder / "item_embeddings.npy"), model.item_emb_ID)
    assert json.loads((folder / "items.json").read_text()) == train.items.ids.to_list()


@pytest.mark.parametrize("blocked", [(), ("torch",)], ids=["torch", "no torch"])
def test_the_lines_of_the_docs(exports, model, train, blocked):
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(blocks) == 5
    mine = [block for block in blocks if ("import torch" in block) == (not blocked)]

    def ids(ranking) -> list[str]:
        return [str(row) for row in ranking.items_BK[0] if row >= 0]

    def without(item: int) -> Interactions:
        one = Interactions([42], [item], num_users=train.num_users, num_items=train.num_items)
        return Interactions.concat([train.interactions, one])

    best = ids(model.recommend([42], 10, exclude=train))
    narrowed = ids(model.recommend([42], 10, exclude=without(31), allow=[31, 12, 5]))
    told = Interactions([0, 0], [31, 12], [5, 1], num_items=train.num_items)
    unseen = ids(model.recommend(model.fold_in(told), 10, exclude=told))
    checks = {
        "torch.jit": f"assert (lists[0], unseen[0]) == ({narrowed}, {unseen}); assert [str(one) for one in rows_BK[0].tolist()] == {best}",
        "torch.export": f"assert lists == [{best}], lists",
        "onnxruntime": f"assert lists[0] == {ids(model.recommend([42], 10, exclude=without(5)))}, lists",
        "safetensors": f"assert [str(row) for row in rows_K] == {best}, rows_K",
        "parquet": f"assert best == {best}, best",
    }
    consumer = Consumer(*blocked)
    for block in mine:
        (check,) = [check for word, check in checks.items() if word in block]
        consumer(code=f"{block}\n{check}\n", folder=str(exports))
    consumer.process.stdin.close()
    assert consumer.process.wait() == 0


def test_a_fixed_allow_list_and_no_exclusion(model, train, tmp_path):
    folder = export(model, tmp_path / "out", seen=train.interactions, allow=["3", 7, "40"], exclude_seen=False)
    module = torch.jit.load(folder / "recommender.pt")
    lists, _ = module.recommend(["0", "61", "new"], 5)
    assert [sorted(mine) for mine in lists] == [["3", "40", "7"]] * 3
    assert module.recommend_histories([["3"], ["7"]], 5, allow=["3", "5"])[0] == [[], ["3"]]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["conventions"]["allowed"] == "3 items, fixed"
    assert manifest["conventions"]["excluded"] == "exclude_BE, the items of history_BH"


@pytest.mark.parametrize("format", ["torchscript", "torch_export", "onnx"])
def test_what_is_in_a_history_is_never_recommended(model, tmp_path, format):
    folder = export(model, tmp_path / "out", format=format, exclude_seen=False, k=41)
    users, history = np.array([-1, 0]), np.array([[3, 4, -1], [5, -1, -1]])
    nothing, everything, ones = np.full((2, 1), -1), np.ones(41, bool), np.ones((2, 3), np.float32)
    if format == "onnx":
        given = (users, history, nothing, everything, ones)
        names = ("users_B", "history_BH", "exclude_BE", "allow_I", "weights_BH")
        session = onnxruntime.InferenceSession(folder / "recommender.onnx")
        items_BK = session.run(None, dict(zip(names, given, strict=True)))[0]
    else:
        tensors = [torch.from_numpy(one) for one in (users, history)]
        if format == "torchscript":
            items_BK = torch.jit.load(folder / "recommender.pt")(*tensors, None, None, 41)[0].numpy()
        else:
            more = [torch.from_numpy(one) for one in (nothing, everything, ones)]
            items_BK = torch.export.load(folder / "recommender.pt2").module()(*tensors, *more)[0].numpy()
    assert not {3, 4} & set(items_BK[0])
    assert 5 not in items_BK[1]
    assert len(set(items_BK[0]) - {-1}) == 39


def test_what_is_refused(model, train, tmp_path, monkeypatch):
    def refused(error, words, given=model, **settings):
        with pytest.raises(error, match=words):
            export(given, tmp_path / "out", **{"seen": train.interactions} | settings)
        assert list(tmp_path.iterdir()) == []

    refused(ValueError, "format must be one of torchscript, torch_export, onnx, .* got 'pickle'", format="pickle")
    refused(ValueError, "must offer served.* UserKNN does not", given=build("user_knn").fit(train))
    refused(ValueError, "this SVD has none: fit it on a Dataset", given=build("svd").fit(train.interactions))
    refused(ValueError, "k must be a whole number of at least 1, got 0", k=0)
    refused(ValueError, r"exclude_seen=True, the default, .* seen=train .* or exclude_seen=False", seen=None)
    order = Vocabulary(train.items.ids.reverse(), noun="item")
    refused(ValueError, "numbers its items differently", seen=Dataset(train.interactions, train.users, order))
    refused(ValueError, "at least one item id", allow=[])
    refused(ValueError, "item 'new' is not among the 41 known items", allow=["3", "new"])
    refused(ValueError, "seen must be over the model's 62 users and 41 items, got 1 and 3", seen=Interactions([0], [2]))
    refused(
        ValueError,
        "parquet cannot represent EASE: .* Use safetensors",
        given=build("ease").fit(train),
        format="parquet",
    )
    monkeypatch.setitem(write.NEEDS, "onnx", ("torch", "no_such_package"))
    refused(ImportError, r"format=onnx needs no_such_package: pip install 'recsys_dl\[export\]'", format="onnx")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(FileExistsError, match="exists already"):
        export(model, tmp_path / "out", seen=train)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A run whose split kept users from training."""
    folder = tmp_path_factory.mktemp("place")
    write_log(folder / "log.csv")
    run("train", "data=log", "data.path=log.csv", "model=item_knn", "split=user", "run=runs/knn", cwd=folder)
    return folder


def test_the_command_leaves_what_the_run_recommends(place, monkeypatch, capsys):
    said = run("export", "run=runs/knn", "k=5", cwd=place)
    assert "exports/knn-torchscript/recommender.pt" in said.stdout
    [notice] = said.stderr.strip().splitlines()
    assert "learned from the training part of its split only" in notice
    trained = load_run(place / "runs" / "knn")
    users = trained.users.ids.to_list()
    assert (trained.model.user_counts_U == 0).sum() == 12  # folded in when it was written
    lists, scores_BK = torch.jit.load(place / "exports" / "knn-torchscript" / "recommender.pt").recommend(users, 5)
    table = trained.recommend(users, k=5)
    assert [one for mine in lists for one in mine] == table["item_id"].to_list()
    np.testing.assert_allclose(scores_BK.numpy().ravel(), table["score"].to_numpy(), rtol=1e-5)
    manifest = json.loads((place / "exports" / "knn-torchscript" / "manifest.json").read_text())
    assert manifest["about"]["run"] == "knn"
    assert manifest["about"]["data"]["hash"] == trained.manifest["data"]["hash"]
    assert manifest["about"]["model"]["_target_"] == manifest["model"]
    monkeypatch.chdir(place)
    (place / "allowed.txt").write_text("3\n8\n")
    assert main(["export", "run=runs/knn", "format=safetensors", "allow=allowed.txt", "output=here"]) == 0
    assert json.loads((place / "here" / "manifest.json").read_text())["conventions"]["allowed"] == "2 items, fixed"
    assert main(["export", "run=runs/knn", "format=safetensors", "allow=[3,8]"]) == 0
    capsys.readouterr()
    for words, told in (
        (["format=parquet"], "format=parquet cannot represent ItemKNN"),
        (["format=pickle"], "format must be "),
        (["allow=nothing.txt"], "nothing.txt does not exist"),
        (["allow=[new]"], "item 'new' is not among"),
        (["format=safetensors", "output=here"], "exists already"),
        (["k=0"], "k must be a"),
    ):
        assert main(["export", "run=runs/knn", *words]) in (1, 2)  # 2: refused beforehand
        assert told in capsys.readouterr().err
    assert {file.name for file in (place / "exports").iterdir()} == {"knn-torchscript", "knn-safetensors"}
