"""A tiny model that counts what it encodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from videolm.contracts import Features, VisualInput
from videolm.models.video_lm import VideoLM

from ..models.tiny import tiny_model


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
