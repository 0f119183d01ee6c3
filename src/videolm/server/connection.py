"""Work for a client in, its result out: given up as soon as the client closes the connection or the server ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from videolm.server.admission import Admission, shutting_down
from videolm.server.bodies import ClientGoneError

Result = TypeVar("Result")

__all__ = ["while_connected"]


async def while_connected(receive: Receive, work: Coroutine[Any, Any, Result], admission: Admission) -> Result:
    """Do the work while the client waits for it.

    Args:
        receive: Of a request whose body was read to its end.

    Raises:
        ClientGoneError: The client closed the connection; the work was cancelled and has ended.
        ApiError: The server must end.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(receive))
    try:
        with admission.running(task):
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientGoneError
    finally:
        # Both end before this does: nothing of a request outlives it.
        for each in (task, gone):
            each.cancel()
        await asyncio.wait({task, gone})
    if task.cancelled() and admission.is_over:
        raise shutting_down()
    return task.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
