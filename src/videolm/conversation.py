"""Media and questions in, streamed answers out: media are read once, and the engine computes no token twice."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from videolm.contracts import Answer, MediaReport, Message, ModelInputs
from videolm.engine.faults import own_words
from videolm.engine.features import medium_key
from videolm.engine.request import Request, RequestOutput
from videolm.engine.shared import SharedEngine
from videolm.errors import ArgumentError, GenerationError
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
    engine: SharedEngine
    stop_token_ids: tuple[int, ...] = ()
    load_s: float = 0.0

    @property
    def processor(self) -> Processor:
        """What prepares the model's inputs."""
        return self.reader.processor

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
        self._keys: dict[int, str] = {}
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
            self._running.close()  # A turn that is left for the next one leaves no trace.
        watch = self._resumed_watch()
        processor = self._loaded.processor
        with watch.measure("preprocess"):
            inputs = processor.prepare_text(messages, [visual for _, visual in self.media])
        # What earlier turns spell was told with their answers.
        special = processor.special_strings_in(messages if question is None else messages[-1:])
        if special:
            warnings = [*warnings, f"The text spells {', '.join(special)}: read as text, not as a special token."]
        request = Request(
            id=self._loaded.engine.new_id(), inputs=inputs, params=options.params, media_keys=self._media_keys(inputs)
        )
        turn = _Turn(
            question=question,
            request=self._loaded.engine.prepare(request),
            watch=watch,
            warnings=(*warnings, *self._loaded.note_on_positions(inputs)),
        )
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

    def _media_keys(self, inputs: ModelInputs) -> tuple[str, ...]:
        """In the prompt's order, which may differ from that of the media."""
        if not self._keys:
            self._keys = {id(visual): medium_key(visual) for _, visual in self.media}
        return tuple(self._keys[id(medium)] for medium in inputs.media)

    def _generate(self, turn: _Turn) -> Generator[str, None, Answer]:
        outputs: list[RequestOutput] = []
        times: list[float] = []
        with closing(self._loaded.engine.run(turn.request)) as news:
            for output in news:
                if output.error is not None:
                    raise own_words(output.error)
                outputs.append(output)
                times.append(turn.watch.elapsed_s())
                if output.piece:
                    yield output.piece
        answer = self._answer(turn, outputs[0], outputs[-1], times)
        if turn.question is not None and answer.text:  # Chat templates have no place for an answer without text.
            self.turns.append((turn.question, answer.text))
        return answer

    def _answer(self, turn: _Turn, first: RequestOutput, last: RequestOutput, times: list[float]) -> Answer:
        watch, loaded = turn.watch, self._loaded
        watch.seconds["vision"] += last.timings_s["vision"]
        stages = {stage: watch.seconds[stage] for stage in ("decode", "preprocess", "vision")}
        assert last.finish_reason in ("stop", "length")
        num_later = len(last.output_ids) - len(first.output_ids)
        return Answer(
            text=last.text,
            finish_reason=last.finish_reason,
            model=loaded.name,
            usage=last.usage,
            media=tuple(media_report(medium) for medium in self.media),
            timings_s={"load": loaded.load_s, **stages, "first_token": times[0], "total": watch.elapsed_s()},
            tokens_per_s=num_later / (times[-1] - times[0]) if num_later else 0.0,
            output_ids=last.output_ids,
            warnings=turn.warnings,
        )


@dataclass(frozen=True, kw_only=True)
class _Turn:
    """One prompt that is being answered."""

    question: str | None
    request: Request
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
