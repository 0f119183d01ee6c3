"""The body of a request in, typed structs out: within a size and a time, every mistake told by the field's name."""

from __future__ import annotations

import asyncio
import re
from typing import Any, TypeVar

import msgspec
from starlette.types import Receive, Scope

from videolm.server.admission import Place
from videolm.server.errors import ApiError
from videolm.server.settings import ServerSettings

Body = TypeVar("Body")
_AT = re.compile(r" - at `\$\.?(?P<path>.*)`$")
_FIELD = re.compile(r"^Object (?P<what>contains unknown|missing required) field `(?P<name>.*)`$", re.DOTALL)
_LARGE = 1 << 16
_SHORT = 60

__all__ = ["ClientGoneError", "decode", "read_body", "read_json"]


class ClientGoneError(Exception):
    """The client closed its connection: nobody waits for an answer."""


async def read_json(scope: Scope, receive: Receive, settings: ServerSettings, kind: type[Body], place: Place) -> Body:
    """The body as ``kind``, counted where the request has its place; a large one is parsed beside the event loop."""
    body = await read_body(scope, receive, settings, place)
    if len(body) < _LARGE:
        return decode(body, kind)
    return await asyncio.to_thread(decode, body, kind)


async def read_body(scope: Scope, receive: Receive, settings: ServerSettings, place: Place) -> bytes:
    """The whole body.

    Raises:
        ApiError: It is larger than ``max_body_bytes`` (413) or slower than ``body_timeout_s`` (408), or all bodies
            together are too large (429).
        ClientGoneError: The connection closed before its end.
    """
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > settings.max_body_bytes:
        raise _too_large(f"{int(declared)} bytes", settings)
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                body += (piece := message.get("body", b""))
                place.hold(len(piece))
                if len(body) > settings.max_body_bytes:
                    raise _too_large(f"more than {settings.max_body_bytes} bytes", settings)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise ApiError(
            408,
            f"The body was not complete after {settings.body_timeout_s:g} s: expected all of it by then "
            "(--body-timeout). Send it faster, or upload large media to /v1/files.",
            code="body_timeout",
            headers={"connection": "close"},
        ) from None


def decode(body: bytes, kind: type[Body]) -> Body:
    """JSON as ``kind``; what is wrong is told with the field's name and value."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error), body) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else _short(str(error))
        raise ApiError(
            400,
            f"The body is no JSON ({what}): expected one object in UTF-8. Correct it.",
            code="invalid_json",
        ) from None


def _too_large(found: str, settings: ServerSettings) -> ApiError:
    return ApiError(
        413,
        f"The body has {found}: expected at most {settings.max_body_bytes} (--max-body-bytes). "
        "Upload large media to /v1/files and name them by their id.",
        code="body_too_large",
    )


def _explained(problem: str, body: bytes) -> ApiError:
    """What msgspec says, with the field's path and value, for people and as ``param``."""
    match = _AT.search(problem)
    path = match["path"] if match else ""
    problem = problem[: match.start()] if match else problem
    if field := _FIELD.match(problem):
        where = f"{path}.{field['name']}" if path else field["name"]
        where = where if len(where) <= 2 * _SHORT else where[: 2 * _SHORT - 3] + "..."
        if field["what"] == "missing required":
            message, code = f"{where} is missing: it is expected. Add it.", "missing_field"
        else:
            message, code = f"{where} is no field that is supported: none is expected here. Remove it.", "unknown_field"
        return ApiError(400, message, param=where, code=code)
    found = f"{path or 'The body'} is {_value_at(body, path)}"
    expected = problem[:1].lower() + problem[1:] if problem.startswith("Expected") else f"not so ({problem})"
    return ApiError(400, f"{found}: {expected}. Correct it.", param=path or None, code="invalid_value")


def _value_at(body: bytes, path: str) -> str:
    """The value at a path such as ``messages[0].content``, shortened."""
    try:
        value: Any = msgspec.json.decode(body)
        for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
            value = value[name] if name else value[int(index)]
    except (msgspec.DecodeError, ValueError, LookupError, TypeError, RecursionError):
        return "not as it should be"
    if value and isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    return _short(msgspec.json.encode(value).decode())


def _short(text: str) -> str:
    return text if len(text) <= _SHORT else text[: _SHORT - 3] + "..."
