"""A real server on a free port in a thread, with the bundled model, and real clients that ask it."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from videolm.engine.vision_cache import VisionCache, VisionCacheConfig
from videolm.media.worker_pool import DecodePool
from videolm.processing.pixels import fit_frame
from videolm.server.app import build_app
from videolm.server.backend import Backend
from videolm.server.file_store import FileStore
from videolm.server.serving import Server, listen, url_of
from videolm.server.settings import ServerSettings
from videolm.session import Session, load

MODEL = "videolm-mini"


@dataclass(frozen=True)
class RunningServer:
    """A server that takes requests."""

    url: str
    backend: Backend
    loop: asyncio.AbstractEventLoop
    server: Server

    @contextmanager
    def openai(self, key: str = "none") -> Iterator[openai.OpenAI]:
        """The real client, which does not try again."""
        with openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60) as client:
            yield client

    @contextmanager
    def http(self, key: str | None = None) -> Iterator[httpx2.Client]:
        """A plain client."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        with httpx2.Client(base_url=self.url, headers=headers, timeout=60) as client:
            yield client

    def end(self) -> None:
        """As a signal would."""
        self.loop.call_soon_threadsafe(self.server.end)


Serve = Callable[..., RunningServer]
Start = Callable[..., AbstractContextManager[RunningServer]]


@pytest.fixture(scope="session")
def session() -> Session:
    """The bundled model as a person uses it from Python."""
    return load(cache=VisionCacheConfig())


@pytest.fixture(scope="session")
def decoders(session: Session) -> Iterator[DecodePool]:
    """Processes that decode, shared by all servers: starting them takes seconds."""
    prepare_frame = partial(fit_frame, settings=session.processor.video_pixels)
    with DecodePool(prepare_frame, num_workers=2, timeout_s=60) as decoders:
        yield decoders


@contextmanager
def running_server(session: Session, decoders: DecodePool, **options: Any) -> Iterator[RunningServer]:
    """A server with these settings; what it has not answered by the end it gives up."""
    settings = ServerSettings(**{"port": 0, "shutdown_timeout_s": 0.0, **options})
    # A cache of its own, so that no test finds what another one encoded.
    cache = VisionCache(session.model, VisionCacheConfig())
    with listen(settings) as listener, closing(FileStore(settings)) as files:
        backend = Backend.open(session.loaded, settings, cache=cache, decoders=decoders, files=files)
        ready = threading.Event()
        server = Server(build_app(backend), settings, backend.admission, on_ready=ready.set)
        loops: list[asyncio.AbstractEventLoop] = []

        async def serve() -> None:
            loops.append(asyncio.get_running_loop())
            await server.serve([listener])

        thread = threading.Thread(target=lambda: asyncio.run(serve()), name="server")
        thread.start()
        assert ready.wait(30)
        running = RunningServer(url_of(listener), backend, loops[0], server)
        try:
            yield running
        finally:
            if thread.is_alive():
                running.end()
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def start(session: Session, decoders: DecodePool) -> Start:
    """Serve with these settings for as long as a context lasts."""
    return partial(running_server, session, decoders)


@pytest.fixture
def serve(start: Start) -> Iterator[Serve]:
    """Start a server with settings of the test's own."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(start(**options))


@pytest.fixture(scope="module")
def server(start: Start) -> Iterator[RunningServer]:
    """A server with the default settings, shared by the tests of one file."""
    with start() as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    """The real client of that server."""
    with server.openai() as client:
        yield client


@pytest.fixture(scope="session")
def demo_clip() -> Path:
    """The bundled video."""
    return Path(str(resources.files("videolm"))) / "mini" / "media" / "clip.mp4"


@pytest.fixture(scope="session")
def demo_picture() -> Path:
    """The bundled picture."""
    return Path(str(resources.files("videolm"))) / "mini" / "media" / "picture.png"


@pytest.fixture(scope="session")
def clip_part(demo_clip: Path) -> dict[str, Any]:
    """The bundled video as part of a message."""
    return {"type": "video_url", "video_url": {"url": data_url(demo_clip, "video/mp4")}}


@pytest.fixture(scope="session")
def picture_part(demo_picture: Path) -> dict[str, Any]:
    """The bundled picture as part of a message."""
    return {"type": "image_url", "image_url": {"url": data_url(demo_picture, "image/png")}}


def data_url(path: Path, media_type: str) -> str:
    """A file as a URL that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Waits until something holds, for 10 s at most."""

    def wait(holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.01)

    return wait
