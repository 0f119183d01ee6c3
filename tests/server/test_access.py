"""Who is let in: the key, what needs none, pages of other origins; and that nothing of a request is logged."""

from __future__ import annotations

import logging
from typing import Any

import openai
import pytest

from videolm.processing.text_processor import TextProcessor

MODEL = "videolm-mini"
PATH = "/v1/chat/completions"
KEY = "a-long-secret"
HELLO: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}


@pytest.fixture(scope="module")
def locked(start: Any) -> Any:
    with start(api_key=KEY) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", PATH),
        ("GET", "/v1/models"),
        ("GET", f"/v1/models/{MODEL}"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/v1/nothing"),
        ("POST", "/"),
        ("POST", "/health"),
        ("OPTIONS", PATH),
    ],
)
@pytest.mark.parametrize(
    "value", [None, "", "Bearer", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", KEY, "Bearer \xff"]
)
def test_all_else_needs_the_key(locked: Any, method: str, path: str, value: str | None) -> None:
    headers = {} if value is None else {"authorization": value.encode("latin-1")}
    with locked.http() as http:
        response = http.request(method, path, headers=headers, json=HELLO if method == "POST" else None)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    error = response.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, "invalid_api_key")


@pytest.mark.parametrize("path", ["/", "/health", "/health/live", "/static/app.js", "/static/base.css"])
def test_the_page_and_health_need_none(locked: Any, path: str) -> None:
    with locked.http() as http:
        assert http.get(path).status_code == 200
        assert http.head(path).status_code == 200


def test_the_real_client_with_the_key_and_with_another(locked: Any) -> None:
    with locked.openai(KEY) as client:
        assert client.chat.completions.create(**HELLO).usage.completion_tokens == 1
    with locked.openai("wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(**HELLO)
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("key", ["", "with space", "\N{SNOWMAN}", "new\nline"])
def test_a_key_that_no_header_can_carry_is_refused(serve: Any, key: str) -> None:
    with pytest.raises(ValueError, match=r"^The API key is empty, or holds spaces"):
        serve(api_key=key)


def test_pages_of_other_origins_are_not_let_in_unless_asked_for(serve: Any) -> None:
    origin = {"origin": "https://example.org"}
    asked = origin | {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    with serve().http() as http:
        response = http.post(PATH, json=HELLO, headers=origin)
        assert not [name for name in response.headers if name.startswith("access-control")]
        assert http.options(PATH, headers=asked).status_code == 405
    with serve(api_key=KEY, cors_origins=("https://example.org",)).http() as http:
        allowed = http.options(PATH, headers=asked)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://example.org")
        # A page can read why it was refused.
        refused = http.post(PATH, json=HELLO, headers=origin)
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://example.org")
        refused = http.options(PATH, headers=asked | {"origin": "https://other.org"})
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["type"]) == (400, "cors_refused", "invalid_request_error")
        assert error["message"].startswith("A page may not ask so (its origin): expected an origin of --cors-origin")
        assert "access-control-allow-origin" not in refused.headers
        other = http.post(PATH, json=HELLO, headers={"origin": "https://other.org"})
        assert "access-control-allow-origin" not in other.headers


def test_nothing_of_a_request_is_logged(
    serve: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "xyzzy"
    running = serve(api_key=KEY)

    def fail(*args: Any, **options: Any) -> Any:
        raise RuntimeError(secret)

    with caplog.at_level(logging.INFO), running.http(KEY) as http:
        http.post(PATH, json=HELLO | {"messages": [{"role": "user", "content": secret}]})
        http.post(PATH, json=HELLO | {secret: 1}, headers={"x-secret": secret})
        http.post(f"/{secret}?{secret}", content=secret.encode())
        monkeypatch.setattr(TextProcessor, "prepare_text", fail)
        assert http.post(PATH, json=HELLO).status_code == 500
    # The client logs what it sends.
    lines = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    assert [line.partition(":")[0] for line in lines if "failed" in line] == ["A request failed with RuntimeError"]
    assert [line for line in lines if secret in line or KEY in line] == []
