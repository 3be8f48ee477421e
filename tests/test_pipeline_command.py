"""A pipeline by the command: trained, evaluated, explained, compared, reproduced; docs/pipeline.md runs."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from processes import command as run
from test_command import write_log

from recsys_dl import load_run
from recsys_dl.compose import compose
from recsys_dl.data.interactions import Interactions
from recsys_dl.pipeline import Pipeline
from recsys_dl.rankers.lambdamart import LambdaMART

SMALL = (
    "pipeline.examples.last=2",
    "pipeline.examples.rounds=2",
    "pipeline.ranker.epochs=5",
    "pipeline.retrievers.als.embedding_size=8",
    "threads=1",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder where `recsys-dl train` has left runs/pipeline."""
    folder = tmp_path_factory.mktemp("pipelines")
    write_log(folder / "log.csv")
    (folder / "out.txt").write_text(
        run(
            "train", "pipeline=three_stage", "data=log", "data.path=log.csv", "run=runs/pipeline", *SMALL, cwd=folder
        ).stdout
    )
    return folder


def test_a_run_holds_what_each_stage_adds(place):
    said = (place / "out.txt").read_text()
    assert "What each stage adds" in said
    for stage in ("als (retriever)", "popularity (retriever)", "merge", "ranker", "mmr (reranker)", "rules (reranker)"):
        assert stage in said
    figures = json.loads((place / "runs/pipeline/attribution/validation.json").read_text())
    metrics = json.loads((place / "runs/pipeline/metrics.json").read_text())["validation"]
    assert figures["stages"][-1]["evaluation"]["values"]["ndcg@10"] == metrics["values"]["ndcg@10"]
    assert isinstance(load_run(place / "runs/pipeline").model, Pipeline)
    assert "training examples, round 1: retrievers saw" in (place / "runs/pipeline/run.log").read_text()


def test_evaluated_and_reproduced(place):
    said = run("evaluate", "run=runs/pipeline", "part=test", cwd=place).stdout
    assert "What each stage adds" in said
    assert (place / "runs/pipeline/attribution/test.json").is_file()
    assert "bit for bit" in run("reproduce", "runs/pipeline", cwd=place).stdout


def test_explained(place):
    said = run("recommend", "run=runs/pipeline", "users=[100,101]", "k=4", "explain=true", cwd=place).stdout
    assert "rank after merge > ranker > mmr >" in said.replace("\n", " ") or "found by" in said
    lists, out = load_run(place / "runs/pipeline").explain(["100"], k=4)
    assert lists.columns == [
        *("user_id", "rank", "item_id", "title", "score", "found_by", "merge", "ranker", "mmr", "rules", "moved_by")
    ]
    assert lists["rank"].to_list() == [1, 2, 3, 4]
    assert lists["rules"].to_list() == [1, 2, 3, 4]
    assert set(lists["item_id"]) == set(load_run(place / "runs/pipeline").recommend(["100"], k=4)["item_id"])
    assert not len(out)
    run("recommend", "run=runs/pipeline", "users=[100]", "explain=true", "output=out.csv", cwd=place)
    assert "found_by" in (place / "out.csv").read_text().splitlines()[0]
    with pytest.raises(ValueError, match="nobody"):
        load_run(place / "runs/pipeline").explain(["nobody"])


def test_compared_with_models_and_taken_apart(place):
    words = ("data=log", "data.path=log.csv", "evaluate.k=[5]", "metric=ndcg@5", "threads=1")
    said = run("compare", "models=[popularity,three_stage]", *words, "run=runs/both", cwd=place).stdout
    assert "three_stage" in said
    stage_less = ("~pipeline.rerankers.mmr", "~pipeline.on_failure.mmr", "+model@pipeline.retrievers.ease=ease")
    said = run("train", "pipeline=three_stage", "data=log", "data.path=log.csv", *SMALL, *stage_less, cwd=place).stdout
    assert "ease (retriever)" in said
    assert "mmr" not in said


def test_a_log_without_times(place):
    lines = (place / "log.csv").read_text().splitlines()
    (place / "timeless.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    text = (Path(__file__).parents[1] / "docs/pipeline.md").read_text()
    command = re.search(r"^    recsys-dl (train .*untimed.*)$", text, re.MULTILINE)[1]
    words = ("data=log", "data.path=timeless.csv", *SMALL[1:])
    assert "What each stage adds" in run(*shlex.split(command), *words, cwd=place).stdout
    said = run("train", "pipeline=three_stage", "split=random", *words, cwd=place, status=1).stderr
    assert "times" in said


def test_each_command_of_the_docs_makes_a_pipeline(tmp_path, monkeypatch):
    """Not fitted here: the first and the one without times are, above."""
    docs = Path(__file__).parents[1] / "docs"
    (shop,) = re.findall(r"```yaml\n# shop.yaml.*?\n(.*?)```", (docs / "reranking.md").read_text(), re.DOTALL)
    (tmp_path / "shop.yaml").write_text(shop)
    monkeypatch.chdir(tmp_path)
    commands = re.findall(
        r"^    recsys-dl (train pipeline.*?)(?: +#.*)?$", (docs / "pipeline.md").read_text(), re.MULTILINE
    )
    assert len(commands) == 7
    made = [instantiate(compose(*shlex.split(command)[:1], shlex.split(command)[1:]).pipeline) for command in commands]
    assert all(isinstance(one, Pipeline) for one in made)
    assert "bpr" in made[1].retrievers
    assert isinstance(made[1].ranker, LambdaMART)
    assert "mmr" not in made[2].rerankers
    assert [rule["name"] for rule in made[3].rerankers["rules"].rules][-1] == "campaign"
    assert made[4].merge_arguments["quotas"]["als"] == 80
    assert made[5].on_failure["als"] == "skip"


def test_what_a_pipeline_cannot(place):
    for words, message in (
        (("export", "run=runs/pipeline", "format=torchscript"), "must offer served()"),
        (("index", "run=runs/pipeline"), "not inner products of vectors"),
    ):
        assert message in run(*words, cwd=place, status=1).stderr
    run("train", "model=popularity", "data=log", "data.path=log.csv", "run=runs/popularity", cwd=place)
    said = run("recommend", "run=runs/popularity", "users=[100]", "explain=true", cwd=place, status=1).stderr
    assert "only pipelines, content models and hybrids explain their lists" in said


def test_the_docs_example_runs():
    text = (Path(__file__).parents[1] / "docs/pipeline.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(90), 12)
    items = np.concatenate([rng.choice(np.arange(user % 2, 50, 2), 12, replace=False) for user in range(90)])
    left: dict = {"train": Interactions(users, items, times_N=rng.permutation(len(users)))}
    exec(example, left)
    assert left["answer"].items_BK.shape == (2, 10)
