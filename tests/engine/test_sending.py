"""Pixels are copied ahead within bounds, and what is encoded of the copies is what would be encoded of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from videolm.contracts import Features, VisualInput
from videolm.engine.config import EngineConfig
from videolm.engine.engine import Engine
from videolm.engine.features import FeatureMemory
from videolm.engine.request import Request
from videolm.engine.sending import CudaSend, SendingFeatures
from videolm.generation.params import SamplingParams
from videolm.models.video_lm import VideoLM
from videolm.processing.processor import Processor

from ..models.tiny import clip, prompt

NUM_BYTES = clip().pixel_values.nbytes
CONFIG = EngineConfig(num_blocks=64, block_size=4)


class Copies:
    """A ``Send`` that copies on the spot."""

    def __init__(self) -> None:
        self.sent: list[Tensor] = []
        self.made: list[int] = []
        self.is_broken = False

    def __call__(self, values: Tensor) -> Callable[[], Tensor]:
        if self.is_broken:
            raise RuntimeError("no way there")
        self.sent.append(values.clone())
        copy = values.clone()
        self.made.append(id(copy))
        return lambda: copy


class Source:
    """Knows the media called ``known`` and remembers what it is asked to encode."""

    def __init__(self) -> None:
        self.seen: list[VisualInput] = []

    def features_for(self, media: Sequence[VisualInput], keys: Sequence[str]) -> Sequence[Features]:
        self.seen += media
        return [Features(tokens=medium.pixel_values.flatten(1)) for medium in media]

    def holds(self, key: str) -> bool:
        return key == "known"


def test_what_was_sent_ahead_is_what_is_encoded() -> None:
    source, copies = Source(), Copies()
    features = SendingFeatures(source, copies, max_bytes=NUM_BYTES)
    media = [clip(seed=seed) for seed in range(3)]
    features.send(media, "abc")
    features.send(media, "abc")  # The first is on its way, and there is no room for the others.
    assert len(copies.sent) == 1
    found = features.features_for(media, "abc")
    assert [id(medium.pixel_values) for medium in source.seen] == copies.made
    for sent, medium, encoded in zip(copies.sent, media, found, strict=True):
        assert torch.equal(sent, medium.pixel_values)
        assert torch.equal(encoded.tokens, medium.pixel_values.flatten(1))
    features.send(media[1:], "bc")
    assert len(copies.sent) == 4


def test_what_is_encoded_already_is_not_sent() -> None:
    source, copies = Source(), Copies()
    features = SendingFeatures(source, copies)
    media = [clip(), replace(clip(), features=Features(tokens=torch.zeros(1, 1)))]
    features.send(media, ["known", "other"])
    features.features_for(media, ["known", "other"])
    assert not copies.sent
    assert [id(medium) for medium in source.seen] == [id(medium) for medium in media]


def test_what_nobody_encodes_any_more_makes_room() -> None:
    copies = Copies()
    features = SendingFeatures(Source(), copies, max_bytes=NUM_BYTES)
    features.send([clip(seed=1)], "a")
    features.send([clip(seed=2)], "b")
    assert len(copies.sent) == 2


def test_an_engine_sends_what_it_prepares_and_answers_the_same(model: VideoLM, processor: Processor) -> None:
    params = SamplingParams(max_new_tokens=6)
    asked = [
        Request(id=str(seed), inputs=prompt([1, 2], clip(seed=seed % 2), [3 + seed]), params=params)
        for seed in range(3)
    ]
    expected = [output.output_ids for output in Engine(model, processor, CONFIG).generate(asked)]
    copies = Copies()
    features = SendingFeatures(FeatureMemory(model, max_bytes=1 << 20), copies)
    engine = Engine(model, processor, CONFIG, features=features)
    prepared = engine.prepare(asked[0])
    assert [torch.equal(sent, medium.pixel_values) for sent in copies.sent for medium in prepared.inputs.media] == [
        True
    ]
    assert [output.output_ids for output in engine.generate([prepared, *asked[1:]])] == expected
    assert len(copies.sent) == 3
    assert [output.output_ids for output in engine.generate(asked)] == expected
    assert len(copies.sent) == 3


def test_what_cannot_be_sent_fails_when_it_is_encoded(model: VideoLM, processor: Processor) -> None:
    copies = Copies()
    engine = Engine(model, processor, CONFIG, features=SendingFeatures(FeatureMemory(model, max_bytes=1 << 20), copies))
    params = SamplingParams(max_new_tokens=3)
    words = Request(id="words", inputs=prompt([1, 2]), params=params)
    video = Request(id="video", inputs=prompt([1], clip(), [2]), params=params)
    copies.is_broken = True
    found = engine.generate([video, words])
    assert [output.finish_reason for output in found] == ["error", "length"]
    assert str(found[0].error).startswith("Request video was part of a step that failed (RuntimeError: no way there)")
    copies.is_broken = False
    assert engine.generate([video])[0].finish_reason == "length"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_gets_the_same_numbers_beside_its_work() -> None:
    device = torch.device("cuda")
    send, busy = CudaSend(device), torch.randn(2048, 2048, device=device)
    values = [torch.randn(1 << 20, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    arrivals = []
    for each in values:
        arrivals.append(send(each))
        busy = busy @ busy / 2048
    for each, arrive in zip(values, arrivals, strict=True):
        assert torch.equal(arrive().double().cpu(), each.double())
    there = values[0].to(device)
    assert send(there)().data_ptr() == there.data_ptr()
