"""The application: paths, and what each answers."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic_core import from_json
from starlette.exceptions import HTTPException

from recsys_dl.data.messages import shorten
from recsys_dl.runs import run_folder
from recsys_dl.version import __version__

from .answers import Answers, Wanted, variant_of
from .batches import Batches, Job
from .errors import Refused, away_for_now, in_words, overloaded
from .exported import is_export
from .figures import Figures
from .guard import Guard
from .learner import Learner
from .live import Current, Live
from .messages import (
    Answer,
    Error,
    Explanation,
    Feedback,
    Kept,
    Recommend,
    Score,
    ScoreAnswer,
    Similar,
    SimilarAnswer,
)
from .recorder import Recorder
from .settings import Settings
from .showing import add_page
from .store import Address, StoreError
from .tracing import Mark, Traces

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Error, "description": text}
    for status, text in {
        400: "the body was cut off",
        401: "no token, or a wrong one",
        404: "an unknown id",
        408: "the body did not arrive in time",
        413: "the body is too large",
        422: "a body that cannot be read, or says what cannot be done",
        429: "too many requests",
        503: "not in time, or the store cannot be written",
    }.items()
}


class StrictRequest(Request):
    """A request whose body is JSON as the standard has it: no NaN, no half characters, no unbounded depth."""

    async def json(self) -> Any:
        """Return the body."""
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            raise Refused(
                422, f"the body must be JSON (RFC 8259, so without NaN): {shorten(str(error), 300)}"
            ) from None


class StrictRoute(APIRoute):
    """A route that reads bodies strictly."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return the handler."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            try:
                return await handler(StrictRequest(request.scope, request.receive))
            except HTTPException as error:
                if isinstance(error.__cause__, Refused):
                    raise error.__cause__ from None
                raise

        return strict


class Service:
    """The parts of a running server: the run, the store, and the queue before them."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.figures = settings, Figures()
        self.traces = None if settings.traces is None else Traces(settings.traces)
        for path in filter(None, (settings.run, settings.beside)):  # before a store is made beside what is no run
            if not is_export(path):
                run_folder(path)
        shared = settings.store if isinstance(settings.store, Address) else None
        self.recorder = Recorder(settings.store_folder, shared)
        two = settings.beside is not None
        self.learner = Learner(self.recorder, settle=settings.settle) if settings.learn else None
        prepare = None if self.learner is None else self.learner.adopt
        self.current = Current(settings.run, self.recorder, "a" if two else "", prepare)
        self.currents = {"a": self.current}
        if settings.beside is not None:
            self.currents["b"] = Current(settings.beside, self.recorder, "b", prepare)
            for name, one in self.currents.items():
                share = settings.share if name == "b" else 1 - settings.share
                self.recorder.describe(one.live.log, {"variant": name, "run": str(one.path), "share": share})
        self.answers = {
            name: Answers(one, self.recorder, max_k=settings.max_k, variant=name) for name, one in self.currents.items()
        }
        self.figures.loaded.set(self.current.live.loaded)
        self.batches = Batches(
            "answers",
            self._process,
            size=settings.batch_size,
            wait=settings.batch_ms / 1000,
            capacity=settings.queue_size,
        )

    def lives(self) -> list[Live]:
        """Return the runs that answer now."""
        return [one.live for one in self.currents.values()]

    def _process(self, jobs: Sequence[Job]) -> None:
        self.figures.batches.observe(len(jobs))
        for name, answers in self.answers.items():
            if mine := [job for job in jobs if job.body.variant == name]:
                answers.process(mine)

    def live(self, variant: str) -> Live:
        """Return the run of a variant.

        Raises:
            Refused: there is no such one.
        """
        if variant not in self.currents:
            raise Refused(
                422, f"variant must be a, the only run of this server, got {variant}; beside=RUN serves a second"
            )
        return self.currents[variant].live

    async def answer(self, wanted: Wanted) -> JSONResponse:
        """Queue a request and return the answer."""
        self.recorder.check()
        asked = getattr(wanted.body, "variant", None)
        if asked is None:
            asked = "a" if len(self.currents) == 1 else variant_of(wanted, self.settings.share)
        variant = asked
        self.live(variant)
        try:
            result = self.batches.put(replace(wanted, variant=variant))
        except queue.Full:
            raise overloaded() from None
        return JSONResponse(await self.within(result))

    async def keep(self, body: Feedback, marks: list[Mark]) -> int:
        """Keep feedback; return how many events, once they are durable."""
        begin = time.time_ns()
        try:
            return int(await self.within(self.recorder.feedback(body)))
        finally:
            marks.append(Mark("store", begin, time.time_ns()))

    async def within(self, result: Future[Any]) -> Any:
        """Return a result that must be there in time."""
        try:
            return await asyncio.wait_for(asyncio.wrap_future(result), self.settings.timeout)
        except asyncio.TimeoutError:
            raise Refused(
                503, f"the answer took longer than {self.settings.timeout:g} s; send this again later", retry_after=1
            ) from None

    async def reload(self, variant: str = "a") -> dict[str, Any]:
        """Load a run again; see `Current.reload`."""
        try:
            live = await asyncio.to_thread(self.currents[variant].reload)
        except Refused:
            self.figures.reloads.labels("refused").inc()
            raise
        self.figures.reloads.labels("done").inc()
        self.figures.loaded.set(live.loaded)
        return live.about()

    def described(self, about: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Return what is said of each run, with what its policies have learned; that of run a is not nested."""
        for name, one in self.currents.items():
            learned = None if self.learner is None else self.learner.about(one.live)
            about[name] |= {} if learned is None else {"learned": learned}
        return about.pop("a") | about

    async def watch(self) -> None:
        """Reload whenever the run has changed."""
        while True:
            await asyncio.sleep(self.settings.watch)
            for name, current in self.currents.items():
                if await asyncio.to_thread(current.changed):
                    try:
                        await self.reload(name)
                    except Refused:
                        continue  # logged, and shown by /health

    def stop(self) -> None:
        """Answer what is queued, and write what is left."""
        self.batches.stop()
        self.recorder.stop()
        if self.learner is not None:
            self.learner.stop(self.lives())
        if self.traces is not None:
            self.traces.stop()


