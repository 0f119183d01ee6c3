"""What the documented processors refuse, each with the counts and with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from videolm import (
    AutoTokenizer,
    LlavaNextImageProcessor,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    VideoLlavaImageProcessor,
    VideoLlavaProcessor,
    VideoLlavaVideoProcessor,
)
from videolm.errors import (
    ArgumentError,
    ConfigError,
    DeviceError,
    FetchError,
    PlaceholderMismatchError,
    ProcessingError,
)
from videolm.families.auto import load_model, load_processor, new_model

CLIP, PICTURE = np.zeros((2, 20, 30, 3), np.uint8), np.zeros((9, 9, 3), np.uint8)


@pytest.fixture
def processor(tiny_folder: Path) -> LlavaNextVideoProcessor:
    return LlavaNextVideoProcessor.from_pretrained(tiny_folder)


# --- media and placeholders ---


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            {"text": "<video> and <video>", "videos": [CLIP]},
            r"The prompt holds placeholders for 2 videos but 1 video came: expected one placeholder each \(<image> or "
            r"<video>\)\. Give as many media as are mentioned",
        ),
        ({"text": "<video>", "videos": [CLIP], "images": PICTURE}, "for 1 video but 1 image and 1 video came"),
        ({"text": "What?", "videos": CLIP}, "for no media but 1 video came"),
        ({"text": "<image> What?"}, "for 1 image but no media came"),
        (
            {"text": ["<image>", "<video>"], "images": [PICTURE, PICTURE], "videos": CLIP},
            "The 2 prompts hold placeholders for 1 image and 1 video but 2 images and 1 video came",
        ),
        (
            {"text": ["<image><image>", "<image>"], "images": [[PICTURE], [PICTURE, PICTURE]]},
            "Prompt 1 of 2 holds placeholders for 2 images but 1 image came for it: .* Give each prompt its own list",
        ),
        (
            {"text": ["<video>", "a"], "videos": [[], [CLIP]]},
            "Prompt 1 of 2 holds placeholders for 1 video but no media came for it",
        ),
    ],
)
def test_a_wrong_number_of_media(processor: LlavaNextVideoProcessor, call: dict[str, Any], message: str) -> None:
    with pytest.raises(ProcessingError, match=message):
        processor(**call, padding=True)


def test_lists_of_media_for_each_prompt(processor: LlavaNextVideoProcessor) -> None:
    texts = ["<image><image> a", "b", "<video><image>"]
    nested = processor(text=texts, images=[[PICTURE, PICTURE], [], [PICTURE]], videos=[[], [], [CLIP]], padding=True)
    flat = processor(text=texts, images=[PICTURE] * 3, videos=[CLIP], padding=True)
    torch.testing.assert_close(dict(nested), dict(flat), rtol=0, atol=0)


def test_truncation_never_cuts_a_medium(processor: LlavaNextVideoProcessor) -> None:
    length = processor(text="a <video> b c d", videos=CLIP).input_ids.shape[1]
    options: dict[str, Any] = {"text": "a <video> b c d", "videos": CLIP, "truncation": True}
    with pytest.raises(
        ProcessingError, match=rf"Truncating {length} tokens to 6 would cut into the media, which end at"
    ):
        processor(**options, max_length=6)
    assert processor(**options, max_length=length - 2).input_ids.shape[1] == length - 2
    with pytest.raises(ArgumentError, match=r"There is no max_length to truncate or pad to"):
        processor(**options)


def test_a_batch_that_is_padded_on_the_wrong_side(processor: LlavaNextVideoProcessor, tiny_folder: Path) -> None:
    model, prompts = load_model(tiny_folder), ["<video> a", "b"]
    processor.tokenizer.padding_side = "right"
    with pytest.raises(ArgumentError, match=r"Set processor\.tokenizer\.padding_side = 'left' and prepare the batch"):
        model.generate(**processor(text=prompts, videos=CLIP, padding=True), max_new_tokens=1)
    processor.tokenizer.padding_side = "left"
    assert len(model.generate(**processor(text=prompts, videos=CLIP, padding=True), max_new_tokens=1)) == 2
    with pytest.raises(
        ArgumentError, match=r"2 different lengths: equal ones are expected without padding\. Pass padding"
    ):
        processor(text=prompts, videos=CLIP)


# --- a processor and a model that disagree ---


@pytest.mark.parametrize(
    ("key", "value", "here"),
    [
        ("patch_size", 14, 7),
        ("num_additional_image_tokens", 0, 1),
        ("vision_feature_select_strategy", "full", "'default'"),
    ],
)
def test_files_of_two_models(tiny_folder: Path, key: str, value: Any, here: Any) -> None:
    path = tiny_folder / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    message = rf"has {key} {value!r}, but the model has {here}: they would disagree about the number of visual tokens"
    for load in (LlavaNextVideoProcessor.from_pretrained, load_processor):
        with pytest.raises(ConfigError, match=message):
            load(tiny_folder)


def test_an_attribute_that_is_not_the_models(processor: LlavaNextVideoProcessor) -> None:
    processor.num_additional_image_tokens = 0
    with pytest.raises(ConfigError, match="The processor has num_additional_image_tokens 0, but the model has 1: they"):
        processor(text="<video>", videos=CLIP)


@pytest.mark.parametrize(
    ("change", "filled"),
    [
        ({"spatial_pool_stride": 4}, 2),
        ({"spatial_pool_stride": 1}, 32),
    ],
)
def test_a_model_that_pools_otherwise(
    processor: LlavaNextVideoProcessor, tiny_config: dict[str, Any], change: dict[str, Any], filled: int
) -> None:
    model = new_model(tiny_config | change)
    inputs = processor(text="<video> a", videos=CLIP)
    message = rf"hold 8 video placeholders \(id 296\), but the 1 videos passed with them fill {filled} .* this model's"
    with pytest.raises(PlaceholderMismatchError, match=message):
        model(**inputs)


def test_a_model_that_keeps_the_class_token(tiny_config: dict[str, Any], tiny_folder: Path) -> None:
    pictures = VideoLlavaImageProcessor(size={"shortest_edge": 28}, crop_size=28)
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    processor = VideoLlavaProcessor(pictures, VideoLlavaVideoProcessor(), tokenizer, patch_size=7)
    config = {name: value for name, value in tiny_config.items() if name != "image_grid_pinpoints"}
    config |= {f"{kind}_token_index": tokenizer.token_to_id(f"<{kind}>") for kind in ("image", "video")}
    model = new_model(config | {"model_type": "video_llava", "vision_feature_select_strategy": "full"})
    inputs = processor(text="<image> a", images=PICTURE)
    with pytest.raises(PlaceholderMismatchError, match=r"hold 16 image placeholders .* fill 17 \(\[17\]\)"):
        model(**inputs)


def test_counts_are_checked_prompt_by_prompt(tiny_folder: Path, processor: LlavaNextVideoProcessor) -> None:
    model = load_model(tiny_folder)
    inputs = processor(text=["<video> a", "<video> b c"], videos=[CLIP, np.concatenate([CLIP, CLIP])], padding=True)
    swapped = {**inputs, "pixel_values_videos": inputs.pixel_values_videos[::-1]}
    with pytest.raises(
        PlaceholderMismatchError, match="The 16 placeholders of video 0 do not stand side by side in one prompt"
    ):
        model(**swapped)


# --- arguments ---


def test_names_that_nothing_reads_are_refused(processor: LlavaNextVideoProcessor, tiny_folder: Path) -> None:
    messages = [{"role": "user", "content": "a"}]
    calls: list[Any] = [
        lambda: processor(text="a", do_rescal=False),
        lambda: processor.apply_chat_template(messages, do_rescal=False),
        lambda: LlavaNextVideoVideoProcessor(do_rescal=False),
        lambda: LlavaNextImageProcessor()(PICTURE, do_rescal=False),
        lambda: LlavaNextImageProcessor.from_pretrained(tiny_folder, do_rescal=False),
        lambda: LlavaNextVideoProcessor.from_pretrained(tiny_folder, do_rescal=False),
    ]
    for call in calls:
        with pytest.raises(ArgumentError, match=r"no setting 'do_rescal': .* Did you mean do_rescale\?"):
            call()
    with pytest.raises(
        ArgumentError, match=r"was given patchsize: expected one of its arguments\. Did you mean patch_size"
    ):
        VideoLlavaProcessor(patchsize=14)
    with pytest.raises(ArgumentError, match="There is no text, image or video: at least one is expected"):
        processor()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": 3}, "text is '3': a string or a list of strings is expected"),
        ({"text": [["a"]]}, "a string or a list of strings is expected"),
        ({"padding": "longer"}, "padding is 'longer': expected one of"),
        ({"truncation": "short"}, "truncation is 'short': expected one of"),
        ({"padding_side": "middle"}, "padding_side is 'middle': left or right is expected"),
        ({"text_kwargs": {"pading": True}}, "text_kwargs has pading: expected one of padding, truncation"),
        ({"images": PICTURE, "text": "<image>", "image_std": 0.0}, r"values above 0 are expected\. Correct it\.$"),
        ({"images": PICTURE, "text": "<image>", "size": {"shortest_edge": 0}}, r"Correct size and crop_size\.$"),
    ],
)
def test_values_that_mean_nothing(processor: LlavaNextVideoProcessor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        processor(**{"text": "a", **options})


def test_sizes_with_keys_that_nothing_reads_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"The size \{'shortest_edge': 28, 'longest_edge': 56\} .* is not known"):
        LlavaNextVideoVideoProcessor()(CLIP, size={"shortest_edge": 28, "longest_edge": 56})


@pytest.mark.parametrize("device", ["gpu", "float16", "cpu:zero"])
def test_devices_that_are_none(processor: LlavaNextVideoProcessor, device: str) -> None:
    inputs = processor(text="a")
    with pytest.raises(
        DeviceError, match=rf"cannot move to '{device}': a device such as cpu .* Use \.to\(model\.device\)"
    ):
        inputs.to(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(processor: LlavaNextVideoProcessor) -> None:
    with pytest.raises(
        DeviceError, match=r"cannot move to cuda:0: this machine has 0 such devices\. Use \.to\(model\.de"
    ):
        processor(text="<image>", images=PICTURE).to(0, torch.float16)


def test_urls_of_private_hosts_unless_they_are_allowed(processor: LlavaNextVideoProcessor) -> None:
    url = "http://127.0.0.1:9/clip.mp4"
    with pytest.raises(FetchError, match=r"is no public address\. .* \(allow_private_hosts=True"):
        processor(text="<video>", videos=url)
    for options in ({"text": "<video>", "videos": url}, {"text": "<image>", "images": url}):
        with pytest.raises(FetchError, match="cannot be downloaded: Connection refused"):
            processor(**options, allow_private_hosts=True)
    messages = [{"role": "user", "content": [{"type": "video", "url": url}, {"type": "text", "text": "a"}]}]
    with pytest.raises(FetchError, match="cannot be downloaded: Connection refused"):
        processor.apply_chat_template(messages, tokenize=True, allow_private_hosts=True)
    with pytest.raises(FetchError, match="cannot be downloaded: Connection refused"):
        LlavaNextVideoVideoProcessor()(url, allow_private_hosts=True)
