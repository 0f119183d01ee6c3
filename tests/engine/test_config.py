"""The engine's settings: what is refused, and that what it says to do is taken."""

from __future__ import annotations

from typing import Any

import pytest

from videolm.engine.config import EngineConfig
from videolm.errors import ArgumentError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block_size": 0}, "block_size is 0: expected a whole number of at least 1. Use 1 or more."),
        ({"num_blocks": 0}, "num_blocks is 0: expected a whole number of at least 1. Leave it out to have it chosen."),
        ({"draft_len": -1}, "draft_len is -1: expected a whole number of at least 0. Use 0 to guess nothing."),
        (
            {"num_blocks": 4, "cache_bytes": 1 << 20},
            "num_blocks is 4 and cache_bytes 1048576: both say how large the cache is. Give one of them.",
        ),
        (
            {"cache_dtype": "int4"},
            "cache_dtype is 'int4': expected one of auto, model, float32, int8. Choose one of these.",
        ),
        (
            {"cuda_graphs": True, "cache_dtype": "int8"},
            "cuda_graphs is True but cache_dtype is 'int8': graphs read keys and values as they are, so another "
            "cache_dtype is expected. Leave cuda_graphs out, or choose another cache_dtype.",
        ),
        (
            {"max_batch_tokens": 8, "max_running": 9},
            "max_running is 9 but max_batch_tokens is 8: every running request takes at least one token a step. "
            "Raise max_batch_tokens or lower max_running.",
        ),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        EngineConfig(**settings)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "settings",
    [
        {"num_blocks": 4},
        {"cache_bytes": 1 << 20},
        {"cache_dtype": "int8"},
        {"max_batch_tokens": 9, "max_running": 9},
        {"draft_len": 0},
        {"cuda_graphs": None, "cache_dtype": "int8"},
        {"cuda_graphs": True, "cache_dtype": "model"},
    ],
)
def test_what_the_messages_advise_is_taken(settings: dict[str, Any]) -> None:
    config = EngineConfig(**settings)
    assert {name: getattr(config, name) for name in settings} == settings
