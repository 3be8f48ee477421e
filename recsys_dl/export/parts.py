"""What every format writes from: a served model, ids, who had what; and how tensors are described.

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
    """A tensor that a file takes or gives.

    Attributes:
        name: as the manifest and ONNX call it.
        dtype: of its numbers.
        shape: sizes; "B", "H", "E" where the caller chooses.
        fill: what says nothing; None for what a file gives.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    fill: float | None = None

    @property
    def described(self) -> dict[str, Any]:
        """As the manifest says it."""
        filled = {} if self.fill is None else {"fill": bool(self.fill) if self.dtype == "bool" else self.fill}
        return {"dtype": self.dtype, "shape": list(self.shape)} | filled


@dataclass(frozen=True)
class Written:
    """One file of an export: its name, what it holds, what it takes (in their order) and gives."""

    name: str
    holds: str
    inputs: Sequence[Port] = ()
    outputs: Sequence[Port] = ()


@dataclass(frozen=True)
class Parts:
    """A model ready to be written.

    Attributes:
        served: what it offers.
        user_ids: id of each user row.
        item_ids: id of each item row.
        seen: CSR [U, I], what is never recommended to a user, as the items of a history never are; None leaves nothing else out.
        allowed_I: bool, the items that alone may be recommended; None allows all.
        k: length of the lists of formats that fix it.
        about: where it came from; goes into the manifest.
    """

    served: Served
    user_ids: list[str]
    item_ids: list[str]
    seen: sp.csr_matrix | None
    allowed_I: np.ndarray | None
    k: int
    about: Mapping[str, Any]

    @cached_property
    def bytes_a_user(self) -> int:
        """Of memory for one user's answer, about: state, scores, what the scorer holds, and the ranking."""
        return 4 * self.state_size + len(self.item_ids) * (4 * (self.served.pair_floats + 3) + 16)

    @cached_property
    def state_size(self) -> int:
        """S."""
        return int(self.served.states.shape[1])

    @cached_property
    def extra(self) -> list[Port]:
        """What the user tower takes beside users and histories."""
        return [Port(one.name, one.dtype, ("B", *one.shape), one.fill) for one in self.served.inputs]

    @cached_property
    def tower(self) -> list[Port]:
        """What a user tower takes."""
        return [Port("users_B", "int64", ("B",), -1), Port("history_BH", "int64", ("B", "H"), -1), *self.extra]

    @cached_property
    def asked(self) -> list[Port]:
        """What a recommender with a fixed k takes."""
        exclude, allow = Port("exclude_BE", "int64", ("B", "E"), -1), Port("allow_I", "bool", (len(self.item_ids),), 1)
        return [*self.tower[:2], exclude, allow, *self.extra]

    @cached_property
    def states(self) -> list[Port]:
        """What a user tower gives and a scorer takes."""
        return [Port("state_BS", "float32", ("B", self.state_size))]

    @cached_property
    def scores(self) -> list[Port]:
        """What a scorer gives."""
        return [Port("scores_BI", "float32", ("B", len(self.item_ids)))]


def ranked(k: int | str) -> list[Port]:
    """Return what a recommender gives."""
    return [Port("items_BK", "int32", ("B", k)), Port("scores_BK", "float32", ("B", k))]
