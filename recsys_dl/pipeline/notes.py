"""What an answer has to say of itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Notes:
    """Messages about lists, each worded once."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.pairs: list[tuple[int, int]] = []

    def all(self, message: str) -> None:
        """Say something of every list."""
        self.lists([-1], message)

    def lists(self, rows: Sequence[int] | np.ndarray, messages: str | Sequence[str]) -> None:
        """Say something of some lists: to all of them the same, or to each its own."""
        each = [messages] * len(rows) if isinstance(messages, str) else messages
        for row, message in zip(rows, each, strict=True):
            if message not in self.messages:
                self.messages.append(message)
            self.pairs.append((int(row), self.messages.index(message)))

    def written(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return `notes_N2` and `messages` of `protocols.Staged`."""
        return np.array(self.pairs, np.int32).reshape(-1, 2), tuple(self.messages)
