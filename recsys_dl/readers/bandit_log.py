"""Reading logs of a policy's decisions: a table with arm, reward and propensity columns, or a folder of the Open Bandit Dataset."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.feedback_log import FeedbackLog
from recsys_dl.data.messages import shorten
from recsys_dl.data.vocabulary import Vocabulary, as_text

from .columns import position as place_of
from .side_tables import read_table

log = logging.getLogger(__name__)

# column names by role, ignoring case and punctuation; the first line with a name in the table wins
NAMES = {
    "arm": (
        "arm armid action actionid a",
        "item itemid product productid article articleid offer offerid ad adid variant",
    ),
    "reward": ("reward rewards r", "click clicks clicked conversion converted purchase purchased label y"),
    "propensity": (
        "propensity propensities propensityscore pscore loggingpropensity loggingprobability behaviorprobability "
        "actionprob actionprobability logprob",
        "probability prob p",
    ),
    "position": ("position pos slot",),
}
NEEDED = ("arm", "reward", "propensity")
OPEN_BANDIT = ("item_id", "position", "click", "propensity_score")
CATEGORIES = 1000  # of a context column, at most


@dataclass(frozen=True)
class BanditLog:
    """A log that was read.

    Attributes:
        feedback: one arm a row.
        arms: external ids of its arms.
        columns: role -> the column that was read as it.
        contexts: names of the numbers of a context.
        first_position: what the log calls its first position, 0 or 1.
    """

    feedback: BanditFeedback
    arms: Vocabulary
    columns: dict[str, str]
    contexts: Sequence[str] = ()
    first_position: int = 0

    def among(self, arms: Vocabulary) -> BanditLog:
        """Return the log with its arms as rows of a vocabulary that holds them all."""
        rows = arms.rows(self.arms.ids)
        feedback = replace(self.feedback, arms_RK=rows[self.feedback.arms_RK], num_arms=len(arms))
        return replace(self, feedback=feedback, arms=arms)


def read_bandit_log(
    path: Any,
    *,
    arm: str | None = None,
    reward: str | None = None,
    propensity: str | None = None,
    position: str | bool | None = None,
    contexts: Sequence[str] = (),
    user: str | None = None,
    arms: Sequence[Any] | None = None,
    draws: int = 0,
) -> BanditLog:
    """Read a log of decisions: one row for each arm that was shown, with its reward and its propensity.

    A folder is read as the Open Bandit Dataset (Saito et al. 2021): `all.csv`, `men.csv` or `women.csv`, the only one in it, with
    the arms of `item_context.csv` beside it and the features `user_feature_0`, … as contexts; or, with a `log.json`, as the feedback log that
    `FeedbackLog`, `recsys-dl simulate log=…` and `recsys-dl serve` write, a row for each shown arm.

    Args:
        path: a file or frame, as `read_log` takes, or a folder.
        arm: its column; None recognizes arm, action, item_id, …
        reward: likewise: reward, click, …
        propensity: likewise: propensity, propensity_score, pscore, …; the probability with which the logging policy chose this arm.
        position: likewise: position, slot; from 0 or from 1. False: there are no positions.
        contexts: columns that the logging policy or the policy to be valued looks at: numbers as they are, text as one 0/1 number a value.
        user: column of users, whose rounds are kept together in cross-fitting.
        arms: all arms that the policies choose among; None: those of the log, in order.
        draws: number of draws from which the propensities were estimated; 0: they are exact.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: a column is missing or ambiguous, a reward or propensity is not a number, a propensity is zero or above one.

    Examples:
        >>> from recsys_dl.readers.bandit_log import read_bandit_log
        >>> found = read_bandit_log({"item_id": ["b", "a"], "click": [1, 0], "pscore": [0.5, 0.25]})
        >>> found.arms.ids.to_list(), found.feedback.arms_RK.ravel(), found.columns["propensity"]
        (['a', 'b'], array([1, 0], dtype=int32), 'pscore')
    """
    where = "the table"
    if isinstance(path, str | os.PathLike):
        where = str(path)
        folder = Path(path).expanduser()
        if (folder / "log.json").is_file():
            named = {
                "arm": arm,
                "reward": reward,
                "propensity": propensity,
                "position": position,
                "contexts": contexts,
                "user": user,
            }
            return _feedback_log(folder, [name for name, value in named.items() if value])
        if folder.is_dir():
            path, arms, found = _open_bandit(folder, arms)
            contexts = contexts or found
            where = str(path)
    frame = read_table(path)
    known = {name for line in NAMES["arm"] for name in line.split()}
    if set(frame.columns) == {f"column_{at}" for at in range(len(frame.columns))} and len(frame) == 1:
        header = [str(one) for one in frame.row(0)]
        if any(_plain(one) in known for one in header):
            raise ValueError(f"{where} must hold rounds, but has only its header: {shorten(', '.join(header))}")
    given = {"arm": arm, "reward": reward, "propensity": propensity, "position": position}
    columns = {
        role: name
        for role, value in given.items()
        if (name := _column(frame, value, role, where, needed=role in NEEDED))
    }
    ids = as_text(frame[columns["arm"]])
    if ids.null_count() or (ids == "").any():
        row = int((ids.is_null() | (ids == "")).arg_max() or 0)
        raise ValueError(
            f"{where}, row {row} (from 0, without header): has no {columns['arm']!r}, the arm that was shown"
        )
    vocabulary = Vocabulary(_in_order(ids) if arms is None else arms, noun="arm")
    rows = vocabulary.find(ids)
    if (rows < 0).any():
        strange = ids.filter(pl.Series(rows < 0)).unique().sort()
        raise ValueError(
            f"{where} shows {len(strange):,} arms that are not among the {len(vocabulary):,} given ones, such as "
            f"{shorten(strange[0])!r}; give all arms, or correct {columns['arm']!r}"
        )
    numbers = {role: _numbers(frame[columns[role]], columns[role], where) for role in ("reward", "propensity")}
    positions, first = None, 0.0
    if "position" in columns:
        values = _numbers(frame[columns["position"]], columns["position"], where)
        first = float(values.min())
        strange = values[(values != np.round(values)) | (values > np.iinfo(np.int16).max)]
        if len(strange) or first not in (0, 1):
            raise ValueError(
                f"{where}: {columns['position']!r} must be whole numbers from 0 or from 1, got {strange[0] if len(strange) else first:g}; "
                "or position=False"
            )
        positions = (values - first).astype(np.int16)
    contexts_RF, names = _contexts(frame, contexts, where)
    users = None
    if user is not None:
        values_R = as_text(frame.to_series(place_of(frame.columns, user, "user", where)))
        users = (values_R.rank("dense") - 1).fill_null(0).cast(pl.Int32).to_numpy()
    log.info(
        "%s: %s rounds, %s arms; %s",
        where,
        f"{len(frame):,}",
        f"{len(vocabulary):,}",
        ", ".join(f"{role}: {name}" for role, name in columns.items()),
    )
    try:
        feedback = BanditFeedback(
            rows[:, None].astype(np.int32),
            numbers["reward"][:, None],
            numbers["propensity"][:, None],
            len(vocabulary),
            contexts_RF=contexts_RF,
            positions_R=positions,
            users_R=users,
            draws=draws,
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return BanditLog(feedback, vocabulary, columns, names, int(first))


def _feedback_log(folder: Path, named: Sequence[str]) -> BanditLog:
    """Return a feedback log with a row for each arm that was shown; arms are numbers, or the ids that `recsys-dl serve` leaves beside it."""
    if named:
        raise ValueError(f"{folder} is a feedback log, whose columns are known; leave out {named[0]}=…")
    held = FeedbackLog(folder).feedback()
    at_N, places_N = np.nonzero(held.arms_RK >= 0)
    several = held.arms_RK.shape[1] > 1
    assert held.propensities_RK is not None
    users_R = np.arange(len(held), dtype=np.int32) if held.users_R is None and several else held.users_R
    feedback = BanditFeedback(
        held.arms_RK[at_N, places_N][:, None],
        held.rewards_RK[at_N, places_N][:, None],
        held.propensities_RK[at_N, places_N][:, None],
        held.num_arms,
        contexts_RF=None if held.contexts_RF is None else held.contexts_RF[at_N],
        positions_R=places_N if several else None,
        times_R=None if held.times_R is None else held.times_R[at_N],
        users_R=None if users_R is None else users_R[at_N],
        draws=held.draws,
    )
    arms, file = Vocabulary(list(map(str, range(held.num_arms))), noun="arm"), folder.parent / "items.parquet"
    if folder.name == "log" and file.is_file():
        arms = Vocabulary.load(file, noun="arm")
    size = 0 if held.contexts_RF is None else held.contexts_RF.shape[1]
    return BanditLog(feedback, arms, {}, [f"number {at}" for at in range(size)])


def _open_bandit(folder: Path, arms: Sequence[Any] | None) -> tuple[Path, Sequence[Any] | None, list[str]]:
    files = [folder / f"{name}.csv" for name in ("all", "men", "women") if (folder / f"{name}.csv").is_file()]
    if len(files) != 1:
        there = (
            "several campaigns; name one of its files"
            if files
            else "none of all.csv, men.csv and women.csv; name a file"
        )
        raise ValueError(
            f"a folder must be a feedback log, with its log.json, or one of the Open Bandit Dataset, with its campaign's file, but {folder} has "
            f"{there}"
        )
    names = pl.read_csv(files[0], n_rows=0).columns
    if missing := [name for name in OPEN_BANDIT if name not in names]:
        raise ValueError(
            f"{files[0]} must have the columns of the Open Bandit Dataset, but has no {', '.join(missing)}"
        )
    items = folder / "item_context.csv"
    if arms is None and items.is_file():
        arms = _in_order(as_text(read_table(items)["item_id"]))
    return files[0], arms, [name for name in names if name.startswith("user_feature_")]


def _column(
    frame: pl.DataFrame, given: str | bool | None, role: str, where: str, *, needed: bool = False
) -> str | None:
    """Return the column of a role; None if there is none and none is needed."""
    if given is False:
        return None
    if isinstance(given, str):
        return frame.columns[place_of(frame.columns, given, role, where)]
    plain = {name: _plain(name) for name in frame.columns}
    for tier in NAMES[role]:
        hits = [name for name in frame.columns if plain[name] in tier.split()]
        if len(hits) == 1:
            return hits[0]
        if hits:
            raise ValueError(f"{where}: {', '.join(hits)} could all be the {role}; name one: {role}={hits[0]}")
    if needed:
        shown = shorten(", ".join(frame.columns), 200)
        raise ValueError(
            f"{where}: none of its columns is recognized as the {role}; name it: {role}=… The columns are {shown}"
        )
    return None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _numbers(values: pl.Series, name: str, where: str) -> np.ndarray:
    if (
        not values.dtype.is_numeric()
        and (words := values.cast(pl.String).str.to_lowercase()).is_in(["true", "false"]).all()
    ):
        values = words == "true"
    found = values.cast(pl.Float64, strict=False)
    wrong = found.is_null() | found.is_nan()
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise ValueError(
            f"{where}, row {row} (from 0, without header): {name!r} must be a number, got {shorten(repr(values[row]))} "
            f"({int(wrong.sum()):,} of {len(wrong):,} rows are not)"
        )
    return found.to_numpy().astype(np.float64)


def _contexts(frame: pl.DataFrame, contexts: Sequence[str], where: str) -> tuple[np.ndarray | None, list[str]]:
    parts: list[np.ndarray] = []
    names: list[str] = []
    for one in contexts:
        values = frame.to_series(place_of(frame.columns, one, "contexts", where))
        if values.dtype.is_numeric() or values.dtype == pl.Boolean:
            parts.append(_numbers(values, one, where)[:, None])
            names.append(one)
            continue
        texts = as_text(values).fill_null("")
        kinds = texts.unique().sort()
        if len(kinds) > CATEGORIES:
            raise ValueError(
                f"{where}: the context {one!r} has {len(kinds):,} different values, more than {CATEGORIES:,}; leave it out"
            )
        parts.append((texts.to_numpy()[:, None] == kinds.to_numpy()[None]).astype(np.float32))
        names += [f"{one}={kind}" for kind in kinds]
    return (np.concatenate(parts, axis=1).astype(np.float32) if parts else None), names


def _in_order(ids: pl.Series) -> list[str]:
    """Return distinct ids, in order of number if they are whole numbers."""
    distinct = ids.unique()
    numbers = distinct.cast(pl.Int64, strict=False)
    if not numbers.null_count():
        return [distinct[int(at)] for at in numbers.arg_sort()]
    return distinct.sort().to_list()


def read_probabilities(
    path: Any, logged: BanditLog, *, arm: str | None = None, position: str | bool | None = None
) -> tuple[np.ndarray, Vocabulary] | None:
    """Return a policy's probabilities from a table, float64 [A] or, for a log with positions, [P, A], and its arms.

    The table has a row an arm (and position), with its probability; arms that it lacks have probability 0. Its arms are those of the
    log, then any others. None: the table has rewards, so that it is a log.

    Raises:
        ValueError: a column is missing, an arm is given twice, or a probability is not a number.
    """
    frame, where = read_table(path), str(path)
    if _column(frame, None, "reward", where) is not None:
        return None
    arm_name, chance_name = (
        _column(frame, name, role, where, needed=True)
        for role, name in (("arm", arm if arm in frame.columns else None), ("propensity", None))
    )
    at_name = _column(frame, position, "position", where) if logged.feedback.positions_R is not None else None
    assert arm_name is not None
    assert chance_name is not None
    if logged.feedback.positions_R is not None and at_name is None:
        raise ValueError(f"{where}: the log has positions, so a policy's probabilities need a column of positions too")
    ids = as_text(frame[arm_name])
    arms = logged.arms.grow(ids.filter(pl.Series(logged.arms.find(ids) < 0)).unique(maintain_order=True))
    rows = arms.find(ids)
    places = np.zeros(len(rows), np.int64)
    if at_name is not None:
        given = _numbers(frame[at_name], at_name, where)
        places = given.astype(np.int64) - logged.first_position
        last = int(logged.feedback.positions_R.max())  # type: ignore[union-attr]
        if (places != given - logged.first_position).any() or places.min() < 0 or places.max() > last:
            raise ValueError(
                f"{where}: {at_name!r} must be positions of the log, {logged.first_position} to {last + logged.first_position}, got "
                f"{given.min():g} to {given.max():g}"
            )
    positions_R = logged.feedback.positions_R
    table = np.zeros((1 if positions_R is None else int(positions_R.max()) + 1, len(arms)))
    counts = np.zeros(table.shape, np.int64)
    np.add.at(counts, (places, rows), 1)
    if (counts > 1).any():
        twice = arms.ids[int(np.argwhere(counts > 1)[0][1])]
        raise ValueError(f"{where}: the arm {shorten(repr(twice))} has more than one probability")
    table[places, rows] = _numbers(frame[chance_name], chance_name, where)
    return (table if at_name is not None else table[0]), arms
