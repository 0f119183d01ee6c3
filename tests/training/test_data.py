"""Samples from sources: the mixture, the rounds, the labels, what counts as bad."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from videolm.errors import ConfigError, ProcessingError
from videolm.media.sampling import FrameSampling
from videolm.processing.processor import Processor
from videolm.session import load
from videolm.training.config import DataConfig, load_train_config
from videolm.training.data import (
    FailedSample,
    Location,
    PreparedSample,
    SampleMaker,
    TrainingSample,
    mix,
    open_source,
    prepare_sample,
    shuffled_index,
)
from videolm.training.samples import PlacedWord
from videolm.training.start import load_start

MakeConfig = Callable[..., Path]
SAMPLING = FrameSampling(num_frames=2)


@pytest.fixture
def processor(make_config: MakeConfig) -> Processor:
    return load_start(load_train_config(make_config()).model, torch.device("cpu")).make_processor()


def test_every_window_holds_the_mixture() -> None:
    sources = [location.source for location in islice(mix((3, 1)), 400)]
    assert {Counter(sources[start : start + 8])[1] for start in range(0, 400, 8)} == {2}


def test_a_mixture_can_be_entered_anywhere() -> None:
    whole = list(islice(mix((2, 3, 1)), 40))
    assert list(islice(mix((2, 3, 1), start=17), 23)) == whole[17:]
    assert list(islice(mix((2, 3, 1), start=1, step=3), 13)) == whole[1::3]
    for source in range(3):
        local = [location.local_index for location in whole if location.source == source]
        assert local == list(range(len(local)))


def test_each_round_visits_all_samples_in_an_order_of_its_own() -> None:
    rounds = [[shuffled_index(index, 20, 7, 0) for index in range(start, start + 20)] for start in (0, 20)]
    assert [sorted(visited) for visited in rounds] == [list(range(20))] * 2
    assert rounds[0] != rounds[1]
    assert rounds[0] != list(range(20))


def sample(answer: str = "a red ball", **changes: Any) -> TrainingSample:
    messages = (
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "what moves?"}]},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": "and where?"},
        {"role": "assistant", "content": "left"},
    )
    values: dict[str, Any] = {"id": "s", "media": (np.zeros((3, 16, 16, 3), np.uint8),), "messages": messages}
    return TrainingSample(**values | changes)


def test_answers_and_their_end_tokens_are_learned_and_nothing_else(processor: Processor) -> None:
    inputs = prepare_sample(sample(), processor, sampling=SAMPLING)
    assert inputs.labels is not None
    end = processor.tokenizer.eos_token_id
    learned = [label for label in inputs.labels if label != -100]
    assert processor.tokenizer.decode(learned, skip_special_tokens=False) == " a red ball</s> left</s>"
    assert learned.count(end) == 2
    assert all(label in (-100, token) for label, token in zip(inputs.labels, inputs.input_ids, strict=True))
    assert inputs.media[0].num_tokens == 2 * 4
    assert inputs.input_ids.count(300) == 2 * 4


def test_visual_tokens_can_learn_a_word_each() -> None:
    processor = load().processor
    plain = prepare_sample(sample(), processor, sampling=SAMPLING)
    count, start = plain.media[0].num_tokens, plain.media_starts[0]
    words = ("left",) + ("",) * (count - 2) + ("still",)
    inputs = prepare_sample(sample(visual_words=words), processor, sampling=SAMPLING)
    assert plain.labels is not None
    assert inputs.labels is not None
    # What is learned at a token is the label of the next.
    learned = {start + 1: inputs.labels[start + 1], start + count: inputs.labels[start + count]}
    assert processor.tokenizer.decode(list(learned.values())) == " left still"
    assert [learned.get(place, label) for place, label in enumerate(plain.labels)] == list(inputs.labels)
    assert inputs.input_ids == plain.input_ids


def test_words_that_do_not_fit_the_visual_tokens_are_refused(processor: Processor) -> None:
    with pytest.raises(ProcessingError, match=r"Sample s has 1 visual_words and its media have 8 tokens"):
        prepare_sample(sample(visual_words=("left",)), processor, sampling=SAMPLING)
    with pytest.raises(ProcessingError, match=r"'left' of visual_words is 3 tokens, expected one\. Choose"):
        prepare_sample(sample(visual_words=("left",) * 8), processor, sampling=SAMPLING)


def picture_sample(**changes: Any) -> TrainingSample:
    image = {"type": "image"}
    messages = (
        {"role": "user", "content": [image, {"type": "text", "text": "what?"}]},
        {"role": "assistant", "content": "red"},
    )
    return TrainingSample(id="p", media=(Image.new("RGB", (48, 24)),), messages=messages, **changes)


def test_placed_words_are_learned_where_the_centres_of_tokens_lie_in_their_boxes() -> None:
    processor = load().processor
    plain = prepare_sample(picture_sample(), processor, sampling=SAMPLING)
    # "left" is at one token of the map's 8 rows of 16. The base tile's first token has its centre there, too, but
    # the box is not half as wide as that token's part.
    placed = (PlacedWord(word="left", box=(0.05, 0.03, 0.1, 0.11)), PlacedWord(word="K", box=(0.5, 0.5, 1.0, 1.0)))
    inputs = prepare_sample(picture_sample(placed_words=placed), processor, sampling=SAMPLING)
    assert plain.labels is not None
    assert inputs.labels is not None
    start, count = plain.media_starts[0], plain.media[0].num_tokens
    assert count == 64 + 8 * 17
    said = {
        place - start - 1: processor.tokenizer.decode([label])
        for place, (label, before) in enumerate(zip(inputs.labels, plain.labels, strict=True))
        if label != before
    }
    base = {row * 8 + column: "K" for row in range(4, 8) for column in range(4, 8)}
    grid = {64 + row * 17 + column: "K" for row in range(4, 8) for column in range(8, 16)}
    assert said == {**base, 65: " left", **grid}


def test_placed_words_need_a_picture(processor: Processor) -> None:
    words = (PlacedWord(word="left", box=(0.0, 0.0, 1.0, 1.0)),)
    with pytest.raises(ProcessingError, match=r"Sample s has placed_words and its media are: video\. Expected one"):
        prepare_sample(sample(placed_words=words), processor, sampling=SAMPLING)


def test_half_pixels(processor: Processor) -> None:
    full, half = (prepare_sample(sample(), processor, sampling=SAMPLING, half=half) for half in (False, True))
    torch.testing.assert_close(half.media[0].pixel_values, full.media[0].pixel_values.bfloat16())
    assert half.labels == full.labels


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"media": ()}, "Sample s has 0 media and its messages name 1"),
        ({"messages": ({"role": "user", "content": "hello"},), "media": ()}, "no message of the assistant"),
    ],
)
def test_a_sample_that_cannot_be_learned_is_refused(
    changes: dict[str, Any], message: str, processor: Processor
) -> None:
    with pytest.raises(ProcessingError, match=message):
        prepare_sample(sample(**changes), processor, sampling=SAMPLING)


def test_a_data_file_with_pictures(processor: Processor, tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "a.png")
    turns = '[{"from": "human", "value": "<image>\\nwhat?"}, {"from": "gpt", "value": "red"}]'
    lines = [f'{{"id": "{name}", "image": "{name}.png", "conversations": {turns}}}' for name in ("a", "missing")]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    config = DataConfig(name="file", json=str(tmp_path / "data.jsonl"), shuffle=False)
    maker = SampleMaker([config], lambda: processor, sampling=SAMPLING)

    first, second = (maker[Location(index=index, source=0, local_index=index)] for index in (4, 5))
    assert isinstance(first, PreparedSample)
    assert (first.id, first.inputs.media[0].kind) == ("a", "image")
    assert isinstance(second, FailedSample)
    assert (second.source, second.id) == ("file", "missing")
    assert second.error.startswith("MediaNotFoundError: ")
    assert "missing.png" in second.error


def test_a_source_gives_what_it_is_asked_for(make_config: MakeConfig, processor: Processor) -> None:
    make_config()
    maker = SampleMaker([DataConfig(name="f", source="colours_source:Finite")], lambda: processor, sampling=SAMPLING)
    made = [maker[Location(index=index, source=0, local_index=index)] for index in range(5)]
    assert sorted(item.id for item in made) == ["c0", "c1", "c2", "c3", "c4"]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("no_such_module:f", {}, r"cannot be imported \(No module named 'no_such_module'\)"),
        ("colours_source:Missing", {}, r"cannot be imported \(module 'colours_source' has no attribute 'Missing'\)"),
        ("colours_source:Colours", {"size": 3}, "does not take its options"),
        ("colours_source:dict", {}, "cannot be imported"),
        ("builtins:dict", {}, r"gave a dict, expected an object with sample\(index\)"),
    ],
)
def test_a_wrong_source_is_a_mistake_in_the_configuration(
    source: str, options: dict[str, Any], message: str, make_config: MakeConfig
) -> None:
    make_config()
    with pytest.raises(ConfigError, match=message):
        open_source(DataConfig(name="a", source=source, options=options))
    sys.modules.pop("colours_source", None)
