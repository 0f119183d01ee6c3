"""``/v1/files``: upload a video or a picture once, and name it by its id from then on; it is never served back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from videolm.errors import VideoLMError
from videolm.server.bodies import ClientGoneError
from videolm.server.errors import ApiError, as_api_error
from videolm.server.file_store import FileObject, FileStore
from videolm.server.settings import ServerSettings
from videolm.server.uploads import UploadForm, too_large

PIECE_BYTES = 1 << 18
SLOWEST_BYTES_PER_S = 1 << 16
MAX_UPLOADS = 32
EXPIRY_S = 60.0
FORM_BYTES = 1 << 16
"""What a form may hold besides its file."""
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

__all__ = ["DeletedFile", "expire_files", "file_routes"]


class DeletedFile(msgspec.Struct, kw_only=True):
    """A file that is no more."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


def file_routes(store: FileStore, settings: ServerSettings) -> list[Route]:
    """Upload, look up, delete."""
    uploads = asyncio.BoundedSemaphore(MAX_UPLOADS)

    async def upload(request: Request) -> Response:
        if uploads.locked():
            raise ApiError(
                429,
                f"{MAX_UPLOADS} files are being uploaded: expected at most so many at once. Try again in a moment.",
                type="rate_limit_error",
                code="too_many_uploads",
                headers={"retry-after": "1"},
            )
        async with uploads:
            return _json(await _upload(request, store, settings))

    async def look_up(request: Request) -> Response:
        return _json(await asyncio.to_thread(store.get, request.path_params["file_id"]))

    async def delete(request: Request) -> Response:
        file_id = request.path_params["file_id"]
        await asyncio.to_thread(store.delete, file_id)
        return _json(DeletedFile(id=file_id))

    return [
        Route("/v1/files", upload, methods=["POST"]),
        Route("/v1/files/{file_id}", look_up, methods=["GET"]),
        Route("/v1/files/{file_id}", delete, methods=["DELETE"]),
    ]


async def expire_files(store: FileStore, settings: ServerSettings) -> None:
    """Remove what is too old for as long as the server runs, also where nobody asks for anything."""
    while True:
        await asyncio.sleep(min(EXPIRY_S, settings.files_max_age_s))
        await asyncio.to_thread(store.expire)


async def _upload(request: Request, store: FileStore, settings: ServerSettings) -> FileObject:
    """Write the body to disk as it comes; whatever goes wrong, nothing of it is left."""
    _check_length(request, settings)
    form = UploadForm(store, request.headers.get("content-type", ""))
    try:
        async for piece in _pieces(request, settings):
            await asyncio.to_thread(form.feed, piece)
        return await asyncio.to_thread(form.finish)
    except VideoLMError as error:
        raise as_api_error(error, param="file") from None
    finally:
        # A cancelled request waits for the write that is under way: its thread uses the file.
        await asyncio.shield(asyncio.to_thread(form.close))


def _check_length(request: Request, settings: ServerSettings) -> None:
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > settings.files_max_bytes + FORM_BYTES:
        raise too_large(int(declared) - FORM_BYTES, settings.files_max_bytes)


async def _pieces(request: Request, settings: ServerSettings) -> AsyncIterator[bytes]:
    """The body in pieces worth a write; a client that is too slow, or gone, is given up."""
    piece, num_bytes, started = bytearray(), 0, time.monotonic()
    while True:
        may_last_s = settings.body_timeout_s + num_bytes / SLOWEST_BYTES_PER_S
        try:
            async with asyncio.timeout(max(0.0, started + may_last_s - time.monotonic())):
                message = await request.receive()
        except TimeoutError:
            raise ApiError(
                408,
                f"{num_bytes} bytes of the upload came within {may_last_s:.0f} s: expected at least "
                f"{SLOWEST_BYTES_PER_S} a second after the first {settings.body_timeout_s:g} s (--body-timeout). "
                "Send it over a faster connection.",
                code="body_timeout",
                headers={"connection": "close"},
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body = message.get("body", b"")
        piece += body
        num_bytes += len(body)
        is_over = not message.get("more_body", False)
        if len(piece) >= PIECE_BYTES or is_over:
            yield bytes(piece)
            piece.clear()
        if is_over:
            return


def _json(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json", headers=HEADERS)
