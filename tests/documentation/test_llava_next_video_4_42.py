"""The scripts of the documentation of LLaVA-NeXT-Video of transformers 4.42, on a tiny checkpoint.

The page has eight blocks of code:

1. the chat template with a system message, a picture, an answer and a video: ``test_block_1``
2. single media, eight frames by PyAV in half precision: ``test_block_2``
3. mixed media, interleaved: ``test_block_3``
4. four bits through bitsandbytes: ``test_block_4``
5. ``pip install -U flash-attn``, a command: nothing to run here
6. flash attention 2: ``test_block_6_without_the_package`` and ``test_block_6_with_a_stand_in``
7. a configuration, a random model of it, and its configuration: ``test_block_7``
8. the example of ``forward``, which generates about a video and about a picture: ``test_block_8``

``labels``, which the page describes and does not show, are in ``test_labels_and_loss``.

What differs from the page besides words and the import line: the video and the picture are files made here, where
the page downloads them; blocks 2 and 8 use ``hf_hub_download`` and ``np`` without an import, block 3 uses ``clip``
where block 2 named it ``video``, block 4 uses ``BitsAndBytesConfig`` and ``torch`` without an import, and block 8
leaves a quote open (``"auto``); ``.to(0)`` is ``.to("cpu")`` where there is no GPU; the seven billion parameters of
block 7 are built without memory, and then a model of the same calls in small.
"""

from __future__ import annotations

import av
import pytest
import torch
from PIL import Image

from videolm import (
    ArgumentError,
    AutoProcessor,
    BitsAndBytesConfig,
    CLIPVisionConfig,
    DeviceError,
    LlamaConfig,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoProcessor,
)

from .steps import (
    ABOUT_A_VIDEO,
    CONVERSATION,
    DEVICE,
    HALF,
    MIXED,
    QUESTION,
    SYSTEM,
    assert_a_small_model_works,
    assert_four_bits,
    assert_most_likely,
    assert_same_with_sdpa,
    eight_frames,
    let_flash_attention_run,
    num_tokens,
)

MODEL = "llava-hf/LLaVA-NeXT-Video-7B-hf"


def test_block_1() -> None:
    processor = LlavaNextVideoProcessor.from_pretrained(MODEL)
    text_prompt = processor.apply_chat_template(CONVERSATION, add_generation_prompt=True)
    assert text_prompt == (
        f"{SYSTEM} USER: <image>\nWhat does the sign say? ASSISTANT: The sign says stop. "
        f"USER: <video>\n{QUESTION} ASSISTANT:"
    )


def test_block_2(video_path: str) -> None:
    model = LlavaNextVideoForConditionalGeneration.from_pretrained(MODEL, torch_dtype=torch.float16, device_map="auto")
    processor = LlavaNextVideoProcessor.from_pretrained(MODEL)
    video = eight_frames(av.open(video_path))
    prompt = processor.apply_chat_template(ABOUT_A_VIDEO, add_generation_prompt=True)
    inputs = processor(text=prompt, videos=video, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=60)
    (text,) = processor.batch_decode(out, skip_special_tokens=True, clean_up_tokenization_spaces=True)

    assert video.shape == (8, 48, 64, 3)
    assert int((inputs.input_ids == model.config.video_token_index).sum()) == 8 * 9
    assert model.dtype == next(model.parameters()).dtype == model.config.dtype
    assert_most_likely(model, inputs, out, num_new_tokens=60)
    assert text.startswith(f"USER: \n{QUESTION} ASSISTANT:")


def test_block_3(video_path: str, image: Image.Image) -> None:
    model = LlavaNextVideoForConditionalGeneration.from_pretrained(MODEL, torch_dtype=torch.float16, device_map="auto")
    processor = LlavaNextVideoProcessor.from_pretrained(MODEL)
    clip = eight_frames(av.open(video_path))
    prompt = processor.apply_chat_template(MIXED, add_generation_prompt=True)
    inputs = processor(text=prompt, images=image, videos=clip, padding=True, return_tensors="pt")
    generate_ids = model.generate(**inputs, max_length=50)
    processor.batch_decode(generate_ids, skip_special_tokens=True, clean_up_tokenization_spaces=True)

    assert prompt.index("<image>") < prompt.index("<video>")
    assert_most_likely(model, inputs, generate_ids, num_new_tokens=50 - num_tokens(processor, prompt))


