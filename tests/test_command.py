"""The command, as a user types it: real processes, files and folders."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from processes import Going
from processes import command as run

from recsys_dl import load_run
from recsys_dl.compose import compose

HEADER = "user_id,item_id,rating,timestamp\n"


def write_log(file: Path, num_users: int = 60, num_items: int = 30) -> Path:
    """Two tastes: users like items of their own parity."""
    rng = np.random.default_rng(1)
    rows = []
    for user in range(num_users):
        liked = rng.choice(np.arange(user % 2, num_items, 2), 9, replace=False)
        rows += [
            f"{user + 100},{item},{4 + item % 2},{1_400_000_000 + 1000 * user + n}" for n, item in enumerate(liked)
        ]
    file.write_text(HEADER + "\n".join(rows) + "\n")
    return file


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder where `recsys-dl train` has left runs/item_knn."""
    folder = tmp_path_factory.mktemp("place")
    write_log(folder / "log.csv")
    words = ["train", "data=log", "data.path=log.csv", "model=item_knn", "seed=3", "threads=1"]
    program = [sys.executable, "-m", "recsys_dl.cli", *words]  # as a shell starts it; the others are forked
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "ndcg" in done.stdout
    assert "runs/item_knn" in done.stdout
    return folder


def test_a_run_folder_holds_what_it_says(place):
    folder = place / "runs" / "item_knn"
    names = {file.name for file in folder.iterdir()}
    assert {"config.yaml", "metrics.json", "manifest.json", "run.log", "model", "per_user", "seen.npz"} <= names
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["data"]["interactions"] == 540
    assert manifest["seed"] == 3
    assert manifest["threads"] == 1
    assert set(manifest["seconds"]) == {"read", "split", "fit", "evaluate"}
    assert manifest["peak_memory_bytes"] > 10_000_000
    assert "numpy" in manifest["versions"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics) == {"validation"}
    said = (folder / "run.log").read_text()
    assert "item_knn on 1 threads, seed 3" in said
    assert "Leakage: 2 findings" in said  # leave-last-out lets train see others' future, in validation and in test
    assert not [file for file in (place / "runs").iterdir() if file.name.startswith(".")]


def test_recommendations_by_external_ids(place):
    trained = load_run(place / "runs" / "item_knn")
    table = trained.recommend(["100", 101], k=4)
    assert table.columns == ["user_id", "rank", "item_id", "title", "score"]
    assert table["user_id"].to_list() == ["100"] * 4 + ["101"] * 4
    assert table["rank"].to_list() == [1, 2, 3, 4] * 2
    own = [int(item) % 2 == int(user) % 2 for user, item in zip(table["user_id"], table["item_id"], strict=True)]
    assert np.mean(own) > 0.9
    log = pl.read_csv(place / "log.csv")
    held_out = log.group_by("user_id", maintain_order=True).last()  # the test part is not "seen"
    had = (
        log.join(held_out, on=["user_id", "item_id"], how="anti").filter(pl.col("user_id") == 100)["item_id"].to_list()
    )
    assert not set(map(str, had)) & set(table.filter(pl.col("user_id") == "100")["item_id"])
    out = run("recommend", "run=runs/item_knn", "users=[100,101]", "k=3", cwd=place).stdout
    assert "User 100, who liked:" in out
    run("recommend", "run=runs/item_knn", "users=[100]", "k=3", "output=lists.csv", cwd=place)
    assert len(pl.read_csv(place / "lists.csv")) == 3
    assert "user '7' is not among" in run("recommend", "run=runs/item_knn", "users=[7]", cwd=place, status=1).stderr


def test_test_figures_are_added_to_the_run(place):
    out = run("evaluate", "run=runs/item_knn", "part=test", cwd=place).stdout
    assert "ndcg" in out
    metrics = json.loads((place / "runs" / "item_knn" / "metrics.json").read_text())
    assert set(metrics) == {"validation", "test"}
    assert (place / "runs" / "item_knn" / "per_user" / "test.npz").is_file()


def test_reproduce_says_the_same_or_what_differs(place):
    assert "bit for bit" in run("reproduce", "runs/item_knn", cwd=place).stdout
    shutil.copytree(place / "runs" / "item_knn", place / "runs" / "other")
    config = place / "runs" / "other" / "config.yaml"
    config.write_text(config.read_text().replace("num_neighbors: ", "num_neighbors: 1 #"))
    out = run("reproduce", "run=runs/other", cwd=place, status=1).stdout
    assert "NOT reproduced" in out
    text = (place / "log.csv").read_text()
    (place / "log.csv").write_text(text.replace("100,", "1000,", 1))
    try:
        changed = run("reproduce", "run=runs/item_knn", cwd=place, status=1).stderr
    finally:
        (place / "log.csv").write_text(text)
    assert "the data has changed since the run" in changed


