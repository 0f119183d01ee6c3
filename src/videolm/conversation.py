"""Media and questions in, streamed answers out: media are read and encoded once, and no token is computed twice."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from videolm.contracts import (
    Answer,
    Features,
    FinishReason,
    MediaReport,
    Message,
    ModelInputs,
    Usage,
)
from videolm.errors import ArgumentError, GenerationError, ProcessingError
from videolm.generation.loop import generate_ids
from videolm.generation.params import SamplingParams
from videolm.generation.streaming import observe, write_text
from videolm.models.video_lm import VideoLM
from videolm.options import Options
from videolm.processing.processor import Processor
from videolm.reader import Medium, Reader
from videolm.stopwatch import Stopwatch

__all__ = ["Conversation", "LoadedModel", "TextStream", "check_question", "media_report"]


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model with what is needed to talk to it."""

    name: str
    model: VideoLM
    reader: Reader
    stop_token_ids: tuple[int, ...] = ()
    load_s: float = 0.0

    @property
    def processor(self) -> Processor:
        """What prepares the model's inputs."""
        return self.reader.processor

    def context_len(self, inputs: ModelInputs) -> int:
        """The most tokens that this prompt may have together with its answer."""
        return self.model.model.config.decoder.context_len(inputs.media)

    def note_on_positions(self, inputs: ModelInputs) -> tuple[str, ...]:
        """One line where positions are stretched for this prompt, or where it needs that they are."""
        decoder = self.model.model.config.decoder
        window, num_tokens = decoder.max_position_embeddings, len(inputs.input_ids)
        factor = decoder.fixed_rope_factor * decoder.rope_factor_of(inputs.media)
        was_told = any(medium.rope_factor is not None for medium in inputs.media)
        if factor == 1 or was_told or (decoder.rope_policy == "fixed" and num_tokens <= window):
            return ()
        return (
            f"The prompt has {num_tokens} tokens and the decoder was trained for {window}: positions are divided by "
            f"{factor:g} (rope_policy {decoder.rope_policy}).",
        )

    def parse(self, options: dict[str, Any]) -> Options:
        """Options by name, with this model's stop tokens."""
        return Options.parse(options, stop_token_ids=self.stop_token_ids)


class TextStream:
    """Text as it is generated; an ``AnswerStream``."""

    def __init__(self, run: Generator[str, None, Answer]) -> None:
        self._run = run
        self._answer: Answer | None = None

    def __iter__(self) -> Iterator[str]:
        while True:
            try:
                piece = next(self._run)
            except StopIteration as end:
                self._answer = end.value or self._answer
                return
            yield piece

    def close(self) -> None:
        """Stop generating; there will be no answer."""
        self._run.close()

    @property
    def answer(self) -> Answer:
        """The finished answer."""
        if self._answer is None:
            raise GenerationError(
                "The answer is not finished: it was asked for before the stream came to its end. "
                "Iterate over the stream first, or call ask."
            )
        return self._answer


