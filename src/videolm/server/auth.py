"""Requests in, those with the right key on: everything but the page and the health of the server needs it."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from videolm.server.errors import ApiError

OPEN_PATHS = frozenset({"/", "/health", "/health/live", "/favicon.ico"})
"""What anybody may GET."""
OPEN_FOLDER = "/static/"

__all__ = ["OPEN_FOLDER", "OPEN_PATHS", "KeyCheck"]


class KeyCheck:
    """ASGI middleware that lets nobody in without ``Authorization: Bearer KEY``."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._key is not None and scope["type"] == "http" and not _is_open(scope):
            _check(dict(scope["headers"]).get(b"authorization"), self._key)
        await self._app(scope, receive, send)


def _is_open(scope: Scope) -> bool:
    path = scope["path"]
    return scope["method"] in ("GET", "HEAD") and (path in OPEN_PATHS or path.startswith(OPEN_FOLDER))


def _check(given: bytes | None, key: str) -> None:
    scheme, _, word = (given or b"").partition(b" ")
    is_bearer = scheme.lower() == b"bearer"
    # As long for a wrong key as for the right one, wherever they differ.
    if hmac.compare_digest(word.strip() if is_bearer else b"", key.encode()):
        return
    what = "There is no API key" if not given else "The API key is wrong"
    raise ApiError(
        401,
        f'{what} in the request: expected the header "Authorization: Bearer KEY" with the key that this server was '
        "started with. Send it.",
        code="invalid_api_key",
        headers={"www-authenticate": "Bearer"},
    )