def make_app(settings: Settings) -> Guard:
    """Load the run and return the application, for any ASGI server.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: it is damaged.
        OSError: the store cannot be written.
    """
    service = Service(settings)

    if service.learner is not None:
        service.learner.start(settings.learn, service.lives)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(service.watch()) if settings.watch else None
        yield
        if watching is not None:
            watching.cancel()
        await asyncio.to_thread(service.stop)

    app = FastAPI(
        title="recsys-dl serve",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.router.route_class = StrictRoute
    _add_errors(app)
    _add_answers(app, service)
    _add_state(app, service)
    add_page(app, service, service.recorder.histories, REFUSALS)
    paths = tuple(route.path for route in app.routes if hasattr(route, "path"))
    guard = Guard(app, settings, service.figures, paths, service.traces)
    service.batches.present = lambda: guard.in_flight
    return guard


def _add_errors(app: FastAPI) -> None:
    def said(request: Request, status: int, message: str, headers: Any = None) -> JSONResponse:
        content = {"error": message, "request_id": request.state.request_id}
        return JSONResponse(content, status, headers=headers)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return said(request, error.status, error.message, error.headers)

    @app.exception_handler(StoreError)
    async def away(request: Request, error: StoreError) -> JSONResponse:
        return await refused(request, away_for_now(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return said(request, 422, in_words(list(error.errors())))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        paths = "GET /openapi.json lists the paths and their methods"
        return said(request, error.status_code, f"{error.detail}; {paths}", error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return said(request, 500, "the server failed; its log has the reason under this request_id")


def _add_answers(app: FastAPI, service: Service) -> None:
    @app.post("/recommend", response_model=Answer, responses=REFUSALS, summary="A list of items")
    async def recommend(body: Recommend, request: Request) -> Response:
        return await service.answer(Wanted(body, request.state.request_id, marks=request.state.marks))

    @app.post("/similar", response_model=SimilarAnswer, responses=REFUSALS, summary="Items similar to items")
    async def similar(body: Similar, request: Request) -> Response:
        return await service.answer(Wanted(body, request.state.request_id, marks=request.state.marks))

    @app.post("/score", response_model=ScoreAnswer, responses=REFUSALS, summary="Scores of given items")
    async def score(body: Score, request: Request) -> Response:
        return await service.answer(Wanted(body, request.state.request_id, marks=request.state.marks))

    @app.post("/explain", response_model=Explanation, responses=REFUSALS, summary="A list, and why each item is in it")
    async def explain(body: Recommend, request: Request) -> Response:
        return await service.answer(Wanted(body, request.state.request_id, explain=True, marks=request.state.marks))

    @app.post("/feedback", response_model=Kept, responses=REFUSALS, summary="What became of an answer")
    async def feedback(body: Feedback, request: Request) -> Response:
        kept = await service.keep(body, request.state.marks)
        service.figures.events.inc(kept)
        return JSONResponse({"request_id": request.state.request_id, "kept": kept})


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/health", summary="That the process answers, and which run")
    async def health() -> Response:
        about = {name: one.live.about() | {"refused": one.refused} for name, one in service.currents.items()}
        return JSONResponse(service.described(about))

    @app.get("/ready", summary="Whether requests may be sent here: 200 or 503")
    async def ready() -> Response:
        failure = service.recorder.failure
        return JSONResponse({"ready": failure is None, "store": failure}, 200 if failure is None else 503)

    @app.get("/metrics", summary="For Prometheus")
    async def metrics() -> Response:
        return Response(generate_latest(service.figures.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post("/reload", responses=REFUSALS, summary="Load the run again; the old one answers until it is warm")
    async def reload() -> Response:
        if service.settings.token is None:
            raise Refused(403, "reloading needs a server with a token: start it with RECSYS_DL_TOKEN set, and send it")
        about = {name: await service.reload(name) for name in service.currents}
        return JSONResponse(service.described(about))
