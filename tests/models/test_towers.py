"""A tower for pictures and one for videos, and attention over time in the latter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from videolm.errors import ConfigError, ProcessingError
from videolm.models.config import FusionConfig
from videolm.models.vit import VisionBlock
from videolm.visual_tokens import ImageTokens, VideoTokens

from .tiny import CONFIG, GRID, SIZE, TOKENS, VISION, clip, pack, picture, prompt, tiny_model

GROUP = 2
TWO_TOWERS = replace(
    CONFIG,
    video_vision=replace(VISION, temporal_frames=GROUP),
    fusion=FusionConfig(image_newline=False),
    tokens=replace(
        TOKENS,
        image=ImageTokens(grid=GRID, tile_size=SIZE, newline=False),
        video=VideoTokens(grid=GRID, pool=None, keep_class_token=True),
    ),
)


@torch.inference_mode()
def test_each_kind_goes_through_its_own_tower() -> None:
    model = tiny_model(TWO_TOWERS)
    image, video = picture(tokens=TWO_TOWERS.tokens), clip(4, config=TWO_TOWERS)
    features = model.encode_media([video, image])
    states = model.model.image_tower(image.pixel_values, [2])[0][0, 1:]  # Without the class token.
    torch.testing.assert_close(features[1].tokens, model.model.multi_modal_projector(states))
    frames = model.model.video_tower(video.pixel_values, [2])[0]
    torch.testing.assert_close(features[0].tokens, model.model.multi_modal_projector(frames).flatten(0, 1))
    assert [len(feature.tokens) for feature in features] == [4 * (GRID**2 + 1), GRID**2]


@pytest.mark.parametrize("most", [1, 3, 4, None])
@torch.inference_mode()
def test_how_frames_are_batched_changes_nothing(most: int | None) -> None:
    model = tiny_model(TWO_TOWERS)
    media = [clip(6, seed=1, config=TWO_TOWERS), picture(tokens=TWO_TOWERS.tokens), clip(2, seed=2, config=TWO_TOWERS)]
    calls: list[int] = []
    model.model.video_tower.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    together = model.encode_media(media, max_tiles_per_batch=most)
    alone = [model.encode_media([medium])[0] for medium in media]
    for found, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(found.tokens, expected.tokens)
    assert calls[: len(calls) - 2] == {1: [2, 2, 2, 2], 3: [2, 2, 2, 2], 4: [4, 4], None: [8]}[most]


@torch.inference_mode()
def test_places_attend_over_time_before_the_frames_do() -> None:
    block = tiny_model(TWO_TOWERS).model.video_tower.encoder.layers[0]
    assert isinstance(block, VisionBlock)
    hidden = torch.randn(2 * GROUP, 5, VISION.hidden_size)
    expected = hidden.clone()
    for first in (0, GROUP):
        for place in range(5):
            series = hidden[first : first + GROUP, place] + block.temporal_embedding[0]
            normed = block.temporal_layer_norm1(series)
            attention = block.temporal_attn
            heads = (len(normed), VISION.num_attention_heads, -1)
            queries, keys, values = (
                layer(normed).view(heads).transpose(0, 1)
                for layer in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            mixed = functional.scaled_dot_product_attention(queries, keys, values).transpose(0, 1).flatten(1)
            expected[first : first + GROUP, place] = series + attention.out_proj(mixed)
    expected = expected + block.self_attn(block.layer_norm1(expected))
    expected = expected + block.mlp(block.layer_norm2(expected))
    torch.testing.assert_close(block(hidden), expected)


@torch.inference_mode()
def test_a_group_of_one_frame_has_no_place_in_time() -> None:
    block = VisionBlock(replace(VISION, temporal_frames=1))
    hidden = torch.randn(3, 5, VISION.hidden_size)
    before = block(hidden)
    block.temporal_embedding.fill_(7.0)
    torch.testing.assert_close(block(hidden), before)


def test_frames_that_fill_no_whole_group_are_refused() -> None:
    model = tiny_model(TWO_TOWERS)
    with pytest.raises(ProcessingError, match=r"a video of 3 frames, .* groups of 2: expected a multiple of 2"):
        model.encode_media([clip(3, config=TWO_TOWERS)])


@pytest.mark.parametrize("kinds", [(), ("image",), ("video",), ("image", "video")])
def test_all_processes_use_the_same_parameters(kinds: tuple[str, ...]) -> None:
    model = tiny_model(TWO_TOWERS)
    media = {"image": picture(tokens=TWO_TOWERS.tokens), "video": clip(2, config=TWO_TOWERS)}
    batch = pack(prompt([1, 2], *(media[kind] for kind in kinds), [3, 4]))
    expected = model.forward_packed(batch)
    model.always_encode_media = True
    found = model.forward_packed(batch)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    unused = {name.split(".layers.")[0] for name, parameter in model.named_parameters() if parameter.grad is None}
    # The last layer cannot influence the selected features.
    towers = ("image_tower", "video_tower")
    assert unused == {f"model.{tower}.{part}" for tower in towers for part in ("encoder", *POST_NORM)}


POST_NORM = ("post_layernorm.weight", "post_layernorm.bias")


def test_towers_that_cannot_share_a_projector() -> None:
    with pytest.raises(ConfigError, match="hidden_size is 16 in the tower of pictures and 32 in that of videos"):
        replace(TWO_TOWERS, video_vision=replace(VISION, hidden_size=32))


def test_pictures_have_no_time_to_attend_over() -> None:
    with pytest.raises(ConfigError, match="The tower of pictures attends over 2 frames"):
        replace(CONFIG, vision=replace(VISION, temporal_frames=2))


def test_a_group_has_at_least_one_frame() -> None:
    with pytest.raises(ConfigError, match="temporal_frames is 0"):
        replace(VISION, temporal_frames=0)
