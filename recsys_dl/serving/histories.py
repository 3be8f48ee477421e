"""What users interacted with since the run was trained, and which answers they got: SQLite in WAL mode."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from .store import LONGEST, REMEMBERED, Shown, StoreError

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


class Histories:
    """A store in one file.

    Raises:
        ValueError: the file cannot be written, or is none of SQLite.
        StoreError: from every method: it is damaged, cannot be written, or is locked for more than two seconds.
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

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection of this thread, in a transaction."""
        try:
            found: sqlite3.Connection | None = getattr(self._connections, "one", None)
            if found is None:
                found = self._connections.one = sqlite3.connect(self.file, timeout=2)
                found.execute("PRAGMA synchronous=FULL")  # a commit is on the disk
            with found:
                yield found
        except sqlite3.Error as error:
            raise StoreError(f"the history of users cannot be read or written ({error})") from error

    def of(self, user: str) -> list[tuple[str, float]]:
        """Return a user's items and rewards, oldest first."""
        asked = "SELECT item, reward FROM events WHERE user = ? ORDER BY place DESC LIMIT ?"
        with self.connection() as connection:
            return connection.execute(asked, (user, LONGEST)).fetchall()[::-1]

    def add(self, events: Iterable[tuple[str, str, float]]) -> None:
        """Keep (user, item, reward); a repeated item becomes the newest, with the new reward."""
        now = int(time.time())
        with self.connection() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO events (user, item, reward, time) VALUES (?, ?, ?, ?)",
                [(*event, now) for event in events],
            )

    def remember(self, answers: Iterable[Shown]) -> None:
        """Keep answers for feedback to join; forget old ones."""
        rows = [(one.request, one.log, one.user, json.dumps(one.arms), one.time) for one in answers]
        with self.connection() as connection:
            connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", rows)
            connection.execute("DELETE FROM answers WHERE time < ?", (int(time.time()) - REMEMBERED,))

    def answered(self, request: str) -> Shown | None:
        """Return the answer of that id, as feedback needs it; None if it is not known."""
        with self.connection() as connection:
            row = connection.execute("SELECT * FROM answers WHERE request = ?", (request,)).fetchone()
        if row is None:
            return None
        name, key, user, arms, then = row
        return Shown(name, key, user, json.loads(arms), then)

    def check(self) -> None:
        """Raise what would prevent reading now."""
        with self.connection() as connection:
            connection.execute("SELECT 1 FROM answers LIMIT 1").fetchone()
