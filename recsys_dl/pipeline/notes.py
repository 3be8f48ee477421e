"""Notes attached to an answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Notes:
    """Messages about lists, deduplicated."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.pairs: list[tuple[int, int]] = []

    def all(self, message: str) -> None:
        """Add a note to every list."""
        self.lists([-1], message)

    def lists(self, rows: Sequence[int] | np.ndarray, messages: str | Sequence[str]) -> None:
        """Add notes to some lists: the same for all, or one each."""
        each = [messages] * len(rows) if isinstance(messages, str) else messages
        for row, message in zip(rows, each, strict=True):
            if message not in self.messages:
                self.messages.append(message)
            self.pairs.append((int(row), self.messages.index(message)))

    def written(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return `notes_N2` and `messages` of `protocols.Staged`."""
        return np.array(self.pairs, np.int32).reshape(-1, 2), tuple(self.messages)
