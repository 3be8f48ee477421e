"""Reasons in words: the liked item that speaks most for a recommended one, and the terms they share. B lists, K list, T terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from recsys_dl.data.profiles import Profiles


@dataclass(frozen=True)
class Reason:
    """Why an item is recommended.

    Attributes:
        item: row of the liked item that contributes most to the score; -1 if stated tastes do.
        terms: those that contribute most, the most telling first.
        share: of the score that `item` contributes, in (0, 1].
    """

    item: int
    terms: tuple[str, ...]
    share: float


def telling(profiles: Profiles) -> np.ndarray:
    """Return float64 [T]: how much a term tells, ln((1 + items) / items with it)."""
    with_T = np.bincount(profiles.terms_RT.indices, minlength=profiles.terms_RT.shape[1])
    return np.log((1 + len(profiles)) / np.maximum(with_T, 1))


def reasons_of(
    profiles: Profiles,
    names: Sequence[str],
    wanted_BT: sp.csr_matrix,
    liked_BI: sp.csr_matrix,
    items_BK: np.ndarray,
    num_terms: int,
) -> list[list[Reason | None]]:
    """Return a reason for each item, None where there is none.

    A shared term tells more the fewer items have it: its part of the score is multiplied by ln(items / items with it).

    Args:
        profiles: of the items.
        names: of the terms.
        wanted_BT: user profiles.
        liked_BI: each user's weight of an item.
        items_BK: item rows, padded with -1.
        num_terms: at most.
    """
    telling_T = telling(profiles)
    return [
        [
            None if item < 0 else _reason(profiles, names, telling_T, wanted_BT[b], liked_BI[b], int(item), num_terms)
            for item in items
        ]
        for b, items in enumerate(items_BK)
    ]


def _reason(
    profiles: Profiles,
    names: Sequence[str],
    telling_T: np.ndarray,
    wanted: sp.csr_matrix,
    liked: sp.csr_matrix,
    item: int,
    num_terms: int,
) -> Reason | None:
    one = profiles.rows(np.array([item]))
    rows = liked.indices[liked.data > 0]
    theirs = profiles.rows(rows)
    parts_H = np.asarray((theirs.terms_RT @ one.terms_RT.T).todense()).ravel() + theirs.dense_RE @ one.dense_RE[0]
    parts_H = parts_H * liked.data[liked.data > 0]
    if len(parts_H) and parts_H.max() > 0:
        best = int(parts_H.argmax())
        source, because = theirs.terms_RT[best], int(rows[best])
        share = float(parts_H[best] / np.maximum(parts_H, 0).sum())
    else:
        source, because, share = wanted, -1, 1.0
    shared = source.multiply(one.terms_RT).tocoo()
    values, places = shared.data * telling_T[shared.col], shared.col
    found: dict[str, str] = {}
    for at in np.lexsort((places, -values)):
        if values[at] > 0 and len(found) < num_terms:
            found.setdefault(names[places[at]].casefold(), names[places[at]])
    terms = tuple(found.values())
    return Reason(because, terms, share) if terms or because >= 0 else None
