"""Converted folders against transformers: it loads them without a complaint and computes the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from videolm.contracts import Frames
from videolm.families.auto import load_model, load_processor
from videolm.families.convert import convert
from videolm.processing.batch import collate

transformers = pytest.importorskip("transformers")

PORTED = {
    "llava_next_video": "LlavaNextVideoForConditionalGeneration",
    "llava_next": "LlavaNextForConditionalGeneration",
    "video_llava": "VideoLlavaForConditionalGeneration",
}


def media(family: str) -> list[Frames]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (8, 40, 40, 3), dtype=torch.uint8, generator=generator).numpy()
    picture = Frames(kind="image", pixels=(pixels[0],), source="picture", size=(40, 40))
    # The port of this family has no videos.
    clip = [Frames(kind="video", pixels=tuple(pixels), source="clip", size=(40, 40))] if family != "llava_next" else []
    return [*clip, picture]


@pytest.mark.parametrize("source", ["hf", "original"])
@pytest.mark.parametrize("layout", ["hf", "hf5"])
@pytest.mark.parametrize("family", PORTED)
def test_transformers_computes_the_same(
    write_small_model: Callable[..., Path], tmp_path: Path, family: str, layout: str, source: str
) -> None:
    # A table that placeholders lie outside of, as in checkpoints of the original code.
    folder = write_small_model(family, tmp_path, text_config={"vocab_size": 290})
    if source == "original":
        folder = convert(folder, tmp_path / "original", layout="original").folder
    new = convert(folder, tmp_path / "new", layout=layout)
    assert new.lost == ""
    theirs, report = getattr(transformers, PORTED[family]).from_pretrained(new.folder, output_loading_info=True)
    assert {name: found for name, found in report.items() if found} == {}
    ours, processor = load_model(new.folder), load_processor(new.folder)
    parts = [{"type": frames.kind} for frames in media(family)]
    message = {"role": "user", "content": [*parts, {"type": "text", "text": "what is this?"}]}
    row = processor.prepare([message], media(family))
    inputs = dict(collate([row], pad_token_id=0, padding_side="left"))
    if family == "video_llava":
        inputs["pixel_values"] = inputs["pixel_values"][:, 0]
        del inputs["image_sizes"]
    with torch.inference_mode():
        torch.testing.assert_close(ours(**inputs).logits, theirs.eval()(**inputs).logits)


def test_transformers_reads_the_tokenizer_and_the_settings(
    write_small_model: Callable[..., Path], tmp_path: Path
) -> None:
    new = convert(write_small_model("llava_next_video", tmp_path), tmp_path / "new", layout="hf").folder
    tokenizer = transformers.AutoTokenizer.from_pretrained(new)
    text = "<s>USER: <video>\nwhat is this? ASSISTANT:"
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == load_processor(new).tokenizer.encode(text)
    config = transformers.AutoConfig.from_pretrained(new)
    assert type(config).__name__ == "LlavaNextVideoConfig"
    assert tokenizer.convert_tokens_to_ids(["<image>", "<video>"]) == [config.image_token_id, config.video_token_id]
