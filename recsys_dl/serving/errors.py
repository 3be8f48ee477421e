"""What is answered in place of what was requested."""

from __future__ import annotations

import re
from typing import Any

from recsys_dl.data.messages import shorten

SHOWN = 5  # complaints about one body
INTERNAL = re.compile(r"body|query|(constrained-)?(int|str|float)")  # parts of a place that are pydantic's, not fields


class Refused(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        message: what must hold, what came, what to do.
        retry_after: seconds, for a client that should try again.
        close: whether the connection is closed after the answer.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None, close: bool = False) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after, self.close = status, message, retry_after, close

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers | ({"Connection": "close"} if self.close else {})


def overloaded() -> Refused:
    """Return the answer to a request for which there is no room."""
    return Refused(429, "the server has as many requests as it can hold; send this one again later", retry_after=1)


def away_for_now(error: OSError) -> Refused:
    """Return the answer to a request that needs a store that cannot be read."""
    return Refused(503, f"{error}; send this again later, and see GET /ready", retry_after=5)


def in_words(errors: list[dict[str, Any]]) -> str:
    """Return pydantic's complaints about a body as text: which field, what must hold, what came."""
    found: dict[tuple[str, str], list[str]] = {}  # a value that may be of several types has a complaint of each
    for error in errors[:SHOWN]:
        where = ".".join(str(part) for part in error["loc"] if not INTERNAL.fullmatch(str(part))) or "the body"
        came = "" if error["type"] in ("missing", "extra_forbidden") else f", got {_shown(error['input'])}"
        found.setdefault((shorten(where), came), []).append(_sentence(error))
    lines = [
        f"{where}: {said[0]}{''.join(' or ' + one.removeprefix('should be ') for one in said[1:])}{came}"
        for (where, came), said in found.items()
    ]
    more = f" (and {len(errors) - SHOWN} more)" if len(errors) > SHOWN else ""
    return "; ".join(lines) + more


def _shown(value: Any) -> str:
    """Return a value as it was sent, shortened."""
    return (
        {True: "true", False: "false"}[value]
        if isinstance(value, bool)
        else "null"
        if value is None
        else shorten(repr(value))
    )


def _sentence(error: dict[str, Any]) -> str:
    if error["type"] == "missing":
        return "must be given"
    if error["type"] == "extra_forbidden":
        return "there is no such field; GET /openapi.json lists them"
    if error["type"] in ("model_attributes_type", "model_type", "dict_type"):
        return "must be a JSON object, sent with Content-Type: application/json"
    said = str(error["msg"]).removeprefix("Value error, ")
    return re.sub(r"^(Input|List|String) should", "should", said).partition(" after validation")[0]
