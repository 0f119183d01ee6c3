"""One engine behind several loops that each ask for the next piece of their own answer, from one thread or several."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Generator
from dataclasses import replace

from videolm.engine.config import EngineConfig
from videolm.engine.engine import Engine
from videolm.engine.features import FeatureSource
from videolm.engine.fitting import fit_to_context, num_stored
from videolm.engine.memory import free_bytes
from videolm.engine.request import Request, RequestOutput
from videolm.engine.runner import SHARE_OF_FREE, cached_token_bytes
from videolm.models.video_lm import VideoLM
from videolm.processing.processor import Processor

__all__ = ["SharedEngine"]

# Whole prompts in one step: nobody else waits for it in a session.
_SESSION = EngineConfig(max_batch_tokens=8192, max_running=64, feature_bytes=1 << 28)
_CONTEXTS = 2


class SharedEngine:
    """Makes an engine when the first request comes, and a larger one when a request needs it.

    Whoever waits for news of one request computes for all of them.
    """

    def __init__(
        self,
        model: VideoLM,
        processor: Processor,
        config: EngineConfig | None = None,
        *,
        features: FeatureSource | None = None,
    ) -> None:
        """``config``: an engine of a fixed size; None: room for two whole contexts, and for any single request."""
        self._model = model
        self._processor = processor
        self._config = config
        self._features = features
        self._engine: Engine | None = None
        self._names = map(str, itertools.count(1))
        self._news: dict[str, deque[RequestOutput]] = {}
        self._lock = threading.RLock()

    def new_id(self) -> str:
        """A name that no other request here has."""
        return next(self._names)

    def prepare(self, request: Request) -> Request:
        """Make a request of prepared inputs ready to run; what can never be answered is refused."""
        return self._engine_for(request).prepare(request)

    def run(self, request: Request) -> Generator[RequestOutput, None, None]:
        """News of a request as it is answered; it begins with the first that is asked for, and ends with the loop."""
        with self._lock:
            engine = self._engine_for(request)
            self._news[request.id] = deque()
            engine.add(request)
        try:
            is_finished = False
            while not is_finished:
                output = self._next(engine, request.id)
                is_finished = output.is_finished
                yield output
        finally:
            with self._lock:
                engine.abort(request.id)
                del self._news[request.id]

    def _next(self, engine: Engine, request_id: str) -> RequestOutput:
        # Waiting threads take turns: each computes a step, for all, until its own news are there.
        while True:
            with self._lock:
                if self._news[request_id]:
                    return self._news[request_id].popleft()
                for output in engine.step():
                    if output.id in self._news:
                        self._news[output.id].append(output)

    def _engine_for(self, request: Request) -> Engine:
        """The engine, made anew where this request needs a larger cache; the old one finishes what it runs."""
        with self._lock:
            if self._config is not None:
                self._engine = self._engine or self._new(self._config)
                return self._engine
            assert request.inputs is not None
            decoder = self._model.model.config.decoder
            wanted = num_stored(request.inputs, fit_to_context(request.inputs, request.params, decoder))
            if self._engine is None or self._engine.capacity < wanted:
                self._engine = None  # Its memory may be needed.
                self._engine = self._new(replace(_SESSION, num_blocks=self._num_blocks(wanted)))
            return self._engine

    def _num_blocks(self, wanted: int) -> int:
        """Blocks for any one request, and for two of them where memory is plenty."""
        one = max(wanted, self._model.model.config.decoder.longest_context)
        affordable = int(free_bytes(self._model.device) * SHARE_OF_FREE) // cached_token_bytes(self._model)
        return -(-max(one, min(_CONTEXTS * one, affordable)) // _SESSION.block_size)

    def _new(self, config: EngineConfig) -> Engine:
        return Engine(self._model, self._processor, config, features=self._features)
