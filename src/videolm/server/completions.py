"""News of answers in, the JSON of OpenAI's chat completions out: whole, or one chunk at a time."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET

from videolm.engine.request import RequestOutput
from videolm.server import replies
from videolm.server.progress import Progress
from videolm.server.token_texts import TokenTexts

__all__ = ["CompletionWriter"]


@dataclass(kw_only=True)
class CompletionWriter:
    """Writes the answers to one request."""

    model: str
    tokens: TokenTexts
    with_logprobs: bool
    with_usage: bool
    """Whether a stream ends with a chunk that counts tokens."""
    stop_token_ids: frozenset[int]
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    _num_told: dict[int, int] = field(default_factory=dict)
    """Tokens whose log probabilities were told already, by choice."""

    def whole(self, progress: Progress) -> bytes:
        """The body of an answer that is not streamed."""
        choices = [
            replies.Choice(
                index=index,
                message=replies.ReplyMessage(content=output.text),
                logprobs=self._logprobs(index, output),
                finish_reason=_reason(output),
            )
            for index, output in enumerate(progress.finished)
        ]
        return msgspec.json.encode(
            replies.Completion(
                id=self.id,
                created=self.created,
                model=self.model,
                choices=choices,
                usage=progress.usage(),
                timings_s=progress.timings_s(),
                warnings=list(progress.prompt.warnings) or UNSET,
            )
        )

    def chunk(self, index: int, output: RequestOutput) -> replies.Chunk | None:
        """What one piece of news adds; None where that is nothing to tell."""
        is_first = index not in self._num_told
        logprobs = self._logprobs(index, output)
        if not (is_first or output.piece or output.is_finished or (logprobs and logprobs.content)):
            return None
        delta = replies.Delta(role="assistant" if is_first else UNSET, content=output.piece)
        reason = _reason(output) if output.is_finished else None
        choice = replies.ChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=reason)
        return self._chunk([choice])

    def last(self, chunk: replies.Chunk, progress: Progress) -> list[replies.Chunk]:
        """The chunk that finished all answers, with what is told at the end; counts have a chunk of their own."""
        last = self._chunk([]) if self.with_usage else chunk
        last.timings_s = progress.timings_s()
        last.warnings = list(progress.prompt.warnings) or UNSET
        if not self.with_usage:
            return [chunk]
        last.usage = progress.usage()
        return [chunk, last]

    def _chunk(self, choices: list[replies.ChunkChoice]) -> replies.Chunk:
        usage = None if self.with_usage else UNSET
        return replies.Chunk(id=self.id, created=self.created, model=self.model, choices=choices, usage=usage)

    def _logprobs(self, index: int, output: RequestOutput) -> replies.ChoiceLogprobs | None:
        told, self._num_told[index] = self._num_told.get(index, 0), len(output.output_ids)
        if not self.with_logprobs:
            return None
        # A token that ends the answer is no part of its text.
        return self.tokens.logprobs([t for t in output.logprobs[told:] if t.token_id not in self.stop_token_ids])


def _reason(output: RequestOutput) -> replies.FinishReason:
    assert output.finish_reason in ("stop", "length")
    return output.finish_reason
