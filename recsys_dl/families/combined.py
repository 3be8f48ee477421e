"""The base of a model made of other models: its parts are checked, fitted, asked for scores of the whole catalog, saved and loaded.

B users, I items, P parts.

config.yaml       class, arguments, names of the parts
arrays.npz        counts and the model's own arrays      users.parquet, items.parquet   the vocabularies
parts/NAME        each in its own format
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Self

from recsys_dl.data.dataset import Dataset, as_interactions, check_numbering
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.item_content import only_items
from recsys_dl.data.messages import shorten
from recsys_dl.data.vocabulary import load_vocabularies, save_vocabularies
from recsys_dl.fitted_on import fitted_otherwise
from recsys_dl.learning import fit_takes
from recsys_dl.progress import SIGN
from recsys_dl.protocols import Recommender, Users, UserState
from recsys_dl.saving import load_arrays, load_saved, save_arrays
from recsys_dl.wider import WiderCatalog, with_new_items

from .catalog import CatalogModel
from .evidence import num_influential

log = logging.getLogger(__name__)

METHODS = ("fit", "recommend", "score", "similar_items", "fold_in", "save")


@dataclasses.dataclass(frozen=True)
class Folded:
    """New users by their histories, of which each part makes its own state when it is asked."""

    histories: Interactions

    @property
    def shape(self) -> tuple[int]:
        """The number of users, as of an array."""
        return (self.histories.num_users,)

    def __getitem__(self, block: slice) -> Folded:
        return self.of(np.arange(self.histories.num_users)[block])

    def of(self, rows: np.ndarray) -> Folded:
        """Return some of the users."""
        return Folded(self.histories.of_users(rows))


class CombinedModel(CatalogModel):
    """A model whose scores are made from those of its parts.

    A subclass passes `parts` to `_set_parts`, lists its own fitted arrays in `fitted`, and implements `_scores`.

    Attributes:
        parts: by name; fitted once the model is.
    """

    parts: dict[str, Any]
    _know_PI: np.ndarray | None = None

    def _set_parts(self, parts: Mapping[str, Any]) -> None:
        """Check and keep the parts.

        Raises:
            ValueError: none; a name that cannot be a folder's; an object that is not a recommender; one object twice.
        """
        name = type(self).__name__
        such_as = f"{name}(parts={{'als': ALS(), 'item_knn': ItemKNN()}})"
        if not isinstance(parts, Mapping):
            raise ValueError(f"parts must be a mapping from names to models, such as {such_as}, got {parts!r:.80}")
        if not parts:
            raise ValueError(
                f"parts must name at least one model, such as {such_as}, got none; on the command line, +model@model.parts.als=als"
            )
        for key, part in parts.items():
            if not isinstance(key, str) or not key.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"names of parts must be letters, digits, _ and -, got {shorten(repr(key))}")
            if isinstance(part, type) or not all(callable(getattr(part, method, None)) for method in METHODS):
                raise ValueError(
                    f"parts must be models, with {', '.join(METHODS)}, got {shorten(repr(part))} as {shorten(key)!r}"
                )
        twice = [key for key, part in parts.items() if sum(part is other for other in parts.values()) > 1]
        if twice:
            raise ValueError(f"parts must be different objects, but {' and '.join(twice[:2])} are the same one")
        self.parts = dict(parts)

    def __repr__(self) -> str:
        return super().__repr__().replace("(", f"({' + '.join(self.parts)}, ", 1)

    # Fitting

    def _fitted_parts(
        self, train: Dataset | Interactions, *, validation: Any = None, trainer: Any = None, when: str = ""
    ) -> dict[str, Any]:
        """Return copies of the parts, fitted; those given stay as they are."""
        if trainer is not None and getattr(trainer, "world_size", 1) > 1:
            raise ValueError(
                f"{type(self).__name__} trains in one process, got a trainer of {trainer.world_size}; set "
                "trainer.processes=1 and trainer.num_nodes=1"
            )
        fitted = {}
        for name, given in self.parts.items():
            start, part, more = time.perf_counter(), copy.deepcopy(given), {}
            if trainer is not None and fit_takes(part, "trainer"):
                checkpoint = getattr(trainer, "checkpoint", None)
                if checkpoint is not None:
                    more["trainer"] = dataclasses.replace(trainer, checkpoint=str(Path(checkpoint) / name / when))
                else:
                    more["trainer"] = trainer
            if validation is not None and fit_takes(part, "validation"):
                more["validation"] = validation
            try:
                part.fit(train, **more)
            except ValueError as error:
                raise ValueError(f"the part {name} could not be fitted: {error}") from error
            log.info("%s fitted on %d interactions: %.1f s", name, len(train), time.perf_counter() - start, extra=SIGN)
            fitted[name] = part
        return fitted

    def _check_parts(self, train: Dataset | Interactions) -> None:
        """Check that every part was fitted, on the users and items of `train`.

        Raises:
            ValueError: a part that was not fitted, or on other users or items.
        """
        size = as_interactions(train)
        for name, part in self.parts.items():
            sizes = [getattr(part, f"num_{noun}", None) for noun in ("users", "items")]
            if None in sizes:
                raise ValueError(f"the part {name} has not been fitted; fit it first, or all parts at once: fit(train)")
            if sizes != [size.num_users, size.num_items]:
                raise ValueError(
                    f"all parts must be fitted on one log, here of {size.num_users:,} users and {size.num_items:,} items, but "
                    f"the part {name} was fitted on {sizes[0]:,} and {sizes[1]:,}"
                )
            try:
                check_numbering(train, getattr(part, "users", None), getattr(part, "items", None))
            except ValueError as error:
                raise ValueError(f"the part {name} was fitted on another log: {error}") from error

    def _check_unseen(self, train: Dataset | Interactions, validation: Dataset | Interactions | None) -> None:
        """Warn of parts that were fitted on other interactions than `train`.

        Raises:
            ValueError: one was fitted on `validation` too, as far as its counts tell.
        """
        known = as_interactions(train)
        asked = None if validation is None else as_interactions(validation)
        if asked is not None and (asked.num_users, asked.num_items) != (known.num_users, known.num_items):
            return  # said where they are compared
        for name, part in self.parts.items():
            for one in fitted_otherwise(part, known, f"the part {name} ({type(part).__name__})"):
                if asked is not None and one.may_know(asked, known):
                    raise ValueError(
                        f"weights are tuned on interactions that the parts have not seen, but {one.words()}, and has as many more of every user and item as "
                        f"validation: fit it on train, or give the weights: weights={dict.fromkeys(self.parts, 1)}"
                    )
                log.warning(
                    "%s: combine() takes the log that all parts were fitted on; what one has seen of validation or test makes figures too high",
                    one.words(),
                )

    def _adopt(self, parts: dict[str, Any]) -> None:
        self.parts = parts
        self._know_PI = None

    def grow(self, new: Dataset | Interactions) -> Self:
        """Add the items of `new` by their content; return self. On an error all is as it was.

        Parts that score items by content grow by them; the others never recommend them (`wider.WiderCatalog`).

        Raises:
            ValueError: interactions, features of other columns or types than in training, or no ids.
        """
        new = only_items(new)
        grown = copy.copy(self)
        num_items = grown._aligned(new).num_items
        grown.item_counts_I = np.pad(self.item_counts_I, (0, num_items - self.num_items))
        grown.num_items = num_items
        grown._adopt({name: with_new_items(part, new, num_items, grown.items) for name, part in self.parts.items()})
        self.__dict__ = vars(grown)
        return self

    # Asking

    def _values(self, users_B: np.ndarray) -> np.ndarray:
        return users_B

    def _fold(self, histories: Interactions) -> Folded:
        return Folded(histories)

    def _counts(self, values: np.ndarray | Folded) -> np.ndarray:
        """Return int64 [B], the known interactions of each user."""
        if isinstance(values, Folded):
            return num_influential(values.histories, self._influential_items())
        return self.user_counts_U[values]

    def _part_scores(self, values: np.ndarray | Folded) -> tuple[np.ndarray, np.ndarray]:
        """Return float32 [P, B, I], the parts' scores of every item, and bool [P, B, I], whether they know the item."""
        scores_PBI = np.empty((len(self.parts), values.shape[0], self.num_items), np.float32)
        for part, scores_BI in zip(self.parts.values(), scores_PBI, strict=True):
            scores_BI[:] = _scores_of(part, _asked(part, values), self.num_items)
        knows_PBI = self._know_items()[:, None] & np.isfinite(scores_PBI)
        knows_PBI &= self._know_users(values)[:, :, None]
        return scores_PBI, knows_PBI

    def _know_items(self) -> np.ndarray:
        """Return bool [P, I], the items whose scores by each part mean something; computed once."""
        if self._know_PI is None:
            every_I = np.full(self.num_items, "")
            sources = [
                part.item_sources() if hasattr(part, "item_sources") else every_I for part in self.parts.values()
            ]
            self._know_PI = np.array(sources) != "nothing"
        return self._know_PI

    def _known_items(self) -> np.ndarray:
        return np.any(self._know_items(), axis=0)

    def _influential_items(self) -> np.ndarray:
        said = [_influential(part, self.num_items) for part in self.parts.values()]
        return np.any([one_I for one_I in said if one_I is not None] or [self._known_items()], axis=0)

    def _know_users(self, values: np.ndarray | Folded) -> np.ndarray:
        """Return bool [P, B]: False for a user without interactions to whom the part gives popular items, unless all parts do."""
        known_PB = np.ones((len(self.parts), values.shape[0]), bool)
        rows = np.flatnonzero(self._counts(values) == 0)
        if len(rows):
            known_PB[:, rows] = self._know_blank(values, rows)
            known_PB |= ~known_PB.any(axis=0)
        return known_PB

    def _know_blank(self, values: np.ndarray | Folded, rows: np.ndarray) -> np.ndarray:
        """Return bool [P, B], which parts have scores of their own for some users, who have no interactions."""
        some = values.of(rows) if isinstance(values, Folded) else values[rows]
        known_PB = np.zeros((len(self.parts), len(rows)), bool)
        for at, part in enumerate(self.parts.values()):
            if hasattr(part, "user_sources"):
                known_PB[at] = part.user_sources(_asked(part, some)) != "popularity"
        return known_PB

    def _resolved(self, users: Users) -> tuple[np.ndarray, Any, np.ndarray]:
        rows, values, blank_B = super()._resolved(users)
        if blank_B.any():
            blank_B = blank_B.copy()
            some = np.flatnonzero(blank_B)
            blank_B[some] = ~self._know_blank(values, some).any(axis=0)
        return rows, values, blank_B

    def _part_reasons(self, values: np.ndarray | Folded, items_BL: np.ndarray) -> dict[str, list[list[Any]]]:
        """Return by part its reasons for items, of the parts that have some: `Content.reasons`."""
        return {
            name: part.reasons(_asked(part, values), items_BL)
            for name, part in self.parts.items()
            if callable(getattr(part, "reasons", None))
        }

    def user_sources(self, users: Users) -> np.ndarray:
        """Return text [B], what the answer to each user rests on: "history"; without one, the parts that answer, or "popularity"."""
        _, values, blank_B = self._resolved(users)
        counts_B = self._counts(values)
        names_B = self._named(self._know_users(values))
        return np.where(counts_B > 0, "history", np.where(blank_B, "popularity", names_B))

    def item_sources(self) -> np.ndarray:
        """Return text [I], the parts that know each item, joined by " + "; "nothing" if none does."""
        self._check_fitted()
        names_I = self._named(self._know_items())
        return np.where(names_I == "", "nothing", names_I)

    def _named(self, uses: np.ndarray) -> np.ndarray:
        """Return the names of the parts that are used, bool [P, ...], joined by " + "."""
        codes = np.tensordot(1 << np.arange(len(self.parts)), uses, 1)
        names = np.empty(codes.shape, object)
        for code in np.unique(codes):
            used = [name for at, name in enumerate(self.parts) if code >> at & 1]
            names[codes == code] = " + ".join(used)
        return names

    def _similarities(self, name: str, items_B: np.ndarray) -> np.ndarray:
        """Return float32 [B, I], a part's similarity of every item to each of `items_B`; -inf where unrelated."""
        part = self.parts[name]
        if hasattr(part, "_item_scores"):
            return part._item_scores(items_B)
        near = part.similar_items(items_B, self.num_items)
        scores_BI = np.full((len(items_B), self.num_items), -np.inf, np.float32)
        b, at = (near.items_BK >= 0).nonzero()
        scores_BI[b, near.items_BK[b, at]] = near.scores_BK[b, at]
        return scores_BI

    # Keeping

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments but the parts, which save themselves."""
        return {name: value for name, value in super().arguments().items() if name != "parts"}

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state: the model's own, and that of the parts by part and array name."""
        parts = {f"{name}.{key}": array for name, part in self.parts.items() for key, array in part.arrays().items()}
        return {**super().arrays(), **parts}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the state that `arrays` returned, in place of fitting; parts without arrays there keep theirs."""
        super().restore(arrays)
        for name, part in self.parts.items():
            mine = {key.partition(".")[2]: one for key, one in arrays.items() if key.startswith(f"{name}.")}
            if mine:
                part.restore(mine)

    def _write(self, folder: Path) -> dict[str, Any]:
        for name, part in self.parts.items():
            part.save(folder / "parts" / name)
        save_vocabularies(folder, self.users, self.items)
        save_arrays(folder / "arrays.npz", super().arrays())
        return {"parts": list(self.parts)}

    @classmethod
    def _read(cls, folder: Path, config: dict[str, Any]) -> Self:
        parts = {name: load_saved(folder / "parts" / name, Recommender, noun="model") for name in config["parts"]}
        model = cls(parts=parts, **config["arguments"])  # type: ignore[call-arg]
        model.users, model.items = load_vocabularies(folder, config["sha256"])
        CatalogModel.restore(model, load_arrays(folder / "arrays.npz"))
        try:
            model._check_parts(Interactions([], [], num_users=model.num_users, num_items=model.num_items))
        except ValueError as error:
            raise ValueError(f"{folder} is damaged: {error}") from error
        return model


def _asked(part: Any, values: np.ndarray | Folded) -> Users:
    """Return users as a part takes them."""
    if not isinstance(values, Folded):
        return values
    if isinstance(part, WiderCatalog):
        return UserState(_asked(part.inner, Folded(part.narrowed(values.histories))), values.histories, part)
    model = getattr(part, "model", part)  # of what serves a model, that
    if isinstance(model, CatalogModel):
        return UserState(model._fold(values.histories), values.histories, model)
    return part.fold_in(values.histories)


def _influential(part: Any, num_items: int) -> np.ndarray | None:
    """Return bool [I], items whose presence in a history changes a part's scores; None if it does not say."""
    if isinstance(part, WiderCatalog):
        inner_I = _influential(part.inner, int(part.inner.num_items))
        return None if inner_I is None else np.pad(inner_I, (0, num_items - len(inner_I)))
    model = getattr(part, "model", part)
    return model._influential_items() if isinstance(model, CatalogModel) else None


def _scores_of(part: Any, users: Users, num_items: int) -> np.ndarray:
    """Return float32 [B, I], a recommender's scores of every item; -inf where its catalog ends before."""
    if isinstance(part, WiderCatalog):
        known = int(part.inner.num_items)
        inner_BI = _scores_of(part.inner, part._asked(users), known)
        return np.pad(inner_BI, ((0, 0), (0, num_items - known)), constant_values=-np.inf)
    model = getattr(part, "model", part)  # of what serves a model, that
    if isinstance(model, CatalogModel):
        _, values, blank_B = model._resolved(users)
        scores_BI = model._scores(values)
        if model.popularity_fallback and blank_B.any():
            scores_BI[blank_B] = model._popularity()
        return scores_BI
    return part.score(users, np.tile(np.arange(num_items), (len(users), 1)))