class Conversation:
    """Questions and answers about the same media."""

    def __init__(
        self, loaded: LoadedModel, media: Sequence[Medium], options: Options, *, watch: Stopwatch | None = None
    ) -> None:
        """``watch`` has timed how ``media`` were made; the first answer reports it."""
        self._loaded = loaded
        self._options = options
        self.media = tuple(media)
        self.turns: list[tuple[str, str]] = []
        """Questions and answers so far."""
        self.warnings = (
            *(warning for frames, _ in media for warning in frames.warnings),
            *options.warnings,
        )
        self._watch = watch
        self._opened_s = watch.elapsed_s() if watch else 0.0
        self._features: dict[int, Features] | None = None
        self._cache = loaded.model.new_cache()
        self._cached_ids: list[int] = []
        self._running: TextStream | None = None

    def ask(self, question: str, **options: Any) -> Answer:
        """The answer to one more question; options of generation replace the conversation's own for this turn."""
        stream = self.stream(question, **options)
        for _ in stream:
            pass
        return stream.answer

    def stream(self, question: str, **options: Any) -> TextStream:
        """The same, as text while it is generated. A stream that is left unfinished leaves no trace."""
        check_question(question)
        own = self._options.for_turn(options)
        messages = self._messages(question)
        return self.reply(messages, own, question=question, warnings=own.warnings if options else ())

    def reply(
        self,
        messages: Sequence[Message],
        options: Options,
        *,
        question: str | None = None,
        warnings: Sequence[str] = (),
    ) -> TextStream:
        """Answer whole messages that mention all the media, in order.

        Args:
            question: Becomes a turn with its answer.
            warnings: To stand in the answer before its own.
        """
        if self._running is not None:
            self._running.close()  # Two generations cannot write into one cache.
        watch = self._resumed_watch()
        processor = self._loaded.processor
        with watch.measure("preprocess"):
            inputs = processor.prepare_text(messages, [visual for _, visual in self.media])
        # What earlier turns spell was told with their answers.
        special = processor.special_strings_in(messages if question is None else messages[-1:])
        if special:
            warnings = [*warnings, f"The text spells {', '.join(special)}: read as text, not as a special token."]
        turn = _Turn(
            question=question,
            inputs=inputs,
            params=self._fit(inputs, options.params),
            watch=watch,
            warnings=(*warnings, *self._loaded.note_on_positions(inputs)),
        )
        self._encode(watch)
        self._keep_common_prefix(inputs.input_ids)
        self._running = TextStream(self._generate(turn))
        return self._running

    def _messages(self, question: str) -> list[Message]:
        system = self._options.system
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        parts = [{"type": frames.kind} for frames, _ in self.media]
        for asked, answered in self.turns:
            messages.append({"role": "user", "content": [*parts, {"type": "text", "text": asked}]})
            messages.append({"role": "assistant", "content": answered})
            parts = []
        return [*messages, {"role": "user", "content": [*parts, {"type": "text", "text": question}]}]

    def _resumed_watch(self) -> Stopwatch:
        if self._watch is None:
            return Stopwatch(self._loaded.model.device)
        watch, self._watch = self._watch, None
        watch.resume(self._opened_s)
        return watch

    def _fit(self, inputs: ModelInputs, params: SamplingParams) -> SamplingParams:
        """Generate no further than the context reaches."""
        num_tokens, context_len = len(inputs.input_ids), self._loaded.context_len(inputs)
        if num_tokens >= context_len:
            visual = sum(medium.num_tokens for medium in inputs.media)
            raise ProcessingError(
                f"The prompt has {num_tokens} tokens, {visual} of them visual, and the model's context holds "
                f"{context_len}: at least one must remain for the answer. Take fewer frames or media, or write less."
            )
        room = context_len - num_tokens
        return replace(
            params, max_new_tokens=min(params.max_new_tokens, room), min_new_tokens=min(params.min_new_tokens, room)
        )

    def _encode(self, watch: Stopwatch) -> None:
        if self._features is None:
            visuals = [visual for _, visual in self.media]
            with watch.measure("vision"), torch.inference_mode():
                encoded = self._loaded.model.encode_media(visuals)
            self._features = {id(visual): feature for visual, feature in zip(visuals, encoded, strict=True)}

    def _keep_common_prefix(self, ids: Sequence[int]) -> None:
        common = 0
        for old, new in zip(self._cached_ids[: self._cache.length], ids, strict=False):
            if old != new:
                break
            common += 1
        self._cache.truncate(common)
        self._cached_ids = list(ids)

    def _generate(self, turn: _Turn) -> Generator[str, None, Answer]:
        loaded, watch = self._loaded, turn.watch
        assert self._features is not None
        # The prompt's order of the media may differ from theirs.
        features = [self._features[id(medium)] for medium in turn.inputs.media]
        output_ids, times, text = list[int](), list[float](), list[str]()

        def note(token_id: int) -> None:
            output_ids.append(token_id)
            self._cached_ids.append(token_id)
            times.append(watch.elapsed_s())

        ids = generate_ids(loaded.model, turn.inputs, turn.params, features=features, cache=self._cache)
        pieces = write_text(observe(ids, note), loaded.processor.tokenizer.stream(), turn.params)
        reason: FinishReason = yield from observe(pieces, text.append)
        stages = {stage: watch.seconds[stage] for stage in ("decode", "preprocess", "vision")}
        answer = Answer(
            text="".join(text),
            finish_reason=reason,
            model=loaded.name,
            usage=Usage(
                prompt_tokens=len(turn.inputs.input_ids),
                visual_tokens=sum(medium.num_tokens for medium in turn.inputs.media),
                completion_tokens=len(output_ids),
            ),
            media=tuple(media_report(medium) for medium in self.media),
            timings_s={"load": loaded.load_s, **stages, "first_token": times[0], "total": watch.elapsed_s()},
            tokens_per_s=(len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0,
            output_ids=tuple(output_ids),
            warnings=turn.warnings,
        )
        if turn.question is not None and answer.text:  # Chat templates have no place for an answer without text.
            self.turns.append((turn.question, answer.text))
        return answer


@dataclass(frozen=True, kw_only=True)
class _Turn:
    """One prompt that is being answered."""

    question: str | None
    inputs: ModelInputs
    params: SamplingParams
    watch: Stopwatch
    warnings: tuple[str, ...]


def check_question(question: Any) -> None:
    """Refuse what is no text."""
    if not isinstance(question, str) or not question.strip():
        found = "empty" if isinstance(question, str) else f"of type {type(question).__name__}"
        raise ArgumentError(f"The question is {found}: expected some text. Write what you want to know.")


def media_report(medium: Medium) -> MediaReport:
    """What became of one medium."""
    frames, visual = medium
    return MediaReport(
        source=frames.source,
        kind=frames.kind,
        frame_indices=frames.frame_indices,
        frame_times_s=frames.frame_times_s,
        visual_tokens=visual.num_tokens,
        visual_token_budget=visual.budget.fraction,
        chosen=frames.chosen,
    )
