"""News of answers in, the JSON of OpenAI's chat completions out: whole, or one chunk at a time."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET

from videolm.engine.request import RequestOutput
from videolm.server import replies
from videolm.server.backend import Prompt
from videolm.server.token_texts import TokenTexts

__all__ = ["CompletionWriter", "timings_of", "usage_of"]


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

    def whole(self, finished: Sequence[RequestOutput], prompt: Prompt, first_s: float) -> bytes:
        """The body of an answer that is not streamed; outputs in the order of the choices."""
        choices = [
            replies.Choice(
                index=index,
                message=replies.ReplyMessage(content=output.text),
                logprobs=self._logprobs(index, output),
                finish_reason=_reason(output),
            )
            for index, output in enumerate(finished)
        ]
        return msgspec.json.encode(
            replies.Completion(
                id=self.id,
                created=self.created,
                model=self.model,
                choices=choices,
                usage=usage_of(finished),
                timings_s=timings_of(finished, prompt, first_s),
                warnings=list(prompt.warnings) or UNSET,
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

    def last(
        self, chunk: replies.Chunk, finished: Sequence[RequestOutput], prompt: Prompt, first_s: float
    ) -> list[replies.Chunk]:
        """The chunk that finished all answers, with what is told at the end; counts have a chunk of their own."""
        last = self._chunk([]) if self.with_usage else chunk
        last.timings_s = timings_of(finished, prompt, first_s)
        last.warnings = list(prompt.warnings) or UNSET
        if not self.with_usage:
            return [chunk]
        last.usage = usage_of(finished)
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


def usage_of(finished: Sequence[RequestOutput]) -> replies.CompletionUsage:
    """The tokens of all answers to one prompt, which is counted once."""
    prompt = finished[0].usage
    completion = sum(output.usage.completion_tokens for output in finished)
    return replies.CompletionUsage(
        prompt_tokens=prompt.prompt_tokens,
        completion_tokens=completion,
        total_tokens=prompt.prompt_tokens + completion,
        prompt_tokens_details=replies.PromptTokensDetails(
            cached_tokens=prompt.cached_tokens, visual_tokens=prompt.visual_tokens
        ),
    )


def timings_of(finished: Sequence[RequestOutput], prompt: Prompt, first_s: float) -> dict[str, float]:
    """Seconds by stage, as a session's answers have them."""
    seconds: Mapping[str, float] = prompt.watch.seconds
    return {
        "decode": seconds.get("decode", 0.0),
        "preprocess": seconds.get("preprocess", 0.0),
        "vision": sum(output.timings_s["vision"] for output in finished),
        "first_token": first_s,
        "total": prompt.watch.elapsed_s(),
    }
