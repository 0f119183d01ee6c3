"""SamplingParams: defaults are greedy, every impossible value is refused with one line."""

from __future__ import annotations

from typing import Any

import pytest

from videolm.errors import ArgumentError
from videolm.generation.params import SamplingParams


def test_defaults_are_greedy_and_bounded() -> None:
    params = SamplingParams()
    assert params.is_greedy
    assert params.max_new_tokens == 256
    assert params.seed is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_new_tokens", 0, "max_new_tokens is 0: expected a whole number of at least 1. Use 1 or more."),
        ("max_new_tokens", -5, "max_new_tokens is -5: expected a whole number of at least 1. Use 1 or more."),
        ("max_new_tokens", 2.5, "max_new_tokens is 2.5: expected a whole number of at least 1. Use 1 or more."),
        ("max_new_tokens", True, "max_new_tokens is True: expected a whole number of at least 1. Use 1 or more."),
        ("min_new_tokens", -1, "min_new_tokens is -1: expected a whole number of at least 0. Use 0 or more."),
        (
            "temperature",
            -0.1,
            "temperature is -0.1: expected a number of at least 0. Use 0 for the most likely token each time.",
        ),
        (
            "temperature",
            float("nan"),
            "temperature is nan: expected a number of at least 0. Use 0 for the most likely token each time.",
        ),
        ("top_p", 0, "top_p is 0: expected a number above 0 and at most 1. Use 1 to keep all tokens."),
        ("top_p", 1.5, "top_p is 1.5: expected a number above 0 and at most 1. Use 1 to keep all tokens."),
        ("top_p", "0.5", "top_p is '0.5': expected a number above 0 and at most 1. Use 1 to keep all tokens."),
        ("top_k", -1, "top_k is -1: expected a whole number of at least 0. Use 0 to keep all tokens."),
        ("min_p", 2.0, "min_p is 2.0: expected a number of at least 0 and at most 1. Use 0 to keep all tokens."),
        ("repetition_penalty", 0, "repetition_penalty is 0: expected a number above 0. Use 1 for no penalty."),
        (
            "presence_penalty",
            2.5,
            "presence_penalty is 2.5: expected a number of at least -2 and at most 2. Use 0 for no penalty.",
        ),
        (
            "frequency_penalty",
            -3,
            "frequency_penalty is -3: expected a number of at least -2 and at most 2. Use 0 for no penalty.",
        ),
        ("logprobs", 21, "logprobs is 21: expected a whole number from 0 to 20. Leave it out to be told none."),
        ("logprobs", True, "logprobs is True: expected a whole number from 0 to 20. Leave it out to be told none."),
        (
            "seed",
            -1,
            "seed is -1: expected a whole number from 0 to 18446744073709551615. "
            "Leave it out for a new draw each time.",
        ),
        ("stop", "END", "stop is 'END': expected a tuple of strings. Write stop=('END',)."),
        (
            "stop",
            ("a", ""),
            "stop holds an empty string, which would end every answer at once: expected strings of at least one "
            "character. Remove the empty one.",
        ),
        ("stop_token_ids", (-2,), "stop_token_ids is -2: expected a whole number of at least 0. Use 0 or more."),
    ],
)
def test_impossible_values_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        SamplingParams(**{name: value})
    assert str(caught.value) == message


def test_a_minimum_above_the_maximum_is_refused() -> None:
    with pytest.raises(ArgumentError, match="min_new_tokens is 9 but max_new_tokens is 8"):
        SamplingParams(min_new_tokens=9, max_new_tokens=8)


@pytest.mark.parametrize(
    "advice",
    [
        {"temperature": 0},
        {"top_k": 0},
        {"top_p": 1},
        {"min_p": 0},
        {"repetition_penalty": 1},
        {"presence_penalty": 0},
        {"frequency_penalty": 0},
        {"logprobs": None},
        {"seed": None},
        {"stop": ("END",)},
        {"max_new_tokens": 1},
    ],
)
def test_what_the_messages_advise_works(advice: dict[str, Any]) -> None:
    SamplingParams(**advice)
