"""What a server of long life does beside answering: memory that its requests freed goes back to the system."""

from __future__ import annotations

import asyncio

from videolm.freed_memory import give_back_free_memory

EVERY_S = 5.0

__all__ = ["keep_memory_small"]


async def keep_memory_small() -> None:
    """Give freed memory back every few seconds: each thread that ever allocated keeps a part of it otherwise."""
    while True:
        await asyncio.sleep(EVERY_S)
        await asyncio.to_thread(give_back_free_memory)
