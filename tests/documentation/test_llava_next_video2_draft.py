"""The scripts of the draft documentation of LlavaNextVideo2, on a tiny checkpoint.

The draft has three blocks of code:

1. the chat template with a system message, a picture, an answer and a video: ``test_block_1``
2. single media, eight frames by PyAV in half precision: ``test_block_2``
3. mixed media, interleaved: ``test_block_3``

What differs from the draft besides words and the import line: the video and the picture are files made here, where
the draft downloads them (from ``hugginface_hub``, which is a slip of the pen); block 3 uses ``clip`` where block 2
named it ``video``.
"""

from __future__ import annotations

import av
import torch
from PIL import Image

from videolm import AutoProcessor, LlavaNextVideo2ForConditionalGeneration, LlavaNextVideo2Processor

from .steps import ABOUT_A_VIDEO, CONVERSATION, MIXED, QUESTION, SYSTEM, assert_most_likely, eight_frames, num_tokens

MODEL = "llava-hf/LLaVA-NeXT-Video-7B-Qwen2-hf"


def test_block_1() -> None:
    processor = AutoProcessor.from_pretrained(MODEL)
    text_prompt = processor.apply_chat_template(CONVERSATION, add_generation_prompt=True)
    assert type(processor) is LlavaNextVideo2Processor
    assert text_prompt == (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
        "<|im_start|>user\n<image>\nWhat does the sign say?<|im_end|>\n"
        "<|im_start|>assistant\nThe sign says stop.<|im_end|>\n"
        f"<|im_start|>user\n<video>\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_block_2(video_path: str) -> None:
    model = LlavaNextVideo2ForConditionalGeneration.from_pretrained(MODEL, torch_dtype=torch.float16, device_map="auto")
    processor = AutoProcessor.from_pretrained(MODEL)
    video = eight_frames(av.open(video_path))
    prompt = processor.apply_chat_template(ABOUT_A_VIDEO, add_generation_prompt=True)
    inputs = processor(text=prompt, videos=video, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=60)
    (text,) = processor.batch_decode(out, skip_special_tokens=True, clean_up_tokenization_spaces=True)

    assert int((inputs.input_ids == model.config.video_token_index).sum()) == 8 * (3 * 3 + 3)  # a newline a row
    assert_most_likely(model, inputs, out, num_new_tokens=60)
    assert text.startswith(f"user\n\n{QUESTION}\nassistant\n")


def test_block_3(video_path: str, image: Image.Image) -> None:
    model = LlavaNextVideo2ForConditionalGeneration.from_pretrained(MODEL, torch_dtype=torch.float16, device_map="auto")
    processor = AutoProcessor.from_pretrained(MODEL)
    clip = eight_frames(av.open(video_path))
    prompt = processor.apply_chat_template(MIXED, add_generation_prompt=True)
    inputs = processor(text=prompt, images=image, videos=clip, padding=True, return_tensors="pt")
    generate_ids = model.generate(**inputs, max_length=50)
    processor.batch_decode(generate_ids, skip_special_tokens=True, clean_up_tokenization_spaces=True)

    assert_most_likely(model, inputs, generate_ids, num_new_tokens=50 - num_tokens(processor, prompt))
