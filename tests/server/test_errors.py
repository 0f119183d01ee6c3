"""What is refused, with its status, its field and the one shape of errors; nothing is accepted and ignored."""

from __future__ import annotations

from typing import Any

import openai
import pytest

MODEL = "videolm-mini"
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
PART = "messages[0].content[0]"
PATH = "/v1/chat/completions"


def part(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [fields, {"type": "text", "text": "What is this?"}]}]}


@pytest.fixture(scope="module")
def http(server: Any) -> Any:
    with server.http() as http:
        yield http


def error_of(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert "\n" not in body["error"]["message"]
    return body["error"]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"tools": []}, "tools", "unknown_field"),
        ({"logit_bias": {}}, "logit_bias", "unknown_field"),
        ({"user": "me"}, "user", "unknown_field"),
        ({"messages": None}, "messages", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "Hello"}, "messages", "invalid_value"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_field"),
        ({"messages": [*HELLO, {"role": "user", "content": "a", "name": "b"}]}, "messages[1].name", "unknown_field"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages", None),
        ({"messages": [*HELLO, {"role": "assistant", "content": "Hi"}]}, "messages", None),
        (part(type="input_audio", input_audio={}), "messages[0].content[0].type", "invalid_value"),
        (part(type="video_url", video_url={"url": "data:", "x": 1}), f"{PART}.video_url.x", "unknown_field"),
        (part(type="image_url", image_url={"url": "", "detail": "high"}), f"{PART}.image_url.detail", "invalid_value"),
        (part(type="text", text=1), "messages[0].content[0].text", "invalid_value"),
        ({"temperature": -1}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": -5}, "max_tokens", "invalid_value"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_value"),
        ({"max_tokens": 2, "max_completion_tokens": 3}, "max_tokens", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"top_p": 1.01}, "top_p", "invalid_value"),
        ({"top_k": -1}, "top_k", "invalid_value"),
        ({"min_p": 2}, "min_p", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 17}, "n", "invalid_value"),
        ({"seed": -1}, "seed", "invalid_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"stop": ["a", ""]}, "stop[1]", "invalid_value"),
        ({"stop": ["a"] * 17}, "stop", "invalid_value"),
        ({"presence_penalty": 2.5}, "presence_penalty", "invalid_value"),
        ({"frequency_penalty": -3}, "frequency_penalty", "invalid_value"),
        ({"repetition_penalty": 0}, "repetition_penalty", "invalid_value"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "unknown_field"),
        ({"num_frames": 0}, "num_frames", "invalid_value"),
        ({"num_frames": -8}, "num_frames", "invalid_value"),
        ({"num_frames": "many"}, "num_frames", "invalid_value"),
        ({"num_frames": 5000}, "num_frames", "invalid_value"),
        ({"fps": 0}, "fps", "invalid_value"),
        ({"fps": -1}, "fps", "invalid_value"),
        ({"media_io_kwargs": {"audio": {}}}, "media_io_kwargs.audio", "unknown_field"),
        ({"media_io_kwargs": {"video": {"num_frames": 0}}}, "media_io_kwargs.video.num_frames", "invalid_value"),
        ({"media_io_kwargs": {"video": {"fps": 1}}, "fps": 2}, "media_io_kwargs.video.fps", "invalid_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_field"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_a_field_is_refused_by_its_name(
    http: Any, fields: dict[str, Any], param: str, code: str | None, stream: bool
) -> None:
    body = {"model": MODEL, "messages": HELLO, "stream": stream} | fields
    if "stream_options" in fields:
        body["stream"] = fields.get("stream", False)
    error = error_of(http.post(PATH, json=body), 400)
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("name", ["model", "messages"])
def test_a_missing_field_is_named(http: Any, name: str) -> None:
    body = {"model": MODEL, "messages": HELLO}
    del body[name]
    error = error_of(http.post(PATH, json=body), 400)
    assert (error["param"], error["code"]) == (name, "missing_field")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"model": "videolm-mini"', b"\xff\xfe", b'{"model": NaN}', b'{"model": "\xff"}', b"[" * 100_000],
)
def test_what_is_no_json_is_refused(http: Any, body: bytes) -> None:
    error = error_of(http.post(PATH, content=body), 400)
    assert error["message"].startswith(("The body is no JSON (", "The body is "))


@pytest.mark.parametrize("body", [b"[]", b"null", b'"a"', b"17"])
def test_json_that_is_no_object_is_refused(http: Any, body: bytes) -> None:
    error = error_of(http.post(PATH, content=body), 400)
    assert error["message"].startswith("The body is ")
    assert error["param"] is None


def test_bombs_are_refused(http: Any) -> None:
    deep = (
        b'{"model": "videolm-mini", "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": '
    )
    deep += b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}}}"
    assert error_of(http.post(PATH, content=deep), 400)["code"] == "invalid_json"
    many = {"model": MODEL, "messages": HELLO} | {f"field_{number}": number for number in range(1000)}
    assert error_of(http.post(PATH, json=many), 400)["param"] == "field_0"
    long = error_of(http.post(PATH, json={"model": MODEL, "messages": HELLO, "x" * 100_000: 1}), 400)
    assert len(long["message"]) < 500


@pytest.mark.parametrize("stream", [False, True])
def test_another_model_is_not_found(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4", messages=HELLO, stream=stream)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("meta/else")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_cannot_fit_is_refused_with_both_numbers(
    client: openai.OpenAI, server: Any, stream: bool
) -> None:
    context_len = server.backend.context_len
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "word " * context_len}], stream=stream
        )
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    assert f"the model's context holds {context_len}" in str(caught.value)
    assert "The prompt has " in str(caught.value)


def test_paths_and_methods_that_are_not_there(http: Any) -> None:
    assert error_of(http.get("/v1/nothing"), 404)["code"] == "not_found"
    assert error_of(http.post(PATH + "/", json={}), 404)["code"] == "not_found"
    refused = http.get(PATH)
    assert error_of(refused, 405)["code"] == "method_not_allowed"
    assert refused.headers["allow"] == "POST"


def test_too_many_media_are_refused(serve: Any, picture_part: dict[str, Any]) -> None:
    message: Any = {"role": "user", "content": [picture_part] * 3 + [{"type": "text", "text": "What?"}]}
    with serve(max_media=2).openai() as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=[message])
    assert (caught.value.code, caught.value.param) == ("too_many_media", "messages[0].content[2]")


def test_what_an_unforeseen_fault_says_is_for_the_log_alone() -> None:
    from videolm.engine.faults import told
    from videolm.server.errors import as_api_error

    error = as_api_error(told(ValueError("the words of a prompt"), "chatcmpl-1-0"))
    assert (error.status, error.type) == (500, "server_error")
    assert error.message == ("The server failed (ValueError): an answer was expected. Ask again, or tell who runs it.")
    memory = as_api_error(told(MemoryError(), "chatcmpl-1-0"))
    assert memory.status == 500
    assert "needs more memory than there is" in memory.message
