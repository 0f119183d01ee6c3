"""Answers that are held to a format over the network."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import openai
import pytest

from videolm.engine.engine import Engine
from videolm.engine.request import Request
from videolm.generation.params import SamplingParams
from videolm.generation.structured import json_schema_processor
from videolm.session import Session

MODEL = "videolm-mini"
MESSAGES: list[Any] = [{"role": "user", "content": "Which shapes are there?"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "green", "blue"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
        "sure": {"type": "boolean"},
    },
    "required": ["colour", "count", "sure"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "shape", "schema": SCHEMA, "strict": True}}


def ask(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(model=MODEL, messages=MESSAGES, **options)


def test_an_answer_keeps_to_its_schema_as_in_the_engine(client: openai.OpenAI, session: Session) -> None:
    stops = session.loaded.stop_token_ids
    processor = json_schema_processor(SCHEMA, session.processor.tokenizer, stops)
    params = SamplingParams(stop_token_ids=stops)
    request = Request(id="a", messages=MESSAGES, params=params, logits_processors=(processor,))
    (expected,) = Engine(session.model, session.processor).generate([request])
    answer = ask(client, response_format=FORMAT)
    assert answer.choices[0].message.content == expected.text
    assert answer.choices[0].finish_reason == "stop"
    jsonschema_rs.validate(SCHEMA, json.loads(expected.text))
    chunks = list(ask(client, response_format=FORMAT, stream=True))
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == expected.text


def test_each_of_several_drawn_answers_keeps_to_it(client: openai.OpenAI) -> None:
    answer = ask(client, response_format=FORMAT, n=4, temperature=5.0, seed=3)
    found = [json.loads(choice.message.content) for choice in answer.choices]
    for value in found:
        jsonschema_rs.validate(SCHEMA, value)
    assert len({json.dumps(value) for value in found}) > 1


def test_any_object_may_be_asked_for(client: openai.OpenAI) -> None:
    answer = ask(client, response_format={"type": "json_object"}, max_tokens=100)
    text = answer.choices[0].message.content
    assert text.startswith("{")
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text), dict)


def test_plain_text_is_the_default(client: openai.OpenAI) -> None:
    plain = ask(client).choices[0].message.content
    assert ask(client, response_format={"type": "text"}).choices[0].message.content == plain


@pytest.mark.parametrize(
    "schema", [{"type": "no such type"}, {"$ref": "https://example.org/schema"}, {"not": {"type": "string"}}]
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_that_cannot_be_kept_is_refused(client: openai.OpenAI, schema: Any, stream: bool) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, response_format=wanted, stream=stream)
    assert caught.value.param == "response_format"
