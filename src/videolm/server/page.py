"""The page for people: ``GET /`` and the files it is made of, read once, sent with headers that let nothing else in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["page_routes"]

_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".mp4": "video/mp4",
}
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # The strip of frames comes as data: URLs, a file of the user's is shown by a blob: URL.
        "img-src 'self' data: blob:",
        "media-src blob:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        # Not even the page's own scripts may turn text into HTML.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # A new version of the server brings a new page at once; an unchanged one is answered by 304.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, kw_only=True)
class _Asset:
    """A file as it is sent."""

    body: bytes
    content_type: str
    etag: str

    def respond(self, request: Request) -> Response:
        headers = {**_HEADERS, "ETag": self.etag}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers=headers, media_type=self.content_type)


def page_routes() -> list[Route]:
    """The routes of the page; they take GET and HEAD and need no key.

    Raises:
        OSError: A file of the installed package is missing.
    """
    return [_route(path, _asset(file)) for path, file in _paths().items()]


def _route(path: str, asset: _Asset) -> Route:
    async def endpoint(request: Request) -> Response:
        return asset.respond(request)

    return Route(path, endpoint, methods=["GET"], include_in_schema=False)


def _asset(file: Traversable) -> _Asset:
    body = file.read_bytes()
    digest = hashlib.sha256(body).hexdigest()[:32]
    suffix = file.name[file.name.rindex(".") :]
    return _Asset(body=body, content_type=_CONTENT_TYPES[suffix], etag=f'"{digest}"')


def _paths() -> dict[str, Traversable]:
    """Every path that the page is made of, and its file; a path that is not here does not exist."""
    package = files("videolm")
    static = package / "server" / "static"
    paths = {f"/static/{file.name}": file for file in static.iterdir() if file.is_file() and file.name != "index.html"}
    return {
        "/": static / "index.html",
        **dict(sorted(paths.items())),
        "/static/sample.mp4": package / "mini" / "media" / "clip.mp4",
    }
