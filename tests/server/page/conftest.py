"""A real Chromium that visits a real server, and fails the test where the page complains in the console."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from ..conftest import RunningServer, Serve

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 360, "height": 740}
WAIT_MS = 20_000


@dataclass
class Visitor:
    """A person with the page open."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    """Patterns of what may stand in the console, such as the status of a request that is meant to fail."""

    def listen(self) -> None:
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))

    def surprises(self) -> list[str]:
        """What the console holds and should not."""
        return [said for said in self.complaints if not any(re.search(known, said) for known in self.expected)]

    def go(self) -> Visitor:
        self.page.goto(self.url)
        return self

    def choose(self, path: Path) -> Visitor:
        """Choose a file by the button, and wait until the strip is there."""
        with self.page.expect_file_chooser() as chooser:
            self.page.get_by_role("button", name="Choose a file").click()
        chooser.value.set_files(path)
        expect(self.frames.first).to_be_visible(timeout=WAIT_MS)
        expect(self.question).to_be_visible()
        return self

    def ask(self, question: str) -> str:
        """Ask, wait for the whole answer and give its text."""
        before = self.turns.count()
        self.question.fill(question)
        self.page.get_by_role("button", name="Ask", exact=True).click()
        expect(self.turns).to_have_count(before + 1)
        return self.answer()

    def answer(self) -> str:
        """The text of the last answer, once it is complete."""
        expect(self.turns.last.locator(".answer")).to_have_attribute("aria-busy", "false", timeout=WAIT_MS)
        return self.turns.last.locator(".answer").inner_text()

    def measured(self) -> str:
        """What the page tells about the last answer's cost."""
        return " ".join(self.turns.last.get_by_role("list", name="Measured").get_by_role("listitem").all_inner_texts())

    @property
    def frames(self) -> Locator:
        return self.page.get_by_role("listbox", name="What the model sees").get_by_role("option")

    @property
    def question(self) -> Locator:
        return self.page.get_by_role("textbox", name="Your question")

    @property
    def turns(self) -> Locator:
        return self.page.get_by_role("log").get_by_role("article")


Visit = Callable[..., Visitor]


def find_chromium() -> str | None:
    """The path of a Chromium that is installed."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a file. No longer: while it runs, no other test may start an event loop."""
    path = find_chromium()
    if path is None and os.environ.get("VIDEOLM_REQUIRE_BROWSER") == "1":
        pytest.fail(f"No browser is installed, none of {', '.join(NAMES)}, and VIDEOLM_REQUIRE_BROWSER=1 asks for one.")
    if path is None:
        pytest.skip(f"no browser is installed: none of {', '.join(NAMES)}")
    # Chromium's sandbox refuses to run as root, which containers do.
    args = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=args)
        yield started
        started.close()


@contextmanager
def visiting(browser: Browser, url: str, **options: Any) -> Iterator[Visitor]:
    """A visitor with a profile of their own, who has nothing to complain about in the end."""
    context = browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
    try:
        visitor = Visitor(context.new_page(), url)
        visitor.listen()
        yield visitor
        assert visitor.surprises() == []
    finally:
        context.close()


@pytest.fixture
def visit(browser: Browser, server: RunningServer) -> Iterator[Visit]:
    """Somebody opens the page: of the file's server, or of another one; further options are the browser's."""
    with ExitStack() as stack:

        def come(at: RunningServer = server, **options: Any) -> Visitor:
            return stack.enter_context(visiting(browser, at.url, **options))

        yield come


@pytest.fixture
def visitor(visit: Visit) -> Visitor:
    """Somebody who has just opened the page."""
    return visit().go()


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where pictures of the page go: to look at, set VIDEOLM_SCREENSHOTS to a folder."""
    folder = Path(os.environ.get("VIDEOLM_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def slow_server(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> RunningServer:
    """A server whose engine takes a moment for each token."""
    running = serve()
    engine: Any = running.backend.engine._engine
    step = engine.step

    def slow_step() -> Any:
        time.sleep(0.25)
        return step()

    monkeypatch.setattr(engine, "step", slow_step)
    return running
