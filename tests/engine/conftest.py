"""A tiny model that counts what it encodes, and the processor of the tiny model in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from videolm.contracts import Features, VisualInput
from videolm.families import auto
from videolm.models.video_lm import VideoLM
from videolm.processing.processor import Processor

from ..models.tiny import tiny_model


@pytest.fixture(scope="module")
def processor(tiny_model_folder: Path) -> Processor:
    return auto.load_processor(tiny_model_folder)


@pytest.fixture
def model() -> VideoLM:
    return tiny_model()


@pytest.fixture
def calls(model: VideoLM, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many media without features each call of the model got."""
    seen: list[int] = []
    encode = model.encode_media

    def counted(media: Sequence[VisualInput], **options: Any) -> tuple[Features, ...]:
        seen.append(sum(medium.features is None for medium in media))
        return encode(media, **options)

    monkeypatch.setattr(model, "encode_media", counted)
    return seen