def test_compare_prints_one_table_and_leaves_the_runs(place):
    words = ["data=log", "data.path=log.csv", "models=[popularity,item_knn]", "run=runs/both", "evaluate.k=[10]"]
    out = run("compare", *words, cwd=place).stdout
    lines = [line for line in out.splitlines() if "popularity" in line or "item_knn" in line]
    assert "item_knn" in lines[0]
    assert (place / "runs" / "both" / "item_knn" / "model").is_dir()
    assert (place / "runs" / "both" / "comparison.json").is_file()
    assert load_run(place / "runs" / "both" / "popularity").recommend([100], k=2).height == 2


@pytest.mark.parametrize("split", ["random", "time", "user", "cold_items", "cold_users"])
def test_every_split_weight_and_filter_by_its_name(place, tmp_path, split):
    words = ["data=log", f"data.path={place / 'log.csv'}", "model=item_knn", f"split={split}", "weights=binary"]
    out = run("train", *words, "filter=k_core", "filter.users=3", "evaluate.k=[5]", "run=here", cwd=tmp_path).stdout
    assert "ndcg" in out
    run("evaluate", "run=here", "k=[5]", cwd=tmp_path)
    metrics = json.loads((tmp_path / "here" / "metrics.json").read_text())
    assert set(metrics["validation"]["values"]) == set(metrics["test"]["values"])


def test_users_kept_from_training_are_answered_by_what_they_had(place, tmp_path):
    run("train", "data=log", f"data.path={place / 'log.csv'}", "model=item_knn", "split=user", "run=here", cwd=tmp_path)
    trained = load_run(tmp_path / "here")
    unseen = np.flatnonzero((trained.model.user_counts_U == 0) & (trained.seen.user_counts_U > 0))
    assert len(unseen) == 12
    table = trained.recommend(trained.users.at(unseen), k=3)
    own = [int(item) % 2 == int(user) % 2 for user, item in zip(table["user_id"], table["item_id"], strict=True)]
    assert np.mean(own) > 0.9


def test_other_k_stand_beside_and_do_not_break_reproduction(place, tmp_path):
    shutil.copytree(place / "runs" / "item_knn", tmp_path / "copy")
    run("evaluate", f"run={tmp_path / 'copy'}", "k=5", "part=validation", cwd=place)
    values = json.loads((tmp_path / "copy" / "metrics.json").read_text())["validation"]["values"]
    assert {"ndcg@5", "ndcg@10", "ndcg@20"} <= set(values)
    assert {"ndcg@5", "ndcg@10"} <= set(np.load(tmp_path / "copy" / "per_user" / "validation.npz"))
    assert "bit for bit" in run("reproduce", tmp_path / "copy", cwd=place).stdout


def test_trainings_at_once_take_names_of_their_own(place, tmp_path):
    words = ["train", "data=log", f"data.path={place / 'log.csv'}", "model=popularity"]
    both = [Going(*words, cwd=tmp_path) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    for name in ("popularity", "popularity-2"):
        assert load_run(tmp_path / "runs" / name).metrics


def test_stopped_politely_or_left_by_its_reader(place, tmp_path):
    words = [sys.executable, "-m", "recsys_dl.cli", "train", "data=log", f"data.path={place / 'log.csv'}", "model=bpr"]
    words += ["model.epochs=1000000", "run=here"]
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob(".here.*")) and process.poll() is None:
        time.sleep(0.05)
    process.terminate()
    assert "stopped; no partial output is left" in process.communicate()[1]
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []
    for words in (f"recommend run={place}/runs/item_knn 'users=[100]'", "--help", "--version", "train --help"):
        reader = f"{sys.executable} -m recsys_dl.cli {words} | true"
        done = subprocess.run(["bash", "-c", reader], capture_output=True, text=True, check=False)
        assert "BrokenPipe" not in done.stderr, words


