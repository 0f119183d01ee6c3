"""Requests of messages become requests of inputs: as a processor alone would prepare them, each medium with its key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from videolm.contracts import ModelInputs
from videolm.engine.config import EngineConfig
from videolm.engine.features import medium_key
from videolm.engine.preparing import prepare
from videolm.engine.request import Request
from videolm.errors import ProcessingError
from videolm.generation.params import SamplingParams
from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling
from videolm.processing.processor import Processor

CONFIG = EngineConfig(sampling=FrameSampling(num_frames=2))


def question(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "What is this?"}]}]


def test_media_are_read_as_the_settings_say(processor: Processor, clip: Path, picture: Path) -> None:
    messages = question({"type": "video", "video": clip}, {"type": "image", "path": str(picture)})
    prepared = prepare(Request(id="a", messages=messages), processor, CONFIG)
    frames = [load_media(clip, sampling=FrameSampling(num_frames=2)), load_media(picture, sampling=FrameSampling())]
    expected = processor.prepare(question({"type": "video"}, {"type": "image"}), frames)
    assert prepared.inputs is not None
    assert prepared.inputs.input_ids == expected.input_ids
    assert prepared.media_keys == tuple(medium_key(medium) for medium in expected.media)
    assert prepared.params.stop_token_ids == (processor.tokenizer.eos_token_id,)


def test_given_media_and_keys_are_taken_as_they_are(processor: Processor, clip: Path, picture: Path) -> None:
    video = load_media(clip, sampling=FrameSampling(num_frames=3))
    image = processor.prepare_medium(load_media(picture, sampling=FrameSampling()))
    request = Request(
        id="a",
        messages=question({"type": "image"}, {"type": "video"}),
        media=(image, video),
        media_keys=("picture", "clip"),
        params=SamplingParams(stop_token_ids=(9,)),
    )
    prepared = prepare(request, processor, CONFIG)
    assert prepared.inputs is not None
    keys = dict(zip((medium.kind for medium in prepared.inputs.media), prepared.media_keys or (), strict=True))
    assert keys == {"image": "picture", "video": "clip"}
    assert prepared.params.stop_token_ids == (9,)


def test_prepared_inputs_get_keys_alone(processor: Processor) -> None:
    inputs = ModelInputs(input_ids=(1, 2))
    assert prepare(Request(id="a", inputs=inputs), processor, CONFIG) == Request(id="a", inputs=inputs, media_keys=())
    keyed = Request(id="a", inputs=inputs, media_keys=())
    assert prepare(keyed, processor, CONFIG) == keyed


def test_a_medium_without_source_is_refused_and_the_advice_is_taken(processor: Processor, clip: Path) -> None:
    request = Request(id="a", messages=question({"type": "video"}))
    with pytest.raises(ProcessingError, match=r"Medium 1 of the messages is a video without a source: .* its media"):
        prepare(request, processor, CONFIG)
    given = replace(request, media=(load_media(clip, sampling=FrameSampling()),))
    assert prepare(given, processor, CONFIG).media_keys is not None
