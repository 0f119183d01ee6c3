"""LLaVA-NeXT against transformers: same tiny random weights, same logits and ids; videos as LLaVA-NeXT-Video's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from videolm.families.auto import load_model
from videolm.families.llava_next import LlavaNextForConditionalGeneration

from .comparing import assert_same_in_everything

transformers = pytest.importorskip("transformers")

IMAGE_ID, VIDEO_ID = 78, 79
MakeBatch = Callable[..., Any]


@pytest.fixture
def make_theirs(make_reference: Callable[..., Any]) -> Callable[..., Any]:
    """A LLaVA-NeXT model of the reference's class."""

    def make(decoder: str = "llama", **changes: Any) -> Any:
        settings = make_reference(decoder).config.to_dict()
        kept = ("vision_config", "text_config", "image_grid_pinpoints")
        config = transformers.LlavaNextConfig(
            **{name: settings[name] for name in kept}, image_token_index=IMAGE_ID, **changes
        )
        torch.manual_seed(0)
        model = transformers.LlavaNextForConditionalGeneration(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        return model

    return make


def ours_from(theirs: Any) -> LlavaNextForConditionalGeneration:
    return LlavaNextForConditionalGeneration.from_state_dict(
        theirs.config.to_dict() | {"video_token_index": VIDEO_ID}, theirs.state_dict()
    )


def pictures(batch: Any) -> Any:
    batch.row(batch.words(4))
    batch.row(batch.words(2), batch.image(31, 57), batch.words(3), batch.image(16, 16), batch.words(2))
    return batch.row(batch.image(90, 20), batch.words(5))


@pytest.mark.parametrize("decoder", ["llama", "mistral", "qwen2"])
def test_logits_and_greedy_ids_of_pictures(
    make_theirs: Callable[..., Any], make_batch: MakeBatch, tmp_path: Path, decoder: str
) -> None:
    theirs = make_theirs(decoder)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert isinstance(ours, LlavaNextForConditionalGeneration)
    assert ours.config.video_token_index == 80  # the first id beyond the vocabulary
    inputs = pictures(make_batch(ours)).inputs
    with torch.inference_mode():
        found, expected = ours(**inputs).logits, theirs(**inputs).logits
    kept = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[kept], expected[kept])

    wanted = theirs.generate(**inputs, max_new_tokens=6, do_sample=False)
    assert ours.generate(**inputs, max_new_tokens=6).tolist() == wanted.tolist()


@pytest.mark.parametrize("changes", [{}, {"vision_feature_layer": [-1, 1]}], ids=str)
def test_everything_agrees(make_theirs: Callable[..., Any], make_batch: MakeBatch, changes: dict[str, Any]) -> None:
    theirs = make_theirs("mistral", **changes)
    ours = ours_from(theirs)
    assert_same_in_everything(ours, theirs, pictures(make_batch(ours)).inputs)


@pytest.mark.parametrize("changes", [{"vision_feature_layer": [-3, -2]}, {"multimodal_projector_bias": False}], ids=str)
def test_settings(make_theirs: Callable[..., Any], make_batch: MakeBatch, changes: dict[str, Any]) -> None:
    theirs = make_theirs(**changes)
    ours = ours_from(theirs)
    batch = make_batch(ours)
    inputs = batch.row(batch.words(2), batch.image(40, 23), batch.words(3)).inputs
    with torch.inference_mode():
        torch.testing.assert_close(ours(**inputs).logits, theirs(**inputs).logits)


def test_videos_are_pooled_as_the_video_family_pools_them(
    make_theirs: Callable[..., Any], make_reference: Callable[..., Any], make_batch: MakeBatch
) -> None:
    theirs = make_theirs()
    for_videos = make_reference()
    for_videos.load_state_dict(theirs.state_dict())
    ours = ours_from(theirs)
    inputs = make_batch(ours, "one_video").inputs
    with torch.inference_mode():
        torch.testing.assert_close(ours(**inputs).logits, for_videos(**inputs).logits)


def test_what_is_written_is_read_by_transformers(make_theirs: Callable[..., Any], tmp_path: Path) -> None:
    theirs = make_theirs()
    ours_from(theirs).save_pretrained(tmp_path)
    again = transformers.LlavaNextForConditionalGeneration.from_pretrained(tmp_path)
    expected = theirs.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.state_dict().items())
