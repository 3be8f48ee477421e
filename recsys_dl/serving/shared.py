"""The store that an address names."""

from __future__ import annotations

from .postgres import Postgres
from .redis_server import Redis
from .store import Address, SharedStore


def opened(address: Address) -> SharedStore:
    """Return the store at an address.

    Raises:
        ImportError: its client library is not installed.
        OSError: it cannot be reached, read or written.
        ValueError: it does not keep what it acknowledges.
    """
    return Postgres(address) if address.kind == "postgresql" else Redis(address)
