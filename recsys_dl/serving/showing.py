"""The page at /, and what it looks up."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import Annotated, Any, Literal, Protocol

from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse, Response

from recsys_dl.data.messages import shorten

from .answers import Answers, found
from .errors import Refused
from .live import Live
from .messages import Found, Liked, Map, Mapped, Places, RunFigures, UsersFound
from .store import Store

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
Variant = Annotated[Literal["a", "b"], Query(description="which of two runs")]
Limit = Annotated[int, Query(ge=1, le=100)]


class Shown(Protocol):
    """What the page needs of the service."""

    answers: dict[str, Answers]

    def live(self, variant: str) -> Live:
        """Return a run.

        Raises:
            Refused: there is no second one.
        """


def add_page(app: FastAPI, service: Shown, histories: Store, refusals: dict[int | str, dict[str, Any]]) -> None:
    """Add the page and its look-ups to an application."""
    home = files(__package__) / "page"
    for file in home.iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in TYPES:
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            app.add_api_route(path, _sends(file.read_bytes(), TYPES[suffix]), include_in_schema=path == "/")

    @app.get("/titles", response_model=Found, responses=refusals, summary="Items by words of their titles")
    async def titles(
        q: Annotated[str, Query(max_length=200, description="words, or an item's id", examples=["toy story"])] = "",
        limit: Limit = 20,
        variant: Variant = "a",
    ) -> Response:
        catalog = service.live(variant).catalog
        return JSONResponse({"items": await asyncio.to_thread(catalog.titles, q, limit)})

    @app.get("/users", response_model=UsersFound, responses=refusals, summary="Users by the beginning of their ids")
    async def users(
        q: Annotated[str, Query(max_length=200, description="beginning of an id", examples=["19"])] = "",
        limit: Limit = 20,
        variant: Variant = "a",
    ) -> Response:
        catalog = service.live(variant).catalog
        return JSONResponse({"users": await asyncio.to_thread(catalog.users, q, limit)})

    @app.get("/liked", response_model=Liked, responses=refusals, summary="What a user interacted with")
    async def liked(
        user: Annotated[str, Query(min_length=1, max_length=1000, examples=["196"])],
        limit: Limit = 30,
        variant: Variant = "a",
    ) -> Response:
        catalog = service.live(variant).catalog
        items = await asyncio.to_thread(lambda: catalog.liked(user, histories.of(user), limit))
        if items is None:
            raise Refused(404, f"user {shorten(user)!r} is not known; GET /users?q= finds users")
        return JSONResponse({"user": user, "items": items})

    @app.get("/map", response_model=Map, responses=refusals, summary="A sample of the items in two dimensions")
    async def sample(variant: Variant = "a") -> Response:
        return JSONResponse(await asyncio.to_thread(service.live(variant).catalog.map))

    @app.post("/map", response_model=Mapped, responses=refusals, summary="Where items are on the map")
    async def places(body: Places) -> Response:
        live = service.live(body.variant)
        rows = found(live.run.items, body.items)
        return JSONResponse(await asyncio.to_thread(live.catalog.places, rows))

    @app.get(
        "/run", response_model=RunFigures, responses=refusals, summary="The run: figures, stages, adjustable settings"
    )
    async def run(variant: Variant = "a") -> Response:
        live = service.live(variant)
        return JSONResponse(live.about() | live.catalog.figures() | {"variants": list(service.answers)})


def _sends(content: bytes, kind: str) -> Any:
    async def send() -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return send
