"""A backend in, the whole ASGI application out: every route behind the same guards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from videolm.server.auth import KeyCheck
from videolm.server.backend import Backend
from videolm.server.chat import ChatEndpoint
from videolm.server.files import expire_files, file_routes
from videolm.server.guards import Cors, ErrorAnswers, HeaderLimit
from videolm.server.health import health_routes
from videolm.server.housekeeping import keep_memory_small
from videolm.server.inspect import InspectEndpoint
from videolm.server.metrics import HttpMetrics
from videolm.server.openapi import openapi_route
from videolm.server.page import page_routes

__all__ = ["build_app"]


def build_app(backend: Backend) -> Starlette:
    """The application, which closes the backend when it ends."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        chores = {
            asyncio.create_task(expire_files(backend.files, backend.settings)),
            asyncio.create_task(keep_memory_small()),
        }
        try:
            yield
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.wait(chores)
            await backend.close()

    app = Starlette(
        routes=_routes(backend),
        middleware=_middleware(backend),
        exception_handlers={HTTPException: _pass_on},
        lifespan=lifespan,
    )
    # A path with a slash too many is another path: clients lose their body on a redirect.
    app.router.redirect_slashes = False
    return app


async def _pass_on(request: Request, error: Exception) -> NoReturn:
    """Starlette's own answer would be plain text; ``ErrorAnswers`` has the one shape of errors."""
    raise error


def _routes(backend: Backend) -> list[BaseRoute]:
    return [
        Route("/v1/chat/completions", ChatEndpoint(backend), methods=["POST"]),
        Route("/v1/inspect", InspectEndpoint(backend), methods=["POST"]),
        *file_routes(backend.files, backend.settings),
        *health_routes(backend),
        backend.metrics.route(),
        openapi_route(backend.loaded.name),
        *page_routes(),
    ]


def _middleware(backend: Backend) -> list[Middleware]:
    """From the outside in."""
    settings = backend.settings
    cors = Middleware(
        Cors,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type"],
        expose_headers=["Retry-After"],
    )
    return [
        Middleware(HttpMetrics, metrics=backend.metrics),
        *([cors] if settings.cors_origins else []),
        Middleware(ErrorAnswers),
        Middleware(HeaderLimit, max_bytes=settings.max_header_bytes),
        Middleware(KeyCheck, key=settings.api_key),
    ]
