"""Server-sent events in the browser: the same however the bytes are cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from ..conftest import RunningServer
from .conftest import Visitor, visiting

READ = """
async ([bytes, size]) => {
  const { events } = await import("/static/sse.js");
  const whole = Uint8Array.from(bytes);
  const stream = new ReadableStream({
    start(controller) {
      for (let at = 0; at < whole.length; at += size) controller.enqueue(whole.slice(at, at + size));
      controller.close();
    },
  });
  const found = [];
  for await (const data of events(stream)) found.push(data);
  return found;
}
"""


@pytest.fixture(scope="module")
def visitor(browser: Browser, server: RunningServer) -> Iterator[Visitor]:
    """One for all tests: they leave the page as it was."""
    with visiting(browser, server.url) as visitor:
        yield visitor.go()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_are_read_whole(visitor: Visitor, size: int, end: str) -> None:
    lines = [
        ": alive",
        "",
        'data: {"a": "ü漢🎬"}',
        "",
        "event: x",
        "data:two",
        "data: lines",
        "",
        "data: [DONE]",
        "",
        "data: cut",
    ]
    sent = end.join(lines).encode()
    assert visitor.page.evaluate(READ, [list(sent), size]) == ['{"a": "ü漢🎬"}', "two\nlines", "[DONE]"]
