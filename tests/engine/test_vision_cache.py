"""The cache of features: one encoding for each key, everything that matters in the key, and damage that only warns."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from videolm.contracts import Frames, VisualInput
from videolm.engine.features import medium_key
from videolm.engine.vision_cache import VisionCache, VisionCacheConfig, _num_bytes
from videolm.errors import ArgumentError
from videolm.models.video_lm import VideoLM

from ..models.tiny import CONFIG, clip, picture, tiny_model, with_video


def read_clip(content: str = "c", seed: int = 0) -> tuple[Frames, VisualInput]:
    frames = Frames(kind="video", pixels=(), source="clip.mp4", size=(16, 16), frame_indices=(0, 1))
    return frames, replace(clip(seed=seed), content=content)


def in_folder(path: Path, **bounds: int) -> VisionCacheConfig:
    return VisionCacheConfig(folder=path, **bounds)


def test_what_was_encoded_is_found_by_another_process(model: VideoLM, calls: list[int], tmp_path: Path) -> None:
    (encoded,) = VisionCache(model, in_folder(tmp_path / "new" / "folder")).encode([read_clip()])
    other = VisionCache(model, in_folder(tmp_path / "new" / "folder"))
    found = other.find("c")
    assert found is not None
    assert found[0] == read_clip()[0]
    assert found[1].features is not None
    assert encoded[1].features is not None
    assert torch.equal(found[1].features.tokens, encoded[1].features.tokens)
    assert len(found[1].pixel_values) == 0
    again = other.encode([found])
    assert again[0][1].features is found[1].features
    assert calls == [1, 0]
    assert other.take_warnings() == ()


def test_media_without_content_are_encoded_and_not_kept(model: VideoLM, calls: list[int]) -> None:
    cache = VisionCache(model, VisionCacheConfig())
    cache.encode([read_clip(content="")])
    cache.encode([read_clip(content="")])
    assert (calls, cache.num_bytes) == ([1, 1], 0)


def test_memory_is_bounded_and_the_least_recently_used_goes_first(model: VideoLM) -> None:
    (first,) = VisionCache(model, VisionCacheConfig()).encode([read_clip()])
    assert first[1].features is not None
    one = first[1].features.tokens.nbytes
    cache = VisionCache(model, VisionCacheConfig(max_bytes=2 * one))
    for content in "aba":
        cache.encode([read_clip(content)])
    cache.find("a")
    cache.encode([read_clip("c")])
    assert cache.num_bytes == 2 * one
    assert [cache.find(content) is not None for content in "abc"] == [True, False, True]


def test_what_is_kept_again_counts_once(model: VideoLM) -> None:
    cache = VisionCache(model, VisionCacheConfig())
    cache.encode([read_clip("a")])
    one = cache.num_bytes
    for _ in range(3):
        cache.encode([read_clip("a")])
    assert cache.num_bytes == one > 0


def test_threads_share_it(model: VideoLM) -> None:
    """Its accounts are right whoever keeps, finds and forgets at the same time."""
    (first,) = VisionCache(model, VisionCacheConfig()).encode([read_clip()])
    assert first[1].features is not None
    one, wrong = first[1].features.tokens.nbytes, list[str]()
    cache = VisionCache(model, VisionCacheConfig(max_bytes=3 * one))

    def use(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(60):
            name = str(draw.randrange(6))
            frames, visual = read_clip(name, seed=int(name))
            cache.expect(frames, visual)
            (features,) = cache.features_for([visual], [name])
            found = cache.find(name)
            if not torch.equal(features.tokens, expected[name]):
                wrong.append(name)
            if found is not None and (found[0].source, found[1].content) != ("clip.mp4", name):
                wrong.append(name)

    with torch.inference_mode():
        expected = {str(i): model.encode_media([read_clip(seed=i)[1]])[0].tokens for i in range(6)}
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(use, seed) for seed in range(4)]:
            done.result()
    assert wrong == []
    assert cache.num_bytes == 3 * one == sum(map(_num_bytes, cache._kept.values()))


def test_warnings_that_nobody_takes_do_not_add_up(model: VideoLM, tmp_path: Path) -> None:
    cache = VisionCache(model, in_folder(tmp_path, max_folder_bytes=10))
    for index in range(250):
        cache.encode([read_clip(str(index))])
    assert len(cache.take_warnings()) == 100


def test_as_a_source_of_features_it_encodes_what_is_new_together(
    model: VideoLM, calls: list[int], tmp_path: Path
) -> None:
    media = [clip(seed=1), picture(), clip(seed=1)]
    keys = [medium_key(medium) for medium in media]
    found = VisionCache(model, in_folder(tmp_path)).features_for(media, keys)
    again = VisionCache(model, in_folder(tmp_path)).features_for(media[:2], keys[:2])
    assert calls == [2, 0]
    for features, medium in zip([*found, *again], [*media, *media[:2]], strict=True):
        torch.testing.assert_close(features.tokens, model.encode_media([medium])[0].tokens)
    assert VisionCache(model, in_folder(tmp_path)).find(keys[0]) is None  # Nothing is known of its frames.


def test_media_that_were_announced_are_found_once_they_are_encoded(
    model: VideoLM, calls: list[int], tmp_path: Path
) -> None:
    frames, visual = read_clip()
    cache = VisionCache(model, in_folder(tmp_path))
    cache.expect(replace(frames, pixels=(np.zeros((2, 2, 3), np.uint8),)), visual)
    assert cache.find("c") is None
    (features,) = cache.features_for([visual], ["c"])
    for each in (cache, VisionCache(model, in_folder(tmp_path))):
        found = each.find("c")
        assert found is not None
        assert found[0] == frames
        assert found[1].features is not None
        assert torch.equal(found[1].features.tokens, features.tokens)
    assert calls == [1]


def test_media_that_were_encoded_before_they_were_announced_are_found(model: VideoLM) -> None:
    frames, visual = read_clip()
    cache = VisionCache(model, VisionCacheConfig())
    cache.features_for([visual], ["c"])
    assert cache.find("c") is None
    cache.expect(frames, visual)
    found = cache.find("c")
    assert found is not None
    assert found[0] == frames


def test_media_with_features_go_through(model: VideoLM, calls: list[int], tmp_path: Path) -> None:
    cache = VisionCache(model, in_folder(tmp_path))
    ((_, visual),) = cache.encode([read_clip()])
    (features,) = cache.features_for([visual], ["c"])
    assert features is visual.features
    found = VisionCache(model, in_folder(tmp_path)).find("c")
    assert found is not None
    assert found[0].source == "clip.mp4"  # It was not replaced by a file without its frames.


def test_the_key_changes_with_content_weights_dtype_and_settings() -> None:
    def key(model: VideoLM, content: str = "c") -> str:
        return VisionCache(model, VisionCacheConfig()).key(content)

    changed = tiny_model()
    with torch.no_grad():
        changed.model.multi_modal_projector.linear_2.bias[-1] += 1e-6
    models = [
        changed,
        tiny_model(seed=1),
        tiny_model().to(torch.bfloat16),
        tiny_model(with_video(pool="max")),
        tiny_model(replace(CONFIG, vision=replace(CONFIG.vision, hidden_act="gelu"))),
        tiny_model(replace(CONFIG, fusion=replace(CONFIG.fusion, pool_position="after_projector"))),
    ]
    keys = [key(tiny_model()), key(tiny_model(), "d"), *map(key, models)]
    assert len(set(keys)) == len(keys)
    assert key(tiny_model()) == keys[0]
    other_decoder = tiny_model()
    with torch.no_grad():
        other_decoder.lm_head.weight += 1
        other_decoder.model.language_model.norm.weight += 1
    assert key(other_decoder) == keys[0]


def test_weights_that_change_in_memory_are_noticed(model: VideoLM) -> None:
    cache = VisionCache(model, VisionCacheConfig())
    before = cache.key("c")
    assert cache.key("c") == before
    with torch.no_grad():
        model.model.vision_tower.embeddings.class_embedding[0] += 1
    assert cache.key("c") != before


@pytest.mark.parametrize("damage", ["cut", "changed", "version"])
def test_damaged_files_are_told_and_made_anew(model: VideoLM, calls: list[int], tmp_path: Path, damage: str) -> None:
    VisionCache(model, in_folder(tmp_path)).encode([read_clip()])
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut": data[: len(data) // 2],
            "changed": data[:-1] + bytes([data[-1] ^ 1]),
            "version": data.replace(b'"version":"1"', b'"version":"0"'),
        }[damage]
    )
    cache = VisionCache(model, in_folder(tmp_path))
    assert cache.find("c") is None
    (warning,) = cache.take_warnings()
    assert warning.startswith(f"{path} ")
    assert warning.endswith(": it is ignored, and written anew.")
    cache.encode([read_clip()])
    assert VisionCache(model, in_folder(tmp_path)).find("c") is not None
    assert calls == [1, 1]
    assert cache.take_warnings() == ()


def test_a_folder_that_cannot_be_written_is_told_and_the_answer_goes_on(model: VideoLM, tmp_path: Path) -> None:
    cache = VisionCache(model, in_folder(tmp_path, max_folder_bytes=10))
    ((_, visual),) = cache.encode([read_clip()])
    assert visual.features is not None
    (warning,) = cache.take_warnings()
    assert "cannot be written (its " in warning
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match="cannot be made"):
        VisionCache(model, in_folder(tmp_path / "file" / "below"))


def test_impossible_bounds_are_refused() -> None:
    with pytest.raises(ArgumentError, match="max_folder_bytes is 0"):
        VisionCacheConfig(max_folder_bytes=0)
