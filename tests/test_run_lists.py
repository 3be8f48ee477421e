"""What a run answers by external ids, from Python and by `recsys-dl recommend`."""

import numpy as np
import polars as pl
import pytest
from processes import command as run
from test_command import write_log

from recsys_dl import load_run, read_log
from recsys_dl.cli import main

MODELS = ["als", "item_knn", "sasrec", "three_stage"]
SMALL = {
    "als": ["model=als", "model.embedding_size=8"],
    "item_knn": ["model=item_knn"],
    "sasrec": ["model=sasrec", "model.embedding_size=8", "model.epochs=4"],
    "three_stage": [
        "pipeline=three_stage",
        "pipeline.examples.last=2",
        "pipeline.examples.rounds=2",
        "pipeline.ranker.epochs=3",
        "pipeline.retrievers.als.embedding_size=8",
    ],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    write_log(folder / "log.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in MODELS:
            words = ["data=log", "data.path=log.csv", "device=cpu", "threads=1", f"run=runs/{name}", *SMALL[name]]
            assert main(["train", *words]) == 0
    return folder


@pytest.fixture(params=MODELS)
def trained(place, request):
    return load_run(place / "runs" / request.param)


def test_someone_new_gets_what_goes_with_their_history(trained):
    table = trained.recommend(history=["2", 4, "8", "12"], k=5)
    assert table["user_id"].to_list() == ["new"] * 5
    assert not {"2", "4", "8", "12"} & set(table["item_id"])
    assert np.mean([int(item) % 2 == 0 for item in table["item_id"]]) > 0.5


def test_several_histories_are_answered_as_each_alone(trained):
    both = trained.recommend(history={"anna": ["2", "4", "8"], "bob": ["3", "5"]}, k=4)
    assert both["user_id"].unique(maintain_order=True).to_list() == ["anna", "bob"]
    alone = trained.recommend(history=["3", "5"], k=4)
    assert both.filter(pl.col("user_id") == "bob")["item_id"].to_list() == alone["item_id"].to_list()


def test_a_log_of_histories_is_read_in_the_order_of_its_times(trained, tmp_path, caplog):
    rows = [("bob", "3", 1), ("anna", "8", 3), ("anna", "2", 1), ("anna", "no such item", 2), ("bob", "5", 2)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    table = trained.recommend(history=read_log(frame), k=4)
    assert "1 of 5 rows of the histories name items unknown to the run ('no such item')" in caplog.text
    by_hand = trained.recommend(history={"bob": ["3", "5"], "anna": ["2", "8"]}, k=4)
    if "three_stage" not in str(trained.folder):  # whose features know how long ago
        assert table["item_id"].to_list() == by_hand["item_id"].to_list()
    strangers = read_log(frame.with_columns(pl.lit("x").alias("item_id")))
    with pytest.raises(ValueError, match="none of the 1 items in the histories is known to .* they look like 'x'"):
        trained.recommend(history=strangers)


def test_histories_of_which_nothing_is_known_are_said(trained, caplog):
    frame = pl.DataFrame({"user_id": ["bob", "anna", "anna"], "item_id": ["3", "none such", "nor this"]})
    table = trained.recommend(history=read_log(frame), k=4)
    assert "nothing is left of the histories of 1 of 2 users, such as 'anna'" in caplog.text
    assert (table["user_id"] == "anna").sum() == 4


def test_allow_and_exclude_bound_every_list(trained):
    ids = trained.items.ids
    allow, exclude = ids[:12].to_list(), ids[8:20].to_list()
    for whom in ({"user_ids": ["100", "101"]}, {"history": [ids[0], ids[3]]}):
        assert set(trained.recommend(**whom, k=10, allow=allow)["item_id"]) <= set(allow)
        assert not set(trained.recommend(**whom, k=10, exclude=exclude)["item_id"]) & set(exclude)
        assert set(trained.recommend(**whom, k=10, allow=allow, exclude=exclude)["item_id"]) <= set(ids[:8])
    free = trained.recommend(["100"], k=3)
    without = trained.recommend(["100"], k=2, exclude=[free["item_id"][0]])
    if "three_stage" not in str(trained.folder):  # there later stages see other candidates
        assert without["item_id"].to_list() == free["item_id"].to_list()[1:]


def test_an_empty_list_is_said_with_the_reason(trained, caplog, capsys, tmp_path):
    user = str(trained.users.ids[0])
    had = trained.history([user], k=1)["item_id"].to_list()
    assert not len(trained.recommend([user], k=1, allow=had))
    said = "empty lists: 1 of 1; no item is left: the user has interacted with all items"
    assert said in caplog.text
    caplog.clear()
    words = [f"run={trained.folder}", f"users=[{user}]", "k=1", f"allow=[{had[0]}]"]
    assert main(["recommend", *words, f"output={tmp_path / 'lists.csv'}"]) == 0
    assert "0 rows are in" in capsys.readouterr().out
    assert caplog.text.count(said) == 1
    caplog.clear()
    list(trained.recommend_all(k=1, users_at_once=7))
    assert "empty" not in caplog.text


def test_all_users_by_blocks_are_the_users_one_by_one(trained):
    frames = list(trained.recommend_all(k=3, users_at_once=7))
    assert max(frame["user_id"].n_unique() for frame in frames) == 7
    table = pl.concat(frames)
    assert table["user_id"].unique(maintain_order=True).to_list() == trained.users.ids.to_list()
    alone = trained.recommend([trained.users.ids[9]], k=3)
    assert table.filter(pl.col("user_id") == trained.users.ids[9])["item_id"].to_list() == alone["item_id"].to_list()


def test_similar_items(trained):
    table = trained.similar_items(["2", "5"], k=3)
    assert table.columns == ["item_id", "rank", "similar_item_id", "title", "score"]
    assert set(table["item_id"]) == {"2", "5"}
    assert not (table["item_id"] == table["similar_item_id"]).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"user_ids": ["1000"]},
            "user '1000' is not among the 60 known users, such as '100', '101', '102'; similar: '100'",
        ),
        ({"user_ids": [" 0100"]}, "similar: '100'"),
        ({"user_ids": ["zzz"]}, r"For a new user, pass their history: recommend\(history="),
        ({"user_ids": []}, "at least one user"),
        ({"user_ids": "100"}, "must be a list"),
        ({"history": ["1", "nothing"]}, "item 'nothing' is not among the 30 known items"),
        ({"history": {}}, "at least one user"),
        ({}, "got neither"),
        ({"user_ids": ["100"], "history": ["1"]}, "got both"),
        ({"user_ids": ["100"], "allow": []}, "leave at least one item"),
        ({"user_ids": ["100"], "allow": ["1"], "exclude": ["1"]}, "leave at least one item"),
        ({"user_ids": ["100"], "exclude": ["x" * 500]}, r"x{80}… \(500 characters\)"),
        ({"user_ids": ["100"], "k": 0}, "k must be between 1 and the 30"),
        ({"user_ids": ["100"], "k": 31}, "k must be between 1 and the 30"),
    ],
)
def test_what_cannot_be_asked(place, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_run(place / "runs" / "item_knn").recommend(**arguments)


def test_by_the_command(place, tmp_path):
    (tmp_path / "allow.txt").write_text("\ufeff2\r\n4\r\n\r\n6\r\n8\r\n")
    (tmp_path / "had.csv").write_text("user_id,item_id\nanna,2\nanna,4\nbob,3\n")
    runs = place / "runs"
    out = run("recommend", runs / "als", "history=[2,4,8]", "k=3", cwd=tmp_path).stdout
    assert "User new" in out
    for name, text in (("ids.csv", "item\n2\n4\n8\n"), ("bare.csv", "2\n4\n8\n"), ("ids.txt", "2\n4\n8\n")):
        (tmp_path / name).write_text(text)
        assert run("recommend", runs / "als", f"history={name}", "k=3", cwd=tmp_path).stdout == out
    one, alone = (run("recommend", runs / "als", f"history={ids}", "k=3", cwd=tmp_path).stdout for ids in ("[2]", "2"))
    assert one == alone
    out = run("recommend", runs / "als", "history=had.csv", f"allow={tmp_path / 'allow.txt'}", cwd=tmp_path).stdout
    anna = out[out.index("User anna") : out.index("User bob")]
    assert sorted(line.split()[1] for line in anna.splitlines()[4:] if line and "items," not in line) == ["6", "8"]
    for name in ("lists.csv", "lists.parquet"):
        run("recommend", runs / "als", "users=all", "k=3", f"output={name}", cwd=tmp_path)
    one = pl.read_csv(tmp_path / "lists.csv", infer_schema=False).select("user_id", "rank", "item_id")
    two = pl.read_parquet(tmp_path / "lists.parquet").select(pl.col("user_id", "rank", "item_id").cast(pl.String))
    assert len(one) == 180
    assert one.equals(two)
    run("recommend", runs / "als", "users=allow.txt", cwd=tmp_path, status=1)  # items are no users
    (tmp_path / "users.txt").write_text("100\n101\n")
    run(
        "recommend",
        runs / "als",
        "users=users.txt",
        "k=2",
        "exclude=lists.csv",
        "output=more.csv",
        cwd=tmp_path,
        status=1,
    )
    out = run(
        "recommend", runs / "als", "users=users.txt", "k=2", "exclude=[2]", "output=more.csv", cwd=tmp_path
    ).stdout
    assert "4 rows are in more.csv" in out
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith(".")) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["users=all"], "set an output file or folder, output=lists.parquet"),
        ([], "say for whom"),
        (["users=[100]", "history=[2]"], "got both"),
        (["users=all", "explain=true", "output=a.csv"], "explain=true is for selected users"),
        (["users=[100]", "output=a.json"], "must end in .csv or .parquet"),
        (["users=[100]", "output=no/a.csv"], "no does not exist"),
        (["users=no.txt"], "no.txt does not exist"),
        (["history=no.csv"], "no.csv does not exist"),
        (["users=[100]", "allow=log.csv", "show_history=-1"], "show_history must be a whole number from 0"),
        (["users=[100]", "allow=runs"], "item 'runs' is not among"),
        (["users=[100]", "exclude=bad.csv"], "must have a column item_id, got a, b"),
        (["users=[100]", "exclude=bad.parquet"], "must be a table with a column of item ids"),
        (["users=[100]", "output=runs/x.csv"], "must be a file"),
    ],
)
def test_wrong_words(place, capsys, monkeypatch, words, message):
    monkeypatch.chdir(place)
    (place / "bad.csv").write_text("a,b\n1,2\n")
    (place / "bad.parquet").write_text("no table")
    (place / "runs" / "x.csv").mkdir(exist_ok=True)
    wrong_type = "show_history=-1" in words  # refused before the run is read
    assert main(["recommend", "run=runs/item_knn", *words]) == (2 if wrong_type else 1)
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) <= 10


def test_a_run_that_is_none(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    for folder, message in (
        ("log.csv", "log.csv is a file; a run is a folder"),
        ("runs", "runs must hold a run of `recsys-dl train`, but has no config.yaml; runs in runs are: als, item_knn"),
        ("runs/alz", "runs in runs are: als, item_knn, sasrec, three_stage"),
    ):
        assert main(["recommend", f"run={folder}", "users=[100]"]) == 1
        assert message in capsys.readouterr().err
