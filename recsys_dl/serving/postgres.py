"""A store in PostgreSQL, shared by any number of servers."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from .store import LONGEST, REMEMBERED, SECONDS, SEVERAL, Address, Patience, Shown, StoreError, at_start, library, parts

T = TypeVar("T")

IDLE = 4  # connections that are kept open for the next request
# Ids are bytes, since text cannot have a zero character, and compared by their digests, since an index takes no long values.
TABLES = """
CREATE SEQUENCE IF NOT EXISTS recsys_dl_places;
CREATE TABLE IF NOT EXISTS recsys_dl_events (
    user_id bytea NOT NULL, item_id bytea NOT NULL, reward double precision NOT NULL, time bigint NOT NULL, place bigint NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS recsys_dl_events_once ON recsys_dl_events (sha256(user_id), sha256(item_id));
CREATE INDEX IF NOT EXISTS recsys_dl_events_of_user ON recsys_dl_events (sha256(user_id), place);
CREATE TABLE IF NOT EXISTS recsys_dl_answers (
    request text PRIMARY KEY, log text NOT NULL, user_id bytea, items text NOT NULL, time bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS recsys_dl_answers_by_time ON recsys_dl_answers (time);
CREATE TABLE IF NOT EXISTS recsys_dl_logs (key text PRIMARY KEY, about text NOT NULL);
CREATE TABLE IF NOT EXISTS recsys_dl_appends (log_table text, number bigint, rows bytea NOT NULL, PRIMARY KEY (log_table, number));
CREATE TABLE IF NOT EXISTS recsys_dl_store (single boolean PRIMARY KEY CHECK (single), name text NOT NULL);
"""
STATE = """
SELECT current_setting('fsync'), current_setting('transaction_read_only'), current_setting('server_version_num')::int,
    to_regclass('recsys_dl_store') IS NOT NULL
"""
ADD = """
INSERT INTO recsys_dl_events (user_id, item_id, reward, time, place) VALUES (%s, %s, %s, %s, nextval('recsys_dl_places'))
ON CONFLICT (sha256(user_id), sha256(item_id)) DO UPDATE SET reward = excluded.reward, time = excluded.time, place = excluded.place
"""
REMEMBER = """
INSERT INTO recsys_dl_answers VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (request) DO UPDATE SET log = excluded.log, user_id = excluded.user_id, items = excluded.items, time = excluded.time
"""
FORGET = """
DELETE FROM recsys_dl_answers WHERE request IN (SELECT request FROM recsys_dl_answers WHERE time < %s ORDER BY time LIMIT 2 * %s)
"""
APPEND = """
INSERT INTO recsys_dl_appends SELECT %(table)s, coalesce(max(number), 0) + 1, %(rows)s FROM recsys_dl_appends WHERE log_table = %(table)s
RETURNING number
"""
OF = "SELECT item_id, reward FROM recsys_dl_events WHERE sha256(user_id) = sha256(%s) ORDER BY place DESC LIMIT %s"
SINCE = "SELECT rows FROM recsys_dl_appends WHERE log_table = %s AND number > %s ORDER BY number LIMIT %s"


class Postgres:
    """A `SharedStore`: a write is acknowledged when PostgreSQL has committed it, and its log is on the disk.

    Args:
        address: of the database.

    Raises:
        ImportError: psycopg is not installed.
        OSError: the database cannot be reached or written.
        ValueError: the server does not write to its disk (fsync=off), only reads, or is too old.
    """

    def __init__(self, address: Address) -> None:
        psycopg = library("psycopg", address)
        self.address = address
        self._psycopg = psycopg
        self._patience = Patience(address, "the PostgreSQL server")
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._deadlines = Deadlines()
        try:
            with self._open() as connection:
                self.name = self._prepared(connection)
        except psycopg.Error as error:
            raise at_start(address, error, "PostgreSQL") from None

    def of(self, user: str) -> list[tuple[str, float]]:
        """Return a user's items and rewards, oldest first."""
        rows = self._ask(lambda one: one.execute(OF, (user.encode(), LONGEST)).fetchall())
        return [(bytes(item).decode(), reward) for item, reward in reversed(rows)]

    def add(self, events: Iterable[tuple[str, str, float]]) -> None:
        """Keep (user, item, reward); a repeated item becomes the newest, with the new reward."""
        now = int(time.time())
        for rows in parts((user.encode(), item.encode(), reward, now) for user, item, reward in events):

            def work(connection: Any, rows: list[Any] = rows) -> None:
                with self._writing(connection, "events"):
                    connection.cursor().executemany(ADD, rows)

            self._ask(work)

    def remember(self, answers: Iterable[Shown]) -> None:
        """Keep answers for feedback to join; forget old ones."""
        rows = (
            (one.request, one.log, None if one.user is None else one.user.encode(), json.dumps(one.arms), one.time)
            for one in answers
        )
        for some in parts(rows):

            def work(connection: Any, some: list[Any] = some) -> None:
                with self._writing(connection, "answers"):
                    connection.cursor().executemany(REMEMBER, some)
                    connection.execute(FORGET, (int(time.time()) - REMEMBERED, SEVERAL))

            self._ask(work)

    def answered(self, request: str) -> Shown | None:
        """Return the answer of that id, as feedback needs it; None if it is not known."""
        asked = "SELECT log, user_id, items, time FROM recsys_dl_answers WHERE request = %s"
        row = self._ask(lambda one: one.execute(asked, (request,)).fetchone())
        if row is None:
            return None
        key, user, arms, then = row
        return Shown(request, key, None if user is None else bytes(user).decode(), json.loads(arms), then)

    def check(self) -> None:
        """Raise what would prevent reading and writing now."""
        self._ask(self._checked)

    def append(self, table: str, rows: bytes) -> int:
        """Keep rows; return the append's number in its table, from 1."""

        def work(connection: Any) -> int:
            with self._writing(connection, table):
                return int(connection.execute(APPEND, {"table": table, "rows": rows}).fetchone()[0])

        return self._ask(work)

    def since(self, table: str, number: int) -> list[bytes]:
        """Return the appends after a number, in order."""
        rows = self._ask(lambda one: one.execute(SINCE, (table, number, SEVERAL)).fetchall())
        return [bytes(row[0]) for row in rows]

    def count(self, table: str) -> int:
        """Return the number of appends of a table."""
        asked = "SELECT coalesce(max(number), 0) FROM recsys_dl_appends WHERE log_table = %s"
        return int(self._ask(lambda one: one.execute(asked, (table,)).fetchone()[0]))

    def describe(self, key: str, about: dict[str, int]) -> None:
        """Keep the sizes of a log."""
        asked = "INSERT INTO recsys_dl_logs VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET about = excluded.about"

        def work(connection: Any) -> None:
            with self._writing(connection, "logs"):
                connection.execute(asked, (key, json.dumps(about)))

        self._ask(work)

    def described(self, key: str) -> dict[str, int]:
        """Return the sizes of a log."""
        row = self._ask(lambda one: one.execute("SELECT about FROM recsys_dl_logs WHERE key = %s", (key,)).fetchone())
        if row is None:
            raise ValueError(f"the store has no log {key}")
        return dict(json.loads(row[0]))

    # Internal

    @contextlib.contextmanager
    def _writing(self, connection: Any, what: str) -> Iterator[None]:
        """Be the only writer of something inside the block; what was written is on the disk after it."""
        with connection.transaction():
            connection.execute(
                "SELECT set_config('synchronous_commit', 'on', true), pg_advisory_xact_lock(hashtext('recsys_dl'), hashtext(%s))",
                (what,),
            )
            yield

    def _prepared(self, connection: Any) -> str:
        """Make the tables where they are missing; return the name of the store."""
        if not self._checked(connection):
            with self._writing(connection, "tables"):
                connection.execute(TABLES)
                connection.execute(
                    "INSERT INTO recsys_dl_store VALUES (true, %s) ON CONFLICT DO NOTHING", (secrets.token_hex(4),)
                )
        return str(connection.execute("SELECT name FROM recsys_dl_store").fetchone()[0])

    def _checked(self, connection: Any) -> bool:
        """Check that the server keeps what it acknowledges; return whether it has the tables."""
        fsync, reads, version, there = connection.execute(STATE).fetchone()
        if version < 110_000:
            raise ValueError(f"store={self.address} must be PostgreSQL 11 or newer, got {version // 10_000}")
        if fsync != "on":
            raise ValueError(
                f"store={self.address} must write to its disk before it acknowledges, but has fsync={fsync}: what it acknowledged may be lost; "
                "set fsync=on in postgresql.conf"
            )
        if reads == "on":
            raise ValueError(
                f"store={self.address} must be written, but only reads (a standby?); name the primary server"
            )
        return bool(there)

    def _open(self) -> Any:
        address = self.address
        given = {"host": address.host, "user": address.user, "password": address.password}
        return self._psycopg.connect(
            **{name: value for name, value in given.items() if value},
            port=address.port,
            dbname=address.database,
            **{
                "connect_timeout": SECONDS,
                "application_name": "recsys-dl serve",
                "autocommit": True,
                "prepare_threshold": None,
                **address.options,
            },
        )

    def _ask(self, work: Callable[[Any], T]) -> T:
        """Return what the work returns, over an open connection or a new one; a connection that was lost while it was idle is replaced once."""

        def attempted() -> T:
            while True:
                with self._lock:
                    idle = self._idle.pop() if self._idle else None
                connection = idle if idle is not None else self._new()
                try:
                    with self._deadlines.of(connection):
                        found = work(connection)
                except self._psycopg.Error as error:
                    late = self._deadlines.passed(connection)
                    connection.close()
                    if late:
                        raise StoreError(
                            f"the PostgreSQL server of the store did not answer within {SECONDS} s"
                        ) from error
                    if idle is None or not self._lost(error):
                        raise
                except BaseException:
                    connection.close()
                    raise
                else:
                    with self._lock:
                        keep = len(self._idle) < IDLE
                        if keep:
                            self._idle.append(connection)
                    if not keep:
                        connection.close()
                    return found

        return self._patience.ask(attempted, self._why, (self._psycopg.Error,))

    def _new(self) -> Any:
        """Return a new connection to a server that keeps what it acknowledges."""
        connection = self._open()
        try:
            with self._deadlines.of(connection):
                self._checked(connection)
        except ValueError as error:
            connection.close()
            raise StoreError(
                "the PostgreSQL server of the store does not keep what it acknowledges (the log says how)"
            ) from error
        return connection

    def _lost(self, error: Exception) -> bool:
        return isinstance(error, self._psycopg.OperationalError | self._psycopg.InterfaceError)

    def _why(self, error: Exception) -> str | None:
        return "does not answer" if self._lost(error) else None


class Deadlines:
    """Shuts connections down whose answer has not come in time, for which libpq would wait for ever."""

    def __init__(self) -> None:
        self._until: dict[int, tuple[Any, float]] = {}
        self._late: set[int] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._work, name="store deadlines", daemon=True).start()

    @contextlib.contextmanager
    def of(self, connection: Any) -> Iterator[None]:
        """Give the block `SECONDS`."""
        with self._lock:
            self._until[id(connection)] = connection, time.monotonic() + SECONDS
        try:
            yield
        finally:
            with self._lock:
                self._until.pop(id(connection), None)

    def passed(self, connection: Any) -> bool:
        """Return whether a connection was shut down, once."""
        with self._lock:
            if id(connection) in self._late:
                self._late.remove(id(connection))
                return True
            return False

    def _work(self) -> None:
        while True:
            time.sleep(0.1)
            now = time.monotonic()
            with self._lock:
                for key, (connection, until) in list(self._until.items()):
                    if now > until:
                        del self._until[key]
                        self._late.add(key)
                        with contextlib.suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as one:
                            one.shutdown(socket.SHUT_RDWR)
