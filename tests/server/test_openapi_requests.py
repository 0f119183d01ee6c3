"""Requests made from the API's own document: no fault of the server, and no answer that the document leaves out."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from videolm.server.openapi import OPERATIONS, Operation

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
BUDGET = settings(
    max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
"""The same requests each time."""
TAKES_ANYTHING = [operation for operation in OPERATIONS if operation.body is not None or operation.form is not None]
"""Those that can be asked wrongly."""


@pytest.fixture(scope="module")
def described(server: Any) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def ask_for(described: Any, operation: Operation, mode: GenerationMode) -> None:
    """Ask for one operation in many ways."""
    strategy = described[operation.path][operation.method.upper()].as_strategy(generation_mode=mode)

    @BUDGET
    @given(case=strategy)
    def ask(case: Any) -> None:
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict) and "model" in case.body:
            # Any other name is refused at once, and more tokens take only longer.
            case.body["model"] = MODEL
            if "messages" in case.body:
                case.body.pop("max_completion_tokens", None)
                case.body["max_tokens"] = 2
        case.call_and_validate(checks=CHECKS)

    ask()


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_what_is_asked_as_described_is_answered_as_described(described: Any, operation: Operation) -> None:
    ask_for(described, operation, GenerationMode.POSITIVE)


@pytest.mark.slow
@pytest.mark.parametrize("operation", TAKES_ANYTHING, ids=lambda operation: operation.name)
def test_what_is_asked_otherwise_is_refused_as_described(described: Any, operation: Operation) -> None:
    ask_for(described, operation, GenerationMode.NEGATIVE)
