"""Words of texts, weighted by scikit-learn's TF-IDF with sublinear term frequency (Salton and Buckley 1988)."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import scipy.sparse as sp

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer


VALUE = r"""(?:"[^"]*"|'[^']*'|[^\s<>"']+)"""
TAG = rf"""(?s)<!--.*?-->|</?[a-zA-Z][\w:-]*(?:\s+[\w:-]+\s*=\s*{VALUE})*\s*/?>"""
ENTITY = r"&(?:#\d+|#[xX][0-9a-fA-F]+|[a-zA-Z]\w*);"


def without_markup(texts: pl.Series) -> pl.Series:
    """Return texts without the tags of HTML, and with the characters that its entities mean; null stays null.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl.data.words import without_markup
        >>> without_markup(pl.Series(["<p class='big'>Tom &amp; Jerry<br/>1 < 2</p>", None])).to_list()
        [' Tom & Jerry 1 < 2 ', None]
    """
    plain = texts.cast(pl.String).str.replace_all(TAG, " ")
    coded_R = plain.str.contains(ENTITY).fill_null(False)
    if not coded_R.any():
        return plain
    return pl.Series(
        plain.name,
        [html.unescape(text) if coded else text for text, coded in zip(plain, coded_R, strict=True)],
        pl.String,
    )


def learned_words(texts: pl.Series, **limits: Any) -> TfidfVectorizer | None:
    """Learn the words of texts, null where missing, and their weights; None if the limits of `TfidfVectorizer` leave none.

    Markup of HTML is not among them, here and in `word_matrix`.
    """
    words = _vectorizer(**limits)
    try:
        return words.fit(without_markup(texts).drop_nulls().to_list())
    except ValueError as error:  # scikit-learn raises it where no word is left
        if not re.search("empty vocabulary|no terms remain|max_df corresponds", str(error)):
            raise
        return None


def restored_words(terms: Sequence[str], idf_W: np.ndarray, **how: Any) -> TfidfVectorizer:
    """Return what `learned_words` learned."""
    words = _vectorizer(vocabulary=list(terms), **how)
    words.idf_ = idf_W
    return words


def word_matrix(words: TfidfVectorizer, texts: pl.Series) -> sp.csr_matrix:
    """Return CSR [R, W], rows of length 1, or 0 where a text is missing or has no known word."""
    return words.transform(without_markup(texts).fill_null("").to_list()).tocsr()


def _vectorizer(**more: Any) -> TfidfVectorizer:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, **more)
