"""What a report shows of a run beyond its figures: by activity of users, by popularity of items, over epochs.

U evaluated users, I items, K list, G groups, E epochs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from recsys_dl.data.interactions import Interactions
from recsys_dl.evaluation import Evaluation
from recsys_dl.metrics.intervals import Sample, intervals

TENTHS = 10
MOST_USERS = 2_000  # whose lists are looked at
EPOCH = re.compile(r" epoch (\d+): (.+)$")


def by_activity(
    evaluation: Evaluation, metric: str, known: Interactions, groups: int = 4
) -> list[tuple[str, int, float, float, float]]:
    """Return, for groups of users by their number of known interactions: name, number of users, mean, and its interval's ends.

    Groups hold about as many users each; users with equal numbers stay together.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl import Interactions, evaluate
        >>> from recsys_dl.models import Popularity
        >>> from recsys_dl.reporting.parts import by_activity
        >>> train, test = Interactions([0, 1, 1], [0, 0, 1]), Interactions([0, 1], [1, 2], num_items=3)
        >>> evaluation = evaluate(Popularity().fit(train.over(2, 3)), train.over(2, 3), test, k=1)
        >>> [(name, users) for name, users, *_ in by_activity(evaluation, "recall@1", train, groups=2)]
        [('1', 1), ('2', 1)]
    """
    values_U = evaluation.per_user[metric]
    counts_U = known.user_counts_U[evaluation.users]
    known_U = ~np.isnan(values_U)
    values_U, counts_U = values_U[known_U], counts_U[known_U]
    edges = np.unique(np.quantile(counts_U, np.linspace(0, 1, groups + 1)[1:-1], method="lower"))
    group_U = np.searchsorted(edges, counts_U, side="left")
    found = []
    for group in np.unique(group_U):
        mine_U = group_U == group
        least, most = int(counts_U[mine_U].min()), int(counts_U[mine_U].max())
        sample = Sample(values_U[mine_U])
        low, high = intervals([sample], confidence=evaluation.confidence, seed=0)[0]
        name = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        found.append((name, int(mine_U.sum()), sample.value, float(low), float(high)))
    return found


def popularity_shares(items_BK: np.ndarray, known: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 [2, 10]: the share of interactions, and of places in lists, of each tenth of the items; and places [I] by item.

    Tenths are of all items, the most popular first.

    Args:
        items_BK: the lists, padded with -1.
        known: popularity is counted in it.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.reporting.parts import popularity_shares
        >>> train = Interactions([0, 1, 1], [0, 0, 9], num_items=20)
        >>> shares, places = popularity_shares(np.array([[9, 3], [0, -1]]), train)
        >>> shares.round(2)[:, :2], places.sum()
        (array([[1.  , 0.  ],
               [0.67, 0.33]]), np.int64(3))
    """
    counts_I = known.item_counts_I
    places_I = np.bincount(items_BK[items_BK >= 0], minlength=known.num_items)
    order = np.argsort(-counts_I, kind="stable")
    tenth_I = np.minimum(np.arange(known.num_items) * TENTHS // max(known.num_items, 1), TENTHS - 1)
    shares = [np.bincount(tenth_I, column[order], TENTHS) / max(column.sum(), 1) for column in (counts_I, places_I)]
    return np.array(shares), places_I


def lorenz(counts_I: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return shares of items, the most frequent first, and the share of all counts that they hold together.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.reporting.parts import lorenz
        >>> lorenz(np.array([1, 3]))
        (array([0. , 0.5, 1. ]), array([0.  , 0.75, 1.  ]))
    """
    held = np.concatenate([[0], np.cumsum(np.sort(counts_I)[::-1])])
    return np.linspace(0, 1, len(held)), held / max(held[-1], 1)


def learning_curves(log_file: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Return, by name of a figure, the epochs (from 1) and the values that a run's log holds; of its last attempt for each epoch.

    Examples:
        >>> from pathlib import Path
        >>> from recsys_dl.reporting.parts import learning_curves
        >>> _ = Path("run.log").write_text("10:00 INFO x: epoch 0: epoch_loss 0.5, ndcg@10 0.1\\n10:01 INFO x: epoch 1: epoch_loss 0.4\\n")
        >>> learning_curves(Path("run.log"))
        {'epoch_loss': ([1, 2], [0.5, 0.4]), 'ndcg@10': ([1], [0.1])}
    """
    found: dict[str, dict[int, float]] = {}
    for line in log_file.read_text(errors="replace").splitlines() if log_file.is_file() else ():
        if match := EPOCH.search(line):
            for pair in match[2].split(", "):
                name, _, value = pair.rpartition(" ")
                found.setdefault(name, {})[int(match[1]) + 1] = float(value)
    return {name: (sorted(values), [values[epoch] for epoch in sorted(values)]) for name, values in found.items()}


def bytes_of(folder: Path) -> int:
    """Return the size of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def resources(manifest: Mapping[str, object], folder: Path) -> dict[str, str]:
    """Return what a run took, in words: seconds of each stage, peak memory, bytes on the disk, processes and threads."""
    seconds: Mapping[str, float] = manifest.get("seconds") or {}  # type: ignore[assignment]
    peak = float(manifest.get("peak_memory_bytes") or 0)  # type: ignore[arg-type]
    return {
        **{f"{stage}, s": f"{value:,.1f}" for stage, value in seconds.items()},
        "peak memory, MB": f"{peak / 1e6:,.0f}",
        "run folder, MB": f"{bytes_of(folder) / 1e6:,.1f}",
        "processes x threads": f"{manifest.get('processes', 1)} x {manifest.get('threads', '?')}",
    }
