"""``/metrics``: counts and times of requests and of the engine, for Prometheus, in a registry of their own."""

from __future__ import annotations

import time

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

__all__ = ["HttpMetrics", "Metrics"]


class Metrics:
    """What one server counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.requests = Counter(
            "videolm_http_requests",
            "HTTP requests by route and status; 499 where the client went before its answer",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "videolm_http_request_seconds",
            "Seconds from a request's headers to the end of its answer",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.first_token_seconds = Histogram(
            "videolm_first_token_seconds",
            "Seconds from a chat request's body to its first token, media included",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.decode_seconds = Histogram(
            "videolm_media_seconds",
            "Seconds for reading and decoding the media of a chat request that has any",
            buckets=_SECONDS,
            registry=self.registry,
        )

    def route(self) -> Route:
        """``GET /metrics``."""

        async def metrics(request: Request) -> Response:
            return Response(generate_latest(self.registry), headers={"content-type": CONTENT_TYPE_LATEST})

        return Route("/metrics", metrics, methods=["GET"])


class HttpMetrics:
    """ASGI middleware that counts each request when it is answered."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 499

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            # The route as it is written: paths have no bound, and hold names of files.
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if route != "other" else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - start)
