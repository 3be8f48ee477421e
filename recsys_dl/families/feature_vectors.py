"""What models of vectors with features share: encoders, scores that are inner products, users and items known by features alone.

B batch, U users, I items, L candidates, K list, D embedding size.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import polars as pl

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.features import FeatureEncoder, Features
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.messages import shorten
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.pair_dots import pair_dots
from recsys_dl.kernels.topk import top_k_dot
from recsys_dl.protocols import Users

from .asked_features import check_features
from .based import beginning
from .factors import cosines
from .known_items import KnownItems

log = logging.getLogger(__name__)

UsedFeatures = Literal["all", "items", "users", "none"]
RARE = 0.1  # share of training items, the rarest, whose mean vector is used for items without any information


class FeatureVectors(KnownItems):
    """A model whose scores are inner products of users' and items' vectors, both of which may come from features alone.

    A user with neither interactions nor features gets the most popular items. An item without any information scores
    -inf, so that it is never recommended; its vector is the mean of those of the rarest tenth of the training items.

    Attributes:
        user_emb_UD: float32, vectors of the training users.
        item_emb_ID: float32, vectors of all items; the products of both are the scores.
        item_encoder, user_encoder: encoders of features; None if not used.
        item_side, user_side: encoded features, likewise.
    """

    features: UsedFeatures
    item_kinds: Mapping[str, Any]
    user_kinds: Mapping[str, Any]
    min_count: int
    text_size: int
    seed: int
    user_emb_UD: np.ndarray
    item_emb_ID: np.ndarray
    item_side: Features | None
    user_side: Features | None
    item_encoder: FeatureEncoder | None
    user_encoder: FeatureEncoder | None

    def _begin(self, train: Dataset | Interactions) -> Interactions:
        log = super()._begin(train)
        check_features(self, train)
        self.item_encoder = self.user_encoder = self.item_side = self.user_side = None
        if isinstance(train, Dataset):
            texts = train.item_texts
            if self.features in ("all", "items") and not (train.item_features is None and texts is None):
                self.item_encoder = self._encoder("item", self.item_kinds).fit(
                    train.item_features, texts, ids=train.items.ids
                )
                self.item_side = self.item_encoder.transform(train.item_features, texts)
            if self.features in ("all", "users") and train.user_features is not None:
                self.user_encoder = self._encoder("user", self.user_kinds).fit(train.user_features, ids=train.users.ids)
                self.user_side = self.user_encoder.transform(train.user_features)
        return log

    def _encoder(self, noun: str, kinds: Mapping[str, Any]) -> FeatureEncoder:
        return FeatureEncoder(
            kinds=kinds, min_count=self.min_count, text_size=self.text_size, seed=self.seed, noun=noun
        )

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state, including encoded features and their encoders."""
        arrays = super().arrays()
        for noun in ("item", "user"):
            encoder, side = getattr(self, f"{noun}_encoder"), getattr(self, f"{noun}_side")
            if encoder is not None:
                arrays |= {f"{noun}_encoder_{name}": array for name, array in encoder.arrays().items()}
                arrays |= {f"{noun}_side_{name}": array for name, array in vars(side).items()}
        return arrays

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the fitted state that `arrays` returned, in place of `fit`."""
        for noun in ("item", "user"):
            encoder = beginning(f"{noun}_encoder_", arrays)
            setattr(self, f"{noun}_encoder", FeatureEncoder.from_arrays(encoder) if encoder else None)
            setattr(self, f"{noun}_side", Features(**beginning(f"{noun}_side_", arrays)) if encoder else None)
        super().restore(arrays)

    def _take_in_features(self, new: Dataset | Interactions, known: dict[str, int]) -> None:
        """Encode the features of new users and items; `known`: the previous number of each "user" and "item"."""
        for noun in ("item", "user"):
            encoder, side = getattr(self, f"{noun}_encoder"), getattr(self, f"{noun}_side")
            if encoder is not None and isinstance(new, Dataset):
                ids = getattr(self, f"{noun}s").ids[known[noun] :]
                setattr(self, f"{noun}_side", grown_features(side, encoder, new, ids))

    def _known_items(self) -> np.ndarray:
        """Return bool [I]: items with any information."""
        met_I = self.item_counts_I > 0
        return met_I if self.item_side is None else met_I | self.item_side.known_R

    def _fill_unknown_items(self) -> None:
        """Give items without any information the mean vector of rare ones."""
        known_I = self._known_items()
        if not known_I.all():
            self.item_emb_ID[~known_I] = self.item_emb_ID[self._rare_items()].mean(axis=0)

    def _rare_items(self) -> np.ndarray:
        """Return the rarest tenth of the training items."""
        met = np.flatnonzero(self.item_counts_I)
        return met[np.argsort(self.item_counts_I[met], kind="stable")[: max(1, round(RARE * len(met)))]]

    def user_sources(self, users: Users) -> np.ndarray:
        """Return text [B], what the answer to each user rests on: "history", "features" or "popularity"."""
        sources_B = super().user_sources(users)
        return np.where(sources_B == "no history", "features", sources_B)

    def item_sources(self) -> np.ndarray:
        """Return text [I], what the scores of each item rest on: "interactions", "features" or "nothing"."""
        sources_I = super().item_sources()
        return np.where((sources_I == "nothing") & self._known_items(), "features", sources_I)

    def item_vectors(self) -> np.ndarray:
        """Return `item_emb_ID`."""
        self._check_fitted()
        return self.item_emb_ID

    def _values(self, users_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        spoken_B = self.user_counts_U[users_B] > 0
        if self.user_side is not None:
            spoken_B = spoken_B | self.user_side.known_R[users_B]
        return self.user_emb_UD[users_B], spoken_B

    def _resolved(self, users: Users) -> tuple[np.ndarray, Any, np.ndarray]:
        rows, values, blank_B = super()._resolved(users)
        return rows, values, blank_B & ~values[1]

    def _queries(self, values: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return values[0]

    def _scores(self, values: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        scores_BI = values[0] @ self.item_emb_ID.T
        bias_I = self._unlisted_bias()
        return scores_BI if bias_I is None else scores_BI + bias_I

    def _pair_scores(self, values: tuple[np.ndarray, np.ndarray], items_BL: np.ndarray) -> np.ndarray:
        scores_BL = pair_dots(values[0], self.item_emb_ID, items_BL)
        bias_I = self._unlisted_bias()
        return scores_BL if bias_I is None else scores_BL + bias_I[items_BL]

    def _top_k(
        self, values: tuple[np.ndarray, np.ndarray], k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        bias_I = self._unlisted_bias()
        return top_k_dot(
            values[0], self.item_emb_ID, k, item_bias_I=bias_I, exclude=exclude, allow=allow, device=self.device
        )

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        """Cosine of the vectors; -inf where either has no information."""
        return cosines(self.item_emb_ID, items_B, self._known_items())


def grown_features(side: Features, encoder: FeatureEncoder, new: Dataset, ids: pl.Series) -> Features:
    """Return features of known rows, followed by those of new ids, which `new` has.

    Raises:
        ValueError: a column is missing or its type differs from training.
    """
    if not len(ids):
        return side
    of_users = encoder.noun == "user"
    frame, texts = (new.user_features, None) if of_users else (new.item_features, new.item_texts)
    rows = (new.users if of_users else new.items).rows(ids)
    frame, texts = None if frame is None else frame[rows], None if texts is None else texts.gather(rows)
    more = encoder.transform(frame, texts, ids=ids)
    if not more.known_R.all():
        blank = ids.filter(pl.Series(~more.known_R))
        log.warning(
            "%s new %s without features, such as %r: %s",
            f"{len(blank):,}",
            encoder.noun if len(blank) == 1 else f"{encoder.noun}s",
            shorten(str(blank[0])),
            "the most popular items are recommended until there is a history (fold_in, fine_tune)"
            if of_users
            else "nothing is known to rank them by, so they are never recommended. Give them features, or interactions by "
            "fine_tune; ItemKNN serves items without features from the first interactions on",
        )
    width = max(side.codes_RM.shape[1], more.codes_RM.shape[1])
    both = (side, more)
    padded = {
        name: np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])
        for name, parts in (("codes_RM", [s.codes_RM for s in both]), ("weights_RM", [s.weights_RM for s in both]))
    }
    return Features(
        **padded,
        dense_RF=np.concatenate([one.dense_RF for one in both]),
        known_R=np.concatenate([one.known_R for one in both]),
    )
