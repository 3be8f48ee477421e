"""The log of answers and of what they earned: durable, and read back as bandit feedback and as interactions.

B requests, K positions, F numbers of a context, N rewards.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.folders import ensure_folder, new_file

from .durable import DurableTable
from .feedback import BanditFeedback, check_seconds, integers
from .interactions import Interactions
from .messages import shorten
from .vocabulary import Vocabulary

log = logging.getLogger(__name__)

DECISIONS: dict[str, Any] = {
    "request": pl.Int64,
    "arms": pl.List(pl.Int32),
    "propensities": pl.List(pl.Float64),
    "joint": pl.Float64,
    "draws": pl.Int32,
    "user": pl.Int32,
    "time": pl.Int64,
    "context": pl.List(pl.Float32),
}
REWARDS: dict[str, Any] = {"request": pl.Int64, "arm": pl.Int32, "reward": pl.Float64, "time": pl.Int64}
FORMAT = 1


class FeedbackLog:
    """Which arms were shown for each request, with which probabilities, and the rewards that arrived later.

    When `append` or `reward` returns, the rows are on the disk: a killed process loses nothing that was acknowledged (see
    `recsys_dl.data.durable`). Both may be repeated after a failure: the first row of a request, and the first reward of an arm in
    it, count; later ones are left out with a warning. Several processes may write.

    The folder holds `log.json`, `decisions/` and `rewards/`, which are Parquet files that any tool reads.

    Args:
        folder: created if needed.
        num_arms: A; required for a new log, later it may grow.
        context_size: F; 0 if policies do not look at a context. Required only for a new log with contexts.
        items: ids of the arms, if arms are items: a log is only opened with a vocabulary in which its arms keep their rows.
        tables: makes a table from its folder and its schema.

    Raises:
        ValueError: a new log without `num_arms`; sizes or ids that are not those of the log.

    Examples:
        >>> import tempfile
        >>> from recsys_dl.data.feedback_log import FeedbackLog
        >>> log = FeedbackLog(tempfile.mkdtemp(), num_arms=3)
        >>> log.append([[2], [0]], [[0.25], [0.5]], requests_B=[7, 8], users_B=[0, 1])
        >>> log.reward(requests_N=[7], arms_N=[2], rewards_N=[1.0])
        >>> log.feedback().rewards_RK.ravel(), log.interactions().items_N
        (array([ 1., nan]), array([2], dtype=int32))
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        num_arms: int | None = None,
        context_size: int | None = None,
        items: Vocabulary | None = None,
        tables: Callable[[Path, dict[str, Any]], DurableTable] = DurableTable,
    ) -> None:
        self.folder = Path(folder).absolute()
        for name, size, least in (("num_arms", num_arms, 1), ("context_size", context_size, 0)):
            if size is not None and (isinstance(size, bool) or not isinstance(size, int | np.integer) or size < least):
                raise ValueError(f"{name} must be a whole number of at least {least}, got {size!r}")
        num_arms = len(items) if num_arms is None and items is not None else num_arms
        known = self._known()
        if known is None and num_arms is None:
            raise ValueError(f"{self.folder} is a new log: give its number of arms, FeedbackLog(folder, num_arms=100)")
        if items is not None and (not isinstance(items, Vocabulary) or len(items) != num_arms):
            raise ValueError(f"items must be a Vocabulary of {num_arms}, got {type(items).__name__} of {len(items)}")
        self.num_arms = int(known["num_arms"] if num_arms is None else num_arms)  # type: ignore[index]
        self.context_size = int(
            context_size if context_size is not None else known["context_size"] if known is not None else 0
        )
        meta = {
            "format": FORMAT,
            "num_arms": self.num_arms,
            "context_size": self.context_size,
            "items": None if items is None else items.content_hash,
        }
        if known is not None:
            self._check(known, items)
            meta["items"] = meta["items"] or known["items"]
        if meta != known:
            ensure_folder(self.folder)
            with new_file(self.folder / "log.json") as file:
                file.write_text(json.dumps(meta))
        self._settled = 0  # decisions of appends up to here all have rewards
        self._decisions = tables(self.folder / "decisions", DECISIONS)
        self._rewards = tables(self.folder / "rewards", REWARDS)

    def __repr__(self) -> str:
        return f"FeedbackLog({str(self.folder)!r}, num_arms={self.num_arms}, context_size={self.context_size})"

    def append(
        self,
        arms_BK: Any,
        propensities_BK: Any,
        *,
        requests_B: Any,
        users_B: Any = None,
        contexts_BF: Any = None,
        times_B: Any = None,
        joint_B: Any = None,
        draws: int = 0,
    ) -> None:
        """Write decisions, before they are shown; they are on the disk when this returns.

        Args:
            arms_BK: int, padded with -1.
            propensities_BK: in (0, 1].
            requests_B: int64, distinct, in the whole log.
            users_B: user rows, needed by `interactions`.
            contexts_BF: required if the log has contexts.
            times_B: seconds since 1970.
            joint_B: the probability of each whole slate.
            draws: of the propensities, 0 if they are exact.

        Raises:
            ValueError: as in `BanditFeedback`; a repeated request; contexts of another length.
        """
        if propensities_BK is None:
            raise ValueError(
                "a feedback log needs propensities, the probability with which each arm was shown; 1 if nothing was random"
            )
        arms_BK = np.asarray(arms_BK)
        rewards_BK = np.full(arms_BK.shape, np.nan)
        given = {"joint_R": joint_B, "contexts_RF": contexts_BF, "users_R": users_B, "times_R": times_B}
        checked = BanditFeedback(arms_BK, rewards_BK, propensities_BK, self.num_arms, draws=draws, **given)
        requests = integers("requests", requests_B, len(checked))
        if len(np.unique(requests)) < len(requests):
            values, counts = np.unique(requests, return_counts=True)
            raise ValueError(f"every request needs a number of its own, got {values[counts > 1][0]} more than once")
        found = 0 if checked.contexts_RF is None else checked.contexts_RF.shape[1]
        if found != self.context_size:
            raise ValueError(f"contexts must have the {self.context_size} numbers of this log, got {found or 'none'}")
        shown_BK = checked.arms_RK >= 0
        nothing = pl.lit(None)
        rows = pl.DataFrame({"request": requests}).with_columns(
            arms=_lists(checked.arms_RK, shown_BK, pl.Int32),
            propensities=_lists(checked.propensities_RK, shown_BK, pl.Float64),
            joint=nothing if checked.joint_R is None else pl.Series(checked.joint_R),
            draws=pl.lit(draws, pl.Int32),
            user=nothing if checked.users_R is None else pl.Series(checked.users_R),
            time=nothing if checked.times_R is None else pl.Series(checked.times_R),
            context=nothing
            if checked.contexts_RF is None
            else _lists(checked.contexts_RF, np.ones(checked.contexts_RF.shape, bool), pl.Float32),
        )
        self._decisions.append(rows)

    def reward(self, requests_N: Any, arms_N: Any, rewards_N: Any, times_N: Any = None) -> None:
        """Write rewards of arms that were shown; they are on the disk when this returns.

        Args:
            requests_N: the requests' numbers.
            arms_N: the arms that earned.
            rewards_N: finite.
            times_N: seconds since 1970.

        Raises:
            ValueError: columns of unequal length, an arm out of range, a reward that is not finite, times in milliseconds.
        """
        try:
            rewards = np.atleast_1d(np.asarray(rewards_N, np.float64))
        except (TypeError, ValueError):
            raise ValueError(f"rewards must be numbers, got {shorten(repr(rewards_N))}") from None
        requests = integers("requests", requests_N, len(rewards))
        arms = integers("arms", arms_N, len(rewards), -(2**62))
        if len(wrong := arms[(arms < 0) | (arms >= self.num_arms)]):
            raise ValueError(f"arms must be in [0, {self.num_arms}), got {wrong[0]}")
        if rewards.ndim != 1 or not np.isfinite(rewards).all():
            raise ValueError(
                f"rewards must be finite numbers in one dimension, got {rewards[~np.isfinite(rewards)].ravel()[:1]} of {rewards.shape}; "
                "write none for a reward that is not known yet"
            )
        times = None if times_N is None else check_seconds("times", integers("times", times_N, len(rewards), -(2**62)))
        rows = pl.DataFrame({"request": requests, "arm": arms, "reward": rewards})
        self._rewards.append(rows.with_columns(time=pl.lit(None) if times is None else pl.Series(times)))

    def settle(self, before: int, *, reward: float = 0.0) -> int:
        """Write a reward for every shown arm that has none though it was decided before a time: no click is a 0. Return how many.

        Only the first reward of an arm in a request counts, so that later ones are ignored.

        Raises:
            ValueError: a reward that is not finite; a time in milliseconds.
        """
        if isinstance(before, bool) or not isinstance(before, int | np.integer):
            raise ValueError(f"before must be a whole number of seconds since 1970, got {shorten(repr(before))}")
        decisions = self._decisions.read(after=self._settled)
        late = decisions.filter(pl.col("time") < check_seconds("before", np.array([before]))[0])
        _warn(decisions["time"].null_count(), "decisions without a time, which cannot be settled", self.folder)
        rewards = self._rewards.find("request", late["request"])
        known, shown = self._joined(rewards, self._decisions.find("request", late["request"]), after=None)
        missing = shown.join(known, on=["request", "arm"], how="anti")
        if len(missing):
            columns = (missing["request"], missing["arm"], np.full(len(missing), reward), np.full(len(missing), before))
            self.reward(*columns)
        pending = decisions.filter(pl.col("time") >= before)["append"].min()
        last = int(decisions["append"].max() or 0) if pending is None else int(pending) - 1  # type: ignore[arg-type]
        self._settled = max(self._settled, last)
        return len(missing)

    @property
    def empty(self) -> bool:
        """Whether there is no decision yet."""
        return not len(self._decisions)

    def next_request(self) -> int:
        """Return the number after the largest request of the log; 0 for an empty one."""
        requests = self._decisions.read()["request"]
        return int(requests.max()) + 1 if len(requests) else 0  # type: ignore[arg-type]

    def feedback(self) -> BanditFeedback:
        """Return all decisions, in the order of the log, with the rewards that are known; NaN for the others.

        Raises:
            ValueError: the log has no decision yet.
        """
        return self.since(None)[0]

    def since(self, position: int | None) -> tuple[BanditFeedback, int]:
        """Return decisions with rewards that became known after a position of an earlier call, and the new position.

        Rewards known at the earlier position are NaN, so that a policy learns from each once: `policy.update(feedback)`. Save the
        position with the policy to continue after a restart. 0 begins; None returns all decisions, rewarded or not.

        Raises:
            ValueError: the log has no decision yet.
        """
        if position is None:
            rewards, decisions = self._read()
        else:
            if isinstance(position, bool) or not isinstance(position, int | np.integer) or position < 0:
                raise ValueError(f"position must be one that since returned, 0 or None, got {shorten(repr(position))}")
            if position > len(self._rewards):
                ends = f"ends at {len(self._rewards)}, got {position}"
                raise ValueError(f"position must be one that since returned for this log, which {ends}; 0 begins")
            rewards = self._rewards.read(after=position)  # before the decisions, which are written first
            requests = rewards["request"]
            rewards = pl.concat([self._rewards.find("request", requests, through=position), rewards])
            decisions = self._decisions.find("request", requests)
        known, shown = self._joined(rewards, decisions, after=position or 0)
        if not len(shown) and self.empty:
            raise ValueError(f"{self.folder} has no decision yet")
        fresh = known.filter(pl.col("append") > (position or 0))
        if position is not None:
            shown = shown.join(fresh.select("request").unique(), on="request", how="semi", maintain_order="left")
        shown = shown.join(fresh, on=["request", "arm"], how="left", maintain_order="left")
        return self._wide(shown), max(int(rewards["append"].max() or 0), position or 0)  # type: ignore[arg-type]

    def interactions(self, *, num_users: int | None = None) -> Interactions:
        """Return shown items that earned more than 0 as interactions: weight is the reward, time that of the reward or else of the request.

        Raises:
            ValueError: the log has no users.
        """
        known, shown = self._joined(*self._read(), after=0)
        earned = shown.join(known.filter(pl.col("reward") > 0), on=["request", "arm"], maintain_order="left")
        if earned["user"].null_count():
            raise ValueError(
                f"{earned['user'].null_count():,} of {len(earned):,} rewarded decisions have no user; append them with users_B"
            )
        times = earned.select(pl.coalesce("rewarded", "time"))["rewarded"]
        return Interactions(
            earned["user"].to_numpy(),
            earned["arm"].to_numpy(),
            earned["reward"].to_numpy(),
            None if times.null_count() else times.to_numpy(),
            num_users=num_users if num_users is not None or len(earned) else 0,
            num_items=self.num_arms,
        )

    def users(self) -> np.ndarray:
        """Return int32 [R]: user rows in the order of `feedback`, -1 where none was logged."""
        first = self._decisions.read().unique("request", keep="first", maintain_order=True)
        return first.filter(pl.col("arms").list.len() > 0)["user"].fill_null(-1).to_numpy()

    # Internal

    def _read(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return all rewards and all decisions."""
        rewards = self._rewards.read()  # before the decisions, which are written first
        return rewards, self._decisions.read()

    def _joined(
        self, rewards: pl.DataFrame, decisions: pl.DataFrame, *, after: int | None
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the first reward of each arm in each request, and each shown arm, in the order of decisions and positions.

        Warns of rewards after the append `after` that are left out; None: of nothing.
        """
        first = decisions.unique("request", keep="first", maintain_order=True)
        shown = (
            first.rename({"arms": "arm", "propensities": "propensity", "append": "decided"})
            .with_row_index("row")
            .explode("arm", "propensity", empty_as_null=False)
            .with_columns(place=pl.int_range(pl.len()).over("row"))
        )
        known = rewards.rename({"time": "rewarded"}).unique(["request", "arm"], keep="first", maintain_order=True)
        if after is not None:
            _warn(len(decisions) - len(first), "decisions that repeat the request of an earlier one", self.folder)
            new = rewards.filter(pl.col("append") > after)
            again = len(new) - len(known.filter(pl.col("append") > after))
            _warn(again, "rewards that repeat the arm and request of an earlier one", self.folder)
            lost = len(new.join(shown, on=["request", "arm"], how="anti"))
            _warn(lost, "rewards of an arm that was not shown in that request", self.folder)
        return known.join(shown, on=["request", "arm"], how="semi", maintain_order="left"), shown

    def _wide(self, shown: pl.DataFrame) -> BanditFeedback:
        """Return shown arms, one row each, as one row a request."""
        rows = shown["row"].to_numpy()
        first = np.flatnonzero(np.diff(rows, prepend=-1)) if len(rows) else np.zeros(0, np.int64)
        at = np.repeat(np.arange(len(first)), np.diff(first, append=len(rows)))
        places = shown["place"].to_numpy()
        shape = (len(first), int(places.max(initial=0)) + 1)
        arms, rewards, chances = np.full(shape, -1, np.int32), np.full(shape, np.nan), np.full(shape, np.nan)
        arms[at, places] = shown["arm"].to_numpy()
        rewards[at, places] = shown["reward"].fill_null(np.nan).to_numpy()
        chances[at, places] = shown["propensity"].to_numpy()
        heads = shown[first]
        optional = {
            f"{name}s_R" if name != "joint" else "joint_R": None
            if heads[name].null_count() or not len(heads)
            else heads[name].to_numpy()
            for name in ("joint", "user", "time")
        }
        contexts = None
        if self.context_size:
            contexts = heads["context"].explode(empty_as_null=False).to_numpy().reshape(-1, self.context_size)
        draws = int(shown["draws"].max() or 0)  # type: ignore[arg-type]
        return BanditFeedback(arms, rewards, chances, self.num_arms, contexts_RF=contexts, draws=draws, **optional)

    def _known(self) -> dict[str, Any] | None:
        """Return what the folder says about its log; None for a new one."""
        file = self.folder / "log.json"
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} must be the folder of a feedback log or a new one, but is a file")
        if not file.is_file():
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise ValueError(f"{self.folder} must be a feedback log or a new folder, but has no log.json")
            return None
        try:
            known = dict(json.loads(file.read_text()))
            if known["format"] != FORMAT:
                raise ValueError(f"{file} has format {known['format']}, this version reads format {FORMAT}")
            return known
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is damaged ({error}); restore it") from error

    def _check(self, known: dict[str, Any], items: Vocabulary | None) -> None:
        """Check that sizes and ids are those of the log, or more of them."""
        if self.num_arms < known["num_arms"]:
            raise ValueError(f"{self.folder} is a log over {known['num_arms']} arms, got num_arms={self.num_arms}")
        if self.context_size != known["context_size"]:
            raise ValueError(
                f"{self.folder} is a log with contexts of {known['context_size']} numbers, got context_size={self.context_size}"
            )
        if items is not None and known["items"] is not None:
            head = Vocabulary(items.ids.head(known["num_arms"]), noun="item")
            if head.content_hash != known["items"]:
                raise ValueError(
                    f"the arms of {self.folder} are other items, or in another order, than those given: open it with the vocabulary it "
                    "was written with, or one that adds items after those"
                )


def _lists(values_BX: Any, there_BX: np.ndarray, dtype: Any) -> pl.Series:
    """Return a column of lists: each row's values where they are there."""
    ends = pl.DataFrame({"row": np.nonzero(there_BX)[0], "value": values_BX[there_BX]})
    lists = ends.group_by("row", maintain_order=True).agg(pl.col("value").cast(dtype))
    rows = pl.DataFrame({"row": np.arange(len(there_BX))})
    return rows.join(lists, on="row", how="left", maintain_order="left")["value"].fill_null([])


def _warn(count: int, what: str, folder: Path) -> None:
    if count:
        log.warning("left out of what was read from %s: %s, %d in number", folder, what, count)
