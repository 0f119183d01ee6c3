"""The engine for asyncio: requests in from any task, answers out as they are generated, one thread at the model."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from types import TracebackType

from videolm.engine.engine import Engine
from videolm.engine.faults import told
from videolm.engine.mailbox import Mailbox, News, deliver
from videolm.engine.preparation import PreparationPool
from videolm.engine.request import Request, RequestOutput, pixel_bytes
from videolm.engine.statistics import EngineStats
from videolm.errors import EngineError, VideoLMError
from videolm.generation.params import check_number

__all__ = ["AsyncEngine"]

_POLL_S = 0.01
# What is being read when an engine closes cannot be interrupted; its thread ends with it.
_PATIENCE_S = 1.0


class _Stream:
    """One request that is being answered, and who listens."""

    def __init__(self, request_id: str) -> None:
        self.id = request_id
        self.mailbox = Mailbox()
        self.ticket: int | None = None
        """What the pool that reads its media knows it by."""
        self.is_read_here = False
        self.is_left = False


class AsyncEngine:
    """Streams answers; a stream that is closed or cancelled gives its request up, whatever has become of it.

    Media are read in a few threads, the model runs in one thread that alone touches the engine.
    """

    def __init__(self, engine: Engine) -> None:
        """``engine`` is not to be used by anyone else from now on."""
        self._engine = engine
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_closed = False
        self._unfinished: set[_Stream] = set()
        self._streams: dict[str, _Stream] = {}
        """Those that the engine knows of, by id."""
        self._pool = PreparationPool(
            self._prepare,
            num_workers=engine.config.num_preparers,
            max_ahead=engine.config.max_prepared,
            size_of=lambda pair: pixel_bytes(pair[1]),
            on_ready=lambda: self._commands.put(self._take_prepared),
        )
        self._thread = threading.Thread(target=self._run, name="videolm-engine", daemon=True)
        self._thread.start()

    async def __aenter__(self) -> AsyncEngine:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def num_unfinished(self) -> int:
        """Requests that were asked and are neither answered nor given up, whether prepared, waiting or running."""
        return len(self._unfinished)

    def stats(self) -> EngineStats:
        """A snapshot, from any thread."""
        return replace(self._engine.stats(), num_preparing=self._pool.num_pending)

    async def stream(self, request: Request) -> AsyncIterator[RequestOutput]:
        """News of one request as they come, the last of them finished; joined where they are read late.

        Raises:
            VideoLMError: The request was refused, or a fault ended it.
        """
        stream = self._begin(request)
        try:
            is_over = False
            while not is_over:
                item = await stream.mailbox.get()
                error = item.error if isinstance(item, RequestOutput) else item
                if error is not None:
                    raise error
                assert isinstance(item, RequestOutput)
                is_over = item.is_finished
                yield item
        finally:
            self._leave(stream)

    async def answer(self, request: Request) -> RequestOutput:
        """The finished answer."""
        async for output in self.stream(request):
            last = output
        return last

    async def close(self, *, drain_s: float = 0.0) -> None:
        """Take no further request, give up what is unanswered, and end all threads.

        Args:
            drain_s: Seconds that requests have left to be answered.
        """
        check_number("drain_s", drain_s, 0.0, hint="Use 0 to give up at once.")
        with self._lock:
            self._is_closed = True
        deadline = time.monotonic() + drain_s
        try:
            while self._unfinished and time.monotonic() < deadline:
                await asyncio.sleep(_POLL_S)
        finally:
            self._commands.put(None)
            self._pool.close(timeout_s=0.0)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._pool.close, timeout_s=_PATIENCE_S)

    def _begin(self, request: Request) -> _Stream:
        stream = _Stream(request.id)
        with self._lock:
            if self._is_closed:
                raise EngineError("The engine is closed: requests are expected before that. Make a new AsyncEngine.")
            self._unfinished.add(stream)
            # Nothing that is ready waits behind media that are slow to read.
            if request.inputs is not None and (request.media_keys is not None or not request.inputs.media):
                self._commands.put(lambda: self._add(stream, request))
            else:
                stream.is_read_here = True
                stream.ticket = self._pool.submit((stream, request))
        return stream

    def _leave(self, stream: _Stream) -> None:
        stream.is_left = True
        if stream not in self._unfinished:
            return
        self._unfinished.discard(stream)
        if stream.ticket is None or not self._pool.cancel(stream.ticket):
            self._commands.put(lambda: self._abort(stream))

    def _prepare(self, item: tuple[_Stream, Request]) -> tuple[_Stream, Request]:
        stream, request = item
        return stream, self._engine.prepare(request)

    # --- in the engine's thread ---

    def _run(self) -> None:
        try:
            while self._carry_out_commands():
                try:
                    outputs = self._engine.step()
                except BaseException as error:  # A fault in the engine itself; a library's panic is no Exception.
                    outputs = self._engine.fail(error)
                self._tell(outputs)
        finally:
            self._end_all()

    def _carry_out_commands(self) -> bool:
        """Do what there is to do beside computing, or wait for it where there is nothing to compute; False: no more."""
        while not self._commands.empty() or not self._engine.has_requests:
            command = self._commands.get()
            if command is None:
                return False
            command()
        return True

    def _take_prepared(self) -> None:
        # What is read takes memory until it is answered.
        if sum(stream.is_read_here for stream in self._streams.values()) < self._engine.config.max_running:
            for prepared in self._pool.take():
                stream, _ = prepared.item
                if prepared.error is not None:
                    self._refuse(stream, prepared.error)
                else:
                    self._add(stream, prepared.result()[1])

    def _add(self, stream: _Stream, request: Request) -> None:
        if stream.is_left:
            return
        try:
            self._engine.add(request)
        except Exception as error:
            self._refuse(stream, error)
        else:
            self._streams[stream.id] = stream

    def _refuse(self, stream: _Stream, error: Exception) -> None:
        known = error if isinstance(error, VideoLMError) else told(error, stream.id, during="its preparation")
        self._end([(stream, known)])

    def _abort(self, stream: _Stream) -> None:
        if self._streams.get(stream.id) is stream:  # Not another one of the same name.
            del self._streams[stream.id]
            self._engine.abort(stream.id)
            self._take_prepared()

    def _tell(self, outputs: Sequence[RequestOutput]) -> None:
        deliver((self._streams[output.id].mailbox, output) for output in outputs if not output.is_finished)
        finished = [output for output in outputs if output.is_finished]
        if finished:
            self._end([(self._streams.pop(output.id), output) for output in finished])
            self._take_prepared()

    def _end(self, last: Sequence[tuple[_Stream, News]]) -> None:
        for stream, _ in last:
            self._unfinished.discard(stream)
        deliver((stream.mailbox, item) for stream, item in last)

    def _end_all(self) -> None:
        with self._lock:
            self._is_closed = True
        error = EngineError("The engine was closed before it had answered: ask a new one.")
        self._end([(stream, told(error, stream.id)) for stream in list(self._unfinished)])
        for request_id in self._streams:
            self._engine.abort(request_id)
