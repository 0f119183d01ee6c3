"""``POST /v1/chat/completions``: a conversation in, its next message out, whole or as it is generated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from videolm.server.admission import shutting_down
from videolm.server.backend import Backend
from videolm.server.bodies import read_json
from videolm.server.completions import CompletionWriter
from videolm.server.connection import while_connected
from videolm.server.errors import ApiError, timed_out
from videolm.server.progress import Progress
from videolm.server.schema import ChatRequest
from videolm.server.sse import EventSender
from videolm.server.token_texts import TokenTexts
from videolm.server.translate import Asked, translate

__all__ = ["ChatEndpoint", "check_model"]


def check_model(name: str, backend: Backend) -> None:
    """Refuse the name of another model."""
    if name != backend.loaded.name:
        raise ApiError(
            404,
            f"There is no model {name[:100]!r} here: expected {backend.loaded.name!r}. Take a name of /v1/models.",
            param="model",
            code="model_not_found",
        )


class ChatEndpoint:
    """The ASGI application of this one route."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._tokens = TokenTexts(backend.reader.processor.tokenizer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        backend = self._backend
        with backend.admission.place() as place:
            request = await read_json(scope, receive, backend.settings, ChatRequest, place)
            check_model(request.model, backend)
            asked = translate(request, backend.resolver, backend.settings, backend.loaded.stop_token_ids)
            place.take(asked.num_choices - 1)
            writer = self._writer(request, asked)
            if request.stream:
                await while_connected(receive, self._stream(asked, writer, send), backend.admission)
                return
            body = await while_connected(receive, self._whole(asked, writer), backend.admission)
            await Response(body, media_type="application/json")(scope, receive, send)

    def _writer(self, request: ChatRequest, asked: Asked) -> CompletionWriter:
        options = request.stream_options
        return CompletionWriter(
            model=self._backend.loaded.name,
            tokens=self._tokens,
            with_logprobs=bool(request.logprobs),
            with_usage=bool(options and options.include_usage),
            stop_token_ids=frozenset(asked.params.stop_token_ids),
        )

    async def _whole(self, asked: Asked, writer: CompletionWriter) -> bytes:
        timeout_s = self._backend.settings.request_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                prompt = await self._backend.prepare(asked)
                progress = Progress(prompt, asked.num_choices)
                async for index, output in self._backend.answer(writer.id, prompt, asked):
                    progress.take(index, output)
        except TimeoutError:
            raise timed_out(timeout_s) from None
        progress.count(self._backend.metrics)
        return writer.whole(progress)

    async def _stream(self, asked: Asked, writer: CompletionWriter, send: Send) -> None:
        admission, settings = self._backend.admission, self._backend.settings
        await EventSender(send, keepalive_s=settings.keepalive_s).send_all(
            self._events(asked, writer),
            timeout_s=settings.request_timeout_s,
            ended=lambda: shutting_down() if admission.is_over else None,
        )

    async def _events(self, asked: Asked, writer: CompletionWriter) -> AsyncGenerator[bytes, None]:
        prompt = await self._backend.prepare(asked)
        progress = Progress(prompt, asked.num_choices)
        async for index, output in self._backend.answer(writer.id, prompt, asked):
            progress.take(index, output)
            if (chunk := writer.chunk(index, output)) is None:
                continue
            for each in writer.last(chunk, progress) if progress.is_over else [chunk]:
                yield msgspec.json.encode(each)
        progress.count(self._backend.metrics)
