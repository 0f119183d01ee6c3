"""Log probabilities over the network against those of the engine, and the texts of single tokens."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from videolm.engine.engine import Engine
from videolm.engine.request import Request
from videolm.generation.params import SamplingParams
from videolm.server.token_texts import TokenTexts
from videolm.session import Session

MODEL = "videolm-mini"
MESSAGES: list[Any] = [{"role": "user", "content": "What is there to see?"}]


@pytest.fixture(scope="module")
def expected(session: Session) -> Any:
    stops = session.loaded.stop_token_ids
    params = SamplingParams(logprobs=3, stop_token_ids=stops)
    (output,) = Engine(session.model, session.processor).generate([Request(id="a", messages=MESSAGES, params=params)])
    assert output.output_ids[-1] in stops
    return output.text, output.logprobs[:-1]


def ask(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(model=MODEL, messages=MESSAGES, **options)


def test_they_are_the_engines(client: openai.OpenAI, session: Session, expected: Any) -> None:
    text, tokens = expected
    decode = TokenTexts(session.processor.tokenizer).text
    told = ask(client, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert [token.token for token in told] == [decode(token.token_id) for token in tokens]
    assert [token.logprob for token in told] == pytest.approx([token.logprob for token in tokens], abs=1e-4)
    for mine, theirs in zip(told, tokens, strict=True):
        assert [top.token for top in mine.top_logprobs] == [decode(token_id) for token_id, _ in theirs.top]
        assert [top.logprob for top in mine.top_logprobs] == pytest.approx([value for _, value in theirs.top], abs=1e-4)
    assert "".join(token.token for token in told).strip() == text
    assert bytes(value for token in told for value in token.bytes).decode().strip() == text


def test_a_stream_tells_each_once(client: openai.OpenAI) -> None:
    whole = ask(client, logprobs=True).choices[0].logprobs.content
    chunks = list(ask(client, logprobs=True, stream=True))
    streamed = [token for chunk in chunks for token in chunk.choices[0].logprobs.content]
    assert [token.token for token in streamed] == [token.token for token in whole]
    assert all(token.top_logprobs == [] for token in streamed)


def test_tokens_keep_their_spaces_and_parts_of_characters_are_marked(session: Session) -> None:
    tokenizer = session.processor.tokenizer
    texts = TokenTexts(tokenizer)
    ids = tokenizer.encode("A red circle moves. \N{SNOWMAN}", special=False)
    assert "".join(map(texts.text, ids[:5])) in "A red circle moves."
    assert tokenizer.eos_token_id is not None
    assert texts.text(tokenizer.eos_token_id) == tokenizer.eos_token
