"""The profile of someone who says what they like, in terms of item features. T terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_dl.arguments import Positive, check_argument
from recsys_dl.names import near

from .messages import shorten

SUCH_AS = 'such as ["heist", "1970s"]'


def profile_of(
    words: Sequence[str] | Mapping[str, float], terms: Sequence[str], owner_T: Sequence[str], noun: str
) -> sp.csr_matrix:
    """Return CSR [1, T]: the profile of stated tastes, such as `heist`, `1970s` or `genres=Comedy`; capitals do not matter.

    Args:
        words: of one user; a mapping gives each its weight, 1 in a list. Of a term named twice the larger counts.
        terms: by place.
        owner_T: the column of each.
        noun: "item" or "user", for messages.

    Raises:
        ValueError: no words, one that is no term (names the nearest), or a weight that is not above 0.

    Examples:
        >>> from recsys_dl.data.stated_tastes import profile_of
        >>> profile_of({"War": 2, "genres=comedy": 0.5}, ["Comedy", "War"], ["genres", "genres"], "item").toarray()
        array([[0.5, 2. ]], dtype=float32)
    """
    if isinstance(words, str | bytes) or not hasattr(words, "__iter__") or not len(words):
        raise ValueError(f"tastes must be a list of terms, {SUCH_AS}, got {shorten(repr(words))}")
    places: dict[str, list[int]] = {}
    for place, (term, owner) in enumerate(zip(terms, owner_T, strict=True)):
        for name in (term, f"{owner}={term}"):
            places.setdefault(name.casefold(), []).append(place)
    profile_T = np.zeros(len(terms), np.float32)
    for word in words:
        if not isinstance(word, str | int | float | np.number):
            raise ValueError(
                f"tastes must be a flat list of the terms of one user, {SUCH_AS}, got {shorten(repr(word))} in it"
            )
        mine = places.get(str(word).casefold())
        if mine is None:
            raise ValueError(
                f"tastes must be terms of the {noun} features, and {word!r} is none{near(str(word).casefold(), list(places))}"
            )
        weight = _weight(word, words[word]) if isinstance(words, Mapping) else 1.0
        profile_T[mine] = np.maximum(profile_T[mine], weight)
    return sp.csr_matrix(profile_T[None])


def _weight(word: Any, given: Any) -> float:
    """Return a weight.

    Raises:
        ValueError: it is no number above 0.
    """
    weight: float = check_argument(f"the weight of {word!r} in tastes", given, Positive)
    return weight
