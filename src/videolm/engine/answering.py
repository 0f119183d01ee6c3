"""One request on its way: the logits of each step in, drawn tokens and the answer so far out."""

from __future__ import annotations

import time
from collections.abc import Sequence

from torch import Tensor

from videolm.contracts import Features, ModelInputs, Usage
from videolm.engine.batch import Row, media_between
from videolm.engine.drawing import Chosen
from videolm.engine.request import EndReason, Request, RequestOutput
from videolm.engine.work import Job, Work
from videolm.errors import VideoLMError
from videolm.generation.logprobs import TokenLogprobs, token_logprobs
from videolm.generation.sampling import Multinomial, checked, draw_one, greedy, make_processors, without
from videolm.generation.streaming import TextDecoder, TextWriter

__all__ = ["Answering"]


class Answering:
    """What the engine knows of one request."""

    def __init__(self, request: Request, job: Job, decoder: TextDecoder, *, rope_factor: float) -> None:
        """``request`` is prepared: it has inputs and keys of its media."""
        assert request.inputs is not None
        assert request.media_keys is not None
        self.id = request.id
        self.inputs: ModelInputs = request.inputs
        self.media_keys = request.media_keys
        self.job = job
        self.rope_factor = rope_factor
        self.features: dict[int, Features] = {}
        """By the index of the medium, while the prompt is read."""
        self.vision_s = 0.0
        self.finish_reason: EndReason | None = None
        self._params = request.params
        self._processors = request.logits_processors
        self._shapers = make_processors(request.params, len(self.inputs.input_ids))
        self._uniform: float | None = None
        self._multinomial = None if request.params.is_greedy else Multinomial(request.params.seed)
        self._writer = TextWriter(decoder, request.params)
        self._ids = list(self.inputs.input_ids)
        self._output_ids: list[int] = []
        self._logprobs: list[TokenLogprobs] = []
        self._text = ""
        self._piece = ""
        self._start = time.perf_counter()
        self._first_token_s: float | None = None

    def row(self, work: Work) -> Row:
        """What a step computes for it."""
        return Row(
            inputs=self.inputs,
            ids=tuple(self._ids[work.start : work.start + work.count]) + work.draft,
            start=work.start,
            blocks=work.job.blocks,
            num_logits=1 + len(work.draft) if work.draws else 0,
            rope_factor=self.rope_factor,
            features=self.features,
        )

    def missing(self, work: Work) -> list[int]:
        """Media whose features a step needs and that are not there yet."""
        media = media_between(self.inputs, work.start, work.start + work.count)
        return [index for index, _, _ in media if index not in self.features]

    @property
    def takes_best(self) -> bool:
        """Whether its next tokens are the likeliest ones of the logits as they are."""
        is_plain = self._multinomial is None and not self._shapers and not self._processors
        return is_plain and len(self._output_ids) >= self._params.min_new_tokens

    @property
    def is_shaped_by_others(self) -> bool:
        """Whether logits processors of the request have a say, which may fail."""
        return bool(self._processors)

    def shaped(self, logits: Tensor) -> Tensor:
        """What the next token is taken from, of logits ``[V]`` of the model."""
        if len(self._output_ids) < self._params.min_new_tokens:
            logits = without(logits, self._params.stop_token_ids)
        for process in self._processors:
            logits = process(logits, tuple(self._output_ids))
        for shape in self._shapers:
            logits = shape(logits, self._ids)
        return logits

    def uniform(self) -> float | None:
        """The number to draw the next token by, the same until it is drawn; None where the likeliest is taken."""
        if self._multinomial is not None and self._uniform is None:
            self._uniform = self._multinomial.uniform()
        return self._uniform

    def draw(self, logits: Tensor, draft: Sequence[int], chosen: Chosen = ()) -> list[int]:
        """Draw one token, and one more for each token of the draft that turns out right.

        Each is drawn from the logits that it would be drawn from without a draft, with the same random number: the
        answer is the same.

        Args:
            logits: ``[1 + len(draft), V]``, after the last token and after each of the draft.
            draft: The tokens guessed.
            chosen: What each row draws, where that is known.
        """
        taken: list[int] = []
        self._piece = ""
        for index, (row, guess) in enumerate(zip(logits, (*draft, None), strict=True)):
            token_id = checked(*chosen[index]) if chosen else self._sample(row)
            taken.append(token_id)
            if self._params.logprobs is not None:
                self._logprobs.append(token_logprobs(row, token_id, self._params.logprobs))
            self._take(token_id)
            if self.finish_reason is not None or token_id != guess:
                break
        return taken

    def end(self, reason: EndReason, error: VideoLMError | None = None) -> RequestOutput:
        """Give up; what there is of the answer is told."""
        self.finish_reason = reason
        self._piece = ""
        return self.output(error)

    def output(self, error: VideoLMError | None = None) -> RequestOutput:
        """The answer so far."""
        timings = {"vision": self.vision_s, "total": time.perf_counter() - self._start}
        if self._first_token_s is not None:
            timings["first_token"] = self._first_token_s
        return RequestOutput(
            id=self.id,
            piece=self._piece,
            text=self._text,
            output_ids=tuple(self._output_ids),
            logprobs=tuple(self._logprobs),
            finish_reason=self.finish_reason,
            error=error,
            usage=Usage(
                prompt_tokens=len(self.inputs.input_ids),
                visual_tokens=sum(medium.num_tokens for medium in self.inputs.media),
                completion_tokens=len(self._output_ids),
                cached_tokens=self.job.num_cached,
            ),
            timings_s=timings,
        )

    def _sample(self, logits: Tensor) -> int:
        logits, number = self.shaped(logits), self.uniform()
        return greedy(logits) if number is None else draw_one(logits, number)

    def _take(self, token_id: int) -> None:
        if self._first_token_s is None:
            self._first_token_s = time.perf_counter() - self._start
        self._uniform = None
        self._output_ids.append(token_id)
        self._ids.append(token_id)
        piece = self._writer.push(token_id)
        if token_id in self._params.stop_token_ids or self._writer.is_stopped:
            self.finish_reason = "stop"
        elif len(self._output_ids) == self._params.max_new_tokens:
            self.finish_reason = "length"
        if self.finish_reason is not None:
            piece += self._writer.finish()
        self._piece += piece
        self._text += piece
