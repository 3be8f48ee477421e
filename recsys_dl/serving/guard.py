"""What every request passes before it reaches the application: limits, authorization, its id, the log and the metrics."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .errors import Refused, overloaded
from .figures import Figures
from .settings import Settings
from .tracing import Mark, Traces, id_of

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OPEN = ("/health", "/ready")  # for probes: without a token, a rate or a place in the queue
UNQUEUED = (*OPEN, "/metrics")
PAGE = "/page/"  # files of the page, which hold no data: without a token
CLIENTS = 10_000  # whose rates are remembered
TRACE = re.compile(r"[\w.:/+=-]{1,100}")


class Rates:
    """A token bucket for each of the latest clients.

    Args:
        rate: requests a second; twice as many may come at once.
    """

    def __init__(self, rate: float) -> None:
        self.rate, self.most = rate, max(1.0, 2 * rate)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Take one request of a client; return 0, or the seconds after which there is room for it."""
        now = time.monotonic()
        left, then = self._buckets.pop(client, (self.most, now))
        left = min(self.most, left + (now - then) * self.rate)
        self._buckets[client] = (left - 1, now) if left >= 1 else (left, now)
        if len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) / self.rate


class Deadline:
    """`async with`: what takes longer is canceled and raises asyncio.TimeoutError. Unlike `asyncio.wait_for` before Python 3.12, without a task of its own."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._late = seconds, False

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(self.seconds, self._end)

    def _end(self) -> None:
        self._late = True
        if self._task is not None:
            self._task.cancel()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._timer.cancel()
        if self._late and kind is asyncio.CancelledError:
            getattr(self._task, "uncancel", int)()  # from Python 3.11 on, cancellations are counted
            raise asyncio.TimeoutError from None


class Guard:
    """An ASGI application around another one.

    Args:
        app: the other one.
        settings: of the server.
        figures: its metrics.
        paths: those that the application has, for the metrics.
        traces: takes a span of each request; None for none.
    """

    def __init__(
        self, app: Any, settings: Settings, figures: Figures, paths: tuple[str, ...], traces: Traces | None = None
    ) -> None:
        self.app, self.settings, self.figures, self.paths, self.traces = app, settings, figures, paths, traces
        self.rates = None if settings.rate is None else Rates(settings.rate)
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, request = time.perf_counter(), secrets.token_hex(16)
        marks: list[Mark] = []
        scope.setdefault("state", {}).update(request_id=request, marks=marks)
        path = scope["path"] if scope["path"] in self.paths else "other"
        headers = dict(scope["headers"])
        span = None if self.traces is None else self.traces.begin(scope["method"], path, headers, request)
        status = 0

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request.encode())]
            try:
                async with Deadline(self.settings.timeout):
                    await send(message)
            except asyncio.TimeoutError:  # the rest is left out, and the connection closed
                log.warning("a client does not read its answer", extra={"fields": {"request_id": request}})

        try:
            await self._guarded(scope, headers, receive, answer)
        except Refused as error:
            await refuse(error, request, answer, self._rest(receive) if error.status == 413 else None)
        except Exception:
            log.exception("a request failed", extra={"fields": {"request_id": request, "path": path}})
            if not status:
                await refuse(
                    Refused(500, "the server failed; its log has the reason under this request_id"), request, answer
                )
        finally:
            seconds = time.perf_counter() - start
            self.figures.requests.labels(path, status).inc()
            self.figures.seconds.labels(path).observe(seconds)
            trace = headers.get(b"x-request-id", b"").decode("latin-1")
            fields = {
                "request_id": request,
                "method": scope["method"],
                "path": scope["path"][:200],
                "status": status,
                "ms": round(1000 * seconds, 2),
                "client": client_of(scope),
            }
            if TRACE.fullmatch(trace):
                fields["client_request_id"] = trace
            if self.traces is not None:
                fields["trace_id"] = id_of(span)
                self.traces.end(span, status, marks)
            log.info("request", extra={"fields": fields})

    async def _guarded(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path not in OPEN:
            if path != "/" and not path.startswith(PAGE):
                self._authorize(headers)
            if self.rates is not None and (wait := self.rates.wait(client_of(scope))):
                message = f"a client may send {self.settings.rate:g} requests a second; send this one again later"
                raise Refused(429, message, retry_after=max(1, round(wait + 0.5)))
        counted = path not in UNQUEUED
        if counted and self.in_flight >= self.settings.queue_size:
            raise overloaded()
        self.in_flight += counted
        self.figures.in_flight.set(self.in_flight)
        try:
            body = await self._body(headers, receive)
            sent = False

            async def whole() -> MutableMapping[str, Any]:
                nonlocal sent
                if sent:
                    return await receive()
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}

            await self.app(scope, whole, send)
        finally:
            self.in_flight -= counted
            self.figures.in_flight.set(self.in_flight)

    async def _rest(self, receive: Receive) -> None:
        """Drop what still comes of a body, for a time: closed before, the connection would be reset, and the client might not see its answer."""
        with contextlib.suppress(asyncio.TimeoutError):
            async with Deadline(self.settings.timeout):
                await _dropped(receive)

    def _authorize(self, headers: dict[bytes, bytes]) -> None:
        if self.settings.token is None:
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        right = hmac.compare_digest(given.strip(), self.settings.token.encode())
        if scheme.lower() != b"bearer" or not right:
            raise Refused(401, "send the server's token: Authorization: Bearer TOKEN", close=True)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """Return the body, which must not be too long and must arrive in time."""
        most = 1024 * self.settings.body_kb
        large = Refused(
            413, f"a body may have {self.settings.body_kb} kB; send fewer ids, or less at a time", close=True
        )
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 12 or int(length) > most:
            raise large
        try:
            async with Deadline(self.settings.timeout):
                return await _read(receive, most, large)
        except asyncio.TimeoutError:
            raise Refused(408, f"a body must arrive within {self.settings.timeout:g} s", close=True) from None


async def _dropped(receive: Receive) -> None:
    while (message := await receive()).get("more_body", False) and message["type"] != "http.disconnect":
        pass


async def _read(receive: Receive, most: int, large: Refused) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the client closed the connection before its body was complete", close=True)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise large
        if not message.get("more_body", False):
            return b"".join(parts)


async def refuse(error: Refused, request: str, send: Send, then: Awaitable[None] | None = None) -> None:
    """Send an error as JSON; the connection is closed after `then`."""
    body = json.dumps({"error": error.message, "request_id": request}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))} | error.headers
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body, "more_body": then is not None})
    if then is not None:
        await then
        await send({"type": "http.response.body", "body": b""})


def client_of(scope: Scope) -> str:
    """Return the client's address."""
    return scope["client"][0] if scope.get("client") else ""
