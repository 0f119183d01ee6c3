"""The scripts of the Chinese documentation of LLaVA-NeXT-Video of transformers 4.44, on a tiny checkpoint.

Its eight blocks of code are those of the page of 4.42, letter for letter but for the indentation that its text has
lost. ``test_block_1``, ``2``, ``3``, ``4``, ``6`` and ``8`` are the same tests, run here on a checkpoint with the
files of 4.44 and a Mistral decoder; what they differ in from the page is listed there. Block 5 is a command and
block 7 needs no checkpoint.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from videolm import AutoConfig

from .checkpoints import next_video_of_4_44, write_checkpoint
from .test_llava_next_video_4_42 import (
    MODEL,
    test_block_1,
    test_block_2,
    test_block_3,
    test_block_4,
    test_block_6_with_a_stand_in,
    test_block_6_without_the_package,
    test_block_8,
)

__all__ = [
    "test_block_1",
    "test_block_2",
    "test_block_3",
    "test_block_4",
    "test_block_6_with_a_stand_in",
    "test_block_6_without_the_package",
    "test_block_8",
]


def test_the_checkpoint_is_another() -> None:
    assert AutoConfig.from_pretrained(MODEL).text_config.model_type == "mistral"


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache with the later files in the place of those of 4.42."""
    cache = tmp_path_factory.mktemp("hub")
    write_checkpoint(cache, MODEL, next_video_of_4_44)
    return cache
