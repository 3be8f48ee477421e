"""Which held-out interactions a recommender should have found.

U users, I items.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from .dataset import Dataset, as_interactions
from .interactions import Interactions
from .repeats import average_ratings

LIKED = 2 / 3  # of the way up a scale of ratings: 4 of 1 to 5, 3.5 of 0.5 to 5, 7 of 0 to 10


def relevant_items(
    held_out: Dataset | Interactions, train: Interactions, least: float | None = None, *, part: str = "test"
) -> tuple[sp.csr_matrix, str]:
    """Return the grades of the relevant items of each user, CSR [U, I], and what makes an item relevant, in words.

    Ratings of an item that a user rated repeatedly are averaged, counts summed. An entry of 0 is known and not relevant.

    Args:
        held_out: the test or validation part.
        train: over the same rows; with it the scale of ratings is seen.
        least: the least weight of a relevant item; 0 takes every interaction of a weight above 0. None takes of ratings (a Dataset's
            `weight_kind`) those in the upper third of their scale, such as 4 and 5 of 1 to 5, and of other logs every interaction.
        part: what `held_out` is, for messages.

    Raises:
        ValueError: `least` is negative or no number, or nothing is relevant.
    """
    if least is not None and (
        isinstance(least, bool) or not isinstance(least, int | float | np.number) or not 0 <= least < np.inf
    ):
        raise ValueError(f"relevant_from must be a number of at least 0, such as 4 of 5 stars, or None, got {least!r}")
    asked = as_interactions(held_out)
    kind = held_out.weight_kind if isinstance(held_out, Dataset) else None
    relevant = (asked.by_user if kind == "counts" else average_ratings(asked)).copy()
    rule = f"every {part} interaction" + (", however low its rating" if kind == "ratings" else "")
    if least is None and kind == "ratings" and len(asked):
        given = np.unique(np.concatenate([train.weights_N, asked.weights_N]))
        low, high = float(given[0]), float(given[-1])
        if low < high:
            least = float(given[given >= low + LIKED * (high - low) - 1e-6][0])
            rule = f"{part} ratings of {least:g} or more, the upper third of {low:g} to {high:g}"
    elif least:
        rule = f"{part} ratings of {least:g} or more"
    if least:
        relevant.data[relevant.data < least] = 0
    if not (relevant.data > 0).any():
        got = f"the largest weight is {asked.weights_N.max():g}" if asked.weights_N.any() else "all weights are 0"
        raise ValueError(
            f"{part} must hold a relevant item: {rule} (relevant_from), of a weight above 0; "
            + (got if len(asked) else "it is empty; check how the log was split")
        )
    return relevant, rule
