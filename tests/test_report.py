"""Reports: one file that needs nothing else, with the figures of the runs, and errors that say what to do."""

import html
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from recsys_dl.cli import main
from recsys_dl.data.interactions import Interactions
from recsys_dl.evaluation.scorecard import Evaluation
from recsys_dl.reporting.parts import by_activity, learning_curves, lorenz
from recsys_dl.runs import load_evaluation, load_run

pytest.importorskip("matplotlib", reason="plots need the extra [plot]")

DATA = ["data=generated", "data.num_users=60", "data.num_items=50", "data.num_interactions=280", "threads=1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on one split, one of them in a folder whose name a page must not run."""
    home = tmp_path_factory.mktemp("runs")
    folders = {"popularity": home / "popular <b>&", "item_knn": home / "knn"}
    for model, folder in folders.items():
        assert main(["train", *DATA, f"model={model}", f"run='{folder}'"]) == 0
    return folders


def test_a_page_of_two_runs(runs, tmp_path, capsys):
    output = tmp_path / "new folder" / "page.html"
    words = ["report", *map(str, runs.values()), "part=validation", f"output='{output}'"]
    assert main(words) == 0
    assert "page.html" in capsys.readouterr().out
    page = output.read_text(encoding="utf-8")
    evaluation = load_evaluation(runs["item_knn"], "validation")[0]
    assert html.escape(evaluation.cell("ndcg@10")) in page
    assert "p (Holm)" in page
    assert "recsys-dl reproduce run=" in page
    run = load_run(runs["item_knn"])
    lists = run.recommend(run.users.at(evaluation.users), k=10)
    assert f"<td>{lists['item_id'].n_unique()} of 50</td>" in page
    assert "popular <b>" not in page
    assert "popular &lt;b&gt;&amp;" in page
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 4  # by activity, popularity, concentration, trade-off
    assert not re.findall(r"<script|<link|url\(|@import", page)
    for source in sources:
        head, _, data = source.partition("base64,")
        assert head == "data:image/svg+xml;"
        import base64

        assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")
    assert main(words) == 1
    assert "exists already" in capsys.readouterr().err
    assert main([*words, "overwrite=true"]) == 0


def test_one_run_is_enough(runs, capsys):
    assert main(["report", str(runs["item_knn"]), "part=validation", "metric=recall@20"]) == 0
    page = (runs["item_knn"] / "report.html").read_text(encoding="utf-8")
    assert "recall@20" in page
    assert "top 20 of" in page
    assert main(["evaluate", str(runs["item_knn"]), "part=validation"]) == 0  # the run is as it was


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["part=test"], "has no figures of test, but of validation: recsys-dl evaluate run="),
        (["part=validation", "metric=ndcg@7"], "has no ndcg@7 of validation for each user, but"),
        (["part=validation", "metric=coverage@10"], "has no coverage@10 of validation for each user"),
        (["part=training"], "part must be validation or test"),
    ],
)
def test_what_cannot_be_reported(runs, words, says, capsys, tmp_path):
    status = main(["report", str(runs["item_knn"]), f"output={tmp_path / 'page.html'}", *words])
    assert status != 0
    assert says in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("part", ["validation", "test"])
def test_users_who_were_not_trained_on(part, tmp_path):
    run = tmp_path / "run"
    assert main(["train", *DATA, "split=user", "model=item_knn", f"run={run}"]) == 0
    assert main(["evaluate", f"run={run}", f"part={part}"]) == 0
    assert main(["report", str(run), f"part={part}"]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    loaded = load_run(run)
    users = loaded.users.at(load_evaluation(run, part)[0].users)
    items = loaded.recommend(users, k=10)["item_id"].n_unique()
    assert f"<td>{items} of 50</td>" in page  # of lists that are folded in, not of popular items
    assert items > 10


def test_runs_that_are_none_or_the_same(runs, tmp_path, capsys):
    assert main(["report", str(tmp_path / "none"), "part=validation"]) == 1
    assert "must hold a run" in capsys.readouterr().err
    assert main(["report", *[str(runs["item_knn"])] * 2, "part=validation", f"output={tmp_path / 'page.html'}"]) == 1
    assert "each once" in capsys.readouterr().err
    assert main(["report"]) == 2
    assert "runs" in capsys.readouterr().err


def test_groups_by_activity_hold_every_user_once_and_their_means():
    rng = np.random.default_rng(0)
    counts = np.repeat([1, 2, 5, 9], [30, 1, 30, 39])
    seen = Interactions(np.repeat(np.arange(100), counts), np.concatenate([np.arange(count) for count in counts]))
    values = rng.random(100)
    values[7] = np.nan
    evaluation = Evaluation({}, {}, {}, (10,), 0.95, users=np.arange(100, dtype=np.int32), per_user={"ndcg@10": values})
    groups = by_activity(evaluation, "ndcg@10", seen)
    assert sum(users for _, users, *_ in groups) == 99
    assert groups[0][0] == "1"
    assert groups[0][2] == pytest.approx(np.nanmean(values[:30]))
    assert sum(users * mean for _, users, mean, *_ in groups) == pytest.approx(np.nansum(values))
    assert all(low <= mean <= high for _, _, mean, low, high in groups)


def test_curves(tmp_path):
    assert learning_curves(tmp_path / "none.log") == {}
    np.testing.assert_allclose(lorenz(np.array([0, 0, 4]))[1], [0, 1, 1, 1])
    np.testing.assert_allclose(lorenz(np.zeros(2, int))[1], 0)
