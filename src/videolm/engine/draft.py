"""The tokens so far in, a guess of what follows out: what followed the last few tokens when they stood there before."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["PromptLookup"]


class PromptLookup:
    """An index of one text's runs of tokens, which grows with it."""

    def __init__(self, ngram: int, most: int) -> None:
        """Guesses follow runs of ``ngram`` tokens and have at most ``most``."""
        self._ngram = ngram
        self._most = most
        self._ends: dict[tuple[int, ...], int] = {}
        """By run, the position after its last occurrence but for the one that ends the text."""
        self._num_indexed = 0

    def guess(self, content: Sequence[int], first_unknown: int) -> tuple[int, ...]:
        """What may follow ``content``, which begins as at the last call; no token from ``first_unknown`` on is guessed.

        Args:
            first_unknown: Larger numbers are no ids, such as the tokens of media.
        """
        for end in range(max(self._num_indexed, self._ngram), len(content)):
            self._ends[tuple(content[end - self._ngram : end])] = end
        self._num_indexed = len(content)
        found = self._ends.get(tuple(content[-self._ngram :]))
        if found is None or len(content) < self._ngram:
            return ()
        guessed = content[found : found + self._most]
        return tuple(guessed[: next((i for i, token in enumerate(guessed) if token >= first_unknown), len(guessed))])
