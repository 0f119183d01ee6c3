"""News from the engine's thread in, the same to the task that waits for them out: bounded, however late it reads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from videolm.engine.request import RequestOutput
from videolm.errors import VideoLMError

MOST_UNREAD = 64
"""Further news are joined with the last: an output tells the whole answer so far, so many of them are much memory."""

News = RequestOutput | VideoLMError

__all__ = ["MOST_UNREAD", "Mailbox", "News", "deliver"]


class Mailbox:
    """What one task of one loop waits for."""

    def __init__(self) -> None:
        """To be made in the task's loop."""
        self.loop = asyncio.get_running_loop()
        self._news: deque[News] = deque()
        self._has_news = asyncio.Event()

    async def get(self) -> News:
        """The oldest of what is unread."""
        await self._has_news.wait()
        item = self._news.popleft()
        if not self._news:
            self._has_news.clear()
        return item

    def put(self, item: News) -> None:
        """Leave something to be read; in the loop's own thread."""
        last = self._news[-1] if len(self._news) >= MOST_UNREAD else None
        if isinstance(last, RequestOutput) and isinstance(item, RequestOutput):
            self._news[-1] = replace(item, piece=last.piece + item.piece)
        else:
            self._news.append(item)
        self._has_news.set()


def deliver(news: Iterable[tuple[Mailbox, News]]) -> None:
    """Put news into their mailboxes from another thread: each loop is woken once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Mailbox, News]]] = {}
    for mailbox, item in news:
        by_loop.setdefault(mailbox.loop, []).append((mailbox, item))
    for loop, items in by_loop.items():
        # A loop that has ended has no one left to listen.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_put_all, items)


def _put_all(items: list[tuple[Mailbox, News]]) -> None:
    for mailbox, item in items:
        mailbox.put(item)
