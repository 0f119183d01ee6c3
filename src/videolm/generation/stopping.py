"""Text pieces in, text pieces out that end before a stop string, wherever the piece boundaries fall."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["StopStrings"]


class StopStrings:
    """Cuts a text at the stop string that is complete first (of several ending there, the longest).

    Text that may still become a stop string is held back, so what was given out never has to be taken back and does
    not depend on how the text was cut into pieces.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self.stops = tuple(stops)
        self.found: str | None = None
        """The stop string that ended the text."""
        self._held = ""

    def push(self, piece: str) -> str:
        """The text that ``piece`` makes certain; empty once a stop string was found."""
        if self.found is not None:
            return ""
        text = self._held + piece
        start = self._find(text)
        if start is None:
            start = len(text) - self._num_undecided(text)
            self._held = text[start:]
        return text[:start]

    def flush(self) -> str:
        """The text held back, now that nothing follows it."""
        held, self._held = self._held, ""
        return "" if self.found is not None else held

    def _find(self, text: str) -> int | None:
        places = [(text.find(stop), stop) for stop in self.stops]
        complete = [(start + len(stop), start, stop) for start, stop in places if start >= 0]
        if not complete:
            return None
        _, start, self.found = min(complete)
        return start

    def _num_undecided(self, text: str) -> int:
        """Length of the longest end of ``text`` that begins a stop string."""
        longest = max((len(stop) for stop in self.stops), default=0) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self.stops):
                return length
        return 0
