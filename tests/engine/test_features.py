"""Features by key: encoded once, together, and forgotten by use."""

from __future__ import annotations

from dataclasses import replace

import torch

from videolm.engine.features import FeatureMemory, medium_key
from videolm.models.video_lm import VideoLM
from videolm.visual_tokens import TokenBudget

from ..models.tiny import clip, picture


def test_each_key_is_encoded_once_and_all_new_ones_together(model: VideoLM, calls: list[int]) -> None:
    media = [clip(seed=1), picture(), clip(seed=1)]
    memory = FeatureMemory(model, max_bytes=1 << 20)
    found = memory.features_for(media, ["a", "b", "a"])
    again = memory.features_for([media[1]], ["b"])
    assert calls == [2, 0]
    with torch.inference_mode():
        expected = model.encode_media(media)
    for features, wanted in zip([*found, *again], [*expected, expected[1]], strict=True):
        torch.testing.assert_close(features.tokens, wanted.tokens)


def test_the_least_recently_used_is_forgotten_first(model: VideoLM, calls: list[int]) -> None:
    media = [clip(seed=seed) for seed in range(3)]
    one = media[0].num_tokens * model.config.decoder.hidden_size * 4
    memory = FeatureMemory(model, max_bytes=2 * one)
    for index in (0, 1, 0, 2):
        memory.features_for([media[index]], [str(index)])
    assert memory.num_bytes == 2 * one
    assert calls == [1, 1, 0, 1]
    memory.features_for(media[:1], ["0"])
    memory.features_for(media[1:2], ["1"])
    assert calls == [1, 1, 0, 1, 0, 1]


def test_what_is_kept_holds_no_memory_of_what_was_encoded_with_it(model: VideoLM) -> None:
    memory = FeatureMemory(model, max_bytes=1 << 20)
    for features in memory.features_for([clip(seed=1), picture()], ["a", "b"]):
        assert features.tokens.untyped_storage().nbytes() == features.tokens.nbytes


def test_without_memory_a_call_is_answered_all_the_same(model: VideoLM) -> None:
    memory = FeatureMemory(model, max_bytes=0)
    found = memory.features_for([clip(), picture()], ["a", "b"])
    assert [len(features.tokens) for features in found] == [clip().num_tokens, picture().num_tokens]
    assert memory.num_bytes == 0


def test_keys_tell_media_apart_by_everything_that_features_depend_on() -> None:
    medium = clip()
    changed = medium.pixel_values.clone()
    changed[-1, -1, -1, -1] += 1e-6
    others = [
        replace(medium, pixel_values=changed),
        replace(medium, kind="image"),
        replace(medium, size=(1, 2)),
        replace(medium, num_tokens=1),
        replace(medium, budget=TokenBudget(fraction=0.5)),
        replace(medium, pixel_values=medium.pixel_values.to(torch.bfloat16)),
        replace(medium, pixel_values=medium.pixel_values.flip(0)),
    ]
    assert len({medium_key(each) for each in [medium, *others]}) == 1 + len(others)
    assert medium_key(replace(medium, pixel_values=medium.pixel_values.clone(), note="other")) == medium_key(medium)
