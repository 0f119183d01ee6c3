"""What bounds the memory of a server: freed memory goes back, and caches are as large as was said."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from videolm.cli import serve as command
from videolm.cli.parser import Parser
from videolm.cli.sessions import open_session
from videolm.engine.runner import cached_token_bytes
from videolm.engine.vision_cache import VisionCacheConfig
from videolm.server import housekeeping


def test_freed_memory_is_given_back_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    monkeypatch.setattr(housekeeping, "EVERY_S", 0.01)
    monkeypatch.setattr(housekeeping, "give_back_free_memory", lambda: threads.append(threading.current_thread()))

    async def main() -> None:
        chore = asyncio.create_task(housekeeping.keep_memory_small())
        while len(threads) < 3:
            await asyncio.sleep(0.01)
        chore.cancel()
        await asyncio.wait({chore})
        assert chore.cancelled()

    asyncio.run(asyncio.wait_for(main(), 10))
    # Beside the event loop, which answers meanwhile.
    assert threading.main_thread() not in threads


def test_a_server_gives_freed_memory_back(serve: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[None] = []
    monkeypatch.setattr(housekeeping, "EVERY_S", 0.01)
    monkeypatch.setattr(housekeeping, "give_back_free_memory", lambda: times.append(None))
    serve()
    eventually(lambda: len(times) > 1)


def test_the_cache_of_keys_and_values_is_as_large_as_said(serve: Any) -> None:
    running = serve(cache_bytes=8 << 20)
    engine = running.backend.engine._engine
    block_bytes = engine.config.block_size * cached_token_bytes(engine.model)
    assert running.backend.engine.stats().num_blocks == (8 << 20) // block_bytes


def test_encoded_media_take_as_much_as_said(tmp_path: Any) -> None:
    parser = Parser("videolm serve", usage="", description="")
    command.add_arguments(parser)
    for words, folder in (((), None), (("--cache", str(tmp_path)), tmp_path)):
        args = parser.parse(["--feature-bytes", "1234", *words])
        assert command.settings_of(args).feature_bytes == 1234
        session = open_session(args, cache=VisionCacheConfig(max_bytes=1234))
        assert session.cache is not None
        assert session.cache._max_bytes == 1234
        assert (session.cache._folder is None) == (folder is None)
