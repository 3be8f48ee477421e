"""Traces of requests by OpenTelemetry, sent to a collector by OTLP over HTTP."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

SECONDS = 5  # that a collector may take
EVERY = 1000  # milliseconds between sendings
PATH = "/v1/traces"


@dataclass
class Mark:
    """A part of the work on a request.

    Attributes:
        name: of it.
        begin, end: nanoseconds since 1970.
        about: attributes.
        parts: of it, in order.
    """

    name: str
    begin: int
    end: int
    about: dict[str, Any] = field(default_factory=dict)
    parts: list[Mark] = field(default_factory=list)


def endpoint_of(url: str) -> str:
    """Return where spans are sent.

    Raises:
        ValueError: it is no address of a collector.

    Examples:
        >>> from recsys_dl.serving.tracing import endpoint_of
        >>> endpoint_of("http://collector:4318")
        'http://collector:4318/v1/traces'
    """
    asked = "traces must be the address of an OTLP collector over HTTP, such as http://127.0.0.1:4318"
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1)
    except ValueError:
        whole = False
    if not whole:
        raise ValueError(f"{asked}; what was given is none")
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            f"{asked}, without a password; give it as a header, in the environment as OTEL_EXPORTER_OTLP_HEADERS"
        )
    return url if parts.path.endswith(PATH) else url.rstrip("/") + PATH


class Traces:
    """Makes a span of each request, with the marks of its work as child spans.

    A `traceparent` of the client is honored: the span is its child, and is only recorded if it says so. Spans wait in a bounded queue and are sent
    by a thread; those that a collector does not take are dropped, and requests do not wait for it. Other settings are those of OpenTelemetry's environment
    variables (`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`).

    Args:
        url: of the collector.

    Raises:
        ImportError: OpenTelemetry is not installed.
        ValueError: as `endpoint_of`.
    """

    def __init__(self, url: str) -> None:
        endpoint = endpoint_of(url)
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise ImportError(f"traces needs OpenTelemetry ({error}): pip install 'recsys_dl[otel]'") from error
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace: Any = trace
        named = "OTEL_SERVICE_NAME" in os.environ
        self._provider = TracerProvider(
            resource=Resource.create({} if named else {"service.name": "recsys-dl serve"}), shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EVERY))
        self._tracer = self._provider.get_tracer("recsys_dl.serving")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, method: str, path: str, headers: Mapping[bytes, bytes], request: str) -> Any:
        """Return the span of a request that begins now."""
        sent = {name: headers.get(name.encode(), b"").decode("latin-1") for name in ("traceparent", "tracestate")}
        return self._tracer.start_span(
            f"{method} {path}",
            context=self._propagator.extract(sent),
            kind=self._trace.SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": path, "recsys.request_id": request},
        )

    def end(self, span: Any, status: int, marks: Sequence[Mark]) -> None:
        """End a span, with what was marked."""
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        self._add(span, marks)
        span.end()

    def stop(self) -> None:
        """Send what waits."""
        self._provider.shutdown()

    def _add(self, parent: Any, marks: Sequence[Mark]) -> None:
        within = self._trace.set_span_in_context(parent)
        for mark in list(marks):
            span = self._tracer.start_span(mark.name, context=within, start_time=mark.begin, attributes=mark.about)
            self._add(span, mark.parts)
            span.end(mark.end)


def id_of(span: Any) -> str:
    """Return the id of the trace of a span, as traceparent has it."""
    return format(span.get_span_context().trace_id, "032x")
