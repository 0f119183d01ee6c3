"""Indexing: what is ready is encoded together, and whatever is wrong with a medium stays with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from videolm.contracts import Features, VisualInput
from videolm.errors import ArgumentError, MediaNotFoundError, ProcessingError
from videolm.media.sampling import FrameSampling
from videolm.models.vit import VisionTransformer
from videolm.options import MediaOptions
from videolm.session import load, load_reader
from videolm.stopwatch import Stopwatch


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


def test_what_the_model_would_see_decides_whether_a_medium_is_found(tiny_model_folder: Path, clip: Path) -> None:
    asked: list[str] = []
    known = SimpleNamespace(find=asked.append)
    plain = load_reader(tiny_model_folder)
    processor, pixels = plain.processor, plain.processor.video_pixels
    tokens = processor.tokens
    readers = [
        plain,
        replace(plain, sampling=FrameSampling(rule="linspace", num_frames=3)),
        *(
            replace(plain, processor=replace(processor, **changes))
            for changes in (
                {"video_pixels": replace(pixels, resample="bilinear")},
                {"video_pixels": replace(pixels, image_mean=(0.4, 0.5, 0.5))},
                {"dtype": torch.bfloat16},
                {"time_instruction": True},
                {"tokens": replace(tokens, video=replace(tokens.video, pool="max"))},
            )
        ),
    ]
    options = [MediaOptions(), MediaOptions(frames=4), MediaOptions(fps=2), MediaOptions(frames="auto")]
    options += [MediaOptions(visual_token_budget=0.5, token_reduction=method) for method in ("evs", "fastvid")]
    pairs = [(reader, options[0]) for reader in readers] + [(plain, each) for each in options[1:]]
    for reader, chosen in [*pairs, pairs[0]]:
        reader.read([(clip, "auto")], chosen, Stopwatch(torch.device("cpu")), known=known)
    assert len(set(asked)) == len(pairs)
    assert asked[0] == asked[-1]
