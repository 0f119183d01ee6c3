"""``/health``, ``/health/live`` and ``/v1/models``: whether the server lives, takes requests, and for what model."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from videolm.server.backend import Backend
from videolm.server.chat import check_model
from videolm.server.replies import Health, ModelCard, ModelList

__all__ = ["health_routes"]


def health_routes(backend: Backend) -> list[Route]:
    """The routes that tell about the server."""
    card = ModelCard(id=backend.loaded.name, created=backend.started, max_model_len=backend.context_len)

    async def live(request: Request) -> Response:
        return _json(Health(status="ok"))

    async def ready(request: Request) -> Response:
        if backend.admission.is_draining:
            return _json(Health(status="draining"), 503)
        return _json(Health(status="ok"))

    async def models(request: Request) -> Response:
        return _json(ModelList(data=[card]))

    async def model(request: Request) -> Response:
        check_model(request.path_params["name"], backend)
        return _json(card)

    return [
        Route("/health/live", live, methods=["GET"]),
        Route("/health", ready, methods=["GET"]),
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{name:path}", model, methods=["GET"]),
    ]


def _json(value: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
