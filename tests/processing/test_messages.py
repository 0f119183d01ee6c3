"""Conversations as people write them: one normal form, or one clear line."""

from __future__ import annotations

from typing import Any

import pytest

from videolm.errors import ProcessingError
from videolm.processing.messages import MediaPart, normalise_messages


def test_strings_and_parts_become_one_form() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "video", "path": "a.mp4"}, "What is it?", {"type": "image"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A circle."}]},
        {"role": "user", "content": [{"type": "image", "image": 5}, {"type": "text", "text": "And this?"}]},
    ]
    normal, media = normalise_messages(messages)
    assert normal == [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What is it?"}, {"type": "image"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A circle."}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "And this?"}]},
    ]
    assert media == [
        MediaPart(kind="video", source="a.mp4"),
        MediaPart(kind="image"),
        MediaPart(kind="image", source=5),
    ]
    assert normalise_messages(normal)[0] == normal


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "There are no messages"),
        ("hello", "of type str"),
        ({"role": "user", "content": "x"}, "of type dict"),
        (["hello"], "Message 1 is 'hello'"),
        ([{"role": "user"}], "expected a mapping with the keys role and content"),
        ([{"role": "tool", "content": "x"}], "Message 1 has the role 'tool': expected one of system, user, assistant"),
        ([{"role": ["user"], "content": "x"}], r"has the role \['user'\]"),
        ([{"role": "user", "content": "x", "name": "y"}], "has the key 'name'"),
        ([{"role": "user", "content": 5}], "content of type int"),
        ([{"role": "user", "content": None}], "content of type NoneType"),
        ([{"role": "user", "content": [{"type": "audio"}]}], r"holds the part \{'type': 'audio'\}"),
        ([{"role": "user", "content": [{"type": "text"}]}], "expected a part of type text, image or video"),
        ([{"role": "user", "content": [{"type": "text", "text": 3}]}], "holds the part"),
        ([{"role": "user", "content": [7]}], "holds the part 7"),
        ([{"role": "user", "content": ""}], "The question is empty"),
        ([{"role": "user", "content": " \n"}], "The question is empty"),
        ([{"role": "user", "content": []}], "The question is empty"),
        ([{"role": "user", "content": [{"type": "video"}]}], "The question is empty"),
        ([{"role": "assistant", "content": ""}], r"Message 1 \(assistant\) is empty"),
        ([{"role": "system", "content": [{"type": "text", "text": "x"}, {"type": "image"}]}], "holds an image"),
        ([{"role": "user", "content": "a\ud800b"}], "lone surrogate"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(messages: Any, said: str) -> None:
    with pytest.raises(ProcessingError, match=said) as caught:
        normalise_messages(messages)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
