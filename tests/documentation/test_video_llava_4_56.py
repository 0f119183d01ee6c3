"""The scripts of the documentation of Video-LLaVA of transformers 4.56, on a tiny checkpoint.

The page has eight blocks of code:

1. single media, eight frames by PyAV in half precision: ``test_block_1``
2. a prompt of several turns: ``test_block_2``
3. mixed media, interleaved: ``test_block_3``
4. four bits through bitsandbytes: ``test_block_4``
5. ``pip install -U flash-attn``, a command: nothing to run here
6. flash attention 2: ``test_block_6_without_the_package`` and ``test_block_6_with_a_stand_in``
7. a configuration, a random model of it, and its configuration: ``test_block_7``
8. the example of ``forward``: a video, then a picture and a video in one batch: ``test_block_8``

What differs from the page besides words and the import line: the video and the picture are files made here, where
the page downloads them; block 1 uses ``hf_hub_download`` without an import, block 3 uses ``clip`` where block 1
named it ``video``, block 4 uses ``torch`` without an import; ``.to(0)`` is ``.to("cpu")`` where there is no GPU;
the seven billion parameters of block 7 are built without memory, and then a model of the same calls in small.
"""

from __future__ import annotations

import av
import pytest
import torch
from PIL import Image

from videolm import (
    BitsAndBytesConfig,
    CLIPVisionConfig,
    DeviceError,
    LlamaConfig,
    VideoLlavaConfig,
    VideoLlavaForConditionalGeneration,
    VideoLlavaProcessor,
)

from .steps import (
    ANSWERS_BEFORE,
    DEVICE,
    HALF,
    QUESTION,
    assert_a_small_model_works,
    assert_four_bits,
    assert_most_likely,
    assert_same_with_sdpa,
    eight_frames,
    let_flash_attention_run,
    num_tokens,
)

MODEL = "LanguageBind/Video-LLaVA-7B-hf"
PROMPT = f"USER: <video>\n{QUESTION} ASSISTANT:"


def test_block_1(video_path: str) -> None:
    model = VideoLlavaForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float16, device_map="auto")
    processor = VideoLlavaProcessor.from_pretrained(MODEL)
    video = eight_frames(av.open(video_path))
    inputs = processor(text=PROMPT, videos=video, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=60)
    (text,) = processor.batch_decode(out, skip_special_tokens=True, clean_up_tokenization_spaces=True)

    assert int((inputs.input_ids == model.config.video_token_index).sum()) == 8 * (6 * 6 + 1)
    assert_most_likely(model, inputs, out, num_new_tokens=60)
    assert text.startswith(f"USER: \n{QUESTION} ASSISTANT:")


def test_block_2(video_path: str) -> None:
    model = VideoLlavaForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float16, device_map="auto")
    processor = VideoLlavaProcessor.from_pretrained(MODEL)
    prompt = f"{PROMPT} {ANSWERS_BEFORE} USER: And why is it so? ASSISTANT:"
    inputs = processor(text=prompt, videos=eight_frames(av.open(video_path)), return_tensors="pt")
    assert_most_likely(model, inputs, model.generate(**inputs, max_new_tokens=60), num_new_tokens=60)


def test_block_3(video_path: str, image: Image.Image) -> None:
    model = VideoLlavaForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float16, device_map="auto")
    processor = VideoLlavaProcessor.from_pretrained(MODEL)
    clip = eight_frames(av.open(video_path))
    prompt = (
        f"USER: <image>\nHow many birds sit on the wire? ASSISTANT: {ANSWERS_BEFORE} "
        f"USER: <video>\n{QUESTION} ASSISTANT:"
    )
    inputs = processor(text=prompt, images=image, videos=clip, padding=True, return_tensors="pt")
    generate_ids = model.generate(**inputs, max_length=50)
    processor.batch_decode(generate_ids, skip_special_tokens=True, clean_up_tokenization_spaces=True)

    assert_most_likely(model, inputs, generate_ids, num_new_tokens=50 - num_tokens(processor, prompt))


def test_block_4(video_path: str) -> None:
    quantization_config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float16
    )
    model = VideoLlavaForConditionalGeneration.from_pretrained(
        MODEL, quantization_config=quantization_config, device_map="auto"
    )

    assert_four_bits(model, "nf4", HALF)
    inputs = VideoLlavaProcessor.from_pretrained(MODEL)(text="<video>", videos=eight_frames(av.open(video_path)))
    inputs = inputs.to(model.device)
    assert_most_likely(model, inputs, model.generate(**inputs, max_new_tokens=3), num_new_tokens=3)


def test_block_6_without_the_package() -> None:
    with pytest.raises(DeviceError, match=r"pip install flash-attn .*attn_implementation='sdpa' already runs the same"):
        VideoLlavaForConditionalGeneration.from_pretrained(
            MODEL, dtype=torch.float16, attn_implementation="flash_attention_2"
        ).to(DEVICE)


def test_block_6_with_a_stand_in(video_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = let_flash_attention_run(monkeypatch)
    model = VideoLlavaForConditionalGeneration.from_pretrained(
        MODEL, dtype=torch.float16, attn_implementation="flash_attention_2"
    ).to(DEVICE)
    inputs = VideoLlavaProcessor.from_pretrained(MODEL)(text=PROMPT, videos=eight_frames(av.open(video_path)))
    assert_same_with_sdpa(model, inputs, seen)


def test_block_7() -> None:
    with torch.device("meta"):
        vision_config = CLIPVisionConfig()
        text_config = LlamaConfig()
        configuration = VideoLlavaConfig(vision_config, text_config)
        model = VideoLlavaForConditionalGeneration(configuration)
        assert model.config is configuration
    assert 6.8e9 < model.num_parameters() < 7.1e9
    assert_a_small_model_works(VideoLlavaConfig, VideoLlavaForConditionalGeneration)


def test_block_8(video_path: str, image: Image.Image) -> None:
    model = VideoLlavaForConditionalGeneration.from_pretrained(MODEL)
    processor = VideoLlavaProcessor.from_pretrained(MODEL)
    clip = eight_frames(av.open(video_path))
    inputs = processor(text=PROMPT, videos=clip, return_tensors="pt")
    generate_ids = model.generate(**inputs, max_length=80)
    text = processor.batch_decode(generate_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)[0]
    assert_most_likely(model, inputs, generate_ids, num_new_tokens=80 - num_tokens(processor, PROMPT))
    assert text.startswith(f"USER: \n{QUESTION} ASSISTANT:")

    prompt = ["USER: <image>\nHow many birds sit on the wire? ASSISTANT:", PROMPT]
    inputs = processor(text=prompt, images=image, videos=clip, padding=True, return_tensors="pt")
    generate_ids = model.generate(**inputs, max_length=50)
    texts = processor.batch_decode(generate_ids, skip_special_tokens=True, clean_up_tokenization_spaces=True)
    assert_most_likely(model, inputs, generate_ids, num_new_tokens=50 - num_tokens(processor, *prompt))
    assert len(texts) == 2
