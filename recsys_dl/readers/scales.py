"""The scale of a log's weights: its range in words, and values outside it that usually mean something else."""

from __future__ import annotations

import logging

import numpy as np

from recsys_dl.data.blocks import distinct
from recsys_dl.data.dataset import WeightKind
from recsys_dl.data.repeats import kind_of

log = logging.getLogger(__name__)

NOT_RATED = (
    98,
    99,
    100,
    127,
    255,
    998,
    999,
    9998,
    9999,
    32767,
    65535,
    99999,
    999999,
)  # usual codes for a missing rating
HIGHEST = 20.0  # largest rating of a scale above which a gap is looked for
GAP = 3.0  # times the largest rating of the scale
MOST_CODES = 3  # distinct values above the gap; more are a second scale
MOSTLY_ZERO = 0.2  # share of zeros among ratings of 1 or more


def scale_in_words(kind: WeightKind | None, weights_N: np.ndarray) -> str:
    """Return a range such as "ratings, 1 to 5"."""
    low, high = float(weights_N.min()), float(weights_N.max())
    if low == high:
        return f"all {low:g}"
    return f"{'0 or 1' if kind is None else f'{kind}, {low:g} to {high:g}'}"


def check_scale(where: str, name: str, kind: WeightKind | None, weights_N: np.ndarray, *, declared: bool) -> None:
    """Warn of ratings that are far above the others, and of zeros that may mean "not rated".

    Args:
        where: the file, for messages.
        name: of the column.
        kind: of the weights.
        weights_N: the weights.
        declared: whether the caller declared their kind, and thereby all values to be of that kind.

    Raises:
        ValueError: ratings hold a usual code for a missing one, such as 99 among 1 to 5; unless declared.
    """
    values, counts = distinct(weights_N)
    named = kind_of(name, np.array([1, 2]))  # with these values an uninformative name means ratings
    thousandths = values * 1000
    fine = np.round(thousandths) % 10 != 0  # a third decimal
    exact = np.allclose(thousandths, np.round(thousandths), atol=0.1)
    if named == "counts" and values[0] >= 1 and exact and 2 * int(counts[fine].sum()) > len(weights_N):
        log.warning(
            "%s: %s holds counts with three decimals, such as %.3f: if the point separates thousands, remove it",
            *(where, name, values[0]),
        )
    if kind is None or named == "counts" or len(values) < 3:
        return
    gaps = np.flatnonzero((values[1:] > GAP * values[:-1]) & (values[:-1] >= 3) & (values[:-1] <= HIGHEST))
    if len(gaps) and gaps[0] >= 1:
        at = int(gaps[0]) + 1
        odd, num = values[at:], int(counts[at:].sum())
        low, high = f"{values[0]:g}", f"{values[at - 1]:g}"
        found = f"{where}: {name} is {_listed(odd)} in {num:,} of {len(weights_N):,} rows, and {low} to {high} in the others"
        if len(odd) > MOST_CODES:
            log.warning("%s: two scales in one column? Bring them to one scale first.", found)
        elif kind == "ratings" and not declared and any(value in NOT_RATED for value in odd):
            raise ValueError(
                f"{found}: such a value usually means 'not rated'. Remove these rows first, read_log(frame.filter(polars.col({name!r}) "
                f"<= {high})); or, if it is a rating, declare it: weight_kind=ratings (on the command line data.weight_kind=ratings)."
            )
        elif kind == "ratings" or any(value in NOT_RATED for value in odd):
            log.warning(
                "%s: is it a rating, or a code for 'not rated'? Default rules, such as what counts as relevant, go by the whole range.",
                found,
            )
    zeros = int(counts[0]) if values[0] == 0 else 0
    if kind == "ratings" and zeros and values[1] >= 1 and (zeros >= MOSTLY_ZERO * len(weights_N)) and not declared:
        log.warning(
            "%s: %s is 0 in %s of %s rows, and %g to %g in the others. If 0 means 'not rated', weights=binary weights.threshold=%g keeps "
            "these rows as seen and does not train on them; if it is the lowest rating, declare it: weight_kind=ratings.",
            *(where, name, f"{zeros:,}", f"{len(weights_N):,}", values[1], values[-1], values[1]),
        )


def _listed(values: np.ndarray) -> str:
    if len(values) > MOST_CODES:
        return f"{values[0]:g} to {values[-1]:g}"
    return " or ".join(f"{value:g}" for value in values)
