"""The OpenAPI that a server describes itself by: requests drawn from it get an answer that it describes, and no error of the server."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings

schemathesis = pytest.importorskip(
    "schemathesis", reason="requests from a schema need schemathesis: pip install '.[dev]'"
)

from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance  # noqa: E402
from serving_process import HEADERS  # noqa: E402

CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]

PATHS = (
    "/recommend",
    "/similar",
    "/score",
    "/explain",
    "/feedback",
    "/titles",
    "/users",
    "/liked",
    "/map",
    "/run",
    "/health",
    "/ready",
)
QUIET = settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


@pytest.fixture(scope="module")
def operations(server):
    schema = schemathesis.openapi.from_url(f"{server.base_url}/openapi.json", headers=HEADERS)
    return [found.ok() for found in schema.get_all_operations()]


def test_every_path_is_described(operations):
    assert {one.path for one in operations} >= set(PATHS)


@pytest.mark.parametrize("mode", ["valid", "invalid"])
@pytest.mark.parametrize("path", PATHS)
def test_what_the_schema_allows_and_what_not_get_described_answers(operations, path, mode):
    kind = GenerationMode.POSITIVE if mode == "valid" else GenerationMode.NEGATIVE
    for operation in (one for one in operations if one.path == path):
        if mode == "invalid" and not (len(operation.body) or list(operation.iter_parameters())):
            continue  # nothing in it can be wrong

        @QUIET
        @given(case=operation.as_strategy(generation_mode=kind))
        def asked(case):
            answer = case.call(headers={"Authorization": HEADERS["Authorization"]})
            case.validate_response(answer, checks=CHECKS)

        asked()
