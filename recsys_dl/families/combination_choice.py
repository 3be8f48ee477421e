"""What a combination of models is set to: its arguments checked, its weights chosen on held-out interactions.

U users asked, L candidates, P parts, S segments of users.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from recsys_dl.data.dataset import Dataset, as_interactions, check_numbering, seen_of
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.messages import shorten
from recsys_dl.data.relevance import relevant_items
from recsys_dl.data.requests import item_lists
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.merge import take_turns
from recsys_dl.kernels.topk import top_k
from recsys_dl.names import near

from .combined import CombinedModel, Folded
from .part_scores import Normalize, normalized
from .weight_search import Candidates, best_weights

log = logging.getLogger(__name__)

MOST_USERS = 3000  # on whom weights are chosen, drawn if there are more
SMALLEST_SEGMENT = 100  # users
BEST_OF_EACH = 100  # candidates of a user that each part gives


def check_weights(given: Mapping[str, Any] | None, parts: Mapping[str, Any], how: str) -> dict[str, float] | None:
    """Return the weights as given, by part; None if they are to be tuned.

    Raises:
        ValueError: for another `how`, of an unknown part, not one for every part, not a number, negative, or all 0.
    """
    if given is None:
        return None
    _check_names("weights", given, parts, how, "weighted", f"such as {{{', '.join(f'{name}: 1' for name in parts)}}}")
    if missing := [name for name in parts if name not in given]:
        raise ValueError(
            f"weights must have a number for every part ({', '.join(parts)}), got none for {missing[0]}; 0 leaves it out"
        )
    for name, weight in given.items():
        if isinstance(weight, bool) or not isinstance(weight, Real) or not 0 <= float(weight) < np.inf:
            raise ValueError(
                f"weights must be finite numbers that are not negative, got {shorten(repr(weight))} for {name}"
            )
    if not any(given.values()):
        raise ValueError("weights must be above 0 for at least one part, got 0 for all")
    return {name: float(given[name]) for name in parts}


def check_thresholds(
    argument: str, given: Mapping[str, Any] | None, parts: Mapping[str, Any], how: str
) -> dict[str, int] | None:
    """Return the interactions that parts need, by part, as given.

    Raises:
        ValueError: for another `how`, of an unknown part, not a whole number of at least 0.
    """
    if given is None:
        return None
    _check_names(argument, given, parts, how, "switching", f"such as {{{next(iter(parts))}: 5}}")
    for name, count in given.items():
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0:
            raise ValueError(f"{argument} must be whole numbers of at least 0, got {shorten(repr(count))} for {name}")
    return {name: int(count) for name, count in given.items()}


def check_segments(given: Sequence[int] | None, weights: Mapping[str, float] | None, how: str) -> list[int] | None:
    """Return where segments of users begin.

    Raises:
        ValueError: not ascending, for another `how`, or beside weights that are given.
    """
    if given is None:
        return None
    if how != "weighted" or weights is not None:
        raise ValueError(
            f"segments are for how=weighted with weights that are tuned (weights=null), got segments={list(given)}"
        )
    if any(one >= two for one, two in itertools.pairwise(given)):
        raise ValueError(f"segments must ascend, such as [10, 50], got {list(given)}")
    return list(given)


def check_num_candidates(given: int | Sequence[int], parts: Mapping[str, Any], how: str) -> int | list[int]:
    """Return the length of what each further part of a cascade reorders, as given.

    Raises:
        ValueError: a cascade of one part; not one number for each further part; not descending.
    """
    if how == "cascade":
        steps = steps_of(given, len(parts))
        if len(parts) < 2 or len(steps) != len(parts) - 1:
            raise ValueError(
                f"num_candidates must be one number, or one for each part after the first, such as [200, 50] for three parts; got {given} "
                f"for {len(parts)} ({', '.join(parts)})"
            )
        if any(one < two for one, two in itertools.pairwise(steps)):
            raise ValueError(f"num_candidates must not ascend, such as [200, 50], got {given}")
    return given if isinstance(given, int) else list(given)


def steps_of(num_candidates: int | Sequence[int], num_parts: int) -> list[int]:
    """Return how many items each part after the first reorders; of a single number, each further part half as many as the one before."""
    if isinstance(num_candidates, int):
        return [max(1, num_candidates >> at) for at in range(num_parts - 1)]
    return list(num_candidates)


def segment_of(counts_B: np.ndarray, segments: Sequence[int] | None) -> np.ndarray:
    """Return int64 [B], the segment of users with so many interactions."""
    return np.searchsorted(np.asarray(segments or [], np.int64), counts_B, side="right")


def chosen_weights(
    model: CombinedModel,
    train: Dataset | Interactions,
    validation: Dataset | Interactions,
    *,
    normalize: Normalize,
    segments: Sequence[int] | None,
    k: int,
    seed: int,
) -> np.ndarray:
    """Return float32 [S, P]: by segment, the weights of the best mean NDCG@k of the held-out interactions.

    Each user's candidates are the best 100 of each part that are not in `train`. Users without interactions, whose answer does not
    depend on weights, are left out; of more than 3000 users, 3000 are drawn.

    Args:
        model: with parts fitted on `train`.
        train: the log that the parts know.
        validation: over the same rows, which they do not know.
        normalize: as of `normalized`.
        segments: as of `segment_of`.
        k: of the NDCG.
        seed: of the draw of users.

    Raises:
        ValueError: validation over other rows, without a relevant interaction that is not in `train`, or of users without interactions alone.
    """
    candidates, counts_U = candidates_of(model, train, validation, normalize, seed)

    def best_of(some: Candidates) -> tuple[np.ndarray, float]:
        return best_weights(lambda weights_P: some.ndcg(weights_P, k), len(model.parts))

    best_P, value = best_of(candidates)
    segment_U = segment_of(counts_U, segments)
    weights_SP = np.tile(best_P, (len(segments or []) + 1, 1))
    for segment in range(len(weights_SP)) if segments else ():
        mine_U = segment_U == segment
        if mine_U.sum() >= SMALLEST_SEGMENT:
            weights_SP[segment], _ = best_of(candidates.of(mine_U))
    for weights_P in weights_SP:
        shown = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(model.parts, weights_P, strict=True))
        log.info("weights: %s", shown)
    log.info("NDCG@%d of the %d users on whom the weights were chosen: %.4f", k, len(counts_U), value)
    return weights_SP.astype(np.float32)


def candidates_of(
    model: CombinedModel,
    train: Dataset | Interactions,
    validation: Dataset | Interactions,
    normalize: Normalize,
    seed: int,
) -> tuple[Candidates, np.ndarray]:
    """Return the candidates of the users asked, and int64 [U], these users' known interactions."""
    check_numbering(validation, model.users, model.items)
    known, asked = as_interactions(train), as_interactions(validation)
    if (asked.num_users, asked.num_items) != (known.num_users, known.num_items):
        raise ValueError(
            f"validation must be over the rows of train, {known.num_users} users x {known.num_items} items, got "
            f"{asked.num_users} x {asked.num_items}. Split one log."
        )
    relevant, _ = relevant_items(validation, known, part="validation")
    histories = validation.histories if isinstance(validation, Dataset) else None
    seen = seen_of(train) if histories is None else histories
    counts_U = (known if histories is None else histories).user_counts_U
    of_N, items_N = (relevant > 0).nonzero()
    if len(of_N) and not np.setdiff1d(_keys(of_N, items_N, known), _keys(seen.users_N, seen.items_N, known)).size:
        raise ValueError(
            "weights are tuned on interactions that train does not hold, but train holds every pair of a user and an item that is relevant in validation; "
            "split one log, such as by leave_last_out"
        )
    users = np.unique(of_N)
    users = users[counts_U[users] > 0]
    if not len(users):
        raise ValueError("weights are tuned on users with interactions in train and in validation, and there are none")
    if len(users) > MOST_USERS:
        users = np.sort(np.random.default_rng(seed).choice(users, MOST_USERS, replace=False))
    blocks = []
    for block in model._blocks(len(users) * len(model.parts)):
        rows = users[block.start // len(model.parts) : block.stop // len(model.parts)]
        values = rows if histories is None else Folded(histories.of_users(rows))
        blocks.append(_block(model, values, rows, seen, relevant, normalize))
    parts = zip(*(vars(one).values() for one in blocks), strict=True)
    return Candidates(*(np.concatenate(some, axis=1 if some[0].ndim == 3 else 0) for some in parts)), counts_U[users]


def _keys(users_N: np.ndarray, items_N: np.ndarray, log: Interactions) -> np.ndarray:
    keys_N: np.ndarray = users_N.astype(np.int64) * log.num_items + items_N
    return keys_N


def _block(
    model: CombinedModel, values: Any, rows: np.ndarray, seen: Interactions, relevant: Any, normalize: Normalize
) -> Candidates:
    scores_PBI, knows_PBI = model._part_scores(values)
    exclude = ItemLists(*item_lists(seen, rows, num_items=model.num_items, name="train"))
    length = min(BEST_OF_EACH, model.num_items)
    lists = [
        top_k(np.where(knows_BI, scores_BI, -np.inf), length, exclude=exclude, device="cpu")[0]
        for scores_BI, knows_BI in zip(scores_PBI, knows_PBI, strict=True)
    ]
    items_BL = np.empty((len(rows), len(lists) * length), np.int32)
    take_turns(np.stack(lists, axis=1), np.full(len(lists), length), False, items_BL)
    scores_PBI = normalized(scores_PBI, knows_PBI, normalize)
    safe_BL = np.maximum(items_BL, 0)
    graded = relevant[rows].toarray() > 0
    return Candidates(
        np.take_along_axis(scores_PBI, safe_BL[None], axis=2),
        np.take_along_axis(knows_PBI, safe_BL[None], axis=2),
        np.take_along_axis(graded, safe_BL, axis=1) & (items_BL >= 0),
        items_BL >= 0,
        graded.sum(axis=1),
    )


def _check_names(argument: str, given: Any, parts: Mapping[str, Any], how: str, needed: str, such_as: str) -> None:
    if not isinstance(given, Mapping):
        raise ValueError(f"{argument} must be a mapping from parts to numbers, {such_as}, got {shorten(repr(given))}")
    if how != needed:
        raise ValueError(f"{argument} are for how={needed}, not how={how}; leave them out (null)")
    if unknown := [str(name) for name in given if name not in parts]:
        raise ValueError(
            f"{argument} must name parts ({', '.join(parts)}), got {shorten(unknown[0])!r}{near(unknown[0], parts)}"
        )
