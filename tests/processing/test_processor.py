"""Whole inputs: placeholders, counts, order, batches and files."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from videolm.contracts import Frames
from videolm.errors import ConfigError, ProcessingError
from videolm.processing.pixels import PixelSettings
from videolm.processing.processor import Processor
from videolm.visual_tokens import ImageTokens, VideoTokens, VisualTokens

MakeProcessor = Callable[..., Processor]
IMAGE, VIDEO = 9001, 9000


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8)


def picture(height: int = 40, width: int = 30) -> Frames:
    return Frames(kind="image", pixels=(pixels(height, width),), source="picture", size=(height, width))


def clip(num_frames: int = 3, height: int = 20, width: int = 50) -> Frames:
    frames = tuple(pixels(num_frames, height, width))
    return Frames(kind="video", pixels=frames, source="clip", size=(height, width), num_source_frames=num_frames)


def ask(*kinds: str, text: str = "Why?") -> dict[str, object]:
    return {"role": "user", "content": [*({"type": kind} for kind in kinds), {"type": "text", "text": text}]}


def test_placeholders_are_expanded_by_the_count_of_visual_tokens(make_processor: MakeProcessor) -> None:
    processor = make_processor()
    inputs = processor.prepare([ask("video")], [clip(3)])
    before, after = processor.tokenizer.encode("USER: "), processor.tokenizer.encode("\nWhy? ASSISTANT:")[1:]
    assert inputs.input_ids == (*before, *[VIDEO] * 3, *after)
    assert inputs.media_starts == (len(before),)
    (medium,) = inputs.media
    assert (medium.kind, medium.size, medium.num_tokens, medium.pixel_values.shape) == (
        "video",
        (20, 50),
        3,
        (3, 3, 28, 28),
    )


def test_media_follow_the_order_of_the_prompt(make_processor: MakeProcessor) -> None:
    processor = make_processor()
    small, large = picture(20, 20), picture(60, 60)
    inputs = processor.prepare(
        [ask("video", "image"), {"role": "assistant", "content": "A."}, ask("image")], [clip(2), small, large]
    )
    first, second = (processor.tokens.image.count(*frames.size) for frames in (small, large))
    assert first != second
    assert [(m.kind, m.num_tokens) for m in inputs.media] == [("image", first), ("video", 2), ("image", second)]
    for medium, start in zip(inputs.media, inputs.media_starts, strict=True):
        wanted = IMAGE if medium.kind == "image" else VIDEO
        assert set(inputs.input_ids[start : start + medium.num_tokens]) == {wanted}
        assert inputs.input_ids[start + medium.num_tokens] not in (IMAGE, VIDEO)
    assert inputs.input_ids.count(IMAGE) == first + second


def test_preparing_in_two_steps_is_preparing_in_one(make_processor: MakeProcessor) -> None:
    processor = make_processor()
    messages, media = [ask("image", "video")], [picture(), clip()]
    once = processor.prepare(messages, media)
    twice = processor.prepare_text(messages, [processor.prepare_medium(frames) for frames in media])
    assert once.input_ids == twice.input_ids
    for ours, theirs in zip(once.media, twice.media, strict=True):
        torch.testing.assert_close(ours.pixel_values, theirs.pixel_values, rtol=0, atol=0)


def test_frames_resized_while_decoding_give_the_same_values(make_processor: MakeProcessor) -> None:
    processor = make_processor()
    whole = clip()
    small = Frames(
        kind="video", pixels=tuple(map(processor.prepare_frame, whole.pixels)), source="clip", size=whole.size
    )
    ours, theirs = (processor.prepare_medium(frames) for frames in (whole, small))
    assert (ours.size, ours.num_tokens) == (theirs.size, theirs.num_tokens)
    torch.testing.assert_close(ours.pixel_values, theirs.pixel_values, rtol=0, atol=0)


def test_pixel_values_have_the_processors_dtype(make_processor: MakeProcessor) -> None:
    exact, half = (make_processor(dtype=dtype).prepare_medium(clip()) for dtype in (torch.float32, torch.bfloat16))
    torch.testing.assert_close(exact.pixel_values.bfloat16(), half.pixel_values, rtol=0, atol=0)


def test_media_are_never_learned(make_processor: MakeProcessor) -> None:
    messages = [ask("image", "video"), {"role": "assistant", "content": "A red <video>."}]
    inputs = make_processor().prepare(messages, [picture(), clip()], learn=True)
    assert len(inputs.labels) == len(inputs.input_ids)
    assert not {IMAGE, VIDEO}.intersection(inputs.labels)
    learned = [i for i, label in enumerate(inputs.labels) if label != -100]
    assert learned == list(range(learned[0], len(inputs.labels)))


def test_special_strings_in_questions_stay_text_and_can_be_reported(make_processor: MakeProcessor) -> None:
    processor = make_processor()
    messages = [ask("video", text="Is <video> or </s> text? <video>")]
    inputs = processor.prepare(messages, [clip(2)])
    assert inputs.input_ids.count(VIDEO) == 2
    assert processor.tokenizer.eos_token_id not in inputs.input_ids
    assert processor.special_strings_in(messages) == ("<video>", "</s>")
    assert processor.special_strings_in([ask()]) == ()


@pytest.mark.parametrize(
    ("messages", "media", "said"),
    [
        ([ask()], [clip()], "mention no media but 1 video came"),
        ([ask("video", "video")], [clip()], "mention 2 videos but 1 video came"),
        ([ask("image")], [clip()], "mention 1 image but 1 video came"),
        ([ask("image", "video")], [clip(), picture()], "in the same order"),
    ],
)
def test_messages_and_media_must_agree(
    make_processor: MakeProcessor, messages: list[object], media: list[Frames], said: str
) -> None:
    with pytest.raises(ProcessingError, match=said):
        make_processor().prepare(messages, media)


def test_a_template_that_drops_media_is_named(make_processor: MakeProcessor, tokenizers_by_kind: object) -> None:
    from videolm.processing.chat import ChatTemplate

    template = ChatTemplate("{% for m in messages %}{{ m['content'][-1]['text'] }}{% endfor %}")
    with pytest.raises(ProcessingError, match="placeholders for no media but 1 video came"):
        make_processor(chat_template=template).prepare([ask("video")], [clip()])


def test_an_answer_cannot_be_asked_for_after_an_answer(make_processor: MakeProcessor) -> None:
    messages = [ask(), {"role": "assistant", "content": "Because."}]
    with pytest.raises(ProcessingError, match="last message is of the role assistant"):
        make_processor().prepare(messages, [])
    assert make_processor().prepare(messages, [], add_generation_prompt=False).input_ids


@pytest.mark.parametrize(
    "changes",
    [
        {"video_pixels": PixelSettings(size=(56, 56), crop_size=(56, 56))},
        {"video_pixels": PixelSettings(size=(28, 28), do_center_crop=False)},
        {
            "image_pixels": PixelSettings(size=(56, 56), crop_size=(56, 56)),
            "tokens": VisualTokens(image=ImageTokens(grid=2, tile_size=28), video=VideoTokens(grid=2)),
        },
    ],
)
def test_frames_of_another_size_than_the_models_are_refused(
    make_processor: MakeProcessor, changes: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match="28x28 pixels are expected"):
        make_processor(**changes)


def test_saved_files_are_read_by_transformers(make_processor: MakeProcessor, tmp_path: Path) -> None:
    from transformers import AutoTokenizer
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    processor = make_processor(
        image_pixels=PixelSettings(size=(28, 28), crop_size=(28, 28), backend="pil"),
        preprocessor_config={"image_processor_type": "LlavaNextImageProcessor"},
        processor_config={"processor_class": "LlavaNextVideoProcessor"},
    )
    processor.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    image_processor = LlavaNextImageProcessorPil.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Why?"}]}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    batch = processor(text=prompt, images=pixels(40, 30))
    theirs = image_processor(Image.fromarray(pixels(40, 30)), return_tensors="pt")
    assert prompt == processor.apply_chat_template(messages, add_generation_prompt=True)
    torch.testing.assert_close(batch.pixel_values, theirs["pixel_values"], rtol=0, atol=0)
    count = processor.tokens.image.count(40, 30)
    expanded = prompt.replace("<image>", "<image>" * count)
    ids = [IMAGE if i == tokenizer.convert_tokens_to_ids("<image>") else i for i in tokenizer(expanded)["input_ids"]]
    assert batch.input_ids[0].tolist() == ids
    config = json.loads((tmp_path / "processor_config.json").read_text())
    assert config == {
        "image_token": "<image>",
        "video_token": "<video>",
        "patch_size": 14,
        "processor_class": "LlavaNextVideoProcessor",
    }


def test_a_processor_can_be_sent_to_workers(make_processor: MakeProcessor) -> None:
    processor = make_processor()
    copy = pickle.loads(pickle.dumps(processor))
    assert copy.prepare([ask("video")], [clip()]).input_ids == processor.prepare([ask("video")], [clip()]).input_ids
