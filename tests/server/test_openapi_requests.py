"""Requests made from the API's own document: no fault of the server, and no answer that the document leaves out."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

MODEL = "videolm-mini"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]

document = schemathesis.pytest.from_fixture("described")


@pytest.fixture
def described(server: Any) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.mark.slow
@document.parametrize()
@settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)  # fmt: skip
def test_what_comes_is_as_described(case: Any) -> None:
    if case.meta.generation.mode.is_positive and isinstance(case.body, dict) and "model" in case.body:
        # Any other name is refused at once, and more tokens take only longer.
        case.body["model"] = MODEL
        if "max_tokens" in case.body or "messages" in case.body:
            case.body.pop("max_completion_tokens", None)
            case.body["max_tokens"] = 2
    case.call_and_validate(checks=CHECKS)
