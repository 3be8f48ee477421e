"""recsys-dl serve on an exported folder: the answers of the run it was exported from, without the model's own code."""

import asyncio
import json
import sys

import numpy as np
import pytest

from recsys_dl import load_run
from recsys_dl.export import export
from recsys_dl.models import ALS, BPR, EASE

httpx = pytest.importorskip("httpx", reason="asking a server needs httpx: pip install httpx")

from serving_process import data, write  # noqa: E402

from recsys_dl.serving.app import make_app  # noqa: E402
from recsys_dl.serving.exported import load_export  # noqa: E402
from recsys_dl.serving.settings import Settings  # noqa: E402

MODELS = {
    "als": lambda: ALS(embedding_size=4, epochs=3, device="cpu"),
    "ease": lambda: EASE(device="cpu"),
    "bpr": lambda: BPR(embedding_size=4, epochs=3, device="cpu"),  # which folds nobody in
}
BODIES = [
    ("/recommend", {"user": 105, "k": 7}),
    ("/recommend", {"user": "105", "k": 7, "exclude": [503], "allow": list(range(500, 520))}),
    ("/recommend", {"history": [501, "502", 510], "k": 5}),
    ("/recommend", {"history": [501, 501], "k": 30}),
    ("/recommend", {"k": 3}),
    ("/score", {"user": 105, "items": [503, 500]}),
    ("/score", {"history": [501, 502], "items": [503, 500]}),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Runs and their exports."""
    folder = tmp_path_factory.mktemp("exports")
    for name, make in MODELS.items():
        write(folder / "runs" / name, make())
        run = load_run(folder / "runs" / name)
        export(
            run.model, folder / "exports" / name, seen=run.seen, titles=run.titles, about={"data": run.manifest["data"]}
        )
    return folder


def asked(folder, bodies):
    """Return the answers of a server of a folder, in its own process's memory."""

    async def all_of_them():
        app = make_app(Settings(run=folder, store=folder.parent / f"{folder.name}.serving"))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://here") as client:
            return [await client.post(path, json=body) for path, body in bodies]

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("name", MODELS)
def test_an_export_answers_as_the_run(name, home):
    bodies = [one for one in BODIES if name != "bpr" or "history" not in one[1]]
    for (path, body), run, exported in zip(
        bodies, asked(home / "runs" / name, bodies), asked(home / "exports" / name, bodies), strict=True
    ):
        assert (run.status_code, exported.status_code) == (200, 200), (path, body, exported.text)
        mine, theirs = exported.json()["items"], run.json()["items"]
        assert [one["item"] for one in mine] == [one["item"] for one in theirs], (path, body)
        assert [one.get("title") for one in mine] == [one.get("title") for one in theirs]
        np.testing.assert_allclose(
            [one["score"] for one in mine], [one["score"] for one in theirs], rtol=1e-4, atol=1e-6
        )


def test_similar_items_are_those_of_the_vectors(home):
    bodies = [("/similar", {"items": [510, 511], "k": 3})]
    run, exported = (asked(home / kind / "als", bodies)[0].json()["similar"] for kind in ("runs", "exports"))
    assert [[one["item"] for one in some] for some in exported] == [[one["item"] for one in some] for some in run]
    refused = asked(home / "exports" / "ease", bodies)[0]
    assert refused.status_code == 422
    assert "no item vectors" in refused.text


def test_feedback_changes_the_next_list(home):
    feedback = {"user": 105, "events": [{"item": 520, "reward": 1}]}
    bodies = [("/recommend", {"user": 105, "k": 30}), ("/feedback", feedback), ("/recommend", {"user": 105, "k": 30})]
    before, kept, after = asked(home / "exports" / "als", bodies)
    assert kept.status_code == 200, kept.text
    first, second = ([one["item"] for one in answer.json()["items"]] for answer in (before, after))
    assert 520 in first
    assert 520 not in second


def test_what_cannot_be_served_says_why(home, tmp_path):
    run = load_run(home / "runs/als")
    with pytest.raises(ValueError, match="titles must be one for each of 30 items, got 2"):
        export(run.model, tmp_path / "few", seen=run.seen, titles=["a", "b"])
    export(run.model, tmp_path / "vectors", format="safetensors", seen=run.seen)
    with pytest.raises(ValueError, match="format=safetensors, which cannot be served"):
        load_export(tmp_path / "vectors")
    export(run.model, tmp_path / "changed", seen=run.seen)
    (tmp_path / "changed/scorer.pt").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"scorer\.pt is missing or was changed"):
        load_export(tmp_path / "changed")
    (tmp_path / "changed/manifest.json").write_text(json.dumps({"format": "torchscript"}))
    with pytest.raises(ValueError, match="damaged"):
        load_export(tmp_path / "changed")
    model = load_export(home / "exports/als").model
    with pytest.raises(ValueError, match="cannot be fitted"):
        model.fit(data())
    with pytest.raises(ValueError, match="a folder already"):
        model.save(tmp_path / "again")


def test_serving_an_export_imports_no_training_stack(home):
    code = f"""
import sys
from pathlib import Path
from recsys_dl.serving.app import make_app
from recsys_dl.serving.settings import Settings
make_app(Settings(run=Path({str(home / "exports/ease")!r}), store=Path({str(home / "s")!r})))
print([name for name in ("pytorch_lightning", "torchmetrics", "sklearn", "hydra", "recsys_dl.models", "recsys_dl.training") if name in sys.modules])
import os; os._exit(0)
"""
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr
