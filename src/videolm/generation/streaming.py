"""Token ids in, text pieces out: whole characters only, ending before a stop token or a stop string."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from videolm.contracts import FinishReason
from videolm.generation.params import SamplingParams
from videolm.generation.stopping import StopStrings

IdGenerator = Generator[int, None, FinishReason]

__all__ = ["IdGenerator", "TextDecoder", "TextWriter"]


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
