"""Ids of tokens in, their texts and bytes out, each as it stands in the middle of a text."""

from __future__ import annotations

from collections.abc import Sequence

from videolm.generation.logprobs import TokenLogprobs
from videolm.processing.tokenizer import Tokenizer
from videolm.server.replies import ChoiceLogprobs, TokenLogprob, TopLogprob

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"

__all__ = ["TokenTexts"]


class TokenTexts:
    """The texts of a tokenizer's tokens, each worked out once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # Decoders strip the space in front of a text's first token: each is decoded behind another one.
        self._anchor = tokenizer.encode("a", special=False)
        self._anchor_len = len(tokenizer.decode(self._anchor, skip_special_tokens=False))
        self._texts: dict[int, str] = {}

    def text(self, token_id: int) -> str:
        """The text of a token; a replacement character for a part of a character."""
        if token_id not in self._texts:
            whole = self._tokenizer.decode([*self._anchor, token_id], skip_special_tokens=False)
            self._texts[token_id] = whole[self._anchor_len :]
        return self._texts[token_id]

    def logprobs(self, tokens: Sequence[TokenLogprobs]) -> ChoiceLogprobs:
        """Log probabilities of tokens as clients read them."""
        return ChoiceLogprobs(content=[self._token(token) for token in tokens])

    def _token(self, token: TokenLogprobs) -> TokenLogprob:
        text = self.text(token.token_id)
        top = [
            TopLogprob(token=self.text(other), logprob=logprob, bytes=_bytes(self.text(other)))
            for other, logprob in token.top
        ]
        return TokenLogprob(token=text, logprob=token.logprob, bytes=_bytes(text), top_logprobs=top)


def _bytes(text: str) -> list[int] | None:
    return None if _UNFINISHED in text else list(text.encode())
