"""What went wrong in, the JSON that OpenAI's clients understand out: one shape and one status for each mistake."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from videolm.engine.memory import is_out_of_memory
from videolm.errors import (
    CapacityError,
    EngineError,
    FetchError,
    GenerationError,
    MediaError,
    MediaLimitError,
    VideoLMError,
)
from videolm.server.limits import server_words

_LOG = logging.getLogger(__name__)

__all__ = ["ApiError", "ErrorBody", "ErrorObject", "as_api_error", "error_body", "error_response", "timed_out"]


class ErrorObject(msgspec.Struct, kw_only=True):
    """What clients are told of a mistake."""

    message: str
    type: str
    param: str | None = None
    """The field that was wrong, such as ``messages.0.content``."""
    code: str | None = None
    """A word for programs."""


class ErrorBody(msgspec.Struct, kw_only=True):
    """The body of every answer that is none."""

    error: ErrorObject


class ApiError(Exception):
    """A request that is not answered."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``message`` is one line in three parts: what happened, what was expected, what to do."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.headers = dict(headers or {})


def as_api_error(error: BaseException, *, param: str | None = None) -> ApiError:
    """Any exception as what its cause deserves: 400 for a mistake in the request, 500 for a fault of ours."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, CapacityError):
        return ApiError(400, _line(error), param=param, code="context_length_exceeded")
    cause = error.__cause__
    if isinstance(error, EngineError) and cause is not None and not is_out_of_memory(cause):
        error = cause  # Nobody foresaw it, so its words are for the log.
    if isinstance(error, EngineError | GenerationError):
        return ApiError(500, _line(error), type="server_error")
    if isinstance(error, VideoLMError):
        return ApiError(400, server_words(error), param=param, code=_code(error))
    # Where it happened, and not what its message says, which may hold words of a request.
    place = "".join(traceback.format_tb(error.__traceback__))
    _LOG.error("A request failed with %s:\n%s", type(error).__name__, place)
    message = f"The server failed ({type(error).__name__}): an answer was expected. Ask again, or tell who runs it."
    return ApiError(500, message, type="server_error")


def timed_out(timeout_s: float) -> ApiError:
    """Why an answer was given up."""
    return ApiError(
        504,
        f"The answer was not finished after {timeout_s:g} s: expected all of it by then (--request-timeout). "
        "Ask for fewer tokens or frames, or ask again when there is less to do.",
        type="server_error",
        code="request_timeout",
    )


def error_body(error: ApiError) -> bytes:
    """The JSON of an error."""
    told = ErrorObject(message=error.message, type=error.type, param=error.param, code=error.code)
    return msgspec.json.encode(ErrorBody(error=told))


def error_response(error: ApiError) -> Response:
    """The answer to a request that is not answered."""
    return Response(error_body(error), error.status, headers=error.headers, media_type="application/json")


def _code(error: VideoLMError) -> str | None:
    if isinstance(error, MediaLimitError):
        return "media_limit_exceeded"
    if isinstance(error, FetchError):
        return "media_not_fetched"
    return "invalid_media" if isinstance(error, MediaError) else None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
