"""Words of texts, weighted by scikit-learn's TF-IDF with sublinear term frequency (Salton and Buckley 1988)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import scipy.sparse as sp

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer


def learned_words(texts: pl.Series, **limits: Any) -> TfidfVectorizer | None:
    """Learn the words of texts, null where missing, and their weights; None if the limits of `TfidfVectorizer` leave none."""
    words = _vectorizer(**limits)
    try:
        return words.fit(texts.cast(pl.String).drop_nulls().to_list())
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
    return words.transform(texts.cast(pl.String).fill_null("").to_list()).tocsr()


def _vectorizer(**more: Any) -> TfidfVectorizer:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, **more)
