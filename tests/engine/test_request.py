"""Requests: one prompt each, and as many keys as media."""

from __future__ import annotations

from typing import Any

import pytest

from videolm.contracts import ModelInputs
from videolm.engine.request import Request
from videolm.errors import ArgumentError

INPUTS = ModelInputs(input_ids=(1, 2))
MESSAGES = [{"role": "user", "content": "What?"}]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "Request a has neither inputs nor messages: expected one of them. Give the prompt once."),
        (
            {"inputs": INPUTS, "messages": MESSAGES},
            "Request a has both inputs and messages: expected one of them. Give the prompt once.",
        ),
        (
            {"inputs": INPUTS, "media": ()},
            "Request a has media beside its inputs: prepared inputs hold their media. "
            "Leave media out, or give messages.",
        ),
        (
            {"inputs": INPUTS, "media_keys": ("key",)},
            "Request a has 1 media_keys for 0 media: expected one each. "
            "Leave media_keys out to have them made of the pixels.",
        ),
    ],
)
def test_contradictory_requests_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Request(id="a", **values)
    assert str(caught.value) == message


@pytest.mark.parametrize("values", [{"inputs": INPUTS}, {"messages": MESSAGES}, {"messages": MESSAGES, "media": ()}])
def test_what_the_messages_advise_is_taken(values: dict[str, Any]) -> None:
    assert Request(id="a", **values).media_keys is None
