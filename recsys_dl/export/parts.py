"""The input of every format (a served model, ids, interactions), and tensor descriptions.

B batch, H length of a history, E of a list of exclusions, I items, K list, S size of a state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_dl.protocols import Served


@dataclass(frozen=True)
class Port:
    """An input or output tensor of a file.

    Attributes:
        name: in the manifest and ONNX.
        dtype: of its numbers.
        shape: sizes; "B", "H", "E" for dynamic axes.
        fill: default value; None for outputs.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    fill: float | None = None

    @property
    def described(self) -> dict[str, Any]:
        """Return the manifest entry."""
        filled = {} if self.fill is None else {"fill": bool(self.fill) if self.dtype == "bool" else self.fill}
        return {"dtype": self.dtype, "shape": list(self.shape)} | filled


@dataclass(frozen=True)
class Written:
    """One file of an export: its name, contents, inputs (in order) and outputs."""

    name: str
    holds: str
    inputs: Sequence[Port] = ()
    outputs: Sequence[Port] = ()


@dataclass(frozen=True)
class Parts:
    """A model ready for export.

    Attributes:
        served: the model's export form.
        user_ids: id of each user row.
        item_ids: id of each item row.
        seen: CSR [U, I], items never recommended to a user, in addition to those in a given history; None excludes nothing else.
        allowed_I: bool, the only items that may be recommended; None allows all.
        k: list length for formats with a fixed k.
        titles: of the items, or None.
        about: origin of the model, for the manifest.
    """

    served: Served
    user_ids: list[str]
    item_ids: list[str]
    seen: sp.csr_matrix | None
    allowed_I: np.ndarray | None
    k: int
    titles: list[str | None] | None
    about: Mapping[str, Any]

    @cached_property
    def bytes_a_user(self) -> int:
        """Approximate memory in bytes for one user's answer: state, scores, scorer buffers and ranking."""
        return 4 * self.state_size + len(self.item_ids) * (4 * (self.served.pair_floats + 3) + 16)

    @cached_property
    def state_size(self) -> int:
        """S."""
        return int(self.served.states.shape[1])

    @cached_property
    def extra(self) -> list[Port]:
        """The user tower's inputs besides users and histories."""
        return [Port(one.name, one.dtype, ("B", *one.shape), one.fill) for one in self.served.inputs]

    @cached_property
    def tower(self) -> list[Port]:
        """The user tower's inputs."""
        return [Port("users_B", "int64", ("B",), -1), Port("history_BH", "int64", ("B", "H"), -1), *self.extra]

    @cached_property
    def asked(self) -> list[Port]:
        """The inputs of a recommender with fixed k."""
        exclude, allow = Port("exclude_BE", "int64", ("B", "E"), -1), Port("allow_I", "bool", (len(self.item_ids),), 1)
        return [*self.tower[:2], exclude, allow, *self.extra]

    @cached_property
    def states(self) -> list[Port]:
        """The user tower's outputs, which are the scorer's inputs."""
        return [Port("state_BS", "float32", ("B", self.state_size))]

    @cached_property
    def scores(self) -> list[Port]:
        """The scorer's outputs."""
        return [Port("scores_BI", "float32", ("B", len(self.item_ids)))]


def ranked(k: int | str) -> list[Port]:
    """Return a recommender's outputs."""
    return [Port("items_BK", "int32", ("B", k)), Port("scores_BK", "float32", ("B", k))]
