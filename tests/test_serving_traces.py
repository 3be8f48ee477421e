"""recsys-dl serve traces=…: spans of requests at a real receiver of OTLP over HTTP, in this process."""

import gzip
import json
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

httpx = pytest.importorskip("httpx", reason="asking a server needs httpx: pip install httpx")
pytest.importorskip("opentelemetry.exporter.otlp", reason="traces need OpenTelemetry: pip install 'recsys_dl[otel]'")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: E402
from processes import command  # noqa: E402
from serving_process import ask, start, write_runs  # noqa: E402

from recsys_dl.serving.tracing import endpoint_of  # noqa: E402

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    write_runs(folder)
    return folder


@pytest.fixture
def collector():
    """A receiver: its address, and the resources and spans that arrived."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
            for part in ExportTraceServiceRequest.FromString(body).resource_spans:
                resources.append({one.key: one.value.string_value for one in part.resource.attributes})
                spans.extend(span for scope in part.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    resources: list[dict] = []
    spans: list = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", resources, spans
    server.shutdown()
    server.server_close()


def named(span) -> dict:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def test_a_request_is_a_span_whose_parts_are_its_children(home, collector):
    url, resources, spans = collector
    process, address = start(home, "run=runs/pipeline", f"traces={url}", "watch=0", "learn=0", "threads=1")
    sent = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    with httpx.Client(base_url=address, timeout=20) as client:
        answer = client.post("/recommend", json={"user": 105, "k": 3}, headers=sent).json()
        assert ask(client, "/feedback", request_id=answer["request_id"], events=[{"item": answer["items"][0]["item"]}])
        unsampled = {"traceparent": f"00-{TRACE}-{CALLER}-00"}
        assert client.post("/recommend", json={"user": 106}, headers=unsampled).status_code == 200
        assert client.get("/recommend/x/y", headers={"traceparent": "00-nonsense"}).status_code == 404
        assert ask(client, "/similar", items=[500]).status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert {one["service.name"] for one in resources} == {"recsys-dl serve"}
    roots = {span.name: span for span in spans if span.kind == span.SPAN_KIND_SERVER}
    assert sorted(roots) == ["GET other", "POST /feedback", "POST /recommend", "POST /similar"]
    root = roots["POST /recommend"]
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, CALLER)
    about = named(root)
    assert (about["http.request.method"], about["http.route"], about["http.response.status_code"]) == (
        "POST",
        "/recommend",
        200,
    )
    assert about["recsys.request_id"] == answer["request_id"]
    children = {span.name: span for span in spans if span.parent_span_id == root.span_id}
    assert sorted(children) == ["model", "queue", "store"]
    assert named(children["model"])["recsys.batch"] == 1
    stages = [span for span in spans if span.parent_span_id == children["model"].span_id]
    assert [span.name for span in stages] == ["retriever ease", "merge merge", "reranker explore"]
    for span, within in [*((one, root) for one in children.values()), *((one, children["model"]) for one in stages)]:
        assert span.trace_id == root.trace_id
        assert within.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= within.end_time_unix_nano
    assert [span.name for span in spans if span.parent_span_id == roots["POST /feedback"].span_id] == ["store"]
    assert [span.name for span in spans if span.parent_span_id == roots["POST /similar"].span_id] == ["queue", "model"]
    assert not roots["GET other"].parent_span_id
    lines = [json.loads(line) for line in (home / "log.jsonl").read_text().splitlines()]
    (mine,) = [line for line in lines if line.get("request_id") == answer["request_id"]]
    assert mine["trace_id"] == TRACE


def test_requests_do_not_wait_for_a_collector_that_is_not_there(home):
    process, address = start(home, "run=runs/ease", "traces=http://127.0.0.1:9", "watch=0", "threads=1")
    with httpx.Client(base_url=address, timeout=20) as client:
        for _ in range(30):
            assert ask(client, "/recommend", user=105).status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0
    assert "Traceback" not in (home / "log.jsonl").read_text()


@pytest.mark.parametrize(
    "url", ["collector:4318", "ftp://collector", "http://", "http://collector:x", "http://me:secret@collector:4318"]
)
def test_addresses_that_are_none_are_refused_without_a_password(home, url):
    with pytest.raises(ValueError, match="must be the address of an OTLP collector over HTTP") as error:
        endpoint_of(url)
    assert "secret" not in str(error.value)


def test_the_command_says_so(home):
    found = command("serve", "run=runs/ease", "traces=collector", "port=0", cwd=home, status=1).stderr
    assert "such as http://127.0.0.1:4318" in found
    assert "Traceback" not in found


def test_the_extra_is_named_where_the_library_is_absent():
    code = """
import sys
sys.modules["opentelemetry.sdk.trace"] = None
from recsys_dl.serving.tracing import Traces
try:
    Traces("http://127.0.0.1:4318")
except ImportError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'recsys_dl[otel]'" in found.stdout, found.stderr
