"""Content-based filtering: items are what their features and texts say, users are what they liked (Pazzani and Billsus 2007)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.arguments import Count, NotNegative, Positive, ShareAboveZero, check_argument
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.item_content import content_of, content_of_new
from recsys_dl.data.profile_encoder import ProfileEncoder
from recsys_dl.data.profiles import Profiles
from recsys_dl.data.requests import item_table
from recsys_dl.families.based import beginning
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.families.preferences import preferences
from recsys_dl.families.reasons import Reason, reasons_of, telling
from recsys_dl.kernels.comparison import Vectors
from recsys_dl.kernels.neighbors import sparse_product
from recsys_dl.protocols import Served, Users, UserState

State = tuple[sp.csr_matrix, np.ndarray]


class Content(CatalogModel):
    """score(u, i) = <profile of user u, profile of item i>, both of length 1: the cosine of what u likes and what i is.

    An item's profile holds its terms: words of texts and titles, categories, tags, periods of numbers, and given vectors
    (see `ProfileEncoder`). A user's is Rocchio's (1971): the mean profile of the liked items, minus `dislikes` times that of the disliked.
    For ratings, an item is liked from the user's own mean rating on, which is drawn toward the mean of all by five
    ratings; it counts by its rating, a disliked one by how far it is below. Other weights count as they are; so does the history of a
    new user whose weights are all 1, as of one without ratings.

    Items that nobody interacted with are scored like all others. A user without a liked item of known content gets the most
    popular items; `fold_in(tastes=…)` needs no item at all.

    Args:
        kinds: column of the item features -> kind, where inference from its type is not enough; "titles" and "texts" are columns too.
        column_weights: column -> its weight in the similarity of two items; 1 unless given, 0 leaves it out.
        min_count: items that a term must occur in.
        max_share: of the items; words of texts in more are dropped.
        max_words: of a text column, the most frequent.
        ngrams: longest sequence of words that makes a term.
        stop_words: a list, or "english" for scikit-learn's; None drops none.
        dislikes: weight of disliked items; 0 ignores them.
        half_life_days: an interaction counts half after as many days, counted back from the user's last; None: all alike.

    Attributes:
        encoder: of item features.
        terms_IT: CSR float32, item profiles.
        dense_IE: float32, given vectors, or [I, 0].
        liked_UI: CSR float32, each user's weight of an item in the profile, negative where disliked.

    Raises:
        ValueError: an argument out of range; a log without item features or texts.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl import Dataset, Interactions, Vocabulary
        >>> from recsys_dl.models import Content
        >>> items = pl.DataFrame({"genres": [["War"], ["War", "Drama"], ["Comedy"], ["Comedy", "Drama"]]})
        >>> log = Interactions([0, 1], [0, 2], num_items=4)
        >>> train = Dataset(log, Vocabulary(["ann", "bob"]), Vocabulary(["a", "b", "c", "d"]), item_features=items)
        >>> model = Content(min_count=1).fit(train)
        >>> model.recommend([0, 1], k=1, exclude=train).items_BK.tolist()
        [[1], [3]]
        >>> model.recommend(model.fold_in(tastes=["comedy"]), k=2).items_BK.tolist()
        [[2, 3]]
    """

    fitted = ("terms_IT", "dense_IE", "liked_UI", "mean")
    needs_content: ClassVar[bool] = True
    encoder: ProfileEncoder
    terms_IT: sp.csr_matrix
    dense_IE: np.ndarray
    liked_UI: sp.csr_matrix
    mean: np.ndarray

    def __init__(
        self,
        *,
        kinds: Mapping[str, str] | None = None,
        column_weights: Mapping[str, NotNegative] | None = None,
        min_count: Count = 2,
        max_share: ShareAboveZero = 0.5,
        max_words: Count = 20_000,
        ngrams: Count = 2,
        stop_words: Sequence[str] | str | None = None,
        dislikes: NotNegative = 0.5,
        half_life_days: Positive | None = None,
    ) -> None:
        self.kinds = dict(kinds or {})
        self.column_weights = dict(column_weights or {})
        self.min_count = min_count
        self.max_share = max_share
        self.max_words = max_words
        self.ngrams = ngrams
        self.stop_words = stop_words if isinstance(stop_words, str) or stop_words is None else list(stop_words)
        self.dislikes = dislikes
        self.half_life_days = half_life_days
        self._new_encoder()

    def fit(self, train: Dataset | Interactions) -> Self:
        """Learn the terms, and weigh each user's items."""
        interactions = self._begin(train)
        about = content_of(train)
        ratings = isinstance(train, Dataset) and train.weight_kind == "ratings"
        self.mean = np.array(interactions.weights_N.mean(dtype=np.float64) if ratings else 0.0, np.float32)
        self.encoder = self._new_encoder().fit(*about)
        self._know(self.encoder.transform(*about))
        self.liked_UI = self._liked(interactions)
        return self

    def grow(self, new: Dataset | Interactions) -> Self:
        """Add the users and items of `new` with their features, and what the users liked; terms stay those of `fit`.

        Raises:
            ValueError: features of other columns or types than in training, or a log without ids.
        """
        known = self.num_items
        added = self._aligned(new)
        more = self._more(new, known)
        liked_UI = self.liked_UI.copy()
        liked_UI.resize((added.num_users, added.num_items))
        counts_UI = added.by_user
        self.user_counts_U = np.pad(self.user_counts_U, (0, added.num_users - self.num_users)) + added.user_counts_U
        self.item_counts_I = np.pad(self.item_counts_I, (0, added.num_items - known)) + added.item_counts_I
        self.num_users, self.num_items = counts_UI.shape
        self.liked_UI = (liked_UI + self._liked(added)).tocsr()
        mine = self._profiles()
        terms_IT = sp.vstack([mine.terms_RT, more.terms_RT], format="csr")
        self._know(Profiles(terms_IT, np.concatenate([mine.dense_RE, more.dense_RE])))
        return self

    def fold_in(
        self,
        histories: Dataset | Interactions | Sequence[Sequence[int]] | None = None,
        *,
        tastes: Sequence[str] | Mapping[str, float] | None = None,
    ) -> UserState:
        """Return the state of new users, from histories as in `CatalogModel.fold_in`, or of one from stated tastes.

        Args:
            histories: of new users; with tastes, of one, whose history and tastes count alike.
            tastes: terms, such as ["heist", "1970s", "genres=Comedy"]; those of fewer items weigh more, ln(items / items with it). A mapping,
                such as {"heist": 3, "1970s": 1}, gives each a weight above 0 by which that is multiplied.

        Raises:
            ValueError: neither is given, an item row that was not in training, a taste that is no term (names the nearest), or a weight that is not
                above 0.
        """
        self._check_fitted()
        if histories is None and tastes is None:
            raise ValueError('fold_in needs histories, or tastes such as ["heist", "1970s"], got neither')
        state = super().fold_in([[]] if histories is None else histories)
        if tastes is None:
            return state
        if len(state) != 1:
            raise ValueError(f"tastes are of one user, got histories of {len(state)}")
        terms = self.encoder.tastes(tastes).multiply(telling(self._profiles())[None]).tocsr()
        stated = Profiles(terms, np.zeros((1, self.dense_IE.shape[1]), np.float32)).unit()
        both = Profiles(state.values[0] + stated.terms_RT, state.values[1] + stated.dense_RE).unit()
        return UserState((both.terms_RT, both.dense_RE), state.histories, self)

    def reasons(
        self, users: Users, items_BK: np.ndarray | Sequence[Sequence[int]], *, num_terms: Count = 3
    ) -> list[list[Reason | None]]:
        """Return why each item is recommended: the liked item that contributes most, and the terms that both share.

        None at padding, and where nothing in the profile speaks for the item.

        Args:
            users: user rows [B], or the state that `fold_in` returned.
            items_BK: item rows, one row of them for each user, padded with -1: `items_BK` of a ranking.
            num_terms: at most.

        Raises:
            ValueError: a user or item row out of range, not one row of items per user, or num_terms below 1.
        """
        num_terms = check_argument("num_terms", num_terms, Count)
        rows, (terms_BT, _), _ = self._resolved(users)
        items_BK = item_table(items_BK, len(rows))
        self._check_items(items_BK, lowest=-1)
        liked_BI = self._liked(users.histories, new=True) if isinstance(users, UserState) else self.liked_UI[rows]
        return reasons_of(self._profiles(), self.encoder.terms, terms_BT, liked_BI, items_BK, num_terms)

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state, including the encoder."""
        return super().arrays() | {f"encoder_{name}": array for name, array in self.encoder.arrays().items()}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the fitted state that `arrays` returned, in place of `fit`."""
        super().restore(arrays)
        self.encoder = ProfileEncoder.from_arrays(beginning("encoder_", arrays))
        self._know(self._profiles())

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`."""
        from recsys_dl.families.served_content import content

        return content(self, seen)

    # Internal

    def _new_encoder(self) -> ProfileEncoder:
        names = ("kinds", "column_weights", "min_count", "max_share", "max_words", "ngrams", "stop_words")
        return ProfileEncoder(**{name: getattr(self, name) for name in names})

    def _profiles(self) -> Profiles:
        return Profiles(self.terms_IT, self.dense_IE)

    def _know(self, profiles: Profiles) -> None:
        self.terms_IT, self.dense_IE = profiles.terms_RT, profiles.dense_RE
        by_term = self.terms_IT.T.tocsr()
        by_term.sort_indices()
        self._by_term = _vectors(by_term)

    def _more(self, new: Dataset | Interactions, known: int) -> Profiles:
        """Return the profiles of the items that follow the first `known`."""
        content = content_of_new(new, self.items, known)
        if content is not None:
            return self.encoder.transform(*content)
        blank = sp.csr_matrix((self.num_items - known, self.terms_IT.shape[1]), dtype=np.float32)
        return Profiles(blank, np.zeros((blank.shape[0], self.dense_IE.shape[1]), np.float32))

    def user_sources(self, users: Users) -> np.ndarray:
        """Return text [B], what the answer to each user rests on: "history", stated "tastes" or "popularity"."""
        sources_B = super().user_sources(users)
        return np.where(sources_B == "no history", "tastes", sources_B)

    def item_sources(self) -> np.ndarray:
        """Return text [I], what the scores of each item rest on: "features", or "nothing" where none is known."""
        self._check_fitted()
        return np.where(self._profiles().known_R, "features", "nothing")

    def _liked(self, histories: Interactions, *, new: bool = False) -> sp.csr_matrix:
        return preferences(histories, float(self.mean), self.dislikes, self.half_life_days, new=new)

    def _values(self, users_B: np.ndarray) -> State:
        return self._wanted(self.liked_UI[users_B])

    def _fold(self, histories: Interactions) -> State:
        return self._wanted(self._liked(histories, new=True))

    def _wanted(self, liked_BI: sp.csr_matrix) -> State:
        """Return profiles of users; those who liked nothing known have none."""
        unlike_B = np.asarray((liked_BI > 0).sum(axis=1)).ravel() == 0
        wanted = self._profiles().times(sp.diags((~unlike_B).astype(np.float32)) @ liked_BI).unit()
        return wanted.terms_RT, wanted.dense_RE

    def _resolved(self, users: Users) -> tuple[np.ndarray, Any, np.ndarray]:
        rows, values, _ = super()._resolved(users)
        return rows, values, ~Profiles(*values).known_R

    def _scores(self, values: State) -> np.ndarray:
        scores_BI = sparse_product(_vectors(values[0]), self._by_term, device="cpu")
        return scores_BI + values[1] @ self.dense_IE.T if self.dense_IE.shape[1] else scores_BI

    def _known_items(self) -> np.ndarray:
        return self._profiles().known_R

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        some = self._profiles().rows(items_B)
        scores_BI = self._scores((some.terms_RT, some.dense_RE))
        scores_BI[scores_BI <= 0] = -np.inf
        return scores_BI


def _vectors(matrix: sp.csr_matrix) -> Vectors:
    return Vectors(matrix.indptr, matrix.indices, matrix.data, matrix.shape[1])
