"""What users interacted with since the run was trained, and which answers they got: SQLite in WAL mode."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

REMEMBERED = 7 * 24 * 3600  # seconds after an answer in which feedback on it is joined
LONGEST = 10_000  # newest items of a user's history that are used
TABLES = """
CREATE TABLE IF NOT EXISTS events (
    place INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT NOT NULL, item TEXT NOT NULL, reward REAL NOT NULL, time INTEGER NOT NULL,
    UNIQUE (user, item)
);
CREATE TABLE IF NOT EXISTS answers (
    request TEXT PRIMARY KEY, log TEXT NOT NULL, user TEXT, items TEXT NOT NULL, time INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_by_time ON answers (time);
"""


@dataclass(frozen=True)
class Shown:
    """An answer.

    Attributes:
        request: its id.
        log: key of the feedback log that has it.
        user: whose; None for an unnamed one.
        arms: item id as text -> row in that log, in the order of the list.
        time: seconds since 1970.
        row: of the user, among those of the log; None for one that was not in training.
        propensities: of each item at its position.
        joint, draws, context: as in `FeedbackLog.append`.
    """

    request: str
    log: str
    user: str | None
    arms: dict[str, int]
    time: int
    row: int | None = None
    propensities: tuple[float, ...] = ()
    joint: float | None = 1.0
    draws: int = 0
    context: tuple[float, ...] | None = None


class Histories:
    """Events of users and answers, in one file. One thread reads and one writes; several processes may.

    Raises:
        sqlite3.Error: from every method: the file is damaged, cannot be written, or is locked for more than two seconds.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._connections = threading.local()
        try:
            with closing(sqlite3.connect(file, timeout=2)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(TABLES)
        except sqlite3.Error as error:
            raise ValueError(
                f"{file} must be a SQLite file of users' histories that can be written ({error}); move it away, or name another folder: store="
            ) from error

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection of this thread."""
        found: sqlite3.Connection | None = getattr(self._connections, "one", None)
        if found is None:
            found = self._connections.one = sqlite3.connect(self.file, timeout=2)
            found.execute("PRAGMA synchronous=FULL")  # a commit is on the disk
        return found

    def of(self, user: str) -> list[tuple[str, float]]:
        """Return a user's items and rewards, oldest first."""
        rows = self.connection.execute(
            "SELECT item, reward FROM events WHERE user = ? ORDER BY place DESC LIMIT ?", (user, LONGEST)
        )
        return rows.fetchall()[::-1]

    def add(self, events: Iterable[tuple[str, str, float]]) -> None:
        """Keep (user, item, reward); a repeated item becomes the newest, with the new reward."""
        now = int(time.time())
        with self.connection as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO events (user, item, reward, time) VALUES (?, ?, ?, ?)",
                [(*event, now) for event in events],
            )

    def remember(self, answers: Iterable[Shown]) -> None:
        """Keep answers for feedback to join; forget old ones."""
        rows = [(one.request, one.log, one.user, json.dumps(one.arms), one.time) for one in answers]
        with self.connection as connection:
            connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", rows)
            connection.execute("DELETE FROM answers WHERE time < ?", (int(time.time()) - REMEMBERED,))

    def answered(self, request: str) -> Shown | None:
        """Return the answer of that id, as feedback needs it; None if it is not known."""
        row = self.connection.execute("SELECT * FROM answers WHERE request = ?", (request,)).fetchone()
        if row is None:
            return None
        name, key, user, arms, then = row
        return Shown(name, key, user, json.loads(arms), then)
