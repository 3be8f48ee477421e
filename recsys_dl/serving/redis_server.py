"""A store in Redis, shared by any number of servers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .store import LONGEST, REMEMBERED, SECONDS, SEVERAL, Address, Patience, Shown, StoreError, at_start, library, parts

T = TypeVar("T")

PREFIX = "recsys_dl:"
# One script is one entry of the append-only file: all of it is there after a crash, or nothing.
ADD = """
for n = 1, #ARGV, 3 do
    local place = redis.call('INCR', KEYS[1])
    redis.call('ZADD', 'recsys_dl:places:' .. ARGV[n], place, ARGV[n + 1])
    redis.call('HSET', 'recsys_dl:rewards:' .. ARGV[n], ARGV[n + 1], ARGV[n + 2])
end
"""
OF = """
local items = redis.call('ZRANGE', KEYS[1], -ARGV[1], -1)
local found = {}
for n, item in ipairs(items) do
    found[2 * n - 1] = item
    found[2 * n] = redis.call('HGET', KEYS[2], item)
end
return found
"""
WANTED = {"appendonly": "yes", "appendfsync": "always"}


class Redis:
    """A `SharedStore`: a write is acknowledged when it is in Redis' append-only file, on the disk (appendfsync always).

    Args:
        address: of the database.

    Raises:
        ImportError: redis is not installed.
        OSError: the server cannot be reached or written.
        ValueError: it does not keep what it acknowledges, or may not be asked whether it does.
    """

    def __init__(self, address: Address) -> None:
        redis = library("redis", address)
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.address = address
        self._redis = redis
        self._patience = Patience(address, "the Redis server")
        tls = {"connection_class": self._redis.SSLConnection} if address.scheme == "rediss" else {}
        pool = self._redis.ConnectionPool(
            host=address.host or "localhost",
            port=address.port,
            db=int(address.database or 0),
            username=address.user,
            password=address.password,
            protocol=2,
            socket_timeout=SECONDS,
            socket_connect_timeout=SECONDS,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=self._connected,
            **tls,
            **address.options,
        )
        self._client = self._redis.Redis(connection_pool=pool)
        try:
            self._client.set(f"{PREFIX}store", secrets.token_hex(4), nx=True)
            self.name = self._client.get(f"{PREFIX}store").decode()
        except redis.RedisError as error:
            raise at_start(address, error, "Redis") from None

    def of(self, user: str) -> list[tuple[str, float]]:
        """Return a user's items and rewards, oldest first."""
        keys = f"{PREFIX}places:{user}", f"{PREFIX}rewards:{user}"
        found = self._ask(lambda one: one.eval(OF, 2, *keys, LONGEST))
        return [(item.decode(), float(reward)) for item, reward in zip(found[::2], found[1::2], strict=True)]

    def add(self, events: Iterable[tuple[str, str, float]]) -> None:
        """Keep (user, item, reward); a repeated item becomes the newest, with the new reward."""
        for some in parts(events):
            flat = [part for user, item, reward in some for part in (user, item, repr(float(reward)))]
            self._ask(lambda one, flat=flat: one.eval(ADD, 1, f"{PREFIX}place", *flat))  # type: ignore[misc]

    def remember(self, answers: Iterable[Shown]) -> None:
        """Keep answers for feedback to join; Redis forgets them when their time is over."""
        for some in parts(answers):

            def work(client: Any, some: list[Shown] = some) -> None:
                with client.pipeline(transaction=True) as pipe:
                    for one in some:
                        text = json.dumps([one.log, one.user, one.arms, one.time])
                        pipe.set(f"{PREFIX}answer:{one.request}", text, ex=REMEMBERED)
                    pipe.execute()

            self._ask(work)

    def answered(self, request: str) -> Shown | None:
        """Return the answer of that id, as feedback needs it; None if it is not known."""
        text = self._ask(lambda one: one.get(f"{PREFIX}answer:{request}"))
        return None if text is None else Shown(request, *json.loads(text))

    def check(self) -> None:
        """Raise what would prevent reading and writing now, or keeping what was written."""
        found = self._ask(lambda one: {**one.config_get("append*"), **one.config_get("maxmemory*")})
        try:
            self._keeps(found)
        except ValueError as error:
            raise StoreError(
                "the Redis server of the store does not keep what it acknowledges (the log says how)"
            ) from error

    def append(self, table: str, rows: bytes) -> int:
        """Keep rows; return the append's number in its table, from 1."""
        return int(self._ask(lambda one: one.rpush(f"{PREFIX}appends:{table}", rows)))

    def since(self, table: str, number: int) -> list[bytes]:
        """Return the appends after a number, in order."""
        return list(self._ask(lambda one: one.lrange(f"{PREFIX}appends:{table}", number, number + SEVERAL - 1)))

    def count(self, table: str) -> int:
        """Return the number of appends of a table."""
        return int(self._ask(lambda one: one.llen(f"{PREFIX}appends:{table}")))

    def describe(self, key: str, about: dict[str, int]) -> None:
        """Keep the sizes of a log."""
        self._ask(lambda one: one.hset(f"{PREFIX}logs", key, json.dumps(about)))

    def described(self, key: str) -> dict[str, int]:
        """Return the sizes of a log."""
        text = self._ask(lambda one: one.hget(f"{PREFIX}logs", key))
        if text is None:
            raise ValueError(f"the store has no log {key}")
        return dict(json.loads(text))

    # Internal

    def _connected(self, connection: Any) -> None:
        """Look, on each new connection, whether the server keeps what it acknowledges."""
        connection.on_connect()
        found: dict[str, str] = {}
        try:
            for pattern in ("append*", "maxmemory*"):
                connection.send_command("CONFIG", "GET", pattern)
                answer = [part.decode() for part in connection.read_response()]
                found |= dict(zip(answer[::2], answer[1::2], strict=True))
            self._keeps(found)
        except self._redis.ResponseError as error:
            connection.disconnect()
            raise ValueError(
                f"store={self.address} must say whether it keeps what it acknowledges, but refuses CONFIG GET ({error}); allow it to this user "
                "(ACL SETUSER … +config|get)"
            ) from None
        except ValueError:
            connection.disconnect()  # or it would be taken for one in order
            raise

    def _keeps(self, found: dict[str, str]) -> None:
        """Check the settings of the server.

        Raises:
            ValueError: it may lose what it acknowledged.
        """
        for name, wanted in WANTED.items():
            if (got := found.get(name)) != wanted:
                raise ValueError(
                    f"store={self.address} must keep what it acknowledges, but has {name} {got}: a crash would lose feedback; set appendonly yes "
                    "and appendfsync always in redis.conf"
                )
        if found.get("maxmemory", "0") != "0" and found.get("maxmemory-policy") != "noeviction":
            raise ValueError(
                f"store={self.address} must keep what it acknowledges, but has maxmemory-policy {found.get('maxmemory-policy')}: it would drop "
                "feedback when its memory is full; set maxmemory-policy noeviction"
            )

    def _ask(self, work: Callable[[Any], T]) -> T:
        """Return what the work returns; a connection that was lost while it was idle is replaced once."""

        def attempted() -> T:
            try:
                return work(self._client)
            except self._redis.TimeoutError:
                raise
            except self._redis.ConnectionError:
                return work(self._client)

        def whole() -> T:
            try:
                return attempted()
            except ValueError as error:  # of a new connection
                raise StoreError(
                    "the Redis server of the store does not keep what it acknowledges (the log says how)"
                ) from error

        return self._patience.ask(whole, self._why, (self._redis.RedisError,))

    def _why(self, error: Exception) -> str | None:
        if isinstance(error, self._redis.TimeoutError):
            return f"did not answer within {SECONDS} s"
        return "does not answer" if isinstance(error, self._redis.ConnectionError) else None
