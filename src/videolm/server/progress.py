"""News of the answers to one prompt in, what is told about them at the end out: tokens and seconds."""

from __future__ import annotations

from videolm.engine.request import RequestOutput
from videolm.server.backend import Prompt
from videolm.server.metrics import Metrics
from videolm.server.replies import CompletionUsage, PromptTokensDetails

__all__ = ["Progress"]


class Progress:
    """How far the answers to one prompt are."""

    def __init__(self, prompt: Prompt, num_choices: int) -> None:
        self.prompt = prompt
        self._num_choices = num_choices
        self._first_s: float | None = None
        self._finished: dict[int, RequestOutput] = {}

    def take(self, index: int, output: RequestOutput) -> None:
        """Note what is new of one answer."""
        if self._first_s is None:
            self._first_s = self.prompt.watch.elapsed_s()
        if output.is_finished:
            self._finished[index] = output

    @property
    def is_over(self) -> bool:
        """Whether all answers are finished."""
        return len(self._finished) == self._num_choices

    @property
    def finished(self) -> list[RequestOutput]:
        """Finished answers in the order of their index."""
        return [self._finished[index] for index in sorted(self._finished)]

    def usage(self) -> CompletionUsage:
        """Tokens; the prompt is counted once."""
        prompt = self.finished[0].usage
        completion = sum(output.usage.completion_tokens for output in self.finished)
        details = PromptTokensDetails(cached_tokens=prompt.cached_tokens, visual_tokens=prompt.visual_tokens)
        return CompletionUsage(
            prompt_tokens=prompt.prompt_tokens,
            completion_tokens=completion,
            total_tokens=prompt.prompt_tokens + completion,
            prompt_tokens_details=details,
        )

    def timings_s(self) -> dict[str, float]:
        """Seconds by stage, as a session's answers have them."""
        assert self._first_s is not None
        seconds = self.prompt.watch.seconds
        return {
            "decode": seconds.get("decode", 0.0),
            "preprocess": seconds.get("preprocess", 0.0),
            "vision": sum(output.timings_s["vision"] for output in self.finished),
            "first_token": self._first_s,
            "total": self.prompt.watch.elapsed_s(),
        }

    def count(self, metrics: Metrics) -> None:
        """Tell the metrics, once all is over."""
        timings = self.timings_s()
        metrics.first_token_seconds.observe(timings["first_token"])
        if self.prompt.inputs.media:
            metrics.media_seconds.observe(timings["decode"])
        for output in self.finished:
            num_later = output.usage.completion_tokens - 1
            if num_later:
                later_s = output.timings_s["total"] - output.timings_s["first_token"]
                metrics.token_seconds.observe(later_s / num_later)
