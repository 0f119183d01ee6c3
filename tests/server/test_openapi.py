"""The document of the API: every route is in it, and what the server answers keeps to it."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema_rs
import pytest
from starlette.routing import Route

from videolm.server.app import build_app

MODEL = "videolm-mini"
PATH = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}


@pytest.fixture(scope="module")
def http(server: Any) -> Any:
    with server.http() as http:
        yield http


@pytest.fixture(scope="module")
def document(http: Any) -> Any:
    response = http.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    return response.json()


def check(document: Any, value: Any, name: str) -> None:
    """Refuse a value that is not as the component of that name says."""
    jsonschema_rs.validate({"$ref": f"#/components/schemas/{name}", "components": document["components"]}, value)


def test_every_route_is_described_and_no_other(document: Any, server: Any) -> None:
    routes = [route for route in build_app(server.backend).routes if isinstance(route, Route)]
    served = {
        (method.lower(), re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path))
        for route in routes
        for method in route.methods or ()
        if method != "HEAD" and not route.path.startswith("/static/")
    }
    described = {(method, path) for path, item in document["paths"].items() for method in item}
    assert described == served


def test_every_reference_leads_somewhere(document: Any) -> None:
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert names <= document["components"]["schemas"].keys()
    assert {"ChatRequest", "Completion", "Chunk", "ErrorBody", "ModelList", "Health"} <= names


def test_what_needs_no_key_says_so(document: Any) -> None:
    methods = {path: operation for path, item in document["paths"].items() for operation in item.values()}
    assert {path for path, operation in methods.items() if operation.get("security") == []} == {
        "/",
        "/health",
        "/health/live",
    }


def test_answers_are_as_described(document: Any, http: Any, clip_part: dict[str, Any]) -> None:
    content = [clip_part, {"type": "text", "text": "What?"}]
    asked = HELLO | {"messages": [{"role": "user", "content": content}], "n": 2, "logprobs": True, "top_logprobs": 2}
    check(document, asked, "ChatRequest")
    check(document, http.post(PATH, json=asked).json(), "Completion")
    body = asked | {"stream": True, "stream_options": {"include_usage": True}}
    check(document, body, "ChatRequest")
    events = http.post(PATH, json=body).text.split("\n\n")[:-2]
    for event in events:
        check(document, json.loads(event.removeprefix("data: ")), "Chunk")
    assert len(events) > 3
    check(document, http.get("/v1/models").json(), "ModelList")
    check(document, http.get(f"/v1/models/{MODEL}").json(), "ModelCard")
    check(document, http.get("/health").json(), "Health")
    check(document, http.get("/nowhere").json(), "ErrorBody")


@pytest.mark.parametrize(
    "fields",
    [{"model": "another"}, {"tools": []}, {"messages": []}, {"n": 0}, {"temperature": -1}, {"stop": ""}, {"fps": 0}],
)
def test_the_document_refuses_what_the_server_refuses(document: Any, http: Any, fields: dict[str, Any]) -> None:
    check(document, HELLO, "ChatRequest")
    with pytest.raises(jsonschema_rs.ValidationError):
        check(document, HELLO | fields, "ChatRequest")
    assert http.post(PATH, json=HELLO | fields).status_code in (400, 404)
