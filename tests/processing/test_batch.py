"""The processor called as Hugging Face processors are: padded batches from prompts that hold their placeholders."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from videolm.contracts import Frames
from videolm.errors import ArgumentError, DeviceError, ProcessingError
from videolm.processing.pixels import normalise
from videolm.processing.processor import Processor
from videolm.processing.tokenizer import Tokenizer

MakeProcessor = Callable[..., Processor]
IMAGE, VIDEO = 9001, 9000


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_a_call_pads_on_the_left_and_stacks_media(make_processor: MakeProcessor) -> None:
    processor = make_processor()
    images, video = [Image.fromarray(pixels(20, 20)), pixels(60, 60)], pixels(2, 20, 50)
    batch = processor(text=["<image>", "a <video> and <image>"], images=images, videos=video)
    tokens, image = processor.tokenizer, processor.tokens.image
    row = tokens.encode("a ")
    rest = tokens.encode(" and ")[1:]
    second = [*row, *[VIDEO] * 2, *rest, *[IMAGE] * image.count(60, 60)]
    first = [tokens.bos_token_id, *[IMAGE] * image.count(20, 20)]
    padding = len(second) - len(first)
    assert batch.input_ids.tolist() == [[tokens.pad_token_id] * padding + first, second]
    assert batch["attention_mask"].tolist() == [[0] * padding + [1] * len(first), [1] * len(second)]
    assert batch.image_sizes.tolist() == [[20, 20], [60, 60]]
    tiles = image.layout(20, 20).num_tiles
    assert batch.pixel_values.shape == (2, 5, 3, 28, 28)
    assert not batch.pixel_values[0, tiles:].any()
    assert batch.pixel_values_videos.shape == (1, 2, 3, 28, 28)
    frames = [processor.prepare_frame(frame) for frame in video]
    torch.testing.assert_close(batch.pixel_values_videos[0], normalise(frames, processor.video_pixels))


def test_right_padding_and_a_fixed_length(
    make_processor: MakeProcessor, tokenizers_by_kind: dict[str, Tokenizer]
) -> None:
    tokenizer = pickle.loads(pickle.dumps(tokenizers_by_kind["byte_level"]))
    tokenizer.padding_side = "right"
    processor = dataclasses.replace(make_processor(), tokenizer=tokenizer)
    batch = processor(text="red", padding="max_length", max_length=9)
    ids = tokenizer.encode("red")
    assert batch.input_ids.tolist() == [ids + [tokenizer.pad_token_id] * (9 - len(ids))]


def test_forms_that_media_may_have(make_processor: MakeProcessor) -> None:
    processor = make_processor()
    video = pixels(2, 20, 50)
    forms = [
        video,
        [video],
        torch.from_numpy(video),
        torch.from_numpy(video).permute(0, 3, 1, 2),
        [list(video)],
        [Image.fromarray(frame) for frame in video],
        video[None],
        [[Image.fromarray(frame) for frame in video]],
    ]
    expected = processor(text="<video>", videos=video)
    for form in forms:
        batch = processor(text="<video>", videos=form)
        torch.testing.assert_close(dict(batch), dict(expected), rtol=0, atol=0)
    image = pixels(20, 30)
    expected = processor(text="<image><image>", images=[image, image])
    for form in ([image, Image.fromarray(image)], np.stack([image] * 2), [[image], [image]]):
        torch.testing.assert_close(dict(processor(text="<image><image>", images=form)), dict(expected), rtol=0, atol=0)


def test_a_call_without_text_gives_pixels(make_processor: MakeProcessor) -> None:
    assert set(make_processor()(images=pixels(20, 30))) == {"pixel_values", "image_sizes"}


def test_truncation_cuts_text_and_never_media(make_processor: MakeProcessor) -> None:
    processor = make_processor()
    whole = processor(text="<video> and then more", videos=pixels(2, 20, 50))
    cut = processor(text="<video> and then more", videos=pixels(2, 20, 50), truncation=True, max_length=5)
    assert cut.input_ids.tolist() == [whole.input_ids[0, :5].tolist()]
    with pytest.raises(ProcessingError, match="would cut into the media, which end at token 3"):
        processor(text="<video> and then more", videos=pixels(2, 20, 50), truncation=True, max_length=2)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"text": "<video>"}, ProcessingError, "placeholders for 1 video but no media came"),
        ({"text": "x", "videos": np.zeros((1, 9, 9, 3), np.uint8)}, ProcessingError, "for no media but 1 video came"),
        ({"text": "x", "return_tensors": "tf"}, ArgumentError, "return_tensors"),
        ({"text": "x", "truncation": True}, ArgumentError, "no max_length"),
        ({"text": "x", "padding": "max_length"}, ArgumentError, "no max_length"),
        ({"text": ["x", "x y z"], "padding": False}, ArgumentError, "different lengths"),
        ({"text": []}, ArgumentError, "list of prompts is empty"),
    ],
)
def test_calls_that_cannot_work_say_why(
    make_processor: MakeProcessor, arguments: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        make_processor()(**arguments)


def test_videos_of_different_length_share_a_call(make_processor: MakeProcessor) -> None:
    processor = make_processor()
    videos = [pixels(1, 20, 50), pixels(3, 20, 50)]
    batch = processor(text=["<video>", "and <video>"], videos=videos).to(torch.float16)
    assert [clip.shape[0] for clip in batch.pixel_values_videos] == [1, 3]
    assert {clip.dtype for clip in batch.pixel_values_videos} == {torch.float16}
    assert [int((row == VIDEO).sum()) for row in batch.input_ids] == [processor.tokens.video.count(n) for n in (1, 3)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there(make_processor: MakeProcessor) -> None:
    with pytest.raises(DeviceError, match=r"cannot move to cuda:0: this machine has 0 .* Use \.to\(model\.device\)"):
        make_processor()(text="red").to(0, torch.float16)


def test_a_batch_moves_and_only_floats_change_type(make_processor: MakeProcessor) -> None:
    batch = make_processor()(text="<video>", videos=pixels(2, 20, 50)).to("cpu", torch.bfloat16)
    assert (batch.pixel_values_videos.dtype, batch.input_ids.dtype) == (torch.bfloat16, torch.int64)
    with pytest.raises(AttributeError, match="no 'labels'"):
        _ = batch.labels


def test_the_documented_way_equals_prepare(make_processor: MakeProcessor) -> None:
    processor = make_processor()
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "Why?"}]}]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    assert prompt == "USER: <video>\nWhy? ASSISTANT:"
    batch = processor(text=prompt, videos=pixels(3, 20, 50))
    clip = Frames(kind="video", pixels=tuple(pixels(3, 20, 50)), source="clip", size=(20, 50))
    inputs = processor.prepare(messages, [clip])
    assert batch.input_ids[0].tolist() == list(inputs.input_ids)
    torch.testing.assert_close(batch.pixel_values_videos[0], inputs.media[0].pixel_values, rtol=0, atol=0)


def test_decoding(make_processor: MakeProcessor) -> None:
    processor = make_processor()
    ids = processor.tokenizer.encode("The circle is red.</s>")
    assert processor.decode(torch.tensor(ids)) == "The circle is red."
    assert processor.batch_decode(torch.tensor([ids]), skip_special_tokens=False) == ["<s>The circle is red.</s>"]
