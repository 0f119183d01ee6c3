"""The documented processors: constructors, files, calls and conversations, against the parts they are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from videolm.errors import ArgumentError, ConfigError, MissingExtraError, ModelNotFoundError, ProcessingError
from videolm.families.auto import load_model, load_processor
from videolm.families.auto_classes import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)
from videolm.families.processor_classes import (
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaNextVideo2Processor,
    LlavaNextVideoImageProcessor,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    VideoLlavaImageProcessor,
    VideoLlavaProcessor,
    VideoLlavaVideoProcessor,
)

SMALL = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
PINPOINTS = [[28, 56], [56, 28], [56, 56]]


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.fixture
def processor(tiny_folder: Path) -> LlavaNextVideoProcessor:
    return LlavaNextVideoProcessor.from_pretrained(tiny_folder)


def test_the_documented_order_of_arguments() -> None:
    parts = [object() for _ in range(4)]
    ours = LlavaNextVideoProcessor(*parts)  # type: ignore[arg-type]
    assert [ours.video_processor, ours.image_processor, ours.tokenizer, ours.chat_template] == parts
    theirs = VideoLlavaProcessor(*parts[:3], 16, "full", "<i>", "<v>", "template", 0)
    assert [theirs.image_processor, theirs.video_processor, theirs.tokenizer] == parts[:3]
    assert (theirs.patch_size, theirs.vision_feature_select_strategy, theirs.image_token) == (16, "full", "<i>")
    assert (theirs.video_token, theirs.chat_template, theirs.num_additional_image_tokens) == ("<v>", "template", 0)
    frames = LlavaNextVideoImageProcessor(False, {"shortest_edge": 30}, [[30, 60]], 2, False, 30)
    assert (frames.do_resize, frames.size, frames.image_grid_pinpoints) == (False, {"shortest_edge": 30}, [[30, 60]])
    assert (frames.resample, frames.do_center_crop, frames.crop_size) == (2, False, {"height": 30, "width": 30})


def test_defaults_are_those_of_the_documentation() -> None:
    frames = LlavaNextVideoImageProcessor()
    assert (frames.size, frames.crop_size) == ({"shortest_edge": 224}, {"height": 224, "width": 224})
    assert frames.image_grid_pinpoints == [[672, 336], [336, 672], [672, 672], [336, 1008], [1008, 336]]
    assert LlavaNextImageProcessor().image_grid_pinpoints[0] == [336, 672]
    assert VideoLlavaProcessor().num_additional_image_tokens == 1


def test_a_call_equals_the_processor_underneath(processor: LlavaNextVideoProcessor, tiny_folder: Path) -> None:
    below = load_processor(tiny_folder)
    prompts = ["USER: <image>\nWhat?", "USER: <video>\nWhy is it so?"]
    arguments: dict[str, Any] = {"text": prompts, "images": pixels(30, 50), "videos": pixels(3, 20, 30)}
    ours, expected = processor(**arguments, padding=True, return_tensors="pt"), below(**arguments)
    assert set(ours) == set(expected)
    torch.testing.assert_close(dict(ours), dict(expected), rtol=0, atol=1e-6)


def test_what_a_call_gives_the_model_takes(processor: LlavaNextVideoProcessor, tiny_folder: Path) -> None:
    model = load_model(tiny_folder)
    videos = [pixels(2, 20, 30), pixels(4, 20, 30)]
    inputs = processor(text=["<video> a", "<image> and <video>"], images=pixels(9, 9), videos=videos, padding=True)
    ids = model.generate(**inputs.to(model.device), max_new_tokens=2)
    assert ids.shape == (2, inputs.input_ids.shape[1] + 2)
    assert len(processor.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True)) == 2


@pytest.mark.parametrize("kind", ["pt", "np", None])
def test_types_of_arrays(processor: LlavaNextVideoProcessor, kind: str | None) -> None:
    whole = processor(text="a <video>", videos=pixels(2, 20, 30))
    inputs = processor(text="a <video>", videos=pixels(2, 20, 30), return_tensors=kind)
    assert type(inputs["input_ids"]) is {"pt": torch.Tensor, "np": np.ndarray, None: list}[kind]
    np.testing.assert_array_equal(inputs["input_ids"], whole.input_ids)
    np.testing.assert_array_equal(inputs["pixel_values_videos"], whole.pixel_values_videos)


def test_an_array_type_that_is_not_installed_or_known(processor: LlavaNextVideoProcessor) -> None:
    with pytest.raises(ArgumentError, match="return_tensors is 'xt': expected one of pt, np, jax, tf"):
        processor(text="a", return_tensors="xt")
    with pytest.raises(MissingExtraError, match="jax is not installed"):
        processor(text="a", return_tensors="jax")


def test_channels_come_and_go_first_or_last() -> None:
    frames = LlavaNextVideoVideoProcessor(**SMALL)
    clip = pixels(2, 40, 30)
    expected = frames(clip, return_tensors="np")["pixel_values_videos"]
    first = np.moveaxis(clip, -1, 1)
    np.testing.assert_array_equal(frames(first, return_tensors="np")["pixel_values_videos"], expected)
    given = frames(torch.from_numpy(first), input_data_format="channels_first", return_tensors="np")
    np.testing.assert_array_equal(given["pixel_values_videos"], expected)
    last = frames(clip, data_format="channels_last", return_tensors="np")["pixel_values_videos"]
    np.testing.assert_array_equal(last, np.moveaxis(expected, 2, -1))
    same = frames(clip, data_format=None, return_tensors="np")["pixel_values_videos"]
    np.testing.assert_array_equal(same, last)
    grey = frames([clip[0, :, :, 0]], input_data_format="none", return_tensors="np")["pixel_values_videos"]
    assert grey.shape == (1, 1, 3, 28, 28)


def test_a_setting_of_one_call_stays_in_that_call() -> None:
    pictures = LlavaNextImageProcessor(image_grid_pinpoints=PINPOINTS, **SMALL)
    before = pictures.to_dict()
    plain = pictures(pixels(30, 30), do_normalize=False, do_rescale=False, image_grid_pinpoints=[[28, 28]])
    assert np.asarray(plain["pixel_values"]).shape == (1, 2, 3, 28, 28)
    assert np.asarray(plain["pixel_values"]).max() > 200
    assert pictures.to_dict() == before
    with pytest.raises(ArgumentError, match=r"no setting 'do_normalise'.*Did you mean do_normalize"):
        pictures(pixels(30, 30), do_normalise=False)


def test_values_from_0_to_1_are_taken_without_rescaling() -> None:
    frames, clip = LlavaNextVideoVideoProcessor(**SMALL), pixels(2, 28, 28)
    scaled = frames(clip.astype(np.float32) / 255, do_rescale=False, return_tensors="pt")
    torch.testing.assert_close(dict(scaled), dict(frames(clip, return_tensors="pt")))


def test_resize_is_pillows_for_the_frames_of_4_42() -> None:
    picture = pixels(41, 60)
    expected = np.asarray(Image.fromarray(picture).resize((29, 20), Image.Resampling.BICUBIC))
    for part in (LlavaNextVideoImageProcessor(), VideoLlavaImageProcessor()):
        np.testing.assert_array_equal(part.resize(picture, {"shortest_edge": 20}), expected)
        first = part.resize(np.moveaxis(picture, -1, 0), {"height": 20, "width": 29}, data_format="channels_last")
        np.testing.assert_array_equal(first, expected)


def test_video_llava_names_and_counts() -> None:
    pictures, frames = VideoLlavaImageProcessor(**SMALL), VideoLlavaVideoProcessor(**SMALL)
    both = pictures.preprocess(images=pixels(30, 40), videos=pixels(8, 30, 40), return_tensors="pt")
    assert {name: value.shape for name, value in both.items()} == {
        "pixel_values_images": (1, 3, 28, 28),
        "pixel_values_videos": (1, 8, 3, 28, 28),
    }
    tokens = VideoLlavaProcessor(pictures, frames, None, 7).visual_tokens()
    assert (tokens.image.count(30, 40), tokens.video.count(8)) == (16, 8 * 17)
    real = VideoLlavaProcessor(VideoLlavaImageProcessor(), VideoLlavaVideoProcessor(), None).visual_tokens()
    assert (real.image.count(30, 40), real.video.count(8)) == (256, 2056)


def test_video_llava_warns_of_another_number_of_frames(tiny_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    parts = VideoLlavaImageProcessor(**SMALL), VideoLlavaVideoProcessor(**SMALL)
    processor = VideoLlavaProcessor(*parts, tokenizer, 7)
    with pytest.warns(
        UserWarning, match="A video of 3 frames was given: this model was trained on exactly 8"
    ) as warned:
        inputs = processor(text="<video>", videos=pixels(3, 30, 40))
    assert warned[0].filename == __file__
    assert set(inputs) == {"input_ids", "attention_mask", "pixel_values_videos"}
    processor(text="<video>", videos=pixels(8, 30, 40))


def test_real_sizes_of_the_other_families() -> None:
    ours = LlavaNextVideo2Processor()
    ours.image_processor, ours.video_processor = ours.spec.image_part(), ours.spec.video_part()
    assert (ours.visual_tokens().image.count(480, 640), ours.visual_tokens().video.count(64)) == (2929, 64 * 182)
    pictures = LlavaNextImageProcessor(size={"shortest_edge": 336}, crop_size=336)
    tokens = LlavaNextProcessor(pictures).visual_tokens()
    assert (tokens.image.count(480, 640), tokens.video.count(32)) == (2340, 32 * 144)


def test_saving_and_loading(processor: LlavaNextVideoProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path / "saved")
    again = LlavaNextVideoProcessor.from_pretrained(tmp_path / "saved")
    assert again.to_dict() == processor.to_dict()
    assert again.chat_template == processor.chat_template
    arguments: dict[str, Any] = {"text": "<image> a <video>", "images": pixels(30, 50), "videos": pixels(2, 20, 30)}
    for name, value in processor(**arguments).items():
        if name != "input_ids":  # Without the model beside it, the tokenizer alone says which ids stand for media.
            torch.testing.assert_close(again(**arguments)[name], value, rtol=0, atol=0)


def test_files_of_before_4_46_take_the_rest_from_the_model(tiny_folder: Path) -> None:
    (tiny_folder / "processor_config.json").unlink(missing_ok=True)
    processor = LlavaNextVideoProcessor.from_pretrained(tiny_folder)
    assert (processor.patch_size, processor.num_additional_image_tokens) == (7, 1)
    assert processor.vision_feature_select_strategy == "default"


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | changes))


def test_files_of_every_generation(tiny_folder: Path, tmp_path: Path) -> None:
    frames = pixels(2, 20, 30)
    expected = LlavaNextVideoProcessor.from_pretrained(tiny_folder)(text="<video> a", videos=frames)
    pictures, videos = (tiny_folder / name for name in ("preprocessor_config.json", "video_preprocessor_config.json"))

    def loaded_with(template: str) -> None:
        processor = LlavaNextVideoProcessor.from_pretrained(tiny_folder)
        assert processor.chat_template == template
        torch.testing.assert_close(dict(processor(text="<video> a", videos=frames)), dict(expected), rtol=0, atol=0)

    # 5.x: the parts inside processor_config.json.
    parts = {"image_processor": json.loads(pictures.read_text()), "video_processor": json.loads(videos.read_text())}
    rewrite(tiny_folder / "processor_config.json", **parts)
    settings = pictures.read_text()
    pictures.unlink()
    videos.unlink()
    loaded_with((tiny_folder / "chat_template.jinja").read_text())
    # 4.46 and before: one file for pictures and frames, the template in another or in that of the tokenizer.
    (tiny_folder / "processor_config.json").unlink()
    (tiny_folder / "chat_template.jinja").unlink()
    pictures.write_text(settings)
    rewrite(tiny_folder / "tokenizer_config.json", chat_template=[{"name": "default", "template": "C"}])
    loaded_with("C")
    rewrite(tiny_folder / "processor_config.json", chat_template="B")
    loaded_with("B")
    rewrite(tiny_folder / "chat_template.json", chat_template="A")
    loaded_with("A")


def test_what_loading_may_change(tiny_folder: Path, clip: Path) -> None:
    changes: dict[str, Any] = {"padding_side": "right", "num_frames": 3, "do_normalize": False, "use_fast": False}
    processor = AutoProcessor.from_pretrained(tiny_folder, **changes, chat_template="A", image_token="<picture>")
    assert (processor.chat_template, processor.image_token) == ("A", "<picture>")
    assert processor.tokenizer.padding_side == "right"
    for part in (processor.image_processor, processor.video_processor):
        assert (part.do_normalize, part.backend) == (False, "pil")
    assert processor(text="<video>", videos=str(clip)).pixel_values_videos.shape[1] == 3
    assert AutoImageProcessor.from_pretrained(tiny_folder, use_fast=False).backend == "pil"


def test_pixels_alone_are_cast(processor: LlavaNextVideoProcessor) -> None:
    media: dict[str, Any] = {"images": pixels(30, 50), "videos": [pixels(2, 20, 30), pixels(3, 20, 30)]}
    for where in (("cpu", torch.float16), (torch.float16,), (torch.device("cpu"), torch.float16)):
        inputs = processor(text="<image> <video> <video>", **media).to(*where)
        assert inputs.input_ids.dtype == inputs.attention_mask.dtype == inputs.image_sizes.dtype == torch.int64
        assert {inputs.pixel_values.dtype, *(video.dtype for video in inputs.pixel_values_videos)} == {torch.float16}
    assert processor(text="<image>", images=pixels(9, 9)).to(device="cpu", dtype=torch.bfloat16).pixel_values.is_cpu


def test_orders_and_padding_of_a_call(processor: LlavaNextVideoProcessor) -> None:
    media: dict[str, Any] = {"text": "<image><image>", "images": [pixels(30, 50), pixels(50, 20)]}
    expected = processor(**media).pixel_values
    for order in ("channels_last", None):  # None: as they came.
        torch.testing.assert_close(processor(**media, data_format=order).pixel_values.movedim(-1, -3), expected)
    unpadded = processor(**media, do_pad=False, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(unpadded[0], expected[0, : len(unpadded[0])])
    assert [len(tiles) for tiles in unpadded] == [5, 3]
    messages = [{"role": "user", "content": [{"type": "image", "image": pixels(30, 50)}, "a"]}]
    inside = processor.apply_chat_template(messages, tokenize=True, return_dict=True, data_format="channels_last")
    torch.testing.assert_close(inside.pixel_values.movedim(-1, -3), expected[:1])


def test_a_missing_file_and_another_family(tiny_folder: Path) -> None:
    with pytest.raises(ConfigError, match="whose processor is LlavaNextVideoProcessor, not VideoLlavaProcessor"):
        VideoLlavaProcessor.from_pretrained(tiny_folder)
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (tiny_folder / name).unlink()
    with pytest.raises(ModelNotFoundError, match=r"no preprocessor_config\.json: it says how"):
        LlavaNextVideoProcessor.from_pretrained(tiny_folder)


def test_conversations_with_media_inside(processor: LlavaNextVideoProcessor, clip: Path, picture: Path) -> None:
    content = [
        {"type": "video", "path": str(clip)},
        {"type": "image", "url": str(picture)},
        {"type": "text", "text": "Why?"},
    ]
    messages = [{"role": "user", "content": content}]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    assert prompt.count("<video>") == prompt.count("<image>") == 1
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", num_frames=3
    )
    expected = processor(text=prompt, images=str(picture), videos=str(clip), num_frames=3)
    torch.testing.assert_close(dict(inputs), dict(expected), rtol=0, atol=0)
    assert inputs.pixel_values_videos.shape[1] == 3
    (ids,) = processor.apply_chat_template(messages, tokenize=True, video_fps=2, return_tensors=None)
    assert ids.count(296) == 4 * 4
    with pytest.raises(ProcessingError, match="holds a bare video: a path, a URL or an array"):
        processor.apply_chat_template([{"role": "user", "content": [{"type": "video"}, "a"]}], tokenize=True)
    assert processor.apply_chat_template([messages, messages]) == [processor.apply_chat_template(messages)] * 2


def test_the_tokenizer_is_called_as_documented(processor: LlavaNextVideoProcessor) -> None:
    tokenizer = processor.tokenizer
    tokenizer.padding_side = "right"
    inputs = tokenizer(["a", "a b c"], padding=True, return_tensors="pt")
    short = len(tokenizer("a")["input_ids"])
    assert inputs.attention_mask[0].tolist() == [1] * short + [0] * (inputs.input_ids.shape[1] - short)
    assert processor(text=["a", "a b c"], padding=True).input_ids.tolist() == inputs.input_ids.tolist()
    assert tokenizer.convert_tokens_to_ids("</s>") == tokenizer.eos_token_id
    assert tokenizer.convert_ids_to_tokens([tokenizer.pad_token_id]) == [tokenizer.pad_token]
    assert processor.decode(tokenizer("a, b")["input_ids"]) == "<s>a, b"
    assert tokenizer("a", add_special_tokens=False)["input_ids"] == tokenizer("a")["input_ids"][1:]
    assert (processor.image_token_id, processor.video_token_id) == (297, 296)


def test_the_tokenizer_writes_conversations_too(processor: LlavaNextVideoProcessor, tiny_folder: Path) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "Why?"}, {"type": "video"}]}]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    for tokenizer in (processor.tokenizer, AutoTokenizer.from_pretrained(tiny_folder)):
        tokenizer.add_special(["<video>"])
        assert tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) == prompt
        ids = tokenizer(prompt)["input_ids"]
        assert tokenizer.apply_chat_template(messages, add_generation_prompt=True) == ids
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        assert (inputs.input_ids.tolist(), inputs.attention_mask.tolist()) == ([ids], [[1] * len(ids)])
    assert tokenizer.apply_chat_template(messages, "{{ messages[0]['content'][0]['text'] }}", tokenize=False) == "Why?"
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match=r"This tokenizer has no chat template: .* or pass chat_template\."):
        tokenizer.apply_chat_template(messages)


def test_auto_classes_find_the_family(tiny_folder: Path) -> None:
    assert type(AutoProcessor.from_pretrained(tiny_folder)) is LlavaNextVideoProcessor
    assert type(AutoImageProcessor.from_pretrained(tiny_folder, do_pad=False)) is LlavaNextImageProcessor
    assert AutoConfig.from_pretrained(tiny_folder).model_type == "llava_next_video"
    assert AutoTokenizer.from_pretrained(tiny_folder, padding_side="right").padding_side == "right"
    model = AutoModelForImageTextToText.from_pretrained(tiny_folder)
    assert type(model).__name__ == "LlavaNextVideoForConditionalGeneration"
    with pytest.raises(TypeError, match=r"use AutoProcessor\.from_pretrained"):
        AutoProcessor()
    (tiny_folder / "config.json").unlink()
    assert type(AutoProcessor.from_pretrained(tiny_folder)) is LlavaNextVideoProcessor
    (tiny_folder / "processor_config.json").write_text(json.dumps({"processor_class": "OtherProcessor"}))
    with pytest.raises(ConfigError, match="names the processor 'OtherProcessor'"):
        AutoProcessor.from_pretrained(tiny_folder)
