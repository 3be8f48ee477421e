"""Files of learning to rank: what they mean, what publishers' own files hold, and what is answered to broken ones."""

import re

import numpy as np
import polars as pl
import pytest

from recsys_dl.readers.letor import CHUNK_ROWS, read_grouped, read_letor, read_lightgbm

LETOR = """\
# a comment of its own
2 qid:10 1:0.5 3:-1e-2 #docid = GX1 inc = 1

0 qid:10 2:7
1.0 qid:B 1:1 2:2 3:3 # 4:9
"""


def written(tmp_path, text, name="docs.txt"):
    file = tmp_path / name
    file.write_text(text)
    return file


def test_letor_by_hand(tmp_path):
    groups = read_letor(written(tmp_path, LETOR))
    np.testing.assert_allclose(groups.features_NF, [[0.5, 0, -0.01], [0, 7, 0], [1, 2, 3]])
    np.testing.assert_array_equal(groups.labels_N, [2, 0, 1])
    np.testing.assert_array_equal(groups.sizes_Q, [2, 1])
    assert groups.group_ids == ("10", "B")
    assert read_letor(written(tmp_path, LETOR), num_features=5).num_features == 5


def test_letor_is_read_as_scikit_learn_reads_it(tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    rng = np.random.default_rng(0)
    count = CHUNK_ROWS + 100  # over two blocks, the second of other width
    dense = np.where(rng.random((count, 7)) < 0.3, rng.normal(size=(count, 7)).round(4), 0)
    dense[:CHUNK_ROWS, 6] = 0
    queries = np.sort(rng.integers(0, 900, count))
    for zero_based in (True, False):
        file = tmp_path / f"{zero_based}.txt"
        datasets.dump_svmlight_file(
            dense, rng.integers(0, 5, count), str(file), query_id=queries, zero_based=zero_based
        )
        expected, labels, ids = datasets.load_svmlight_file(str(file), query_id=True, zero_based=zero_based)
        groups = read_letor(file, zero_based=zero_based)
        np.testing.assert_array_equal(groups.features_NF, expected.toarray().astype(np.float32))
        np.testing.assert_array_equal(groups.labels_N, labels)
        np.testing.assert_array_equal(np.array(groups.group_ids, int)[groups.owners_N], ids)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x qid:10 1:1", "line 6: a label must be a number, got 'x'"),
        ("-1 qid:C 1:1", "labels must be finite and not negative, got -1.0 at {file}, line 6"),
        ("nan qid:C 1:1", "got nan at {file}, line 6"),
        ("1 1:1", "line 6: a query such as qid:10 must follow the label, got 1:1"),
        ("1", "line 6: a query such as qid:10 must follow the label, got nothing"),
        ("1 qid: 1:1", "line 6: a query such as qid:10 must follow the label, got qid:"),
        ("1 qid:10 1:1", "the documents of a group must be contiguous, but group '10' appears again at {file}, line 6"),
        ("1 qid:C 0:1", "line 6: feature indices start at 1, got 0; if this file counts from 0, set zero_based=True"),
        ("1 qid:C -2:1", "line 6: feature indices start at 1, got -2"),
        ("1 qid:C 2:1 2:3", "line 6: feature indices must be strictly ascending, got 2 after 2"),
        ("1 qid:C 3:1 2:3", "line 6: feature indices must be strictly ascending, got 2 after 3"),
        ("1 qid:C 1:nan", "features must be finite, got nan for feature number 1 at {file}, line 6"),
        ("1 qid:C 1", "line 6: a feature must be written index:number, got '1'"),
        ("1 qid:C 1:a", "line 6: a feature must be written index:number, got '1:a'"),
        ("1 qid:C 1:2:3", "line 6: a feature must be written index:number, got '1:2:3'"),
        ("1 qid:C 4:1", "line 6: feature indices may go up to 3, as there are 3 features, got 4"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    file = written(tmp_path, LETOR + line + "\n")
    with pytest.raises(ValueError, match=re.escape(message.format(file=file))) as error:
        read_letor(file, num_features=3)
    assert f"{file}, line 6" in str(error.value)


def test_a_mistyped_index_does_not_fill_the_memory(tmp_path):
    line = "1 qid:A 1000000000000:1\n"
    with pytest.raises(
        ValueError, match=r"may go up to 10000, as rows are dense; set num_features if .* got 1,000,000,000,000"
    ):
        read_letor(written(tmp_path, line))
    file = written(tmp_path, "1 qid:A 10001:1\n")
    assert read_letor(file, num_features=10_001).features_NF[0, -1] == 1


def test_no_file_and_an_empty_one(tmp_path):
    written(tmp_path, "1", "here.txt")
    with pytest.raises(FileNotFoundError, match=r"does not exist; .* holds here\.txt"):
        read_letor(tmp_path / "there.txt")
    for read in (read_letor, read_lightgbm):
        file = written(tmp_path, "# nothing\n", "empty.txt")
        written(tmp_path, "1\n", "empty.txt.query")
        with pytest.raises(ValueError, match=r"empty\.txt must hold documents, but it is empty"):
            read(file)


@pytest.mark.parametrize(
    "text", ["1 1:0.5 3:2\n0 2:7\n2\n", "1\t0.5\t0\t2\n0\t0\t7\t0\n2\t0\t0\t0\n", "1,0.5,0,2\n0,0,7,0\n2,0,0,0\n"]
)
def test_lightgbm_by_hand(tmp_path, text):
    file = written(tmp_path, text)
    query = written(tmp_path, "1\n\n2\n", "docs.txt.query")
    groups = read_lightgbm(file)
    np.testing.assert_array_equal(groups.features_NF, [[0.5, 0, 2], [0, 7, 0], [0, 0, 0]])
    np.testing.assert_array_equal(groups.labels_N, [1, 0, 2])
    np.testing.assert_array_equal(groups.sizes_Q, [1, 2])
    assert groups.weights_N is None
    written(tmp_path, "1\n2\n0.5\n", "docs.txt.weight")
    written(tmp_path, "1\n1\n2\n", "docs.txt.position")
    groups = read_lightgbm(file, query)
    np.testing.assert_array_equal(groups.weights_N, [1, 2, 0.5])
    np.testing.assert_array_equal(groups.positions_N, [1, 1, 2])


@pytest.mark.parametrize(
    ("text", "sizes", "message"),
    [
        ("1 1:1\n0 1:2\n", "1\n2\n", "docs.txt.query must sum to the 2 rows of {file}, got 3"),
        ("1 1:1\n0 1:2\n", "2\n\n0\n", "docs.txt.query, line 3: a group size must be a whole number of at least 1"),
        (
            "1 1:1\n0 1:2\n",
            "1.5\n",
            "line 1: a group size must be a whole number of at least 1, got 1.5",
        ),
        ("1 1:1\n0 1:2\n", "two\n", "docs.txt.query, line 1: a group size must be a number, got 'two'"),
        ("1,2,3\n0,1\n", "2\n", "docs.txt, line 2: a row must have a label and 2 features, got 2 numbers"),
        ("1,2,3\n0,1,x\n", "2\n", "docs.txt, line 2: a feature or label must be a number, got 'x'"),
        ("1,2,3\n\n0,1,nan\n", "2\n", "got nan for feature number 2 at {file}, line 3"),
    ],
)
def test_broken_lightgbm_files(tmp_path, text, sizes, message):
    file = written(tmp_path, text)
    written(tmp_path, sizes, "docs.txt.query")
    with pytest.raises(ValueError, match=re.escape(message.format(file=file))):
        read_lightgbm(file)


def test_lightgbm_other_number_of_features(tmp_path):
    file = written(tmp_path, "1,2,3\n")
    written(tmp_path, "1\n", "docs.txt.query")
    with pytest.raises(ValueError, match="line 1: a row must have a label and 3 features, got 3 numbers"):
        read_lightgbm(file, num_features=3)
    with pytest.raises(FileNotFoundError, match=r"other\.query must be a text file"):
        read_lightgbm(file, tmp_path / "other.query")


TABLE = pl.DataFrame(
    {
        "session": ["s1", "s1", "s2"],
        "clicked": [True, False, True],
        "price": [1.5, 2.5, 3.5],
        "age": [1, 2, 3],
        "rank": [2, 1, 1],
        "worth": [1.0, 1.0, 2.0],
    }
)


@pytest.mark.parametrize("kind", ["parquet", "csv", "polars", "pandas", "arrow"])
def test_tables_with_a_column_of_groups(tmp_path, kind):
    table = {"polars": lambda: TABLE, "pandas": TABLE.to_pandas, "arrow": TABLE.to_arrow}.get(kind, lambda: None)()
    if kind == "parquet":
        TABLE.write_parquet(table := tmp_path / "t.parquet")
    if kind == "csv":
        TABLE.with_columns(pl.col("clicked").cast(pl.Int8)).write_csv(table := tmp_path / "t.csv")
    groups = read_grouped(table, group="session", label="clicked", position="rank", weight="worth")
    assert groups.names == ("price", "age")
    assert groups.group_ids == ("s1", "s2")
    np.testing.assert_array_equal(groups.features_NF, [[1.5, 1], [2.5, 2], [3.5, 3]])
    np.testing.assert_array_equal(groups.labels_N, [1, 0, 1])
    np.testing.assert_array_equal(groups.positions_N, [2, 1, 1])
    np.testing.assert_array_equal(groups.weights_N, [1, 1, 2])
    assert read_grouped(table, group="session", label="clicked", features=["age"]).names == ("age",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "bought"}, "must have a column 'bought'; its columns are session, clicked"),
        ({"label": "session"}, "column 'session' of the frame must hold numbers, got String"),
        ({"features": ["session"]}, "column 'session' of the frame must hold numbers, got String"),
        ({"features": []}, "features must be a matrix"),
    ],
)
def test_columns_that_do_not_fit(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_grouped(TABLE, **{"group": "session", "label": "clicked"} | change)


def test_missing_values_and_groups_that_come_again(tmp_path):
    for column, message in (
        ("price", r"got nan for feature price at .*t\.parquet, row 1 \(from 0, without header\)"),
        ("clicked", r"labels must be finite and not negative, got nan at .*row 1"),
        ("session", "row 1 .* has no session"),
    ):
        holed = TABLE.with_columns(pl.when(pl.col("age") != 2).then(pl.col(column)).alias(column))
        holed.write_parquet(file := tmp_path / "t.parquet")
        with pytest.raises(ValueError, match=message):
            read_grouped(file, group="session", label="clicked")
    again = TABLE.with_columns(session=pl.Series(["s1", "s2", "s1"]))
    with pytest.raises(ValueError, match="must be contiguous, but group 's1' appears again at the frame, row 2"):
        read_grouped(again, group="session", label="clicked")


def test_publishers_own_files(shared_data):
    counts = {"S1": 2933, "S2": 3635, "S3": 3062, "S4": 2707}
    for part, documents in counts.items():
        groups = read_letor(shared_data / "mq2008" / f"{part}.txt", num_features=46)
        assert len(groups) == 157
        assert groups.num_documents == documents
        assert set(groups.labels_N) == {0, 1, 2}
    train = read_lightgbm(shared_data / "lightgbm-lambdarank" / "rank.train")
    test = read_lightgbm(shared_data / "lightgbm-lambdarank" / "rank.test", num_features=train.num_features)
    assert (len(train), train.num_documents, train.num_features) == (201, 3005, 300)
    assert (len(test), test.num_documents) == (50, 768)
