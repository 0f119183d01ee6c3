"""Indexing: what is ready is encoded together, and whatever is wrong with a medium stays with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from videolm.contracts import Features, VisualInput
from videolm.errors import ArgumentError, MediaNotFoundError, ProcessingError
from videolm.models.vit import VisionTransformer
from videolm.session import load


def test_each_medium_is_told_of_by_itself(
    tiny_model_folder: Path, clip: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = load(tiny_model_folder, cache=tmp_path / "cache")
    told = {each.source: each for each in session.index([clip, "nowhere.mp4", picture], frames=4)}
    assert isinstance(told["nowhere.mp4"].error, MediaNotFoundError)
    reports = [told[clip].report, told[picture].report]
    assert [report and (report.kind, report.visual_tokens) for report in reports] == [("video", 16), ("image", 52)]
    assert [each.was_there for each in told.values()] == [False] * 3
    assert [each.was_there for each in session.index([clip, picture], frames=4)] == [True, True]
    messages = [{"role": "user", "content": [{"type": "video", "video": clip}, {"type": "text", "text": "What?"}]}]
    monkeypatch.setattr(VisionTransformer, "forward", None)
    answer = session.chat(messages, frames=4, max_new_tokens=1)
    assert answer.usage.visual_tokens == 16  # Saying that it is a video does not make it another.


def test_a_medium_that_cannot_be_encoded_does_not_fail_the_others(
    tiny_model_folder: Path, clip: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session = load(tiny_model_folder, cache=tmp_path / "cache")
    encode = session.model.encode_media

    def refuse_pictures(media: Sequence[VisualInput], **options: Any) -> tuple[Features, ...]:
        if any(medium.kind == "image" for medium in media):
            raise ProcessingError("No pictures.")
        return encode(media, **options)

    monkeypatch.setattr(session.model, "encode_media", refuse_pictures)
    told = {each.source: each.error for each in session.index([clip, picture], frames=4)}
    assert told[clip] is None
    assert str(told[picture]) == "No pictures."


def test_a_session_without_a_cache_cannot_index(tiny_model_folder: Path, clip: Path) -> None:
    with pytest.raises(ArgumentError, match="This session has no cache"):
        load(tiny_model_folder).index(clip)
