"""ASGI middleware around everything: errors become answers, and requests with too many headers become errors."""

from __future__ import annotations

import logging

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from videolm.server.bodies import ClientGoneError
from videolm.server.errors import ApiError, as_api_error, error_response

_LOG = logging.getLogger(__name__)

__all__ = ["Cors", "ErrorAnswers", "HeaderLimit"]


class Cors(CORSMiddleware):
    """Lets pages of some origins ask; a preflight that is refused is answered in the one shape of errors."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """What a browser asks before it lets a page ask."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        refused = bytes(response.body).decode().removeprefix("Disallowed CORS ")
        told = error_response(
            ApiError(
                response.status_code,
                f"A page may not ask so (its {refused}): expected an origin of --cors-origin, GET, POST or DELETE, and "
                "the headers Authorization and Content-Type. Let the page ask with these, or start the server for it.",
                code="cors_refused",
            )
        )
        kept = ("content-length", "content-type")
        told.headers.update({name: value for name, value in response.headers.items() if name not in kept})
        return told


class ErrorAnswers:
    """Whatever is raised inside becomes an answer in the one shape of errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_begun = False

        async def watched(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientGoneError:
            _LOG.debug("A client closed its connection before it was answered.")
        except Exception as error:
            told = _of_http(error, scope) if isinstance(error, HTTPException) else as_api_error(error)
            if is_begun:
                raise ConnectionAbortedError("the answer ends in the middle") from None
            await error_response(told)(scope, receive, send)


class HeaderLimit:
    """Refuses a request whose line and headers are too long."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            line = len(scope["raw_path"]) + len(scope["query_string"])
            num_bytes = line + sum(len(name) + len(value) + 4 for name, value in scope["headers"])
            if num_bytes > self._max_bytes:
                raise ApiError(
                    431,
                    f"The request's line and headers have {num_bytes} bytes: expected at most {self._max_bytes} "
                    "(--max-header-bytes). Send fewer or shorter ones.",
                    code="headers_too_large",
                )
        await self._app(scope, receive, send)


def _of_http(error: HTTPException, scope: Scope) -> ApiError:
    """What the framework refuses: paths and methods that are not there."""
    path = scope["path"][:100]
    if error.status_code == 404:
        return ApiError(
            404,
            f"There is nothing at {path!r}: expected a path that /openapi.json lists. Correct it.",
            code="not_found",
        )
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return ApiError(
            405,
            f"{path!r} does not take {scope['method'][:20]}: expected {allowed}. Change the method.",
            code="method_not_allowed",
            headers=error.headers,
        )
    return ApiError(error.status_code, error.detail, headers=error.headers)
