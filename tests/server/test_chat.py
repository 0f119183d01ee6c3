"""Chat over the network against the same questions asked in Python: same text, same counts, whole and streamed."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import openai
import pytest

from videolm.session import Session

MODEL = "videolm-mini"
QUESTION = "What happens in the video?"
OTHER = "Which colours are there?"


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]}


def ask(client: openai.OpenAI, messages: list[Any], **options: Any) -> Any:
    return client.chat.completions.create(model=MODEL, messages=messages, **options)


def text_of(chunks: list[Any], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def test_the_answer_is_that_of_the_session(
    client: openai.OpenAI, session: Session, demo_clip: Path, clip_part: dict[str, Any]
) -> None:
    expected = session.ask(demo_clip, QUESTION)
    answer = ask(client, [user(clip_part, QUESTION)])
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    (choice,) = answer.choices
    assert (choice.index, choice.message.role, choice.finish_reason) == (0, "assistant", expected.finish_reason)
    assert choice.message.content == expected.text
    assert choice.logprobs is None
    counts = expected.usage
    assert answer.usage.prompt_tokens == counts.prompt_tokens
    assert answer.usage.completion_tokens == counts.completion_tokens
    assert answer.usage.total_tokens == counts.prompt_tokens + counts.completion_tokens
    assert answer.usage.prompt_tokens_details.visual_tokens == counts.visual_tokens
    assert sorted(answer.timings_s) == ["decode", "first_token", "preprocess", "total", "vision"]
    assert 0 < answer.timings_s["first_token"] <= answer.timings_s["total"]


def test_a_stream_says_the_same(
    client: openai.OpenAI, session: Session, demo_clip: Path, clip_part: dict[str, Any]
) -> None:
    expected = session.ask(demo_clip, QUESTION)
    chunks = list(ask(client, [user(clip_part, QUESTION)], stream=True))
    assert text_of(chunks) == expected.text
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant"] + [None] * (len(chunks) - 1)
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].timings_s["total"] > 0


def test_a_stream_ends_with_its_usage_where_that_is_asked_for(client: openai.OpenAI, clip_part: dict[str, Any]) -> None:
    messages = [user(clip_part, OTHER)]
    whole = ask(client, messages)
    *chunks, last = ask(client, messages, stream=True, stream_options={"include_usage": True})
    assert text_of(chunks) == whole.choices[0].message.content
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert getattr(last.usage, name) == getattr(whole.usage, name)
    assert last.timings_s["total"] > 0


def test_the_events_are_as_documented(server: Any) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": True, "max_tokens": 2}
    with server.http() as http, http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        events = response.read().decode().split("\n\n")
    assert all(event.startswith('data: {"id":"chatcmpl-') for event in events[:-2])
    assert events[-2:] == ["data: [DONE]", ""]


def test_the_second_question_finds_the_first_ones_work(
    client: openai.OpenAI, session: Session, demo_clip: Path, clip_part: dict[str, Any]
) -> None:
    first = ask(client, [user(clip_part, QUESTION)])
    said = first.choices[0].message.content
    turns = [user(clip_part, QUESTION), {"role": "assistant", "content": said}, user(OTHER)]
    conversation = session.conversation(demo_clip)
    assert conversation.ask(QUESTION).text == said
    expected = conversation.ask(OTHER)
    second = ask(client, turns)
    assert second.choices[0].message.content == expected.text
    assert second.usage.prompt_tokens == expected.usage.prompt_tokens
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert first.usage.prompt_tokens <= cached < second.usage.prompt_tokens
    assert second.timings_s["vision"] == 0


def test_an_answer_can_be_sent_back_as_the_client_has_it(client: openai.OpenAI) -> None:
    first = ask(client, [user(QUESTION)])
    turns = [user(QUESTION), first.choices[0].message.model_dump(), user(OTHER)]
    plain = [user(QUESTION), {"role": "assistant", "content": first.choices[0].message.content}, user(OTHER)]
    assert ask(client, turns).choices[0].message.content == ask(client, plain).choices[0].message.content


def test_several_media_in_one_message(
    client: openai.OpenAI,
    session: Session,
    demo_clip: Path,
    demo_picture: Path,
    clip_part: dict[str, Any],
    picture_part: dict[str, Any],
) -> None:
    expected = session.ask([demo_picture, demo_clip], OTHER)
    answer = ask(client, [user(picture_part, clip_part, OTHER)])
    assert answer.choices[0].message.content == expected.text
    assert answer.usage.prompt_tokens == expected.usage.prompt_tokens
    assert answer.usage.prompt_tokens_details.visual_tokens == expected.usage.visual_tokens


def test_media_in_several_turns_and_a_system_prompt(
    client: openai.OpenAI,
    session: Session,
    demo_clip: Path,
    demo_picture: Path,
    clip_part: dict[str, Any],
    picture_part: dict[str, Any],
) -> None:
    system = {"role": "system", "content": "Answer in one word."}
    said = {"role": "assistant", "content": "A circle."}
    messages = [system, user(clip_part, QUESTION), said, user(OTHER, picture_part)]
    medium = {"type": "video", "video": demo_clip}, {"type": "image", "image": demo_picture}
    expected = session.chat([system, user(medium[0], QUESTION), said, user(OTHER, medium[1])])
    answer = ask(client, messages)
    assert answer.choices[0].message.content == expected.text
    assert answer.usage.prompt_tokens == expected.usage.prompt_tokens


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"num_frames": 4}, {"frames": 4}),
        ({"fps": 2.0}, {"fps": 2.0}),
        ({"num_frames": 3, "fps": 2.0}, {"frames": 3, "fps": 2.0}),
        ({"num_frames": "auto"}, {"frames": "auto"}),
        ({"media_io_kwargs": {"video": {"num_frames": 4}}}, {"frames": 4}),
        ({"media_io_kwargs": {"video": {"fps": 2.0}}, "num_frames": 3}, {"frames": 3, "fps": 2.0}),
    ],
)
def test_frames_are_taken_as_asked_for(
    client: openai.OpenAI,
    session: Session,
    demo_clip: Path,
    clip_part: dict[str, Any],
    fields: dict[str, Any],
    options: dict[str, Any],
) -> None:
    expected = session.ask(demo_clip, QUESTION, **options)
    answer = ask(client, [user(clip_part, QUESTION)], extra_body=fields)
    assert answer.choices[0].message.content == expected.text
    assert answer.usage.prompt_tokens_details.visual_tokens == expected.usage.visual_tokens


def test_warnings_are_told(client: openai.OpenAI, session: Session, clip: Path) -> None:
    expected = session.ask(clip, QUESTION, frames=13, top_p=0.5)
    assert len(expected.warnings) > 1
    url = f"data:video/mp4;base64,{base64.b64encode(clip.read_bytes()).decode()}"
    messages = [user({"type": "video_url", "video_url": url}, QUESTION)]
    fields = {"extra_body": {"num_frames": 13}, "top_p": 0.5}
    answer = ask(client, messages, **fields)
    # They begin with what the video is called.
    ends = [line.removeprefix(str(clip)) for line in expected.warnings]
    assert [line for line, end in zip(answer.warnings, ends, strict=True) if not line.endswith(end)] == []
    assert list(ask(client, messages, stream=True, **fields))[-1].warnings == answer.warnings


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"max_tokens": 3}, {"max_new_tokens": 3}),
        ({"max_completion_tokens": 3}, {"max_new_tokens": 3}),
        ({"stop": "circle"}, {"stop": "circle"}),
        ({"stop": ["nowhere", " moves"]}, {"stop": ["nowhere", " moves"]}),
        ({"temperature": 1.5, "seed": 4}, {"temperature": 1.5, "seed": 4}),
        ({"temperature": 1.5, "seed": 4, "top_p": 0.6}, {"temperature": 1.5, "seed": 4, "top_p": 0.6}),
        (
            {"temperature": 3, "seed": 5, "extra_body": {"top_k": 3}},
            {"temperature": 3, "seed": 5, "top_k": 3},
        ),
        (
            {"temperature": 3, "seed": 5, "extra_body": {"min_p": 0.2}},
            {"temperature": 3, "seed": 5, "min_p": 0.2},
        ),
        ({"extra_body": {"repetition_penalty": 3.0}}, {"repetition_penalty": 3.0}),
        ({"presence_penalty": 2.0}, {"presence_penalty": 2.0}),
        ({"frequency_penalty": 1.5}, {"frequency_penalty": 1.5}),
        ({"temperature": None, "top_p": None, "n": None, "stream": None, "logprobs": None}, {}),
    ],
)
def test_options_mean_what_they_mean_to_the_session(
    client: openai.OpenAI,
    session: Session,
    demo_clip: Path,
    clip_part: dict[str, Any],
    fields: dict[str, Any],
    options: dict[str, Any],
) -> None:
    expected = session.ask(demo_clip, "Describe the video.", **options)
    answer = ask(client, [user(clip_part, "Describe the video.")], **fields)
    assert answer.choices[0].message.content == expected.text
    assert answer.choices[0].finish_reason == expected.finish_reason
    chunks = list(ask(client, [user(clip_part, "Describe the video.")], **fields | {"stream": True}))
    assert text_of(chunks) == expected.text


def test_choices_are_drawn_with_seeds_that_follow_each_other(
    client: openai.OpenAI, session: Session, demo_clip: Path, clip_part: dict[str, Any]
) -> None:
    answers = [session.ask(demo_clip, QUESTION, temperature=2.0, seed=seed) for seed in (7, 8, 9)]
    expected = [answer.text for answer in answers]
    assert len(set(expected)) == 3
    fields = {"n": 3, "temperature": 2.0, "seed": 7}
    whole = ask(client, [user(clip_part, QUESTION)], **fields)
    assert [choice.message.content for choice in whole.choices] == expected
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert whole.usage.prompt_tokens == answers[0].usage.prompt_tokens
    assert whole.usage.completion_tokens == sum(answer.usage.completion_tokens for answer in answers)
    chunks = list(ask(client, [user(clip_part, QUESTION)], stream=True, **fields))
    assert [text_of(chunks, index) for index in range(3)] == expected
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert reasons == [answer.finish_reason for answer in answers]


def test_greedy_choices_are_the_same(client: openai.OpenAI) -> None:
    answer = ask(client, [user(OTHER)], n=2)
    assert answer.choices[0].message.content == answer.choices[1].message.content
