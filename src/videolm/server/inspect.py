"""``POST /v1/inspect``: media in, exactly what the model would see of them out, as values and as pictures."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from typing import Any

import msgspec
import torch
from PIL import Image
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from videolm.contracts import Frames, VisualInput
from videolm.errors import VideoLMError
from videolm.options import MediaOptions
from videolm.processing.contact_sheet import contact_sheet, describe
from videolm.processing.pixels import denormalise
from videolm.processing.processor import Processor
from videolm.server.backend import Backend
from videolm.server.bodies import read_json
from videolm.server.chat import check_model
from videolm.server.connection import while_connected
from videolm.server.errors import ApiError, as_api_error, timed_out
from videolm.server.schema import InspectRequest
from videolm.server.translate import Medium, media_of, media_options
from videolm.stopwatch import Stopwatch

MAX_FRAMES = 256
"""Most pictures that one answer shows."""

__all__ = ["InspectEndpoint", "Inspection"]


class Inspection(msgspec.Struct, kw_only=True):
    """What the model would see."""

    media: list[dict[str, Any]]
    """As ``videolm inspect --json`` tells it; beside that ``frames``: the time of each, and its picture."""
    visual_tokens: int
    sheet: str
    """A ``data:`` URL of the contact sheet."""


class InspectEndpoint:
    """The ASGI application of this one route."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        backend = self._backend
        with backend.admission.place() as place:
            request = await read_json(scope, receive, backend.settings, InspectRequest, place)
            if request.model is not None:
                check_model(request.model, backend)
            options = media_options(request, backend.settings)
            media = media_of(request.content, "content", backend.resolver, backend.settings)
            body = await while_connected(receive, self._inspect(media, options), backend.admission)
            await Response(body, media_type="application/json", headers={"cache-control": "no-store"})(
                scope, receive, send
            )

    async def _inspect(self, media: list[Medium], options: MediaOptions) -> bytes:
        is_given_up = threading.Event()
        timeout_s = self._backend.settings.request_timeout_s
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                return await loop.run_in_executor(self._backend.readers, self._read, media, options, is_given_up)
        except TimeoutError:
            raise timed_out(timeout_s) from None
        finally:
            is_given_up.set()

    def _read(self, media: list[Medium], options: MediaOptions, is_given_up: threading.Event) -> bytes:
        reader = self._backend.reader
        seen: list[tuple[Frames, VisualInput]] = []
        watch = Stopwatch(torch.device("cpu"))
        try:
            for each in reader.read_each([medium.source for medium in media], options, watch):
                if is_given_up.is_set():
                    return b""
                seen.append(each)
                _check_frames(seen, media[len(seen) - 1].param)
        except VideoLMError as error:
            raise as_api_error(error, param=media[len(seen)].param) from None
        return msgspec.json.encode(_inspection(seen, reader.processor))


def _inspection(seen: list[tuple[Frames, VisualInput]], processor: Processor) -> Inspection:
    told = describe(seen, processor)
    for facts, (frames, visual) in zip(told["media"], seen, strict=True):
        is_video = frames.kind == "video"
        # Of a picture the base tile, which is all of it.
        values = visual.pixel_values if is_video else visual.pixel_values[:1]
        pictures = denormalise(values, processor.video_pixels if is_video else processor.image_pixels)
        times = frames.frame_times_s or (None,) * len(pictures)
        facts["frames"] = [
            {"time_s": time_s, "image": _data_url(Image.fromarray(picture), "JPEG")}
            for time_s, picture in zip(times, pictures, strict=True)
        ]
    sheet = _data_url(contact_sheet(seen, processor), "PNG")
    return Inspection(media=told["media"], visual_tokens=told["visual_tokens"], sheet=sheet)


def _check_frames(seen: list[tuple[Frames, VisualInput]], param: str) -> None:
    num_frames = sum(len(visual.pixel_values) for _, visual in seen)
    if num_frames > MAX_FRAMES:
        raise ApiError(
            400,
            f"{num_frames} frames were to be shown: expected at most {MAX_FRAMES} of all media together. "
            "Ask for a smaller num_frames, or for fewer media at once.",
            param=param,
            code="too_many_frames",
        )


def _data_url(picture: Image.Image, format_: str) -> str:
    file = io.BytesIO()
    picture.save(file, format_)
    return f"data:image/{format_.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
