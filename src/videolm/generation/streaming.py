"""Token ids in, text pieces out: whole characters only, ending before a stop token or a stop string."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Protocol, TypeVar

from videolm.contracts import FinishReason
from videolm.generation.params import SamplingParams
from videolm.generation.stopping import StopStrings

Item = TypeVar("Item")
IdGenerator = Generator[int, None, FinishReason]
TextGenerator = Generator[str, None, FinishReason]

__all__ = [
    "IdGenerator",
    "TextDecoder",
    "TextGenerator",
    "ids_to_text",
    "observe",
    "until_stop",
    "without_outer_space",
    "write_text",
]


class TextDecoder(Protocol):
    """Turns ids into text one by one, such as ``Tokenizer.stream()``."""

    def step(self, token_id: int, /) -> str | None:
        """The characters that this id completes; None or empty while a character is unfinished."""
        ...


def write_text(ids: IdGenerator, decoder: TextDecoder, params: SamplingParams) -> TextGenerator:
    """The answer's text in pieces, without white space around it; returns why it ended."""
    pieces = ids_to_text(ids, decoder, params.stop_token_ids)
    return (yield from without_outer_space(until_stop(pieces, params.stop)))


def ids_to_text(ids: IdGenerator, decoder: TextDecoder, stop_token_ids: tuple[int, ...] = ()) -> TextGenerator:
    """The pieces that complete characters; stop tokens are not text, a character unfinished at the end is dropped."""
    with closing(ids):
        while True:
            try:
                token_id = next(ids)
            except StopIteration as end:
                return _reason(end)
            piece = None if token_id in stop_token_ids else decoder.step(token_id)
            if piece:
                yield piece


def until_stop(pieces: TextGenerator, stops: tuple[str, ...]) -> TextGenerator:
    """The text before the first stop string; what generates it is closed there."""
    matcher = StopStrings(stops)
    with closing(pieces):
        while matcher.found is None:
            try:
                piece = next(pieces)
            except StopIteration as end:
                held = matcher.flush()
                if held:
                    yield held
                return _reason(end)
            certain = matcher.push(piece)
            if certain:
                yield certain
    return "stop"


def without_outer_space(pieces: TextGenerator) -> TextGenerator:
    """The text from its first visible character to its last: white space waits until text follows it."""
    held, has_text = "", False
    with closing(pieces):
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                return _reason(end)
            text = held + piece if has_text else piece.lstrip()
            visible = text.rstrip()
            held = text[len(visible) :]
            if visible:
                has_text = True
                yield visible


def observe(
    items: Generator[Item, None, FinishReason], see: Callable[[Item], None]
) -> Generator[Item, None, FinishReason]:
    """The same items, each shown to ``see`` on its way."""
    with closing(items):
        while True:
            try:
                item = next(items)
            except StopIteration as end:
                return _reason(end)
            see(item)
            yield item


def _reason(end: StopIteration) -> FinishReason:
    reason: FinishReason = end.value
    return reason
