"""A synthetic log with planted tastes, seasons, texts and cold items, whose ground truth is known.

The generating process (U users, I items, C tastes, P periods):

- Every item has one taste, the same number of items each; a user's tastes are theta_u ~ Dirichlet(taste_concentration).
- An item's popularity is (1 + r)^-popularity_exponent, with r a random rank. A share of the items is seasonal: in their own season
  their popularity is multiplied by `season_lift`. Cold items are released after nine tenths of the time
  and cannot be chosen before. So popularity w depends on the period: the season, and before or after the release.
- An interaction's item is drawn as follows: a taste c ~ theta_u; then with probability `taste_purity` an item of that taste, else
  any item, in both cases in proportion to w. If the user already interacted with the item, the draw is repeated.
- A user's number of interactions is log-normal, at least 3 and at most a fifth of the items. Times are uniform over `days`,
  assigned to users at random. The log is sorted by time.

Hence P(next item = i | user u, time t, previous items H) = p_uti / (1 - sum_{h in H} p_uth) for i not in H, where
p_uti = sum_c theta_uc phi_tci. `Planted.probabilities` gives p; no recommender can beat ranking by p
(`recsys_dl.evaluation.oracle`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from .dataset import Dataset
from .interactions import Interactions
from .vocabulary import Vocabulary

START = 1_577_836_800  # 2020-01-01, UTC
DAY = 86_400  # seconds
LEAST = 3  # interactions per user
COLD_FROM = 0.9  # of the time
MOST_TASTES = 1_000
BLOCK = 1 << 20  # draws at a time
SEASONS = ("winter", "spring", "summer", "autumn")
SEASON_DAYS = 365 / len(SEASONS)
SYLLABLES = [consonant + vowel for consonant in "bdklmnrst" for vowel in "aeiou"]


def generated(**arguments: Any) -> Dataset:
    """Return the log of `Planted(**arguments)`; see there for the arguments, and the module docstring for the process.

    Examples:
        >>> from recsys_dl.data.generated import generated
        >>> data = generated(num_users=20, num_items=50, num_interactions=100)
        >>> len(data.users), len(data.items), len(data.interactions)
        (20, 50, 100)
    """
    return Planted(**arguments).dataset()


@dataclass(frozen=True, kw_only=True)
class Planted:
    """The ground truth of a synthetic log; the same arguments give the same truth and the same log.

    Attributes:
        num_users: U.
        num_items: I.
        num_interactions: N; at least 3 per user, at most a tenth of all pairs.
        num_tastes: C.
        taste_concentration: Dirichlet parameter of users' tastes; near 0 each user has one taste, above 1 nearly all.
        taste_purity: probability that an item is chosen by taste.
        popularity_exponent: exponent of Zipf's law; 0 makes all items equally popular.
        seasonal_items: share of the items that belong to a season.
        season_lift: factor on their popularity in season.
        cold_items: share of the items released in the last tenth of the time.
        days: from the first to the last interaction.
        seed: for everything.

    Raises:
        ValueError: numbers out of range or impossible together.

    Examples:
        >>> from recsys_dl.data.generated import Planted
        >>> planted = Planted(num_users=20, num_items=50, num_interactions=100)
        >>> planted.probabilities([0, 1]).sum(axis=1).round(3)
        array([1., 1.])
    """

    num_users: int = 2_000
    num_items: int = 1_000
    num_interactions: int = 60_000
    num_tastes: int = 12
    taste_concentration: float = 0.15
    taste_purity: float = 0.9
    popularity_exponent: float = 0.8
    seasonal_items: float = 0.3
    season_lift: float = 5.0
    cold_items: float = 0.1
    days: int = 730
    seed: int = 7

    def __post_init__(self) -> None:
        most = min(self.num_items, MOST_TASTES)
        if not 1 <= self.num_tastes <= most:
            raise ValueError(
                f"num_tastes must be between 1 and {most} for {self.num_items} items, got {self.num_tastes}"
            )
        if not 0 <= self.cold_items + self.seasonal_items <= 1 or min(self.cold_items, self.seasonal_items) < 0:
            raise ValueError(
                "cold_items and seasonal_items must be shares of the items, together at most 1, got "
                f"{self.cold_items} and {self.seasonal_items}"
            )
        for name, low, high in (
            ("taste_purity", 0, 0.99),  # at 1, users with one taste could run out of items
            ("popularity_exponent", 0, 2),
            ("taste_concentration", 0.01, 1_000),
            ("season_lift", 0.01, 1_000),
            ("days", 1, 36_500),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be between {low} and {high}, got {value}")
        least, most = LEAST * self.num_users, self.num_users * self.num_items // 10
        if not 1 <= least <= self.num_interactions <= most:
            raise ValueError(
                f"num_interactions must be between {least:,} ({LEAST} per user) and {most:,} (a tenth of all pairs) for "
                f"{self.num_users:,} users and {self.num_items:,} items, got {self.num_interactions:,}"
            )

    def dataset(self) -> Dataset:
        """Return the log with features, titles and texts; weights are 1.

        The user feature `segment` is the main taste, random for one in five. Items have `category` (their taste; random for
        one in ten), `season` (null for most) and `released` (seconds since 1970). Three fifths of the words
        of a text belong to the item's taste, the others to all.
        """
        words, common = self._words()
        rng = self._rng(3)
        names = np.array([mine[0] for mine in words])
        main_U = _blurred(self.tastes_UC.argmax(1), 0.2, self.num_tastes, rng)
        category_I = _blurred(self.taste_I, 0.1, self.num_tastes, rng)
        own_IW = words[self.taste_I[:, None], rng.integers(0, words.shape[1], (self.num_items, 12))]
        any_IW = common[rng.integers(0, len(common), (self.num_items, 12))]
        texts_IW = np.where(rng.random((self.num_items, 12)) < 0.6, own_IW, any_IW)
        seasons = pl.Series([*SEASONS, None], dtype=pl.String)
        return Dataset(
            self._log(),
            _ids("user", self.num_users),
            _ids("item", self.num_items),
            user_features=pl.DataFrame({"segment": names[main_U]}),
            item_features=pl.DataFrame(
                {
                    "category": names[category_I],
                    "season": seasons.gather(pl.Series(np.where(self.season_I < 0, len(SEASONS), self.season_I))),
                    "released": np.where(self.cold_I, self._cold_from, START),
                }
            ),
            item_titles=pl.Series("title", [f"{one} {two} {n}".title() for n, (one, two) in enumerate(own_IW[:, :2])]),
            item_texts=pl.Series("text", [" ".join(line) for line in texts_IW]),
            name="generated",
        )

    def probabilities(self, users_B: np.ndarray, times_B: np.ndarray | None = None) -> np.ndarray:
        """Return float64 [B, I]: the probability of each item as user b's next at a time, ignoring previous items.

        Args:
            users_B: user rows.
            times_B: seconds since 1970, one per user; None averages over the whole period.
        """
        tastes_BC = self.tastes_UC[users_B]
        if times_B is None:
            moments = np.linspace(START, START + self.days * DAY, 10_000, endpoint=False).astype(np.int64)
            shares_P = np.bincount(self._periods(moments), minlength=len(self.items_PCI)) / len(moments)
            return tastes_BC @ np.tensordot(shares_P, self.items_PCI, 1)
        periods_B = self._periods(np.asarray(times_B))
        scores_BI = np.empty((len(tastes_BC), self.num_items))
        for period in np.unique(periods_B):
            scores_BI[periods_B == period] = tastes_BC[periods_B == period] @ self.items_PCI[period]
        return scores_BI

    # The truth

    @cached_property
    def tastes_UC(self) -> np.ndarray:
        """float64 [U, C]: theta, each user's taste distribution."""
        return self._rng(0).dirichlet(np.full(self.num_tastes, self.taste_concentration), self.num_users)

    @cached_property
    def _shuffled_I(self) -> np.ndarray:
        return self._rng(1).permutation(self.num_items)

    @cached_property
    def taste_I(self) -> np.ndarray:
        """int64 [I]: each item's taste."""
        taste_I = np.empty(self.num_items, np.int64)
        taste_I[self._shuffled_I] = np.arange(self.num_items) % self.num_tastes
        return taste_I

    @cached_property
    def cold_I(self) -> np.ndarray:
        """bool [I]: whether an item is only released in the last tenth of the time. Each taste has at least one that is not."""
        cold_I = np.zeros(self.num_items, bool)
        cold_I[self._shuffled_I[self.num_tastes :][: round(self.cold_items * self.num_items)]] = True
        return cold_I

    @cached_property
    def season_I(self) -> np.ndarray:
        """int64 [I]: the season an item belongs to, 0 winter to 3 autumn; -1 none."""
        season_I = np.full(self.num_items, -1)
        chosen = self._shuffled_I[::-1][: round(self.seasonal_items * self.num_items)]
        season_I[chosen] = self._rng(2).integers(0, len(SEASONS), len(chosen))
        return season_I

    @cached_property
    def items_PCI(self) -> np.ndarray:
        """float64 [P, C, I]: phi, the probability of each item for a taste in a period: 4 seasons before and 4 after the release of cold items."""
        rank_I = self._rng(4).permutation(self.num_items)
        popularity_I = (1.0 + rank_I) ** -self.popularity_exponent
        own_CI = self.taste_I == np.arange(self.num_tastes)[:, None]
        phi = np.empty((2 * len(SEASONS), self.num_tastes, self.num_items))
        for period in range(len(phi)):
            late, season = divmod(period, len(SEASONS))
            weight_I = popularity_I * np.where(self.season_I == season, self.season_lift, 1.0)
            if not late:
                weight_I = np.where(self.cold_I, 0.0, weight_I)
            mine_CI = own_CI * weight_I
            own = mine_CI / mine_CI.sum(1, keepdims=True)
            phi[period] = self.taste_purity * own + (1 - self.taste_purity) * weight_I / weight_I.sum()
        return phi

    @cached_property
    def _upto_UC(self) -> np.ndarray:
        return _cumulated(self.tastes_UC)

    @cached_property
    def _upto_GI(self) -> np.ndarray:
        return _cumulated(self.items_PCI.reshape(-1, self.num_items))

    # Drawing from it

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream])

    @property
    def _cold_from(self) -> int:
        return START + int(COLD_FROM * self.days * DAY)

    def _periods(self, times: np.ndarray) -> np.ndarray:
        season = ((times - START) / DAY // SEASON_DAYS).astype(np.int64) % len(SEASONS)
        return season + len(SEASONS) * (times >= self._cold_from)

    def _words(self) -> tuple[np.ndarray, np.ndarray]:
        """Return 40 words for each taste [C, 40], and 100 neutral ones."""
        num_words = 40 * self.num_tastes + 100
        base = len(SYLLABLES)
        numbers = self._rng(6).choice(base**3, num_words, replace=False)
        words = np.array([SYLLABLES[n // base**2] + SYLLABLES[n // base % base] + SYLLABLES[n % base] for n in numbers])
        return words[:-100].reshape(self.num_tastes, 40), words[-100:]

    def _log(self) -> Interactions:
        rng = self._rng(5)
        counts_U = self._counts(rng)
        users_N = rng.permutation(np.repeat(np.arange(self.num_users, dtype=np.int32), counts_U))
        times_N = np.sort(rng.integers(START, START + self.days * DAY, self.num_interactions))
        items_N = self._items(users_N, self._periods(times_N), rng)
        return Interactions(users_N, items_N, None, times_N, num_users=self.num_users, num_items=self.num_items)

    def _counts(self, rng: np.random.Generator) -> np.ndarray:
        """Return the number of interactions per user."""
        most = max(LEAST, self.num_items // 5)
        activity_U = rng.lognormal(size=self.num_users)
        counts_U = np.full(self.num_users, LEAST)
        while (left := self.num_interactions - counts_U.sum()) > 0:
            open_U = np.where(counts_U < most, activity_U, 0)
            counts_U = np.minimum(counts_U + rng.multinomial(left, open_U / open_U.sum()), most)
        return counts_U

    def _items(self, users_N: np.ndarray, periods_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return an item for each interaction, none twice for a user: later duplicates are redrawn until there are none.

        So each item is distributed as if drawn in sequence, repeatedly until new, since a rejected item always stays
        with an earlier interaction.
        """
        items_N = self._draw(users_N, periods_N, rng)
        active = np.arange(len(users_N))  # positions of users who may have a repeat
        while True:
            pairs = users_N[active].astype(np.int64) * self.num_items + items_N[active]
            order = np.argsort(pairs)
            pairs = pairs[order]
            begins = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]]))
            repeated = np.ones(len(active), bool)
            repeated[np.minimum.reduceat(order, begins)] = False  # the first of each pair stays
            repeats = active[repeated]
            if not len(repeats):
                return items_N
            items_N[repeats] = self._draw(users_N[repeats], periods_N[repeats], rng)
            changed_U = np.zeros(self.num_users, bool)
            changed_U[users_N[repeats]] = True
            active = active[changed_U[users_N[active]]]

    def _draw(self, users_N: np.ndarray, periods_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return an item for each user and period, ignoring the user's previous items."""
        items_N = np.empty(len(users_N), np.int32)
        for start in range(0, len(users_N), BLOCK):
            block = slice(start, start + BLOCK)
            upto_BC = self._upto_UC[users_N[block]]
            tastes_B = (rng.random((len(upto_BC), 1)) >= upto_BC).sum(1)
            groups_B = periods_N[block] * self.num_tastes + tastes_B
            order = np.argsort(groups_B.astype(np.int16), kind="stable")
            groups, begins = np.unique(groups_B[order], return_index=True)
            drawn = rng.random(len(order))
            for group, part in zip(groups, np.split(order, begins[1:]), strict=True):
                items_N[block][part] = np.searchsorted(self._upto_GI[group], drawn[part], side="right")
        return items_N


def _ids(noun: str, size: int) -> Vocabulary:
    return Vocabulary(pl.select(pl.format(noun[0] + "{}", pl.int_range(size))).to_series(), noun=noun)


def _blurred(values: np.ndarray, share: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return values with a share replaced at random by one of `size`."""
    return np.where(rng.random(len(values)) < share, rng.integers(0, size, len(values)), values)


def _cumulated(probabilities: np.ndarray) -> np.ndarray:
    """Return cumulative sums along the last axis, ending at 1."""
    upto = np.cumsum(probabilities, axis=-1)
    return upto / upto[..., -1:]
