"""docs/ranking.md: its examples run, its tables name what there is."""

import re
from pathlib import Path

import numpy as np
import yaml
from hydra.utils import instantiate

from recsys_dl.compose import options
from recsys_dl.rankers import columns, recent_columns, side_columns
from recsys_dl.rankers.column import Column, ItemColumn, UserColumn

TEXT = (Path(__file__).parents[1] / "docs/ranking.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_files_to_a_saved_ranker(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for part in ("S1", "S2"):
        features = rng.random((300, 46)).round(3)
        lines = [
            f"{int(row[4] > 0.8)} qid:{part}{n // 10} " + " ".join(f"{at}:{value}" for at, value in enumerate(row, 1))
            for n, row in enumerate(features)
        ]
        (tmp_path / f"{part}.txt").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    left: dict = {}
    exec(EXAMPLES[0], left)
    assert left["scores_BL"].shape == (3, 10)
    assert max(left["ranker"].history) > 0.95
    assert (tmp_path / "ranker" / "config.yaml").is_file()


def test_candidates_to_a_ranker():
    left: dict = {}
    exec(EXAMPLES[1], left)
    assert left["features"].names[:4] == ("als score", "als found", "item_knn score", "item_knn found")
    assert left["labels_BL"].any()
    assert np.isfinite(left["ranker"].score_groups(left["groups"])).all()


def test_tables_and_yaml_name_what_there_is():
    assert set(re.findall(r"^\| `(\w+)` \| `\w+`", TEXT, re.MULTILINE)) == set(options("ranker"))
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[A-Z].*?) \|", TEXT, re.MULTILINE)))
    there = {
        name
        for room in (columns, side_columns, recent_columns)
        for name, one in vars(room).items()
        if isinstance(one, type) and issubclass(one, Column) and not name.startswith("_")
    }
    assert set(named) == there - {one.__name__ for one in (Column, ItemColumn, UserColumn)}
    instantiate(yaml.safe_load(re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[1]))
