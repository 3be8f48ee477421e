"""What keeps users' histories and answers: a file of this machine, or a server that several machines share."""

from __future__ import annotations

import importlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

log = logging.getLogger(__name__)

REMEMBERED = 7 * 24 * 3600  # seconds after an answer in which feedback on it is joined
LONGEST = 10_000  # newest items of a user's history that are used
SECONDS = 2  # that a server may take for an answer
PAUSE = 1.0  # seconds after a server did not answer in which it is not asked again
SEVERAL = 500  # rows that are written or fetched at once, each time within SECONDS
SCHEMES = {"postgresql": "postgresql", "postgres": "postgresql", "redis": "redis", "rediss": "redis"}
PASSWORD = "RECSYS_DL_STORE_PASSWORD"  # noqa: S105

T = TypeVar("T")


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


class StoreError(OSError):
    """A store that cannot be read or written now. The message is for clients: it names no host and no user."""


class Store(Protocol):
    """Events of users, and answers. One thread writes, several read; several processes may do both.

    Raises:
        StoreError: from every method: it cannot be read or written now.
    """

    def of(self, user: str) -> list[tuple[str, float]]:
        """Return a user's items and rewards, oldest first."""

    def add(self, events: Iterable[tuple[str, str, float]]) -> None:
        """Keep (user, item, reward), durably; a repeated item becomes the newest, with the new reward."""

    def remember(self, answers: Iterable[Shown]) -> None:
        """Keep answers for feedback to join, durably; forget old ones."""

    def answered(self, request: str) -> Shown | None:
        """Return the answer of that id, as feedback needs it; None if it is not known."""

    def check(self) -> None:
        """Raise what would prevent reading and writing now."""


class SharedStore(Store, Protocol):
    """A store that also has the tables of feedback logs, as numbered appends.

    Attributes:
        name: of its content; another database, or an emptied one, has another.
    """

    name: str

    def append(self, table: str, rows: bytes) -> int:
        """Keep rows, durably; return the append's number in its table, from 1."""

    def since(self, table: str, number: int) -> list[bytes]:
        """Return the appends after a number, in order, at most `SEVERAL`."""

    def count(self, table: str) -> int:
        """Return the number of appends of a table."""

    def describe(self, key: str, about: dict[str, int]) -> None:
        """Keep the sizes of a log."""

    def described(self, key: str) -> dict[str, int]:
        """Return the sizes of a log.

        Raises:
            ValueError: there is no such log.
        """


@dataclass(frozen=True)
class Address:
    """Where a shared store is. Its text has no password.

    Attributes:
        kind: "postgresql" or "redis".
        scheme, host, port, user, database: of the URL.
        password: None for none.
        options: after the question mark, for the client library.

    Examples:
        >>> from recsys_dl.serving.store import Address
        >>> str(Address.of("redis://default:secret@cache:6379/0"))
        'redis://default@cache:6379/0'
    """

    kind: str
    scheme: str
    host: str
    port: int
    user: str | None
    database: str
    password: str | None = field(default=None, repr=False)
    options: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, url: str) -> Address:
        """Return what a URL says.

        Raises:
            ValueError: it is none of a store.
        """
        scheme = url.partition("://")[0]
        asked = "store must be a folder, postgresql://USER@HOST:PORT/DATABASE or redis://HOST:PORT/NUMBER"
        if scheme not in SCHEMES:
            raise ValueError(f"{asked}, got the scheme {scheme!r}")
        try:
            parts = urlsplit(url)
            port = parts.port or (5432 if SCHEMES[scheme] == "postgresql" else 6379)
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError:  # whose text may have the password
            raise ValueError(f"{asked}; the part after {scheme}:// is none") from None
        database = unquote(parts.path.removeprefix("/"))
        if SCHEMES[scheme] == "redis" and not re.fullmatch(r"\d*", database):
            raise ValueError(f"{asked}; the number of a Redis database must be a whole number, got {database!r}")
        if SCHEMES[scheme] == "postgresql" and not database:
            raise ValueError(f"{asked}, got no name of a database")
        given = {
            name: unquote(value or "") or None
            for name, value in (("user", parts.username), ("password", parts.password))
        }
        return cls(
            SCHEMES[scheme], scheme, parts.hostname or "", port, given["user"], database, given["password"], options
        )

    def with_password(self, password: str | None) -> Address:
        """Return the address with a password, where it has none."""
        return self if self.password is not None or not password else replace(self, password=password)

    def __str__(self) -> str:
        user = "" if self.user is None else f"{self.user}@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{user}{host}:{self.port}/{self.database}"

    def clean(self, text: object) -> str:
        """Return a library's message in one line, without the password."""
        line = " ".join(str(text).split())
        return line.replace(self.password, "***") if self.password else line


def parts(rows: Iterable[T]) -> Iterator[list[T]]:
    """Yield rows, `SEVERAL` at a time."""
    rest = iter(rows)
    while part := list(islice(rest, SEVERAL)):
        yield part


def is_url(store: str | os.PathLike[str]) -> bool:
    """Return whether a setting names a server and not a folder."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", str(store)) is not None


class Patience:
    """Asks a server that may be away: what did not answer is not asked again for a second, so that requests do not queue up behind it.

    Args:
        address: of the server.
        product: its name, for messages.
    """

    def __init__(self, address: Address, product: str) -> None:
        self.address, self.product = address, product
        self._lock = threading.Lock()
        self._until, self._error = 0.0, ""

    def ask(self, work: Callable[[], T], why: Callable[[Exception], str | None], failures: tuple[Any, ...]) -> T:
        """Return what the work returns.

        Args:
            work: raises one of `failures`.
            why: says that the server is away, and how; None if it answered, with an error.

        Raises:
            StoreError: in place of those.
        """
        with self._lock:
            if time.monotonic() < self._until:
                raise StoreError(self._error)
        try:
            return work()
        except StoreError as error:
            self._refuse(str(error), error.__cause__ or error)
            raise
        except failures as error:
            away = why(error)
            message = f"{self.product} of the store {away or 'refused to read or write (the log says why)'}"
            if away is not None:
                self._refuse(message, error)
            else:
                log.error("%s: %s", self.address, self.address.clean(error))
            raise StoreError(message) from error

    def _refuse(self, message: str, error: BaseException) -> None:
        log.error("%s: %s", self.address, self.address.clean(error))
        with self._lock:
            self._until, self._error = time.monotonic() + PAUSE, message


def library(name: str, address: Address) -> Any:
    """Return the client library of a store.

    Raises:
        ImportError: it is not installed; says how it is.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = "postgres" if address.kind == "postgresql" else address.kind
        raise ImportError(f"store={address} needs {name} ({error}): pip install 'recsys_dl[{extra}]'") from error


def at_start(address: Address, error: Exception, product: str) -> OSError:
    """Return what the start of a server gets whose store cannot be used."""
    return OSError(
        f"store={address} must be a {product} server that answers within {SECONDS} s and may be written ({address.clean(error)}); check that it "
        f"runs, and its host, port, user and password: in the URL, or in the environment as {PASSWORD}"
    )
