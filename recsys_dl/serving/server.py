"""The server: uvicorn around the application."""

from __future__ import annotations

import asyncio
import errno
import resource
import sys
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .app import make_app
from .figures import log_as_json
from .settings import Settings

FILES = 65_536  # that may be open, if the system allows them
SPARE = 128  # files that are open beside connections


class Connection(H11Protocol):
    """A connection that is closed if a request has not arrived whole in time, which uvicorn leaves to a proxy.

    A slow body is answered with 408 before; this is for slow headers and for what follows an early answer.
    """

    seconds = 10.0
    late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Start the clock of a request, or stop it when it is whole."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        super().connection_lost(exc)
        self._stop()

    def _watch(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop()
        elif self.late is None:
            self.late = self.loop.call_later(self.seconds + 1, self.transport.abort)

    def _stop(self) -> None:
        if self.late is not None:
            self.late.cancel()
            self.late = None


def serve(settings: Settings) -> None:
    """Load the run and answer until SIGTERM or SIGINT; requests in progress are answered first.

    Raises:
        FileNotFoundError, ValueError, OSError: as `make_app`; or the address is in use.
    """
    log_as_json()
    app = make_app(settings)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, files), hard))
    config = uvicorn.Config(
        app,
        http=type("Connection", (Connection,), {"seconds": settings.timeout}),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        limit_concurrency=max(64, files - SPARE),
        timeout_graceful_shutdown=int(settings.timeout) + 1,
        backlog=2048,
    )
    socket = config_socket(settings)
    address = f"{settings.host}:{socket.getsockname()[1]}"
    print(
        f"http://{address} answers for {settings.run}: open it in a browser; GET /openapi.json describes the requests",
        file=sys.stdout,
        flush=True,
    )
    try:
        uvicorn.Server(config).run(sockets=[socket])
    except KeyboardInterrupt:  # which uvicorn raises again after it has stopped in order
        print(f"stopped; {settings.store or settings.store_folder} has the feedback")


def config_socket(settings: Settings) -> Any:
    """Return a socket that listens.

    Raises:
        OSError: the address is in use or not of this machine.
    """
    import socket

    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
        # Connections inherit it. asyncio sets it only on sockets made with a protocol number, which these are not, and without it the
        # second part of an answer waits 40 ms for the client's delayed acknowledgment of the first.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        advice = "choose another port, or port=0 for a free one"
        if error.errno in (errno.EADDRNOTAVAIL, socket.EAI_NONAME, socket.EAI_AGAIN):
            advice = "host must be a name or an address of this machine: 127.0.0.1, or 0.0.0.0 for all that it has"
        raise OSError(
            f"host={settings.host} port={settings.port} cannot be listened on ({error.strerror or error}); {advice}"
        ) from error