def test_block_4(video_path: str) -> None:
    quantization_config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float16
    )
    model = LlavaNextVideoForConditionalGeneration.from_pretrained(
        MODEL, quantization_config=quantization_config, device_map="auto"
    )

    assert_four_bits(model, "nf4", HALF)
    inputs = LlavaNextVideoProcessor.from_pretrained(MODEL)(text="<video>", videos=eight_frames(av.open(video_path)))
    inputs = inputs.to(model.device)
    assert_most_likely(model, inputs, model.generate(**inputs, max_new_tokens=3), num_new_tokens=3)


def test_block_6_without_the_package() -> None:
    with pytest.raises(DeviceError, match=r"pip install flash-attn .*attn_implementation='sdpa' already runs the same"):
        LlavaNextVideoForConditionalGeneration.from_pretrained(
            MODEL, torch_dtype=torch.float16, attn_implementation="flash_attention_2"
        ).to(DEVICE)


def test_block_6_with_a_stand_in(video_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = let_flash_attention_run(monkeypatch)
    model = LlavaNextVideoForConditionalGeneration.from_pretrained(
        MODEL, torch_dtype=torch.float16, attn_implementation="flash_attention_2"
    ).to(DEVICE)
    inputs = LlavaNextVideoProcessor.from_pretrained(MODEL)(text="<video>", videos=eight_frames(av.open(video_path)))
    assert_same_with_sdpa(model, inputs, seen)


def test_block_7() -> None:
    with torch.device("meta"):
        vision_config = CLIPVisionConfig()
        text_config = LlamaConfig()
        configuration = LlavaNextVideoConfig(vision_config, text_config)
        model = LlavaNextVideoForConditionalGeneration(configuration)
        assert model.config is configuration
    assert 6.7e9 < model.num_parameters() < 7e9
    assert_a_small_model_works(LlavaNextVideoConfig, LlavaNextVideoForConditionalGeneration)


def test_block_8(video_path: str, image: Image.Image) -> None:
    model = LlavaNextVideoForConditionalGeneration.from_pretrained(MODEL, device_map="auto")
    processor = AutoProcessor.from_pretrained(MODEL)
    prompt = f"USER: <video>\n{QUESTION} ASSISTANT:"
    clip = eight_frames(av.open(video_path))
    inputs_video = processor(text=prompt, videos=clip, return_tensors="pt").to(model.device)
    other_prompt = "USER:<image>\nWhat does the sign say? ASSISTANT:"
    inputs_image = processor(text=other_prompt, images=image, return_tensors="pt").to(model.device)

    generate_ids = model.generate(**inputs_video, max_length=50)
    text = processor.batch_decode(generate_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)[0]
    assert_most_likely(model, inputs_video, generate_ids, num_new_tokens=50 - num_tokens(processor, prompt))
    assert text.startswith(f"USER: \n{QUESTION} ASSISTANT:")

    generate_ids = model.generate(**inputs_image, max_length=30)
    text = processor.batch_decode(generate_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)[0]
    assert_most_likely(model, inputs_image, generate_ids, num_new_tokens=30 - num_tokens(processor, other_prompt))
    assert text.startswith("USER:\nWhat does the sign say? ASSISTANT:")


def test_labels_and_loss(video_path: str) -> None:
    model = LlavaNextVideoForConditionalGeneration.from_pretrained(MODEL)
    inputs = LlavaNextVideoProcessor.from_pretrained(MODEL)(
        text=f"USER: <video>\n{QUESTION} ASSISTANT: Two birds.", videos=eight_frames(av.open(video_path))
    )
    labels = inputs.input_ids.masked_fill(inputs.input_ids == model.config.video_token_index, -100)
    output = model(**inputs, labels=labels)
    output.loss.backward()

    kept = labels[0, 1:] != -100
    chosen = output.logits[0, :-1].log_softmax(-1)[kept].gather(-1, labels[0, 1:][kept][:, None])
    torch.testing.assert_close(output.loss, -chosen.mean())
    assert output[0] is output.loss
    assert float(model.model.multi_modal_projector.linear_1.weight.grad.abs().sum()) > 0
    with pytest.raises(ArgumentError, match=r"labels hold ids from \d+ to 999, but the vocabulary ends at 399"):
        model(**inputs, labels=labels.masked_fill(labels == -100, 999))
