"""An exception and the request that it ends in, what the caller is told out."""

from __future__ import annotations

from videolm.contracts import Usage
from videolm.engine.memory import is_out_of_memory
from videolm.engine.request import Request, RequestOutput
from videolm.errors import EngineError, VideoLMError

__all__ = ["own_words", "refused", "told"]


def told(error: BaseException, request_id: str, *, during: str = "a step") -> VideoLMError:
    """An error for people that names the request; what it came from is its cause.

    Args:
        during: What failed, for an error that nobody foresaw.
    """
    if isinstance(error, VideoLMError):
        named: VideoLMError = type(error)(f"Request {request_id}: {error}")
    elif is_out_of_memory(error):
        named = EngineError(
            f"Request {request_id} needs more memory than there is, even by itself and token by token: expected some "
            "to be free. Take fewer frames, give the cache less (cache_bytes), or free some memory."
        )
    else:
        what = f"was part of {during} that failed" if during == "a step" else f"was refused, since {during} failed"
        first_line = (str(error).splitlines() or [""])[0]
        named = EngineError(
            f"Request {request_id} {what} ({type(error).__name__}: {first_line}): an answer was expected. Ask again; "
            "if it fails again, report it with this message."
        )
    named.__cause__ = error
    return named


def own_words(error: VideoLMError) -> VideoLMError:
    """What was wrong, without the name of a request that nobody gave one: the other way of ``told``."""
    return error.__cause__ if isinstance(error.__cause__, VideoLMError) else error


def refused(request: Request, error: VideoLMError) -> RequestOutput:
    """The output of a request that was never begun."""
    usage = Usage(prompt_tokens=0, visual_tokens=0, completion_tokens=0)
    return RequestOutput(id=request.id, finish_reason="error", error=error, usage=usage)
