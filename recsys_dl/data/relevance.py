"""Which held-out interactions count as relevant.

U users, I items.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from .blocks import distinct
from .dataset import Dataset, as_interactions
from .interactions import Interactions
from .repeats import average_ratings

LIKED = 2 / 3  # fraction of the rating scale: 4 of 1 to 5, 3.5 of 0.5 to 5, 7 of 0 to 10


def relevant_items(
    held_out: Dataset | Interactions, train: Interactions, least: float | None = None, *, part: str = "test"
) -> tuple[sp.csr_matrix, str]:
    """Return the grades of each user's relevant items, CSR [U, I], and the relevance rule in words.

    Repeated ratings of an item by a user are averaged, counts summed. An entry of 0 is known and not relevant.

    Args:
        held_out: the test or validation part.
        train: over the same rows; used to determine the rating scale.
        least: minimum weight of a relevant item; 0 takes every interaction with positive weight. None takes, for ratings (a Dataset's
            `weight_kind`), those in the upper third of the scale, such as 4 and 5 of 1 to 5, and for other logs every interaction.
        part: name of `held_out`, for messages.

    Raises:
        ValueError: `least` is negative or not a number, or nothing is relevant.
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
        given = np.union1d(*(distinct(log.weights_N)[0] for log in (train, asked)))
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
            f"{part} must hold a relevant item: {rule} (relevant_from), with a weight above 0; "
            + (got if len(asked) else "it is empty; check how the log was split")
        )
    return relevant, rule
