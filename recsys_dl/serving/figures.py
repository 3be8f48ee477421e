"""What the server measures about itself, for Prometheus; and its log, one JSON object a line."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Figures:
    """Metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "recsys_requests", "Requests by path and status", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "recsys_request_seconds", "Seconds to an answer", ["path"], buckets=SECONDS, registry=self.registry
        )
        self.batches = Histogram(
            "recsys_batch_size",
            "Requests answered together",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=self.registry,
        )
        self.in_flight = Gauge("recsys_in_flight", "Requests that wait or are answered", registry=self.registry)
        self.events = Counter("recsys_feedback_events", "Events of feedback that were kept", registry=self.registry)
        self.reloads = Counter("recsys_reloads", "Reloads of the run by result", ["result"], registry=self.registry)
        self.loaded = Gauge("recsys_run_loaded_seconds", "When the run was loaded, since 1970", registry=self.registry)


class JsonLines(logging.Formatter):
    """A log record as one JSON object; fields come from `extra={"fields": ...}`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_as_json() -> None:
    """Write the package's and uvicorn's log to standard error, one JSON object a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    logging.getLogger("recsys_dl").setLevel(logging.INFO)
    logging.getLogger("recsys_dl.run_lists").setLevel(logging.ERROR)  # its notes are in the answers
    logging.getLogger("recsys_dl.families").setLevel(logging.ERROR)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
