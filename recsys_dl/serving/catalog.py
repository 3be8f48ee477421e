"""What can be looked up in a run: titles, users, what they liked, a map of the items, and the figures of the run.

I items, U users, S items of the map, D vector size.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.runs import Run

POINTS = 3_000  # of the map
OF_INTERACTIONS = 32  # dimensions of item vectors made of interactions, where no model has any


class Catalog:
    """Look-ups in one run; for several threads.

    Args:
        run: of `recsys-dl train`.
        numbers: whether item ids are written as numbers.

    Attributes:
        counts_I: int64, users who interacted with each item.
    """

    def __init__(self, run: Run, *, numbers: bool) -> None:
        self.run, self.numbers = run, numbers
        self.counts_I = np.bincount(run.seen.items_N, minlength=len(run.items))
        self.attribution = _attribution(run)
        self._lock = threading.Lock()
        self._plane: Plane | None = None
        texts = run.items.ids if run.titles is None else run.titles.fill_null(run.items.ids)
        self._texts = _folded(texts)

    def item(self, row: int) -> dict[str, Any]:
        """Return an item as it is sent."""
        name = self.run.items.ids[row]
        title = None if self.run.titles is None else self.run.titles[row]
        return {"item": int(name) if self.numbers else name, "title": title, "users": int(self.counts_I[row])}

    def titles(self, words: str, limit: int) -> list[dict[str, Any]]:
        """Return items whose title has all of the words, or whose id is the text; the most popular first."""
        found_I = np.ones(len(self._texts), bool)
        for word in _folded(pl.Series([words]))[0].split():
            found_I &= self._texts.str.contains(word, literal=True).to_numpy()
        rows = np.flatnonzero(found_I)
        if len(rows) > limit:
            rows = rows[np.argpartition(-self.counts_I[rows], limit - 1)[:limit]]
        rows = rows[np.lexsort((rows, -self.counts_I[rows]))]
        exact = int(self.run.items.find([words])[0]) if words else -1
        best = [exact, *rows[rows != exact]] if exact >= 0 else rows
        return [self.item(int(row)) for row in best[:limit]]

    def users(self, text: str, limit: int) -> list[dict[str, Any]]:
        """Return users whose id begins with the text, the text itself first, then the most active."""
        ids, counts_U = self.run.users.ids, self.run.seen.user_counts_U
        rows = np.flatnonzero(ids.str.starts_with(text).to_numpy())
        rows = rows[np.lexsort((rows, -counts_U[rows], (ids.gather(rows) != text).to_numpy()))][:limit]
        return [
            {"user": name, "items": int(count)}
            for name, count in zip(ids.gather(rows).to_list(), counts_U[rows], strict=True)
        ]

    def liked(self, user: str, events: Sequence[tuple[str, float]], limit: int) -> list[dict[str, Any]] | None:
        """Return what a user interacted with: feedback from the newest, then training by weight; None for an unknown user.

        Args:
            user: id as text.
            events: items and rewards from feedback, oldest first.
            limit: items, at most.
        """
        row = int(self.run.users.find([user])[0])
        if row < 0 and not events:
            return None
        fresh = dict(reversed(events))
        rows = self.run.items.find(list(fresh)) if fresh else np.zeros(0, np.int64)
        found = [
            self.item(int(one)) | {"weight": reward, "source": "feedback"}
            for one, reward in zip(rows, fresh.values(), strict=True)
            if one >= 0 and reward > 0
        ]
        if row >= 0:
            mine = self.run.seen.by_user[row]
            best = np.argsort(-mine.data, kind="stable")
            best = best[(mine.data[best] > 0) & ~np.isin(mine.indices[best], rows)][:limit]
            found += [
                self.item(int(mine.indices[at])) | {"weight": float(mine.data[at]), "source": "training"} for at in best
            ]
        return found[:limit]

    def figures(self) -> dict[str, Any]:
        """Return the metrics of the run, and what each stage of a pipeline adds."""
        settings = self.run.model.settings() if hasattr(self.run.model, "settings") else {}
        return {
            "metrics": finite(self.run.metrics),
            "attribution": finite(self.attribution),
            "settings": settings,
            "titles": self.run.titles is not None,
            "seed": self.run.manifest.get("seed"),
            "finished": self.run.manifest.get("finished"),
        }

    # The map

    @property
    def plane(self) -> Plane:
        """The items in two dimensions; computed when it is first asked for."""
        with self._lock:
            if self._plane is None:
                self._plane = Plane(self.run)
            return self._plane

    def map(self) -> dict[str, Any]:
        """Return a sample of the items on the map: half of it the most popular, the others at random."""
        plane = self.plane
        there = np.flatnonzero(plane.known_I)
        if len(there) > POINTS:
            by_count = there[np.argsort(-self.counts_I[there], kind="stable")]
            rest = np.random.default_rng(0).choice(by_count[POINTS // 2 :], POINTS - POINTS // 2, replace=False)
            there = np.concatenate([by_count[: POINTS // 2], rest])
        items = [self.item(int(row)) for row in there]
        return {
            "vectors": plane.source,
            "variance": [round(float(one), 4) for one in plane.variance_2],
            "of": int(plane.known_I.sum()),
            "items": [one["item"] for one in items],
            "titles": [one["title"] for one in items],
            "users": [one["users"] for one in items],
            "x": plane.xy_I2[there, 0].round(4).tolist(),
            "y": plane.xy_I2[there, 1].round(4).tolist(),
        }

    def places(self, rows: np.ndarray) -> dict[str, Any]:
        """Return where items are on the map, and the mean direction of their vectors; null for those that have none."""
        plane = self.plane
        points = []
        for row in rows:
            x, y = plane.xy_I2[row].round(4).tolist() if plane.known_I[row] else (None, None)
            points.append(self.item(int(row)) | {"x": x, "y": y})
        known = rows[plane.known_I[rows]]
        center = plane.xy_I2[known].mean(axis=0).round(4).tolist() if len(known) else None
        return {"points": points, "center": None if center is None else {"x": center[0], "y": center[1]}}


class Plane:
    """Item vectors of length 1 on their first two principal components, scaled to [-1, 1].

    Attributes:
        source: whose vectors: a model's, or those of a singular value decomposition of the interactions.
        xy_I2: float64.
        known_I: whether the item has a vector.
        variance_2: share of the variance along each.
    """

    def __init__(self, run: Run) -> None:
        self.source, vectors_ID = _vectors(run)
        norms_I = np.linalg.norm(vectors_ID, axis=1)
        self.known_I = np.isfinite(norms_I) & (norms_I > 0)
        unit_SD = vectors_ID[self.known_I] / norms_I[self.known_I, None]
        unit_SD = unit_SD - unit_SD.mean(axis=0) if len(unit_SD) else unit_SD
        values_D, axes_DD = np.linalg.eigh(unit_SD.T @ unit_SD)
        axes_D2 = np.zeros((len(axes_DD), 2))
        count = min(2, len(axes_DD))
        axes_D2[:, :count] = axes_DD[:, ::-1][:, :count]
        axes_D2 *= np.where(axes_D2.sum(axis=0) < 0, -1.0, 1.0)  # the sign is arbitrary; the same for the same vectors
        total = max(float(values_D.clip(0).sum()), 1e-12)
        self.variance_2 = np.pad(values_D[::-1][:2].clip(0) / total, (0, 2 - count))
        self.xy_I2 = np.full((len(vectors_ID), 2), np.nan)
        xy_S2 = unit_SD @ axes_D2
        self.xy_I2[self.known_I] = xy_S2 / max(float(np.abs(xy_S2).max(initial=0)), 1e-12)


def _vectors(run: Run) -> tuple[str, np.ndarray]:
    """Return item vectors, float64 [I, D], and whose they are."""
    model = run.model
    for name, one in {type(model).__name__: model, **getattr(model, "retrievers", {})}.items():
        found = one.item_vectors() if hasattr(one, "item_vectors") else None
        if found is not None:
            return name, np.asarray(found, np.float64)
    seen_UI = run.seen.by_user
    size = min(OF_INTERACTIONS, min(seen_UI.shape) - 1)
    if size < 1 or not seen_UI.nnz:
        return "interactions", np.zeros((len(run.items), 1))
    from sklearn.decomposition import TruncatedSVD  # here, since a server that does not need it is 127 MB smaller

    svd = TruncatedSVD(size, random_state=0).fit(seen_UI.sign())
    return "interactions", np.asarray(svd.components_.T * svd.singular_values_, np.float64)


def _attribution(run: Run) -> dict[str, Any]:
    """Return what each stage adds, by evaluated part."""
    found = {}
    for file in sorted((run.folder / "attribution").glob("*.json")):
        saved = json.loads(file.read_text())
        stages = [
            {
                "name": one["name"],
                "kind": one["kind"],
                "values": one["evaluation"]["values"],
                "intervals": one["evaluation"]["intervals"],
                "change": one.get("change"),
                "ms": one.get("ms"),
            }
            for one in saved["stages"]
        ]
        found[file.stem] = {"k": saved["k"], "stages": stages}
    return found


def _folded(texts: pl.Series) -> pl.Series:
    """Return texts in lower case without accents."""
    return texts.str.normalize("NFKD").str.replace_all(r"\p{M}", "").str.to_lowercase()


def finite(value: Any) -> Any:
    """Return a value with null in place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
