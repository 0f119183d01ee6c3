"""``/metrics``: counts and times of requests and of the engine, for Prometheus, in a registry of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from videolm.contracts import FinishReason
from videolm.engine.statistics import EngineStats

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_GAUGES = {
    "num_preparing": ("videolm_requests_preparing", "Requests whose media the engine reads"),
    "num_waiting": ("videolm_requests_waiting", "Requests that wait for room in the batch or the cache"),
    "num_running": ("videolm_requests_running", "Requests that are computed"),
    "num_used_blocks": ("videolm_cache_blocks_used", "Blocks of keys and values that running requests hold"),
    "num_blocks": ("videolm_cache_blocks", "Blocks of keys and values in all"),
}
_COUNTERS = {
    "prompt_tokens": ("videolm_prompt_tokens", "Tokens of prompts, the next two included"),
    "visual_tokens": ("videolm_visual_tokens", "Tokens of pictures and frames in prompts"),
    "cached_tokens": ("videolm_cached_tokens", "Tokens of prompts that were computed before"),
    "generated_tokens": ("videolm_generated_tokens", "Tokens of answers"),
    "num_steps": ("videolm_steps", "Passes through the model"),
    "num_preemptions": ("videolm_preemptions", "Running requests that gave up their blocks"),
}
"""Fields of ``EngineStats`` and what they are called here."""

__all__ = ["HttpMetrics", "Metrics"]


class Metrics:
    """What one server counts."""

    def __init__(self, stats: Callable[[], EngineStats]) -> None:
        """``stats`` tells about the engine."""
        self.registry = CollectorRegistry()
        self.registry.register(_EngineCollector(stats))
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
        self.media_seconds = Histogram(
            "videolm_media_seconds",
            "Seconds for reading and decoding the media of a chat request that has any",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.token_seconds = Histogram(
            "videolm_token_seconds",
            "Seconds for each token after the first, on average over one answer",
            buckets=_TOKEN_SECONDS,
            registry=self.registry,
        )

    def route(self) -> Route:
        """``GET /metrics``."""

        async def metrics(request: Request) -> Response:
            return Response(generate_latest(self.registry), headers={"content-type": CONTENT_TYPE_LATEST})

        return Route("/metrics", metrics, methods=["GET"])


class _EngineCollector(Collector):
    """What the engine counts itself, read when it is asked for."""

    def __init__(self, stats: Callable[[], EngineStats]) -> None:
        self._stats = stats

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        for field, (name, text) in _GAUGES.items():
            yield GaugeMetricFamily(name, text, value=getattr(stats, field))
        for field, (name, text) in _COUNTERS.items():
            yield CounterMetricFamily(name, text, value=getattr(stats, field))
        ended = CounterMetricFamily("videolm_requests_ended", "Requests by why they ended", labels=["reason"])
        for reason in (*get_args(FinishReason), "abort", "error"):
            ended.add_metric([reason], stats.num_ended.get(reason, 0))
        yield ended


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
