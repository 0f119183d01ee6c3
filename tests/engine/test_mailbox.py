"""News that are read late: none is lost, and few are kept."""

from __future__ import annotations

import asyncio
import threading

from videolm.contracts import Usage
from videolm.engine.mailbox import MOST_UNREAD, Mailbox, News, deliver
from videolm.engine.request import RequestOutput
from videolm.errors import EngineError

USAGE = Usage(prompt_tokens=1, visual_tokens=0, completion_tokens=0)


def news(count: int) -> list[RequestOutput]:
    pieces = [f"{index} " for index in range(count)]
    return [
        RequestOutput(
            id="a", piece=piece, text="".join(pieces[: index + 1]), output_ids=tuple(range(index + 1)), usage=USAGE
        )
        for index, piece in enumerate(pieces)
    ]


async def read(mailbox: Mailbox, until: RequestOutput) -> list[RequestOutput]:
    found: list[RequestOutput] = []
    while not found or found[-1].output_ids != until.output_ids:
        item = await mailbox.get()
        assert isinstance(item, RequestOutput)
        found.append(item)
    return found


def test_news_come_one_by_one_in_order() -> None:
    async def main() -> None:
        mailbox, sent = Mailbox(), news(MOST_UNREAD)
        threading.Thread(target=deliver, args=([(mailbox, item) for item in sent],)).start()
        assert await read(mailbox, sent[-1]) == sent

    asyncio.run(main())


def test_what_is_read_late_is_joined_and_whole() -> None:
    async def main() -> None:
        mailbox, sent = Mailbox(), news(MOST_UNREAD + 40)
        for item in sent:
            mailbox.put(item)
        found = await read(mailbox, sent[-1])
        assert found[:-1] == sent[: MOST_UNREAD - 1]
        assert "".join(each.piece for each in found) == found[-1].text == sent[-1].text

    asyncio.run(main())


def test_an_error_is_never_joined() -> None:
    async def main() -> None:
        mailbox, sent, error = Mailbox(), news(MOST_UNREAD + 1), EngineError("gone")
        for item in (*sent, error):
            mailbox.put(item)
        await read(mailbox, sent[-1])
        assert await mailbox.get() is error

    asyncio.run(main())


def test_several_loops_get_their_own() -> None:
    found: dict[str, News] = {}
    made: list[Mailbox] = []
    ready = threading.Barrier(3)

    async def listen(name: str) -> None:
        mailbox = Mailbox()
        made.append(mailbox)
        await asyncio.to_thread(ready.wait, 20)
        found[name] = await mailbox.get()

    threads = [threading.Thread(target=lambda name=name: asyncio.run(listen(name))) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    ready.wait(20)
    sent = news(2)
    deliver(zip(made, sent, strict=True))
    for thread in threads:
        thread.join(20)
    assert sorted(item.piece for item in found.values() if isinstance(item, RequestOutput)) == ["0 ", "1 "]


def test_a_loop_that_has_ended_is_left_alone() -> None:
    async def make() -> Mailbox:
        return Mailbox()

    deliver([(asyncio.run(make()), news(1)[0])])
