"""The scripts of the model card of LLaVA-NeXT-Video-7B-hf, on a tiny checkpoint.

The card has five blocks of code, and two more that are references to papers:

1. a video, eight frames by PyAV in half precision: ``test_block_1``
2. a picture, in half precision: ``test_block_2``
3. a picture and a video, two prompts in one padded batch: ``test_block_3``
4. ``load_in_4bit=True``: ``test_block_4``
5. ``use_flash_attention_2=True``: ``test_block_5_without_the_package`` and ``test_block_5_with_a_stand_in``

What differs from the card besides words and the import line: the video and the picture are files made here, where
the card downloads them; ``.to(0)`` is ``.to("cpu")`` where there is no GPU; block 2 generates from ``inputs_video``
what it has just prepared as ``inputs_image``; block 3 uses ``image`` where block 2 named it ``raw_image``, and
``inputs`` where it wrote ``s``.
"""

from __future__ import annotations

from typing import Any

import av
import pytest
import torch
from PIL import Image

from videolm import ArgumentError, DeviceError, LlavaNextVideoForConditionalGeneration, LlavaNextVideoProcessor

from .steps import (
    ABOUT_A_VIDEO,
    DEVICE,
    QUESTION,
    assert_four_bits,
    assert_most_likely,
    assert_same_with_sdpa,
    eight_frames,
    let_flash_attention_run,
)

MODEL = "llava-hf/LLaVA-NeXT-Video-7B-hf"
ABOUT_A_PICTURE = [
    {"role": "user", "content": [{"type": "text", "text": "What does the sign say?"}, {"type": "image"}]}
]


def loaded(**options: Any) -> LlavaNextVideoForConditionalGeneration:
    return LlavaNextVideoForConditionalGeneration.from_pretrained(
        MODEL, torch_dtype=torch.float16, low_cpu_mem_usage=True, **options
    ).to(DEVICE)


def test_block_1(video_path: str) -> None:
    model = loaded()
    processor = LlavaNextVideoProcessor.from_pretrained(MODEL)
    prompt = processor.apply_chat_template(ABOUT_A_VIDEO, add_generation_prompt=True)
    clip = eight_frames(av.open(video_path))
    inputs_video = processor(text=prompt, videos=clip, padding=True, return_tensors="pt").to(model.device)
    output = model.generate(**inputs_video, max_new_tokens=100, do_sample=False)
    text = processor.decode(output[0][2:], skip_special_tokens=True)

    assert model.device.type == torch.device(DEVICE).type
    assert prompt == f"USER: <video>\n{QUESTION} ASSISTANT:"
    assert_most_likely(model, inputs_video, output, num_new_tokens=100)
    assert text.startswith(f": \n{QUESTION} ASSISTANT:")  # What two ids from the front leave of "USER: ".


def test_block_2(image: Image.Image) -> None:
    model, processor = loaded(), LlavaNextVideoProcessor.from_pretrained(MODEL)
    prompt = processor.apply_chat_template(ABOUT_A_PICTURE, add_generation_prompt=True)
    inputs_image = processor(text=prompt, images=image, return_tensors="pt").to(DEVICE, torch.float16)
    output = model.generate(**inputs_image, max_new_tokens=100, do_sample=False)
    processor.decode(output[0][2:], skip_special_tokens=True)

    kinds = {name: value.dtype for name, value in inputs_image.items()}
    assert kinds.pop("pixel_values") == torch.float16
    assert set(kinds.values()) == {torch.int64}
    assert_most_likely(model, inputs_image, output, num_new_tokens=100)


@pytest.mark.parametrize("tip", ["as it is", "padding on the left"])
def test_block_3(video_path: str, image: Image.Image, tip: str) -> None:
    model, processor = loaded(), LlavaNextVideoProcessor.from_pretrained(MODEL)
    clip = eight_frames(av.open(video_path))
    prompt_1 = processor.apply_chat_template(ABOUT_A_PICTURE, add_generation_prompt=True)
    prompt_2 = processor.apply_chat_template(ABOUT_A_VIDEO, add_generation_prompt=True)
    if tip == "padding on the left":
        processor.tokenizer.padding_side = "left"
    inputs = processor(text=[prompt_1, prompt_2], images=image, videos=clip, padding=True, return_tensors="pt").to(
        model.device
    )
    generate_ids = model.generate(**inputs, max_new_tokens=100)
    out = processor.batch_decode(generate_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    assert_most_likely(model, inputs, generate_ids, num_new_tokens=100)
    alone = (processor(text=prompt_1, images=image), processor(text=prompt_2, videos=clip))
    for row, inputs_alone in enumerate(alone):
        length = inputs_alone.input_ids.shape[1]
        assert torch.equal(inputs.input_ids[row, -length:].cpu(), inputs_alone.input_ids[0])
        start = inputs.input_ids.shape[1] - length
        assert_most_likely(
            model, inputs_alone.to(model.device), generate_ids[row : row + 1, start:], num_new_tokens=100
        )
    assert out[0].startswith("USER: \nWhat does the sign say? ASSISTANT:")
    assert out[1].startswith(f"USER: \n{QUESTION} ASSISTANT:")


def test_padding_on_the_right_is_refused(video_path: str, image: Image.Image) -> None:
    model, processor = loaded(), LlavaNextVideoProcessor.from_pretrained(MODEL)
    processor.tokenizer.padding_side = "right"
    prompts = ["USER: <image>\nWhat?", "<video>"]
    inputs = processor(text=prompts, images=image, videos=eight_frames(av.open(video_path)), padding=True)
    with pytest.raises(ArgumentError, match=r"Set processor\.tokenizer\.padding_side = 'left'"):
        model.generate(**inputs, max_new_tokens=3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to move to")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match=r"The model cannot move to cuda:0: expected one of cpu.* Leave \.to out"):
        loaded().to(0)
    with pytest.raises(DeviceError, match="cannot move to cuda:0"):
        loaded().cuda()


def test_block_4(video_path: str) -> None:
    model = loaded(load_in_4bit=True)

    assert_four_bits(model, "fp4", torch.float32)
    inputs = LlavaNextVideoProcessor.from_pretrained(MODEL)(text="<video>", videos=eight_frames(av.open(video_path)))
    inputs = inputs.to(model.device)
    assert_most_likely(model, inputs, model.generate(**inputs, max_new_tokens=3), num_new_tokens=3)


def test_block_5_without_the_package() -> None:
    with pytest.raises(DeviceError, match=r"pip install flash-attn .*attn_implementation='sdpa' already runs the same"):
        loaded(use_flash_attention_2=True)


def test_block_5_with_a_stand_in(video_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = let_flash_attention_run(monkeypatch)
    model = loaded(use_flash_attention_2=True)
    inputs = LlavaNextVideoProcessor.from_pretrained(MODEL)(text="<video>", videos=eight_frames(av.open(video_path)))
    assert_same_with_sdpa(model, inputs, seen)
