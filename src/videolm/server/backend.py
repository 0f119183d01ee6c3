"""What answers requests: a model in its engine, what reads media for it, and who is let in."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import torch

from videolm.contracts import ModelInputs
from videolm.conversation import LoadedModel
from videolm.engine.async_engine import AsyncEngine
from videolm.engine.config import EngineConfig
from videolm.engine.engine import Engine
from videolm.engine.faults import own_words
from videolm.engine.features import medium_key
from videolm.engine.fitting import fit_to_context
from videolm.engine.request import Request, RequestOutput
from videolm.engine.vision_cache import VisionCache
from videolm.errors import ProcessingError, VideoLMError
from videolm.generation.sampling import LogitsProcessor
from videolm.generation.structured import json_schema_processor
from videolm.media.worker_pool import DecodePool
from videolm.options import Options
from videolm.reader import Medium, Reader
from videolm.server.admission import Admission
from videolm.server.errors import ApiError, as_api_error
from videolm.server.file_store import FileStore
from videolm.server.metrics import Metrics
from videolm.server.settings import ServerSettings
from videolm.server.sources import MediaPolicy
from videolm.server.translate import Asked
from videolm.stopwatch import Stopwatch

NUM_READERS = 16
"""Threads that wait for downloads and decoders."""

__all__ = ["NUM_READERS", "Backend", "Prompt"]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A request that the engine can take."""

    inputs: ModelInputs
    media_keys: tuple[str, ...]
    processors: tuple[tuple[LogitsProcessor, ...], ...]
    """Of each answer, which hold it to a format."""
    watch: Stopwatch
    """Has timed ``decode`` and ``preprocess``, and runs since the request came."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One model on the network."""

    settings: ServerSettings
    loaded: LoadedModel
    reader: Reader
    """Reads in other processes."""
    engine: AsyncEngine
    cache: VisionCache
    files: FileStore
    resolver: MediaPolicy
    admission: Admission
    readers: ThreadPoolExecutor
    metrics: Metrics
    started: int
    """When the server started, in Unix seconds."""

    @classmethod
    def open(
        cls,
        loaded: LoadedModel,
        settings: ServerSettings,
        *,
        cache: VisionCache,
        decoders: DecodePool,
        files: FileStore,
    ) -> Backend:
        """Make an engine for a loaded model; ``close`` ends it, and leaves the rest to whoever made it."""
        config = EngineConfig(
            max_running=settings.max_running,
            cache_bytes=settings.cache_bytes,
            lays_out_at_once=True,  # Rather than let the first request wait for it.
        )
        engine = AsyncEngine(Engine(loaded.model, loaded.processor, config, features=cache))
        return cls(
            settings=settings,
            loaded=loaded,
            reader=replace(loaded.reader, load=decoders.load),
            engine=engine,
            cache=cache,
            files=files,
            resolver=MediaPolicy(settings=settings, files=files),
            admission=Admission(settings.max_running + settings.max_queue, settings.max_bodies_bytes),
            readers=ThreadPoolExecutor(NUM_READERS, thread_name_prefix="videolm-reader"),
            metrics=Metrics(engine.stats),
            started=int(time.time()),
        )

    async def close(self) -> None:
        """Give up what is unanswered; a thread that reads ends with its decoder."""
        self.readers.shutdown(wait=False, cancel_futures=True)
        await self.engine.close()

    @property
    def context_len(self) -> int:
        """Most tokens of a prompt and its answer."""
        return self.reader.context_len

    async def prepare(self, asked: Asked) -> Prompt:
        """Read the media and make the prompt, in a thread that gives up between two media when nobody waits."""
        is_given_up = threading.Event()
        loop = asyncio.get_running_loop()
        watch = Stopwatch(torch.device("cpu"))
        try:
            work = partial(self._prepare, asked, watch, is_given_up)
            # Words alone need not wait behind media.
            return await loop.run_in_executor(self.readers if asked.media else None, work)
        finally:
            is_given_up.set()

    def _prepare(self, asked: Asked, watch: Stopwatch, is_given_up: threading.Event) -> Prompt:
        media = self._read(asked, watch, is_given_up)
        processor = self.reader.processor
        messages = asked.messages([frames.kind for frames, _ in media])
        try:
            with watch.measure("preprocess"):
                inputs = processor.prepare_text(messages, [visual for _, visual in media])
            self._check_context(inputs, asked)
            keys = {id(visual): medium_key(visual) for _, visual in media}
            special = processor.special_strings_in(messages)
        except ProcessingError as error:
            raise as_api_error(error, param="messages") from None
        processors = [self._processors(asked) for _ in range(asked.num_choices)]
        options = Options(media=asked.options, params=asked.params)
        read_as_text = (f"The text spells {', '.join(special)}: read as text, not as a special token.",)
        return Prompt(
            inputs=inputs,
            media_keys=tuple(keys[id(visual)] for visual in inputs.media),
            processors=tuple(processors),
            watch=watch,
            warnings=(
                *(line for frames, _ in media for line in frames.warnings),
                *options.warnings,
                *(read_as_text if special else ()),
                *self.loaded.note_on_positions(inputs),
            ),
        )

    def _read(self, asked: Asked, watch: Stopwatch, is_given_up: threading.Event) -> list[Medium]:
        media: list[Medium] = []
        sources = [medium.source for medium in asked.media]
        try:
            for frames, visual in self.reader.read_each(sources, asked.options, watch, known=self.cache):
                if is_given_up.is_set():
                    break
                self.cache.expect(frames, visual)
                media.append((frames, visual))
        except VideoLMError as error:
            raise as_api_error(error, param=asked.media[len(media)].param) from None
        return media

    def _processors(self, asked: Asked) -> tuple[LogitsProcessor, ...]:
        """Of one answer: each follows what is generated there."""
        if asked.json_schema is None:
            return ()
        try:
            return (
                json_schema_processor(asked.json_schema, self.reader.processor.tokenizer, asked.params.stop_token_ids),
            )
        except VideoLMError as error:
            raise as_api_error(error, param="response_format") from None

    def _check_context(self, inputs: ModelInputs, asked: Asked) -> None:
        try:
            fit_to_context(inputs, asked.params, self.loaded.model.model.config.decoder)
        except ProcessingError as error:
            raise ApiError(400, str(error), param="messages", code="context_length_exceeded") from None

    async def answer(self, name: str, prompt: Prompt, asked: Asked) -> AsyncGenerator[tuple[int, RequestOutput], None]:
        """News of each of the answers with its index, until all are finished.

        The first begins alone: the others then find the prompt computed.
        """
        requests = [
            Request(
                id=f"{name}-{index}",
                inputs=prompt.inputs,
                params=asked.choice_params(index),
                media_keys=prompt.media_keys,
                logits_processors=prompt.processors[index],
            )
            for index in range(asked.num_choices)
        ]
        # A client that does not read is waited for in the engine's streams, which join what was not taken.
        news: asyncio.Queue[tuple[int, RequestOutput] | Exception] = asyncio.Queue(maxsize=len(requests))
        tasks = [asyncio.create_task(self._follow(0, requests[0], news))]
        try:
            num_left = len(requests)
            while num_left:
                item = await news.get()
                if isinstance(item, Exception):
                    raise item
                if len(tasks) < len(requests):
                    later = enumerate(requests[1:], start=1)
                    tasks += [asyncio.create_task(self._follow(index, request, news)) for index, request in later]
                num_left -= item[1].is_finished
                yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(
        self, index: int, request: Request, news: asyncio.Queue[tuple[int, RequestOutput] | Exception]
    ) -> None:
        try:
            async for output in self.engine.stream(request):
                await news.put((index, output))
        except Exception as error:  # Whatever it is, it is told to whoever asked.
            await news.put(own_words(error) if isinstance(error, VideoLMError) else error)
