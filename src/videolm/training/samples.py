"""What a source of training data gives: one conversation with its media."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from videolm.contracts import Message
from videolm.visual_tokens import Box

__all__ = ["PlacedWord", "SampleSource", "TrainingSample"]


@dataclass(frozen=True, kw_only=True)
class PlacedWord:
    """A word for a part of a picture."""

    word: str
    box: Box


@dataclass(frozen=True, kw_only=True)
class TrainingSample:
    """One conversation to learn from."""

    id: str
    media: tuple[Any, ...]
    """Anything that ``media.load_media`` reads, or Frames; in the order of the messages' image and video items."""
    messages: tuple[Message, ...]
    visual_words: tuple[str, ...] = ()
    """A word for each visual token of all media, to be said at that very token; empty where nothing is learned."""
    placed_words: tuple[PlacedWord, ...] = ()
    """The same for the only medium, a picture of a model with AnyRes tiles: each token whose centre lies in a word's
    box learns that word, unless the token is of a part more than twice as wide or as high as the box."""


class SampleSource(Protocol):
    """Where samples come from; one with ``__len__`` is read in rounds, one without goes on for ever."""

    def sample(self, index: int) -> TrainingSample:
        """The sample of this index: always the same, in whatever process and order it is asked for."""
