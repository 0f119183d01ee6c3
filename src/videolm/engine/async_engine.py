"""The engine for asyncio: requests in from any task, answers out as they are generated, one thread at the model."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from videolm.engine.engine import Engine
from videolm.engine.faults import told
from videolm.engine.request import Request, RequestOutput
from videolm.errors import EngineError, VideoLMError

News = RequestOutput | VideoLMError
Deliver = Callable[[News], None]

__all__ = ["AsyncEngine"]


class AsyncEngine:
    """Streams answers; a stream that is closed or cancelled gives its request up.

    Media are read in a few threads, the model runs in one thread that alone touches the engine.
    """

    def __init__(self, engine: Engine) -> None:
        """``engine`` is not to be used by anyone else from now on."""
        self._engine = engine
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._streams: dict[str, Deliver] = {}
        self._thread = threading.Thread(target=self._run, name="videolm-engine", daemon=True)
        self._is_closed = False
        self._preparers = ThreadPoolExecutor(engine.config.num_preparers, thread_name_prefix="videolm-preparation")
        self._thread.start()

    async def __aenter__(self) -> AsyncEngine:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def stream(self, request: Request) -> AsyncIterator[RequestOutput]:
        """News of one request as they come, the last of them finished.

        Raises:
            VideoLMError: The request was refused, or a fault ended it.
        """
        self._check_open()
        loop, news = asyncio.get_running_loop(), asyncio.Queue[News]()
        prepared = await loop.run_in_executor(self._preparers, self._engine.prepare, request)
        is_over = False
        self._submit(lambda: self._add(prepared, lambda item: _deliver(loop, news, item)))
        try:
            while not is_over:
                item = await news.get()
                error = item.error if isinstance(item, RequestOutput) else item
                is_over = error is not None or (isinstance(item, RequestOutput) and item.is_finished)
                if error is not None:
                    raise error
                assert isinstance(item, RequestOutput)
                yield item
        finally:
            if not is_over and not self._is_closed:
                self._submit(lambda: self._abort(prepared.id))

    async def answer(self, request: Request) -> RequestOutput:
        """The finished answer."""
        return [output async for output in self.stream(request)][-1]

    async def close(self) -> None:
        """Give up what is unanswered and end the thread."""
        if not self._is_closed:
            self._is_closed = True
            self._preparers.shutdown(wait=False)
            self._commands.put(None)
        await asyncio.to_thread(self._thread.join)

    def _submit(self, command: Callable[[], None]) -> None:
        self._check_open()
        self._commands.put(command)

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineError("The engine is closed: requests are expected before that. Make a new AsyncEngine.")

    # --- in the engine's thread ---

    def _run(self) -> None:
        while True:
            while not self._commands.empty() or not self._engine.has_requests:
                command = self._commands.get()
                if command is None:
                    self._end_all(EngineError("The engine was closed before it had answered: ask a new one."))
                    return
                command()
            try:
                outputs = self._engine.step()
            except Exception as error:  # A fault in the engine itself.
                self._end_all(error)
                continue
            for output in outputs:
                self._tell(output.id, output, is_last=output.is_finished)

    def _add(self, request: Request, deliver: Deliver) -> None:
        try:
            self._engine.add(request)
        except Exception as error:
            deliver(error if isinstance(error, VideoLMError) else told(error, request.id))
        else:
            self._streams[request.id] = deliver

    def _abort(self, request_id: str) -> None:
        self._engine.abort(request_id)
        self._streams.pop(request_id, None)

    def _tell(self, request_id: str, news: News, *, is_last: bool) -> None:
        deliver = self._streams.pop(request_id) if is_last else self._streams[request_id]
        deliver(news)

    def _end_all(self, error: Exception) -> None:
        for request_id in list(self._streams):
            self._engine.abort(request_id)
            self._tell(request_id, told(error, request_id), is_last=True)


def _deliver(loop: asyncio.AbstractEventLoop, news: asyncio.Queue[News], item: News) -> None:
    # A loop that has ended has no one left to listen.
    if not loop.is_closed():
        loop.call_soon_threadsafe(news.put_nowait, item)