def test_a_taken_folder_is_never_written_over(place):
    words = ["train", "data=log", "data.path=log.csv", "model=popularity"]
    assert "exists already" in run(*words, "run=runs/item_knn", cwd=place, status=1).stderr
    run(*words, cwd=place)
    assert "runs/popularity-2" in run(*words, cwd=place).stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], "there is no verb 'trian' (did you mean 'train'?)"),
        (["train", "modle=als"], "there is no setting 'modle' (did you mean 'model'?)"),
        (["train", "model=item_kn"], "there is no such model (did you mean 'item_knn'?)"),
        (["train", "model=als", "model.embeding_size=3"], "did you mean 'model.embedding_size'?"),
        (
            ["train", "pipeline=three_stage", "ranker@pipeline.ranker=lambdamrt"],
            "no such ranker (did you mean 'lambdamart'?)",
        ),
        (["train", "+model@pipeline.retrievers.x=bprr"], "there is no such model (did you mean 'bpr'?)"),
        (["train", "reranker@pipeline.rerankers.rules=./rules.yaml"], "there is no such reranker"),
        (["train", "data.path=log.csv"], "data=log"),
        (
            ["train", "data=log", "data.path=log.csv", "evaluate.k=[0]"],
            "evaluate.k must be a list of whole numbers from 1, such as [10, 20], got '[0]'",
        ),
        (["train", "sed=3"], "did you mean 'seed'?"),
        (["train", "model"], "written key=value"),
        (["recommend", "users=[1]"], "a setting is missing"),
        (["recommend", "run=runs/item_knn", "users=[]"], "at least one user id"),
        (
            ["train", "model.num_neighbors=abc", "model=item_knn"],
            "model.num_neighbors must be a whole number from 1, such as 100",
        ),
        (["train", "seed=x"], "seed must be a whole number from 0, such as 7, got 'x'"),
        (["train", "evaluate.k=[]"], "evaluate.k must be a list of whole numbers from 1, such as [10, 20], got '[]'"),
        (["train", "evaluate.k=ten"], "such as [10, 20], got 'ten'"),
        (["compare", "data=log", "data.path=log.csv", "metric=ndgc@10"], "(did you mean 'ndcg@10'?)"),
        (["compare", "data=log", "data.path=log.csv", "models=als"], "at least two models"),
        (["compare", "data=log", "data.path=log.csv", "models=[als,alss]"], "(did you mean 'als'?)"),
        (["train", "threads=0", "data=log", "data.path=log.csv"], "threads must be a whole number from 1 or null"),
        (["train", "evaluate.part=tset", "data=log", "data.path=log.csv"], "evaluate.part must be validation or test"),
        (["train", "data=log", "data.path=nothing.csv"], "nothing.csv"),
        (["evaluate", "run=nothing"], "nothing must hold a run"),
        (["train", "device=gpu", "data=log", "data.path=log.csv"], "device must be auto, cpu or cuda"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words_are_answered(place, words, expected):
    before = sorted((place / "runs").rglob("*"))
    done = run(*words, cwd=place, status=None)
    assert done.returncode in (1, 2)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert expected in last
    assert sorted((place / "runs").rglob("*")) == before


def test_options_of_ones_own_folder(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("_target_: recsys_dl.models.popularity.Popularity\nwindow_days: 3\n")
    config = compose("train", [f"hydra.searchpath=[file://{tmp_path}]", "model=mine"])
    assert config.model.window_days == 3
    with pytest.raises(ValueError, match="there is no such model"):
        compose("train", ["model=mine"])


def test_help_names_verbs_settings_and_options(place):
    assert "recsys-dl train model=als" in run("--help", cwd=place).stdout
    out = run("train", "--help", cwd=place).stdout
    assert "movielens_small" in out
    assert "leave_last_out" in out
    assert "seed: 7" in out


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["train", "modle=als"]])
def test_a_quick_answer_imports_nothing_slow(place, words):
    program = (
        "import sys; from recsys_dl.cli import main; main(sys.argv[1:]);"
        "print(sorted({'torch', 'numba', 'scipy', 'polars', 'torchmetrics', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_lists_of_a_neural_run_import_neither_trainer_nor_compiler(place, tmp_path):
    run("train", "data=log", "data.path=log.csv", "model=gmf", "model.epochs=1", f"run={tmp_path / 'run'}", cwd=place)
    program = (
        "import sys; from recsys_dl.cli import main; main(sys.argv[1:]);"
        "print(sorted({'pytorch_lightning', 'torchmetrics', 'torch._dynamo', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    words = ["recommend", f"run={tmp_path / 'run'}", "users=[100]"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert "item" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_damaged_run_is_refused(place, tmp_path):
    broken = tmp_path / "run"
    shutil.copytree(place / "runs" / "item_knn", broken)
    (broken / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        load_run(broken)
    (broken / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no metrics\.json"):
        load_run(broken)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "manifest.json", "seen.npz", "model/arrays.npz"])
@pytest.mark.parametrize("content", [b"", b"[]", b"x", None], ids=["empty", "list", "word", "half"])
def test_a_run_damaged_anywhere_is_refused_in_words(place, tmp_path, name, content):
    shutil.copytree(place / "runs" / "item_knn", tmp_path / "run")
    file = tmp_path / "run" / name
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    if (content, name) == (None, "config.yaml"):  # half a YAML can be a whole one
        return
    with pytest.raises(ValueError, match="damaged|must hold settings by name"):
        load_run(tmp_path / "run")


def test_a_failed_training_leaves_nothing(place):
    (place / "bad.csv").write_text(HEADER + "1,2,nan,1400000000\n")
    before = sorted((place / "runs").iterdir())
    run("train", "data=log", "data.path=bad.csv", "model=popularity", "run=runs/never", cwd=place, status=1)
    assert sorted((place / "runs").iterdir()) == before
