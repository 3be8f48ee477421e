"""New items in a factor model: their vectors follow from their content (Gantner et al. 2010, "Learning Attribute-to-Feature Mappings")."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
from typing_extensions import Self

from recsys_dl.arguments import Count, Counts, NotNegative, Positive, Seed
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.item_content import content_of, content_of_new, only_items
from recsys_dl.data.profiles import Profiles
from recsys_dl.families.based import BasedModel
from recsys_dl.families.content_based import ContentBased, check_factor_model
from recsys_dl.families.content_mapping import ContentMapping, Mapped
from recsys_dl.families.factors import grown, item_parameters, with_item_parameters
from recsys_dl.protocols import Recommender


class Bootstrap(ContentBased, BasedModel):
    """score(u, i) = that of `base`, a factor model, in which the vectors of items without interactions follow from their content.

    A map from item profiles (see `ProfileEncoder`) to the vectors and biases of `base` is learned on the items of training, each weighted by n / (n + 10) for its n users, and gives the vectors of all others that have content.
    Known items keep their vectors, so that what is recommended of them changes only where a new item comes before. New items
    enter by `grow(new)`, without a fit.

    Args:
        base: a model with item vectors of its own: als, bpr, svd, funk_svd, svd_pp or explicit_als.
        mapping: "ridge", linear; its penalty is chosen by the error on items left out. "neighbors": the weighted mean of the vectors of the 20 most
            similar items. "network": a perceptron.
        content_size: dimensions of the content, after truncated SVD of the profiles. None: all terms for the ridge, 256 for the network.
        hidden_sizes: of the network.
        scale: of the vectors made from content; above 1 new items are recommended more often, at the cost of known ones.
        kinds: column of the item features -> kind, see `Content`.
        column_weights: column -> weight, likewise.
        min_count: items that a term must occur in.
        seed: of the SVD and the network.

    Attributes:
        base: the fitted model.
        encoder: of item features.
        mapping_fitted: the fitted map.

    Raises:
        ValueError: an argument out of range, a base without item vectors of its own, a log without item features or texts.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl import Dataset, Interactions, Vocabulary
        >>> from recsys_dl.models import SVD, Bootstrap
        >>> items = pl.DataFrame({"genres": [["War"], ["War"], ["Comedy"], ["Comedy"], ["Comedy"]]})
        >>> log = Interactions([0, 0, 1, 1], [0, 1, 2, 3], num_items=5)
        >>> train = Dataset(log, Vocabulary(["ann", "bob"]), Vocabulary(list("abcde")), item_features=items)
        >>> Bootstrap(SVD(embedding_size=2, seed=7)).fit(train).recommend([1], k=1, exclude=train).items_BK
        array([[4]], dtype=int32)
    """

    fitted = ("content_known_I",)

    def __init__(
        self,
        base: Recommender,
        *,
        mapping: Mapped = "ridge",
        content_size: Count | None = None,
        hidden_sizes: Counts = (256,),
        scale: Positive = 1.0,
        kinds: Mapping[str, str] | None = None,
        column_weights: Mapping[str, NotNegative] | None = None,
        min_count: Count = 2,
        seed: Seed = 7,
    ) -> None:
        check_factor_model(base)
        super().__init__(base)
        self.mapping: Mapped = mapping
        self.content_size = content_size
        self.hidden_sizes = list(hidden_sizes)
        self.scale = scale
        self.min_count = min_count
        self.seed = seed
        self._take_columns(kinds, column_weights)

    def fit(self, train: Dataset | Interactions) -> Self:
        """Fit `base`, then the map from content to its item vectors."""
        self._begin(train)
        content = content_of(train)
        encoder = self._new_encoder().fit(*content)
        profiles = encoder.transform(*content)
        base = type(self.base)(**self.base.arguments()).fit(train)
        known = np.flatnonzero((self.item_counts_I > 0) & profiles.known_R)
        mapping = ContentMapping(self.mapping, self.content_size, self.hidden_sizes, self.seed)
        mapping.fit(profiles.rows(known), item_parameters(base)[known], self.item_counts_I[known])
        self.base, self.encoder, self.mapping_fitted = base, encoder, mapping
        cold = np.flatnonzero(self.item_counts_I == 0)
        self._fill(profiles.rows(cold), cold)
        self.content_known_I = profiles.known_R | (self.item_counts_I > 0)
        return self

    def grow(self, new: Dataset | Interactions) -> Self:
        """Add the users and items of `new` by their content; return self. Their interactions are not learned from: use `fine_tune` of a refit.

        Raises:
            ValueError: features of other columns or types than in training, interactions, or a log without ids.
        """
        new = only_items(new)
        known = self.num_items
        added = self._aligned(new)
        base = grown(self.base, added.num_users, added.num_items)
        base.users, base.items = self.users, self.items
        self.base = base
        self.user_counts_U, self.item_counts_I = base.user_counts_U, base.item_counts_I
        self.num_users, self.num_items = added.num_users, added.num_items
        content = content_of_new(new, self.items, known)
        if content is not None:
            profiles = self.encoder.transform(*content)
            self._fill(profiles, np.arange(known, self.num_items))
            self.content_known_I = np.concatenate([self.content_known_I, profiles.known_R])
        return self

    def with_scale(self, scale: float) -> Self:
        """Return a copy with another `scale`, without a fit: to choose it on validation.

        Raises:
            ValueError: not fitted, or a scale that is not above 0.
        """
        self._check_fitted()
        copied = type(self)(self.base, **(self.arguments() | {"scale": scale}))
        other = copy.copy(self)
        other.scale = copied.scale
        rows = np.flatnonzero(self.item_counts_I == 0)
        made = item_parameters(self.base)[rows] * (other.scale / self.scale)
        other.base = with_item_parameters(self.base, rows, made)
        return other

    # Internal

    def _fill(self, profiles: Profiles, rows: np.ndarray) -> None:
        """Give items, by row, vectors made from their profiles; zeros where nothing is known."""
        made = self.scale * self.mapping_fitted.predict(profiles)
        made[~profiles.known_R] = 0
        self.base = with_item_parameters(self.base, rows, made)
