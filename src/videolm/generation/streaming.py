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

__all__ = ["IdGenerator", "TextDecoder", "TextGenerator", "TextWriter", "observe", "write_text"]


class TextDecoder(Protocol):
    """Turns ids into text one by one, such as ``Tokenizer.stream()``."""

    def step(self, token_id: int, /) -> str | None:
        """The characters that this id completes; None or empty while a character is unfinished."""
        ...


class TextWriter:
    """An answer's text, id by id, without white space around it.

    Stop tokens are not text, a character unfinished at the end is dropped, and nothing that was given out has to be
    taken back: what may become a stop string, and white space that text may follow, wait.
    """

    def __init__(self, decoder: TextDecoder, params: SamplingParams) -> None:
        self._decoder = decoder
        self._stop_token_ids = params.stop_token_ids
        self._stops = StopStrings(params.stop)
        self._space = ""
        self._has_text = False

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string has ended the text."""
        return self._stops.found is not None

    def push(self, token_id: int) -> str:
        """The text that this id makes certain."""
        if token_id in self._stop_token_ids:
            return ""
        return self._without_outer_space(self._stops.push(self._decoder.step(token_id) or ""))

    def finish(self) -> str:
        """The text held back, now that no id follows."""
        return self._without_outer_space(self._stops.flush())

    def _without_outer_space(self, piece: str) -> str:
        text = self._space + piece if self._has_text else piece.lstrip()
        visible = text.rstrip()
        self._space = text[len(visible) :]
        self._has_text = self._has_text or bool(visible)
        return visible


def write_text(ids: IdGenerator, decoder: TextDecoder, params: SamplingParams) -> TextGenerator:
    """The answer's text in pieces; returns why it ended. What generates it is closed at a stop string."""
    writer = TextWriter(decoder, params)
    with closing(ids):
        while not writer.is_stopped:
            try:
                piece = writer.push(next(ids))
            except StopIteration as end:
                rest = writer.finish()
                if rest:
                    yield rest
                return _reason(end)
            if piece:
                yield piece
    return "stop"


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
