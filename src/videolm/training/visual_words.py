"""Words that visual tokens learn, each at its own token: a denser target than the answers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from videolm.contracts import ModelInputs
from videolm.errors import ProcessingError
from videolm.processing.processor import Processor
from videolm.training.samples import PlacedWord, TrainingSample
from videolm.visual_tokens import Box

__all__ = ["with_visual_words"]

_LEAST_SHARE = 0.5
"""Of a token's width and height: what is smaller than this share is one of several things that the token is of."""


def with_visual_words(inputs: ModelInputs, sample: TrainingSample, processor: Processor) -> ModelInputs:
    """Have each visual token be followed by a word of its own, in what is learned.

    Raises:
        ProcessingError: Words that do not fit the tokens or are no tokens themselves, or places in what is no picture.
    """
    assert inputs.labels is not None
    places = [
        first + index
        for first, medium in zip(inputs.media_starts, inputs.media, strict=True)
        for index in range(medium.num_tokens)
    ]
    words = sample.visual_words or ("",) * len(places)
    if len(places) != len(words):
        raise ProcessingError(
            f"Sample {sample.id} has {len(words)} visual_words and its media have {len(places)} tokens, "
            "expected a word, or an empty text, for each. Correct them, or leave them out."
        )
    if sample.placed_words:
        words = _words_by_place(words, inputs, sample, processor)
    labels, tokens = list(inputs.labels), {word: _token_of(word, processor) for word in {*words} if word}
    for place, word in zip(places, words, strict=True):
        if word and place + 1 < len(labels):  # What is learned at a token is the label of the next.
            labels[place + 1] = tokens[word]
    return replace(inputs, labels=tuple(labels))


def _words_by_place(
    words: Sequence[str], inputs: ModelInputs, sample: TrainingSample, processor: Processor
) -> tuple[str, ...]:
    kinds = [medium.kind for medium in inputs.media]
    if kinds != ["image"]:
        raise ProcessingError(
            f"Sample {sample.id} has placed_words and its media are: {', '.join(kinds) or 'none'}. Expected one "
            "picture (image). Use visual_words for anything else."
        )
    boxes = processor.tokens.image.boxes(*inputs.media[0].size)
    return tuple(
        (_word_in(box, sample.placed_words) if box else "") or word for word, box in zip(words, boxes, strict=True)
    )


def _word_in(box: Box, placed: Sequence[PlacedWord]) -> str:
    left, top, right, bottom = box
    x, y = (left + right) / 2, (top + bottom) / 2
    for each in placed:
        from_x, from_y, to_x, to_y = each.box
        is_large = to_x - from_x >= _LEAST_SHARE * (right - left) and to_y - from_y >= _LEAST_SHARE * (bottom - top)
        if is_large and from_x <= x < to_x and from_y <= y < to_y:
            return each.word
    return ""


def _token_of(word: str, processor: Processor) -> int:
    """The token of a word, as one that begins a word or else as one that goes on."""
    beginning, going_on = (processor.tokenizer.encode(text, special=False) for text in (f" {word}", word))
    for ids in (beginning, going_on):
        if len(ids) == 1:
            return int(ids[0])
    raise ProcessingError(f"{word!r} of visual_words is {len(beginning)} tokens, expected one. Choose another word.")
